// @ts-check
/** The page: its state in one object, and the wiring of everything else. */

import { Answers, ViewerError } from "./api.js";
import * as controls from "./controls.js";
import { takeFiles } from "./files.js";
import { FilmStrip, filmButton, reloadBroken } from "./films.js";
import { FindingsPanel } from "./findings.js";
import { Panes } from "./panes.js";
import { Sharing } from "./sharing.js";
import { Problem, ServerLine, Watch } from "./status.js";

/**
 * @typedef {import("./api.js").Film} Film
 * @typedef {import("./api.js").Answer} Answer
 * @typedef {import("./panes.js").Pane} Pane
 */

const KEPT_ANSWERS = 16;

/** @param {string} id @returns {any} */
const byId = (id) => document.getElementById(id);
/** @param {string} selector @returns {any} */
const one = (selector) => document.querySelector(selector);

const state = {
  /** @type {import("./api.js").State | null} */
  server: null,
  /** The model that answers. @type {import("./api.js").ModelDescription | null} */
  model: null,
  /** @type {any} */
  settings: {},
  /** Whether the server serves. */
  isServing: false,
  /** Whether any film has been opened. */
  hasOpened: false,
};

const answers = new Answers(KEPT_ANSWERS);
/** Ends the request for a film that has not been asked for yet. */
let ahead = new AbortController();
const panes = new Panes(one(".pane"), {
  onActivate: showActive,
  onDisplay: showDisplay,
});
const strip = new FilmStrip(byId("films"), open);
const panel = new FindingsPanel(one(".answer"), chooseFinding);
const serverLine = new ServerLine(byId("server"), byId("notice"));
const problem = new Problem(byId("problem"));
const sharing = new Sharing(byId("toast"), () => ({
  active: panes.active,
  shown: panes.shown,
  drawn: state.settings,
  server: state.server?.server,
}));

/** @param {Film} film @param {Pane} [target] */
function open(film, target = panes.active) {
  state.hasOpened = true;
  problem.hide();
  if (film.key !== target.film?.key) target.label = labelFor(film, target);
  load(film, target);
  if (one("main").getBoundingClientRect().top < 0) one("main").scrollIntoView();
}

/**
 * Two films are compared by the same finding, two findings by the same film.
 * @param {Film} film
 * @param {Pane} target
 * @returns {string} The finding to be shown of it; empty: the first.
 */
function labelFor(film, target) {
  const other = panes.all.find((each) => each !== target);
  if (!panes.comparing || !other) return "";
  return other.film?.key === film.key ? target.label : other.label;
}

/** @param {Film} film @param {Pane} target Shows it, with the finding that is its label. */
async function load(film, target) {
  ahead.abort();
  const { label } = target;
  const signal = target.expect(film, strip.thumbnailOf(film));
  if (target === panes.active) strip.choose(film.key);
  showPanel();
  try {
    const answer = await answers.get(film, target.presentation, signal);
    if (signal.aborted) return;
    problem.hide(target);
    const { findings } = answer.result;
    show(target, answer, (findings.find((each) => each.label === label) ?? findings[0]).label);
    strip.mark(film, false);
    strip.picture(film, answer.radiograph);
    serverLine.showNotice(answer.result.notice);
    if (target === panes.active) showPanel();
    prefetch();
  } catch (error) {
    if (signal.aborted) return;
    strip.mark(film, true);
    fail(error, target, film);
  }
}

/** @param {Pane} target @param {Answer} answer @param {string} label */
function show(target, answer, label) {
  target.show(answer, label, state.model?.input_side_px);
  target.settled = showModelInput(target);
}

/**
 * Show what the network saw, in its resolution, where it is looked at; until it is fetched, that
 * part of the film is shown.
 * @param {Pane} target
 */
