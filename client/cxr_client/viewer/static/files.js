// @ts-check
/** Files: chosen, dropped (folders, too) or pasted -> with their names; and which are the same. */

/**
 * A file, named by its path from the folder that was chosen or dropped with it.
 * @typedef {{file: File, name: string}} Opened
 */

/** Most files that are opened at once: a strip of more is no longer looked through. */
export const MOST_FILES = 2000;
const NOT_FILMS = /(^|\/)\.|\.(txt|csv|json|xml|html?|md|pdf|zip|gz|py|js|docx?|xlsx?)$/i;
/** Bytes that are compared at a time. */
const PIECE_BYTES = 2 ** 20;

const collator = new Intl.Collator(undefined, { numeric: true });

/**
 * Take files that are chosen, dropped or pasted.
 * @param {HTMLInputElement[]} inputs
 * @param {HTMLElement} hint Shown while files hover over the page.
 * @param {(files: Opened[]) => void} onFiles
 */
export function takeFiles(inputs, hint, onFiles) {
  const take = (/** @type {Opened[]} */ files) => {
    if (files.length) onFiles(files);
  };
  for (const input of inputs) {
    input.addEventListener("change", () => {
      // Those of a folder by their paths; others stay in the order in which they were chosen.
      const files = [...(input.files ?? [])].sort((a, b) =>
        collator.compare(a.webkitRelativePath, b.webkitRelativePath),
      );
      take(chosen(files));
      input.value = "";
    });
  }
  addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    hint.hidden = false;
  });
  addEventListener("dragleave", (event) => {
    if (!event.relatedTarget) hint.hidden = true;
  });
  addEventListener("drop", async (event) => {
    event.preventDefault();
    hint.hidden = true;
    const entries = [...(event.dataTransfer?.items ?? [])].flatMap(
      (item) => item.webkitGetAsEntry() ?? [],
    );
    const files = [...(event.dataTransfer?.files ?? [])];
    take(entries.length ? await filesOf(entries) : chosen(files));
  });
  addEventListener("paste", (event) => take(chosen(event.clipboardData?.files ?? [])));
}

/**
 * Whether two files are the same one. Films of two archives may share name, size and time, so that
 * only the bytes tell.
 * @param {Opened} one
 * @param {Opened} other
 */
export async function areSame(one, other) {
  const { size, lastModified } = one.file;
  if (one.name !== other.name || other.file.size !== size) return false;
  if (other.file.lastModified !== lastModified) return false;
  try {
    for (let at = 0; at < size; at += PIECE_BYTES) {
      const pieces = [one, other].map(({ file }) => file.slice(at, at + PIECE_BYTES).arrayBuffer());
      const [left, right] = (await Promise.all(pieces)).map((piece) => new Uint8Array(piece));
      if (left.some((byte, index) => byte !== right[index])) return false;
    }
    return true;
  } catch {
    return false; // One can't be read any more.
  }
}

/**
 * A file that was chosen by itself is taken, whatever it is: the server says why it refuses it.
 * @param {Iterable<File>} files
 * @returns {Opened[]}
 */
const chosen = (files) =>
  [...files]
    .filter((file) => !NOT_FILMS.test(file.webkitRelativePath))
    .map((file) => ({ file, name: file.webkitRelativePath || file.name }));

/**
 * @param {FileSystemEntry[]} entries
 * @returns {Promise<Opened[]>} Their files, those of folders in the order of their names.
 */
async function filesOf(entries) {
  /** @type {Opened[]} */
  const files = [];
  const waiting = [...entries];
  // One more than are taken tells that there are more.
  for (let entry = waiting.shift(); entry && files.length <= MOST_FILES; entry = waiting.shift()) {
    if (entry.isFile) {
      const file = await fileOf(/** @type {FileSystemFileEntry} */ (entry));
      files.push({ file, name: entry.fullPath.slice(1) });
    } else {
      waiting.unshift(...(await childrenOf(/** @type {FileSystemDirectoryEntry} */ (entry))));
    }
  }
  return files;
}

/** @param {FileSystemFileEntry} entry @returns {Promise<File>} */
const fileOf = (entry) => new Promise((resolve, reject) => entry.file(resolve, reject));

/** @param {FileSystemDirectoryEntry} folder */
async function childrenOf(folder) {
  const reader = folder.createReader();
  /** @type {FileSystemEntry[]} */
  const children = [];
  for (;;) {
    // A reader gives a part of a folder at a time, and nothing at its end.
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) {
      const films = children.filter(({ name }) => !NOT_FILMS.test(name));
      return films.sort((a, b) => collator.compare(a.name, b.name));
    }
    children.push(...some);
  }
}
