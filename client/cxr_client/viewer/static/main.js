// @ts-check
/** The page: its state in one object, and the wiring of everything else. */

import { Answers, getState, ViewerError } from "./api.js";
import { bindKeys, bindSettings, bindTheme, listKeys, showOutput } from "./controls.js";
import { FilmStrip, filmButton, takeFiles } from "./films.js";
import { FindingsPanel } from "./findings.js";
import { Pane } from "./pane.js";
import { Sharing } from "./sharing.js";
import { Problem, ServerLine } from "./status.js";

/**
 * @typedef {import("./api.js").Film} Film
 * @typedef {import("./api.js").Answer} Answer
 */

const KEPT_ANSWERS = 16;
const POLL_MS = { serving: 10_000, otherwise: 2_000 };

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);

const state = {
  /** @type {import("./api.js").State | null} */
  server: null,
  /** @type {any} */
  settings: {},
  /** @type {import("./api.js").Presentation} */
  presentation: "as-shown",
  comparing: false,
  active: 0,
};

const answers = new Answers(KEPT_ANSWERS);
const first = /** @type {HTMLElement} */ (document.querySelector(".pane"));
const second = /** @type {HTMLElement} */ (first.cloneNode(true));
second.hidden = true;
first.after(second);
/** @type {Pane[]} */
const panes = [first, second].map(
  (root, index) => new Pane(root, "AB"[index], (display) => showDisplay(index, display)),
);
panes[1].view.link(panes[0].view);
const strip = new FilmStrip(byId("films"), open);
const panel = new FindingsPanel(
  /** @type {HTMLElement} */ (document.querySelector(".answer")),
  chooseFinding,
);
const serverLine = new ServerLine(byId("server"), byId("notice"));
const problem = new Problem(byId("problem"));
const sharing = new Sharing(byId("toast"));

/** The pane that the strip and the findings act on. */
const pane = () => panes[state.active];

// --- films and findings

/** @param {Film} film */
async function open(film) {
  const target = pane();
  const other = panes[1 - state.active];
  const kept = state.comparing ? (other.film?.key === film.key ? target.label : other.label) : "";
  problem.hide();
  target.expect(film, strip.thumbnailOf(film));
  strip.choose(film.key);
  showPanel();
  byId("panes").scrollIntoView({ block: "nearest" });
  try {
    const answer = await answers.get(film, state.presentation);
    if (target.film !== film) return;
    const { findings } = answer.result;
    show(target, answer, findings.some(({ label }) => label === kept) ? kept : findings[0].label);
    strip.mark(film, false);
    strip.picture(film, answer.radiograph);
    serverLine.showNotice(answer.result.notice);
    if (target === pane()) showPanel();
    prefetch();
  } catch (error) {
    if (target.film !== film) return;
    strip.mark(film, true);
    fail(error, target, film);
  }
}

/** @param {Pane} target @param {Answer} answer @param {string} label */
function show(target, answer, label) {
  target.show(answer, label, state.server?.model?.input_side_px);
  showModelInput(target);
}

/**
 * Show what the network saw, in its resolution, where it is looked at; until it is fetched, that
 * part of the film is shown.
 * @param {Pane} target
 */
async function showModelInput(target) {
  const { film, answer } = target;
  if (!film || !answer || state.settings.frame !== "MODEL_INPUT") return;
  try {
    const { radiograph } = await answers.get(film, state.presentation, "model-input");
    if (target.answer !== answer) return;
    target.show(answer, target.label, state.server?.model?.input_side_px, radiograph);
  } catch (error) {
    if (!(error instanceof ViewerError)) throw error;
    const again = () => showModelInput(target);
    if (target.answer === answer)
      problem.show(error, { film, server: state.server?.server ?? null, again });
  }
}

/** @param {unknown} error @param {Pane} target @param {Film} film */
function fail(error, target, film) {
  if (!(error instanceof ViewerError)) throw error;
  target.fail();
  problem.show(error, { film, server: state.server?.server ?? null, again: () => open(film) });
  if (target === pane()) showPanel();
}

