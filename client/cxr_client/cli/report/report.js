// Sorting and filters of the report. The page is complete without them.
(() => {
  /**
   * @typedef {object} Film
   * @property {HTMLTableRowElement} row
   * @property {string} name
   * @property {number[]} scores In the order of the model's findings.
   * @property {number} top The place of the highest score.
   * @property {Set<number>} above The places of those above their thresholds.
   * @property {number} warnings
   */

  /** @type {(selector: string, root?: ParentNode) => any} */
  const one = (selector, root = document) => root.querySelector(selector);
  /** @type {(selector: string, root?: ParentNode) => any[]} */
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  /** @type {(text: string | undefined) => number[]} */
  const numbers = (text) => (text ? text.split(" ").map(Number) : []);
  /** @type {(item: Element) => string} Without the mark of a weak finding. */
  const labelOf = (item) => one(".label", item).firstChild.data.trim();
  const order = new Intl.Collator(undefined, { numeric: true });

  /** @type {Film[]} */
  const films = all("#films tbody tr").map((row) => ({
    row,
    name: one(".name", row).textContent,
    scores: row.dataset.scores
      .split(" ")
      .map((/** @type {string} */ score) => (score ? Number(score) : NaN)),
    top: Number(row.dataset.top),
    above: new Set(numbers(row.dataset.above)),
    warnings: Number(row.dataset.warnings),
  }));
  const failures = all("#failures tbody tr").map((row) => ({
    row,
    name: one(".name", row).textContent,
  }));

  const filters = one("#filters");
  const columns = all("th[data-sort]");
  const sorting = { key: "", descending: false };

  /** The place of the chosen finding; -1 for the highest score of each film. */
  const chosen = () => filters.elements.finding.selectedIndex - 1;

  /** @type {(film: Film) => number} */
  const score = (film) => film.scores[chosen() < 0 ? film.top : chosen()];

  /** @type {Record<string, (a: Film, b: Film) => number>} */
  const comparisons = {
    name: (a, b) => order.compare(a.name, b.name),
    score: (a, b) => score(a) - score(b),
    warnings: (a, b) => a.warnings - b.warnings,
  };

  /** @type {Record<string, (film: Film) => boolean>} */
  const kinds = {
    all: () => true,
    above: (film) => (chosen() < 0 ? film.above.size > 0 : film.above.has(chosen())),
    warnings: (film) => film.warnings > 0,
    failed: () => false,
  };

  /** Show the rows that the filters admit, and how many these are. */
  function filter() {
    const show = filters.elements.show.value;
    const part = filters.elements.name.value.toLowerCase();
    /** @type {(entry: {name: string}) => boolean} */
    const named = (entry) => entry.name.toLowerCase().includes(part);
    for (const film of films) film.row.hidden = !(named(film) && kinds[show](film));
    for (const failure of failures) {
      failure.row.hidden = !(named(failure) && (show === "all" || show === "failed"));
    }
    one("#failures").hidden = failures.every((failure) => failure.row.hidden);
    one("#films table").hidden = films.every((film) => film.row.hidden);
    for (const radio of filters.elements.show) {
      const count = films.filter(kinds[radio.value]).length;
      const failed = radio.value === "all" || radio.value === "failed" ? failures.length : 0;
      one(".count", radio.parentElement).textContent = String(count + failed);
    }
    const shown = [...films, ...failures].filter((entry) => !entry.row.hidden).length;
    one("#shown").textContent = `${shown} of ${films.length + failures.length} files shown`;
  }

  /** Order the films by the chosen column; those without a score come last. */
  function sort() {
    const compare = comparisons[sorting.key];
    if (!compare) return;
    const sign = sorting.descending ? -1 : 1;
    films.sort(
      (a, b) =>
        Number(Number.isNaN(score(a))) - Number(Number.isNaN(score(b))) ||
        sign * compare(a, b) ||
        order.compare(a.name, b.name),
    );
    one("#films tbody").append(...films.map((film) => film.row));
  }

  /** Show the score of the chosen finding first in each film. */
  function choose() {
    const label = chosen() < 0 ? "" : filters.elements.finding.value;
    for (const film of films) {
      const list = one(".scores ul", film.row);
      one(".chosen", list)?.remove();
      for (const item of list.children) item.hidden = false;
      const listed = all(".scores li", film.row).find((item) => labelOf(item) === label);
      if (!listed) continue;
      const item = list.firstElementChild.cloneNode(true);
      item.className = film.above.has(chosen()) ? "chosen above" : "chosen";
      for (const part of [".label", ".value"])
        one(part, item).replaceWith(one(part, listed).cloneNode(true));
      one(".bar", item).setAttribute("x", String(Math.min(50, 100 * score(film))));
      one(".bar", item).setAttribute("width", String(Math.abs(100 * score(film) - 50)));
      if (listed.parentElement === list) listed.hidden = true;
      list.prepend(item);
    }
    one("button", one("th[data-sort=score]")).textContent = label ? `Score of ${label}` : "Score";
  }

  function update() {
    choose();
    sort();
    filter();
  }

  for (const column of columns) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = column.textContent;
    column.replaceChildren(button);
    button.addEventListener("click", () => {
      const again = sorting.key === column.dataset.sort;
      // Names from A; numbers from the largest, which is what one looks for.
      sorting.descending = again ? !sorting.descending : column.dataset.sort !== "name";
      sorting.key = column.dataset.sort;
      for (const each of columns) each.removeAttribute("aria-sort");
      column.setAttribute("aria-sort", sorting.descending ? "descending" : "ascending");
      sort();
    });
  }
  filters.hidden = false;
  filters.addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
  filters.addEventListener("input", update);
  window.addEventListener("pageshow", update); // The browser restores the filters after scripts have run.
})();
