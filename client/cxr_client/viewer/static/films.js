// @ts-check
/** Films: those of the web server and those opened here -> the strip. */

import { explain, thumbnailUrl } from "./api.js";
import { areSame, MOST_FILES } from "./files.js";

/** @typedef {import("./api.js").Film} Film */
/** @typedef {{id: string, name: string, group: "sample" | "folder"}} Served */
/** @typedef {import("./files.js").Opened} Opened */

const GROUPS = { opened: "Opened here", folder: "Folder", sample: "Samples (drawn)" };
/** A thumbnail's side, in pixels. */
const THUMBNAIL_PX = 128;
const CUT = `The first ${MOST_FILES.toLocaleString("en")} files: there are more.`;
const NO_FILMS = "No DICOM, PNG or JPEG files.";

/**
 * The strip of thumbnails. One film is chosen; next and previous go on from it. It is one stop of
 * the Tab key, and arrow keys go from film to film.
 */
export class FilmStrip {
  #root;
  #onOpen;
  /** @type {Film[]} */
  #films = [];
  /** @type {Map<string, HTMLButtonElement>} */
  #buttons = new Map();
  #chosen = "";
  /** What is to be said of a group, by its name. */
  #notes = { opened: "", folder: "", sample: "" };
  /** Opened files that are in sight and have no thumbnail. @type {Set<Film>} */
  #wanted = new Set();
  /** Opened files that are in sight. @type {Set<Film>} */
  #inSight = new Set();
  #isDrawing = false;
  #sight = new IntersectionObserver((entries) => this.#see(entries));