async function showModelInput(target) {
  const { film, answer, presentation, signal } = target;
  if (!film || !answer || state.settings.frame !== "MODEL_INPUT") return;
  try {
    const { radiograph } = await answers.get(film, presentation, signal, "model-input");
    if (signal.aborted) return;
    problem.hide(target);
    target.show(answer, target.label, state.model?.input_side_px, radiograph);
  } catch (error) {
    if (signal.aborted) return;
    if (!(error instanceof ViewerError)) throw error;
    const again = () => {
      target.settled = showModelInput(target);
    };
    problem.show(error, { about: target, film, server: state.server?.server ?? null, again });
  }
}

/** @param {unknown} error @param {Pane} target @param {Film} film */
function fail(error, target, film) {
  if (!(error instanceof ViewerError)) throw error;
  target.fail();
  const server = state.server?.server ?? null;
  problem.show(error, { about: target, film, server, again: loadFailed });
  if (target === panes.active) showPanel();
  // A web server that was started again knows the film by another id.
  if (error.reason === "FILM_UNKNOWN") watch.ask();
}

/** Ask again for the films that have no answer. */
function loadFailed() {
  for (const each of panes.all) if (each.failed && each.film) load(each.film, each);
}

/** The answer of the next film is fetched before it is asked for. */
function prefetch() {
  const next = strip.neighbour(1);
  ahead.abort();
  ahead = new AbortController();
  if (next && !panes.comparing)
    answers.get(next, panes.active.presentation, ahead.signal).then(
      ({ radiograph }) => strip.picture(next, radiograph),
      () => {},
    );
}

/** @param {string} label */
function chooseFinding(label) {
  const { answer } = panes.active;
  if (!answer) return;
  show(panes.active, answer, label);
  showPanel();
}

/** @param {number} step */
function openNeighbour(step) {
  const film = strip.neighbour(step);
  if (film) open(film);
}

function showPanel() {
  const { film, answer, label } = panes.active;
  if (film && answer) panel.show(film.name, answer.result, label);
  else if (film && panes.active.failed) panel.empty(`${film.name} was not scored.`);
  else if (film) panel.loading(film.name);
  else panel.empty("No film is open.");
  byId("presentation").value = panes.active.presentation;
  byId("presentation-part").hidden = answer?.result.image_info.format !== "DICOM";
  showState();
}

/** Show what is there: the panes, or what to do when no film is open. */
function showState() {
  if (state.server || state.hasOpened || problem.shown) document.body.classList.remove("starting");
  const { answer, film } = panes.active;
  byId("empty").hidden = !panes.empty || problem.shown;
  for (const button of document.querySelectorAll(".exports button")) {
    /** @type {HTMLButtonElement} */ (button).disabled = !answer;
  }
  byId("compare").disabled = !panes.comparing && !panes.all[0].answer;
  const at = strip.films.findIndex(({ key }) => key === film?.key);
  byId("position").textContent = at < 0 ? "" : `${at + 1} of ${strip.films.length}`;
  byId("previous").disabled = at === 0;
  byId("next").disabled = at === strip.films.length - 1;
}

/** The strip and the panel show what is in the pane that is active now. */
function showActive() {
  strip.choose(panes.active.film?.key ?? "");
  showPanel();
}

/** @param {boolean} comparing Start with two findings of one film. */
function compare(comparing) {
  const [first, second] = panes.all;
  const { film, answer, label } = first;
  if (comparing && film && answer) {
    const labels = answer.result.findings.map((finding) => finding.label);
    second.expect(film);
    second.presentation = first.presentation;
    show(second, answer, labels.find((each) => each !== label) ?? label);
  }
  panes.compare(comparing);
  if (!comparing) {
    second.expect(null);
    problem.hide(second);
    second.view.show(null);
    showState();
  }
}