/** The answer of the next film is fetched before it is asked for. */
function prefetch() {
  const next = strip.neighbour(1);
  if (next && !state.comparing)
    answers.get(next, state.presentation).then(
      ({ radiograph }) => strip.picture(next, radiograph),
      () => {},
    );
}

/** @param {string} label */
function chooseFinding(label) {
  const { answer } = pane();
  if (!answer) return;
  show(pane(), answer, label);
  showPanel();
}

/** @param {number} step */
function openNeighbour(step) {
  const film = strip.neighbour(step);
  if (film) open(film);
}

function showPanel() {
  const { film, answer, label } = pane();
  if (film && answer) panel.show(film.name, answer.result, label);
  else if (film && pane().failed) panel.empty(`${film.name} was not scored.`);
  else if (film) panel.loading(film.name);
  else panel.empty("No film is open.");
  byId("presentation-part").hidden = answer?.result.image_info.format !== "DICOM";
  showState();
}

/** Show what is there: the panes, or what to do when no film is open. */
function showState() {
  const { answer } = pane();
  const isEmpty = panes.every(({ film }) => !film);
  byId("empty").hidden = !isEmpty || problem.shown;
  document.body.classList.toggle("comparing", state.comparing);
  for (const button of document.querySelectorAll(".exports button")) {
    /** @type {HTMLButtonElement} */ (button).disabled = !answer;
  }
  byId("compare").disabled = !panes[0].answer;
  const at = strip.films.findIndex(({ key }) => key === pane().film?.key);
  byId("position").textContent = at < 0 ? "" : `${at + 1} of ${strip.films.length}`;
  byId("previous").disabled = at === 0;
  byId("next").disabled = at === strip.films.length - 1;
}

// --- comparison

/** @param {number} index */
function activate(index) {
  if (state.active === index) return;
  state.active = index;
  for (const each of panes) each.setActive(each === pane());
  strip.choose(pane().film?.key ?? "");
  showPanel();
}

/** @param {boolean} comparing */
function compare(comparing) {
  const [a, b] = panes;
  state.comparing = comparing;
  second.hidden = !comparing;
  if (comparing && a.answer) {
    const labels = a.answer.result.findings.map(({ label }) => label);
    b.expect(a.film);
    show(b, a.answer, labels.find((label) => label !== a.label) ?? a.label);
  } else {
    b.expect(null);
    b.view.show(null);
  }
  activate(comparing ? 1 : 0);
  showState();
}

// --- the server

let pollTimer = 0;
async function poll() {
  clearTimeout(pollTimer);
  try {
    const before = state.server;
    state.server = await getState();
    const { server, model, films } = state.server;
    if (before?.model?.model.weights_sha256 !== model?.model.weights_sha256) answers.clear();
    answers.maxBytes = model?.limits.max_request_bytes ?? Infinity;
    panel.describe(model);
    strip.setServed(films);
    serverLine.show(state.server);
    if (!before) start();
    if (server.state === "serving") problem.recover();
    else if (panes.every(({ film }) => !film)) problem.showServer(server);
  } catch (error) {
    if (!(error instanceof ViewerError)) throw error;
    serverLine.lost();
    if (panes.every(({ film }) => !film))
      problem.show(error, { film: null, server: null, again: poll });
  }
  document.body.classList.remove("starting");
  showState();
  const isServing = state.server?.server.state === "serving" && !problem.shown;
  if (!document.hidden)
    pollTimer = setTimeout(poll, isServing ? POLL_MS.serving : POLL_MS.otherwise);
}

/** Offer the samples, and open the first film of a folder that the command was given. */
function start() {
  const samples = strip.films.filter(({ group }) => group === "sample");
  byId("samples-part").hidden = !samples.length;
  for (const film of samples) {
    const button = filmButton(film);
    button.addEventListener("click", () => open(film));
    byId("samples").append(button);
  }
  const [inFolder] = strip.films.filter(({ group }) => group === "folder");
  if (inFolder && !pane().film) open(inFolder);
}