  /**
   * @param {HTMLElement} root
   * @param {(film: Film) => void} onOpen
   */
  constructor(root, onOpen) {
    this.#root = root;
    this.#onOpen = onOpen;
    root.addEventListener("keydown", (event) => this.#walk(event));
    root.addEventListener("focusin", ({ target }) => this.#stopAt(target));
  }

  /** The films, in the order of the strip. */
  get films() {
    return this.#films;
  }

  /**
   * A film that is listed already stays the same one, even if it has another id now: the file was
   * changed, or the web server was started again.
   * @param {Served[]} films Of the web server.
   * @param {boolean} folderIsEmpty Whether it was given a folder, and found no film in it.
   * @returns {boolean} Whether anything has changed.
   */
  setServed(films, folderIsEmpty) {
    const note = folderIsEmpty ? NO_FILMS : "";
    const before = this.#films.filter((film) => !film.file);
    if (note === this.#notes.folder && films.map(idOf).join() === before.map(idOf).join())
      return false;
    const byId = new Map(before.map((film) => [film.id, film]));
    const byName = new Map(before.map((film) => [placeOf(film), film]));
    const served = films.map((film) => {
      const kept = byId.get(film.id) ?? byName.get(placeOf(film));
      if (!kept) return { ...film, key: newKey() };
      byId.delete(kept.id);
      byName.delete(placeOf(kept));
      if (kept.id !== film.id) this.#rename(kept, film.id);
      return kept;
    });
    this.#notes.folder = note;
    this.#set([...this.#films.filter((film) => film.file), ...served]);
    return true;
  }

  /**
   * Add files, the first `MOST_FILES`; one that is there already is not added again.
   * @param {Opened[]} files
   * @returns {Promise<Film | undefined>} The first of them.
   */
  async add(files) {
    const opened = this.#films.filter((film) => film.file);
    /** @type {Film[]} */
    const added = [];
    for (const file of files.slice(0, MOST_FILES)) added.push(await filmOf(file, opened));
    const isNew = added.filter((film) => !opened.includes(film));
    if (files.length > MOST_FILES) this.#notes.opened = CUT;
    if (isNew.length || files.length > MOST_FILES)
      this.#set([
        ...this.#films.filter((film) => film.file),
        ...isNew,
        ...this.#films.filter((film) => !film.file),
      ]);
    return added[0];
  }

  /** @param {string} key */
  choose(key) {
    this.#chosen = key;
    for (const [each, button] of this.#buttons) {
      if (each === key) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
    const button = this.#buttons.get(key);
    if (button) keepInView(this.#root, button);
    this.#stopAt(button ?? this.#inOrder()[0]);
  }

  /** @param {number} step @returns {Film | undefined} The film that many places on. */
  neighbour(step) {
    const at = this.#films.findIndex((film) => film.key === this.#chosen);
    return at < 0 ? this.#films[0] : this.#films[at + step];
  }

  /** @param {Film} film @param {ImageBitmap} radiograph Draw a thumbnail of an opened file. */
  picture(film, radiograph) {
    const image = this.#buttons.get(film.key)?.querySelector("img");
    if (!film.file || !image || image.src) return;
    const share = Math.min(1, THUMBNAIL_PX / Math.max(radiograph.width, radiograph.height));
    const canvas = new OffscreenCanvas(
      Math.max(1, Math.round(radiograph.width * share)),
      Math.max(1, Math.round(radiograph.height * share)),
    );
    canvas.getContext("2d")?.drawImage(radiograph, 0, 0, canvas.width, canvas.height);
    canvas.convertToBlob().then((blob) => {
      image.src = URL.createObjectURL(blob);
    });
  }

  /** @param {Film} film @returns {string} The address of its thumbnail; empty without one. */
  thumbnailOf(film) {
    return this.#buttons.get(film.key)?.querySelector("img")?.src ?? "";
  }

  /** @param {Film} film @param {boolean} failed */
  mark(film, failed) {
    this.#buttons.get(film.key)?.classList.toggle("failed", failed);
  }

  /** @param {Film[]} films */
  #set(films) {
    const kept = this.#buttons;
    this.#films = films;
    this.#buttons = new Map(
      films.map((film) => [film.key, kept.get(film.key) ?? this.#button(film)]),
    );
    const groups = Object.entries(GROUPS).map(([group, title]) => {
      const members = films.filter((film) => film.group === group);
      const note = this.#notes[/** @type {"folder"} */ (group)];
      if (!members.length && !note) return [];
      const part = Object.assign(document.createElement("section"), { className: "group" });
      const heading = Object.assign(document.createElement("h2"), { textContent: title });
      part.append(
        heading,
        ...(note ? [Object.assign(document.createElement("p"), { textContent: note })] : []),
        ...members.map((film) => /** @type {HTMLButtonElement} */ (this.#buttons.get(film.key))),
      );
      return [part];
    });
    this.#root.replaceChildren(...groups.flat());
    this.choose(this.#chosen);
  }

  /** The buttons, in the order of the strip. */
  #inOrder() {
    return [...this.#root.querySelectorAll("button")];
  }

  /** @param {EventTarget | null | undefined} stop The film that the Tab key comes to. */
  #stopAt(stop) {
    for (const button of this.#inOrder()) button.tabIndex = button === stop ? 0 : -1;
  }

  /** @param {KeyboardEvent} event Move the focus within the strip. */
  #walk(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const buttons = this.#inOrder();
    const at = buttons.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
    const to = {
      ArrowRight: at + 1,
      ArrowDown: at + 1,
      ArrowLeft: at - 1,
      ArrowUp: at - 1,
      Home: 0,
      End: buttons.length - 1,
    }[event.key];
    if (at < 0 || to === undefined) return;
    event.preventDefault();
    buttons[to]?.focus();
  }

  /** @param {IntersectionObserverEntry[]} entries */
  #see(entries) {
    for (const { target, isIntersecting } of entries) {
      const film = this.#films.find(({ key }) => this.#buttons.get(key) === target);
      if (!film) continue;
      this.#inSight[isIntersecting ? "add" : "delete"](film);
      if (isIntersecting && !this.thumbnailOf(film)) this.#wanted.add(film);
      else this.#wanted.delete(film);
    }
    this.#drawNext();
  }

  /** Ask again for the thumbnails that have failed, such as while there was no server. */
  askAgain() {
    reloadBroken(this.#root);
    for (const film of this.#inSight) if (!this.thumbnailOf(film)) this.#wanted.add(film);
    this.#drawNext();
  }

  /** Fetch thumbnails one at a time, so that the film that is looked at comes first. */
  async #drawNext() {
    if (this.#isDrawing) return;
    const [film] = this.#wanted;
    if (!film) return;
    this.#wanted.delete(film);
    this.#isDrawing = true;
    try {
      const { radiograph } = await explain(film, { maxSidePx: THUMBNAIL_PX });
      this.picture(film, radiograph);
      radiograph.close();
    } catch {
      // The film has no thumbnail; opening it says why.
    } finally {
      this.#isDrawing = false;
    }
    this.#drawNext();
  }

  /** @param {Film} film Of the web server. @param {string} id Its new one. */
  #rename(film, id) {
    film.id = id;
    const image = this.#buttons.get(film.key)?.querySelector("img");
    if (image) image.src = thumbnailUrl(film);
  }

  /** @param {Film} film */
  #button(film) {
    const button = filmButton(film);
    if (film.file) this.#sight.observe(button);
    button.addEventListener("click", () => this.#onOpen(film));
    return button;
  }
}

/**
 * Scroll the strip, and nothing else of the page, so that a film can be seen.
 * @param {HTMLElement} strip
 * @param {HTMLElement} film
 */
function keepInView(strip, film) {
  const [outer, inner] = [strip.getBoundingClientRect(), film.getBoundingClientRect()];
  strip.scrollBy({
    left: Math.min(0, inner.left - outer.left) || Math.max(0, inner.right - outer.right),
    top: Math.min(0, inner.top - outer.top) || Math.max(0, inner.bottom - outer.bottom),
  });
}

/** @param {HTMLElement} root Asks again for those of its pictures that have failed. */
export function reloadBroken(root) {
  for (const image of root.querySelectorAll("img")) {
    const source = image.getAttribute("src");
    if (source && image.complete && !image.naturalWidth) image.src = source;
  }
}

/** @param {Film} film A thumbnail with its name. */
export function filmButton(film) {
  const template = /** @type {HTMLTemplateElement} */ (document.querySelector("#film-template"));
  const copy = /** @type {DocumentFragment} */ (template.content.cloneNode(true));
  const button = /** @type {HTMLButtonElement} */ (copy.firstElementChild);
  const name = /** @type {HTMLElement} */ (button.querySelector(".name"));
  const base = film.name.lastIndexOf("/") + 1;
  const folder = document.createElement("span");
  folder.textContent = film.name.slice(0, base);
  name.append(...(base ? [folder] : []), film.name.slice(base));
  button.title = film.name;
  if (film.id)
    /** @type {HTMLImageElement} */ (button.querySelector("img")).src = thumbnailUrl(film);
  return button;
}

/**
 * @param {Opened} file
 * @param {Film[]} opened
 * @returns {Promise<Film>} The one of these films that the file is already, or a new one.
 */
async function filmOf(file, opened) {
  for (const film of opened.filter(({ name }) => name === file.name)) {
    if (await areSame(/** @type {Film & Opened} */ (film), file)) return film;
  }
  return { ...file, key: newKey(), group: "opened" };
}

let keysGiven = 0;

/** @returns {string} A key that no other film has. */
function newKey() {
  keysGiven += 1;
  return String(keysGiven);
}

/** @param {{id?: string}} film */
const idOf = ({ id }) => id;

/** @param {Film | Served} film What it is called, and where. */
const placeOf = ({ group, name }) => `${group} ${name}`;
