// @ts-check
/**
 * Controls: the inputs of the page -> settings, kept between visits, and keys.
 *
 * An input with `data-setting="name"` is a setting of that name; an element with `data-key="x"` is
 * clicked by that key. Both need nothing here: a new control is an element of index.html, and what
 * it does in the module that reads the setting.
 */

const STORED = "cxr-viewer";

/** @typedef {Record<string, string | number | boolean>} Settings */

/** @returns {Record<string, any>} What was kept; nothing where the browser keeps nothing. */
function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORED) ?? "{}");
  } catch {
    return {};
  }
}

/** @param {Record<string, unknown>} values */
function store(values) {
  try {
    localStorage.setItem(STORED, JSON.stringify({ ...stored(), ...values }));
  } catch {
    // A browser that keeps nothing starts with the defaults.
  }
}

/** @param {string} theme "dark", "light", or "" to follow the system. */
function setTheme(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
}

// Before the first paint, so that a dark reading room never flashes white.
setTheme(stored().theme ?? "");

/** @param {HTMLButtonElement} button Its text is the theme that it leads to. */
export function bindTheme(button) {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const isDark = () =>
    (document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light")) === "dark";
  const label = () => {
    button.textContent = isDark() ? "Light" : "Dark";
  };
  button.addEventListener("click", () => {
    const theme = isDark() ? "light" : "dark";
    setTheme(theme);
    store({ theme });
    label();
  });
  dark.addEventListener("change", label);
  label();
}

/** @param {HTMLButtonElement} button Opens and closes what it controls; the style sheet hides that. */
export function bindDisclosure(button) {
  button.addEventListener("click", () => {
    button.ariaExpanded = String(button.ariaExpanded !== "true");
  });
}

/**
 * Bind every `data-setting` of the page.
 * @param {(settings: Settings) => void} onChange Called now, and with all settings at each change.
 */
export function bindSettings(onChange) {
  const inputs = /** @type {NodeListOf<HTMLInputElement | HTMLSelectElement>} */ (
    document.querySelectorAll("[data-setting]")
  );
  const kept = stored().settings ?? {};
  /** @type {Settings} */
  const settings = {};
  for (const input of inputs) {
    const name = input.dataset.setting ?? "";
    if (name in kept) write(input, kept[name]);
    read(input, settings);
    input.addEventListener("input", () => {
      read(input, settings);
      store({ settings });
      onChange({ ...settings });
    });
  }
  onChange({ ...settings });
}

/**
 * @param {HTMLInputElement | HTMLSelectElement} input
 * @param {Settings} settings
 */
function read(input, settings) {
  const name = input.dataset.setting ?? "";
  if (input.type === "checkbox") settings[name] = /** @type {HTMLInputElement} */ (input).checked;
  else if (input.type === "radio") {
    if (/** @type {HTMLInputElement} */ (input).checked) settings[name] = radioValue(input);
  } else if (input.type === "range" || input.type === "number") {
    if (input.checkValidity() && input.value) settings[name] = Number(input.value);
    showOutput(input);
  } else settings[name] = input.value;
}

/**
 * @param {HTMLInputElement | HTMLSelectElement} input
 * @param {string | number | boolean} value
 */
function write(input, value) {
  if (input.type === "checkbox") /** @type {HTMLInputElement} */ (input).checked = Boolean(value);
  else if (input.type === "radio")
    /** @type {HTMLInputElement} */ (input).checked = radioValue(input) === value;
  else if (input instanceof HTMLInputElement) input.value = String(value);
  else if ([...input.options].some((option) => option.value === value)) input.value = String(value);
}

/** @param {HTMLInputElement | HTMLSelectElement} input A radio button; "true" and "false" are booleans. */
function radioValue({ value }) {
  return value === "true" || value === "false" ? value === "true" : value;
}

/** @param {HTMLInputElement} slider @param {number} value */
export function setSlider(slider, value) {
  slider.value = String(value);
  showOutput(slider);
}

/** @param {HTMLInputElement | HTMLSelectElement} input A slider with its value beside it. */
function showOutput(input) {
  const output = input.parentElement?.querySelector("output");
  if (!output || !(input instanceof HTMLInputElement)) return;
  const places = input.step.split(".")[1]?.length ?? 0;
  output.textContent = Number(input.value).toFixed(places);
}

/**
 * Bind every `data-key` of the page, and more keys.
 * @param {(key: string) => (() => void) | undefined} more What other keys do now.
 * @param {() => boolean} singleKeys Whether keys without a modifier are on (WCAG 2.1.4).
 */
export function bindKeys(more, singleKeys) {
  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]") || takesKeys(event.target, event.key)) return;
    const key = event.key === "=" ? "+" : event.key;
    if (key.length === 1 && !singleKeys()) return;
    const element = document.querySelector(`[data-key="${CSS.escape(key.toLowerCase())}"]`);
    const act = more(event.key) ?? (element instanceof HTMLElement && (() => element.click()));
    if (!act) return;
    event.preventDefault();
    act();
  });
}

/**
 * Whether an element has a use of its own for a key.
 * @param {EventTarget | null} target
 * @param {string} key
 */
function takesKeys(target, key) {
  if (!(target instanceof HTMLElement)) return false;
  if (
    target.matches(
      "select, textarea, input:not([type=checkbox], [type=radio], [type=range], [type=file])",
    )
  )
    return true;
  return key.length > 1 && target.matches("input[type=radio], input[type=range]");
}

/** @param {HTMLElement} list Gets a row for each `data-key` of the page. */
export function listKeys(list) {
  const elements = /** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll("[data-key]"));
  for (const element of elements) {
    const key = element.dataset.key ?? "";
    const row = document.createElement("div");
    const term = document.createElement("dt");
    const shown = key.length === 1 ? key.toUpperCase().replace("-", "\u2212") : key;
    term.append(Object.assign(document.createElement("kbd"), { textContent: shown }));
    row.append(term, Object.assign(document.createElement("dd"), { textContent: nameOf(element) }));
    list.append(row);
  }
}

/** @param {HTMLElement} element */
function nameOf(element) {
  const given = element.dataset.name ?? element.getAttribute("aria-label");
  return (
    given ?? element.closest("label")?.textContent?.trim() ?? element.textContent?.trim() ?? ""
  );
}