// --- wiring

/** @param {number} [level] @param {number} [width] */
function setWindow(level, width) {
  for (const { view } of panes) view.window(level, width);
}

/**
 * Show zoom and window of the active pane beside their controls.
 * @param {number} index @param {import("./view.js").Display} display
 */
function showDisplay(index, { zoom, level, width }) {
  if (index !== state.active) return;
  byId("zoom").textContent = `${zoom.toFixed(1)}x`;
  byId("level").value = String(level);
  byId("width").value = String(width);
  showOutput(byId("level"));
  showOutput(byId("width"));
  if (state.comparing) panes[1 - index].view.window(level, width);
}

const onClick = {
  "zoom-in": () => pane().view.zoom(1.25),
  "zoom-out": () => pane().view.zoom(0.8),
  "zoom-fit": () => pane().view.fit(),
  "reset-window": () => setWindow(),
  previous: () => openNeighbour(-1),
  next: () => openNeighbour(1),
  "open-help": () => byId("help").showModal(),
  disclose: () => {
    const isOpen = byId("disclose").getAttribute("aria-expanded") === "true";
    byId("disclose").setAttribute("aria-expanded", String(!isOpen));
  },
  "copy-command": () => sharing.copy(problem.command),
};
for (const [id, act] of Object.entries(onClick)) byId(id).addEventListener("click", act);
for (const id of ["level", "width"])
  byId(id).addEventListener("input", () =>
    setWindow(Number(byId("level").value), Number(byId("width").value)),
  );
for (const button of document.querySelectorAll("[data-save]")) {
  const kind = /** @type {"png"} */ (/** @type {HTMLElement} */ (button).dataset.save);
  button.addEventListener("click", () => {
    const shown = panes.filter((each) => each.answer && (state.comparing || each === pane()));
    sharing.save(kind, pane(), shown, state.settings);
  });
}
for (const button of document.querySelectorAll("[data-copy]")) {
  const kind = /** @type {"python"} */ (/** @type {HTMLElement} */ (button).dataset.copy);
  button.addEventListener("click", () => {
    const server = state.server?.server;
    if (server)
      sharing.copyCall(kind, pane(), {
        server,
        presentation: state.presentation,
        drawn: state.settings,
      });
  });
}
for (const [index, each] of panes.entries()) each.onPick(() => activate(index));
byId("compare").addEventListener("change", () => compare(byId("compare").checked));
byId("presentation").addEventListener("change", () => {
  state.presentation = byId("presentation").value;
  const { film } = pane();
  if (film) open(film);
});
problem.onClose(() => {
  for (const each of panes) if (each.failed) each.expect(null);
  showPanel();
});

bindTheme(byId("theme"));
bindSettings((settings) => {
  state.settings = settings;
  for (const each of panes) {
    each.set(settings);
    showModelInput(each);
  }
  panel.setNegative(Boolean(settings.negative));
});
const keys = {
  ArrowDown: () => panel.step(1),
  ArrowUp: () => panel.step(-1),
  PageDown: () => openNeighbour(1),
  PageUp: () => openNeighbour(-1),
};
// Where the page is longer than the window, these keys scroll it.
const scrolls = () => document.documentElement.scrollHeight > innerHeight + 1;
bindKeys(
  (key) => (scrolls() ? undefined : keys[/** @type {"PageUp"} */ (key)]),
  () => state.settings.singleKeys,
);
listKeys(byId("keys"), [
  [["↓", "↑"], "Next, previous finding"],
  [["Page Down", "Page Up"], "Next, previous film"],
]);
takeFiles(
  ["choose-files", "choose-folder", "empty-files", "empty-folder"].map(byId),
  byId("drop-hint"),
  (files) => {
    const film = strip.add(files);
    if (film) open(film);
  },
);
document.addEventListener("visibilitychange", () => document.hidden || poll());
showState();
poll();