const watch = new Watch(
  (answered) => {
    state.server = answered;
    const { server, model, films, folder_is_empty: folderIsEmpty } = answered;
    // What is refused, or unknown to a web server that was started again, may be there now.
    if (strip.setServed(films, folderIsEmpty)) loadFailed();
    serverLine.show(answered);
    if (model) setModel(model);
    offer();
    setServing(server.state === "serving");
    if (server.state === "serving") problem.recover();
    else if (panes.empty) problem.showServer(server);
    showState();
    return server.state === "serving" && !problem.shown;
  },
  (error) => {
    serverLine.lost();
    setServing(false);
    const again = () => watch.ask();
    if (panes.empty) problem.show(error, { about: watch, film: null, server: null, again });
    showState();
  },
);

/** @param {boolean} isServing Thumbnails that failed before are asked for again. */
function setServing(isServing) {
  if (isServing && !state.isServing) {
    strip.askAgain();
    reloadBroken(byId("samples"));
  }
  state.isServing = isServing;
}

/** @param {import("./api.js").ModelDescription} model */
function setModel(model) {
  const before = state.model?.model;
  // A refitted model has the same weights, and one in bfloat16 all but the precision.
  const told = /** @type {const} */ (["name", "version", "weights_sha256", "precision"]);
  if (before && told.every((each) => before[each] === model.model[each])) return;
  state.model = model;
  answers.maxBytes = model.limits.max_request_bytes;
  panel.describe(model);
  if (!before) return;
  // Another model answers now: no answer of the last one stays.
  answers.clear();
  for (const each of panes.all) if (each.film) open(each.film, each);
}

/** Offer the samples, and open the first film of a folder that the command was given. */
function offer() {
  const samples = strip.films.filter(({ group }) => group === "sample");
  if (!byId("samples").childElementCount) {
    for (const film of samples) {
      const button = filmButton(film);
      button.addEventListener("click", () => open(film));
      byId("samples").append(button);
    }
  }
  byId("samples-part").hidden = !samples.length;
  const inFolder = strip.films.find(({ group }) => group === "folder");
  if (inFolder && !state.hasOpened) open(inFolder);
}

/** @param {import("./view.js").Display} display Zoom and window, beside their controls. */
function showDisplay({ zoom, level, width }) {
  byId("zoom").textContent = `${zoom.toFixed(1)}x`;
  controls.setSlider(byId("level"), level);
  controls.setSlider(byId("width"), width);
}

const onClick = {
  "zoom-in": () => panes.active.view.zoom(1.25),
  "zoom-out": () => panes.active.view.zoom(0.8),
  "zoom-fit": () => panes.active.view.fit(),
  "reset-window": () => panes.setWindow(),
  previous: () => openNeighbour(-1),
  next: () => openNeighbour(1),
  "open-help": () => byId("help").showModal(),
  "copy-command": () => sharing.copy(problem.command),
};
for (const [id, act] of Object.entries(onClick)) byId(id).addEventListener("click", act);
for (const id of ["level", "width"])
  byId(id).addEventListener("input", () =>
    panes.setWindow(Number(byId("level").value), Number(byId("width").value)),
  );
byId("compare").addEventListener("change", () => compare(byId("compare").checked));
byId("presentation").addEventListener("change", () => {
  const { active } = panes;
  active.presentation = byId("presentation").value;
  if (active.film) open(active.film);
});
problem.onClose(() => {
  for (const each of panes.all) if (each.failed) each.expect(null);
  showPanel();
});

controls.bindTheme(byId("theme"));
controls.bindDisclosure(byId("disclose"));
controls.bindSettings((settings) => {
  state.settings = settings;
  for (const each of panes.all) {
    each.set(settings);
    each.settled = showModelInput(each);
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
controls.bindKeys(
  (key) => (scrolls() ? undefined : keys[/** @type {"PageUp"} */ (key)]),
  () => state.settings.singleKeys,
);
controls.listKeys(byId("keys"));
takeFiles(
  ["choose-files", "choose-folder", "empty-files", "empty-folder"].map(byId),
  byId("drop-hint"),
  async (files) => {
    const film = await strip.add(files);
    if (film) open(film);
  },
);
showState();
watch.ask();
