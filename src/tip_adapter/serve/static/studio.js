// The studio: every gesture is one edit, on the disk before it shows; what it made stale settles afterwards.

import { Columns, chosen, droppable, filesOf } from "./columns.js";
import { Enough } from "./enough.js";
import { setUpExports } from "./exporting.js";
import { percent } from "./figures.js";
import { Next } from "./next.js";
import { ask, form, parts, query, say } from "./service.js";
import { Selection } from "./selection.js";
import { Trying } from "./trying.js";
import { burst } from "./webcam.js";
import { Weights } from "./weights.js";
import { setUpWords } from "./words.js";
import { unzipped } from "./zip.js";

const SETTLE_UP_TO = 2000; // photos: with more, choosing again takes longer than somebody waits for it
const SETTLE_MS = 700;
const BACKGROUND = "background"; // a class of photos alone: a text would say nothing of what is not there
const place = document.getElementById("classes");
const drafts = new Map(); // photos by class, while there is no classifier yet
let state = { classes: {}, shots: 0, edits: 0 };
let version = 0;
let taught = false;
let working = Promise.resolve();
let settling = null;

const names = () => [...new Set([...Object.keys(state.classes), ...drafts.keys()])];
const fail = (error) => say(error.message);
const refit = () => state.trains || null;

// One gesture after the other; each shows what it takes longer than a moment.
function gesture(work) {
  clearTimeout(settling);
  working = working.then(async () => {
    const busy = setTimeout(() => document.body.setAttribute("aria-busy", "true"), 300);
    try {
      await work();
    } catch (error) {
      fail(error);
    }
    clearTimeout(busy);
    document.body.removeAttribute("aria-busy");
    settleSoon();
  });
  return working;
}

// Choices for the photos as they are now wait until nobody edits; the answers have changed already.
function settleSoon() {
  clearTimeout(settling);
  if (!state.stale?.length || state.shots > SETTLE_UP_TO) return;
  settling = setTimeout(async () => {
    const { edits } = state;
    try {
      const answer = await ask("POST", "/v1/settle");
      if (state.edits !== edits || answer.edits !== edits) return;
      state = { ...state, ...answer };
      show();
      await trying.refresh();
    } catch (error) {
      fail(error);
    }
  }, SETTLE_MS);
}

async function read() {
  const [model] = (await ask("GET", "/v1/models")).models;
  document.getElementById("title").textContent = model.name;
  const before = taught ? state.edits : null;
  taught = model.shots > 0;
  if (taught) {
    const described = await ask("GET", "/v1/model");
    state = { ...described, classes: Object.fromEntries(described.classes.map((one) => [one.class, one.shots])) };
    trying.open([model.name, described.fitted, described.encoder.image_id].join(" "));
  }
  // What has not changed is not drawn anew under somebody's hand.
  if (before === null || before !== state.edits) {
    version += 1;
    show();
  }
}

async function edited(answer) {
  next.skippedLast = false;
  state = { ...state, ...answer };
  version += 1;
  selection.set([]);
  const answers = trying.refresh();
  show();
  await answers;
}

function add(name, files, group = null) {
  files = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  if (!files.length) return say("Expected photos, got none");
  trying.remember();
  return gesture(() => (taught ? send(name, files, group) : draft(name, files.map((file) => ({ file, group: group ?? "" })))));
}

async function send(name, files, group) {
  for (const part of parts(files)) {
    const fresh = !(name in state.classes) || null;
    const given = { class: name, new_class: fresh, wordless: fresh && (name === BACKGROUND || null), group, refit: refit() };
    const answer = await ask("POST", query("/v1/shots", given), form(part));
    drafts.delete(name);
    answer.already_there.forEach((one) => say(`${one.name} is a photo of ${one.class} already`));
    answer.errors.forEach((one) => say(one.error));
    await edited(answer);
  }
}

// Photos wait for those of a second class; what cannot be learned from does not stay in the way.
async function draft(name, photos) {
  const before = drafts.get(name) ?? [];
  drafts.set(name, [...before, ...photos]);
  show();
  try {
    await begin();
  } catch (error) {
    drafts.set(name, before);
    show();
    throw error;
  }
}

// The first photos of two classes make the first classifier; what one request cannot hold follows.
async function begin() {
  const kinds = [...drafts].filter(([, photos]) => photos.length);
  if (kinds.length < 2) return;
  const rounds = Array.from({ length: Math.max(...kinds.map(([, photos]) => photos.length)) }, (_, round) => round);
  const all = rounds.flatMap((round) => kinds.flatMap(([name, photos]) => photos.slice(round, round + 1).map((one) => ({ ...one, name }))));
  const [first] = parts(all.map((one) => one.file));
  const [now, later] = [all.slice(0, first.length), all.slice(first.length)];
  const data = form(first);
  data.append("classes", JSON.stringify(now.map((one) => one.name)));
  data.append("groups", JSON.stringify(now.map((one) => one.group)));
  await ask("POST", "/v1/fit", data);
  kinds.forEach(([name]) => drafts.delete(name));
  await read();
  for (const [name] of kinds) {
    for (const group of new Set(later.filter((one) => one.name === name).map((one) => one.group))) {
      const photos = later.filter((one) => one.name === name && one.group === group);
      await send(name, photos.map((one) => one.file), group || null);
    }
  }
  await trying.refresh();
}

function move(ids, name) {
  if (!ids.length) return;
  trying.remember();
  gesture(async () => edited(await ask("PATCH", query("/v1/shots", { refit: refit() }), { ids, class: name })));
}

function take(ids) {
  if (!ids.length) return;
  const path = query("/v1/shots", { refit: refit() });
  const joint = path.includes("?") ? "&" : "?";
  trying.remember();
  gesture(async () => {
    // An address holds a thousand ids.
    for (let start = 0; start < ids.length; start += 1000) {
      const part = new URLSearchParams(ids.slice(start, start + 1000).map((id) => ["id", id]));
      await edited(await ask("DELETE", `${path}${joint}${part}`));
    }
  });
}

function begun(name) {
  if (!name || names().includes(name)) return say(`There is a class ${name} already`);
  drafts.set(name, []);
  show();
}

// A folder of class folders teaches all of them.
async function teachFolders(transfer) {
  const files = await filesOf(transfer);
  const folders = Map.groupBy(files, (file) => file.folder ?? "");
  if (folders.has("")) return say("Drop single photos on a class; a folder here becomes a class of its name");
  for (const [name, photos] of folders) add(name, photos);
}

function show() {
  columns.update(names(), state.classes, drafts, version);
  next.update(Object.keys(state.classes), taught ? version : null);
  const { left_out: known, groups } = state;
  const stale = state.stale?.length > 0 && state.shots <= SETTLE_UP_TO;
  enough.update(state, taught, stale);
  weights.update(state, taught, stale);
  const facts = [];
  if (taught) {
    facts.push(groups < state.shots ? `${state.shots} photos, ${groups} groups` : `${state.shots} photos`);
    if (known) facts.push(`left-out accuracy ${percent(known.accuracy)} (${percent(known.low)} to ${percent(known.high)})`);
    else facts.push(stale ? "accuracy: measuring again …" : "accuracy: two photos of each class tell");
  }
  document.getElementById("facts").textContent = facts.join(" · ");
  document.getElementById("start").hidden = taught;
  document.getElementById("export").hidden = !taught;
  document.getElementById("undo").disabled = !(state.edits > 0);
}

const leftOut = () => state.left_out?.n ?? trying.lastLeftOut ?? 0;
const trying = new Trying({ classes: names, leftOut, correct: (file, name) => add(name, [file]), fail });
const next = new Next({
  fail,
  label: (id, name) => {
    trying.remember();
    return gesture(async () => edited(await ask("POST", query(`/v1/unlabelled/${id}/label`, { class: name, refit: refit() }))));
  },
});
const film = (name) => burst().then((frames) => frames.length && add(name, frames, `webcam ${Date.now()}`), fail);
const words = setUpWords({
  fail,
  save: (name, texts) => {
    trying.remember();
    gesture(async () => edited(await ask("PATCH", query("/v1/classes", { refit: refit() }), { class: name, texts })));
  },
});
const selection = new Selection(place, () => columns.ids);
const columns = new Columns(place, { selection, add, move, burst: film, words, fail });
const enough = new Enough({ tell: (verdicts, hints) => columns.tell(verdicts, hints), choose: (id) => selection.set([id]) });

const weigh = (method, pair) => {
  trying.remember();
  gesture(async () => edited(await ask(method, "/v1/model/weights", pair)));
};
const weights = new Weights({ hold: (pair) => weigh("PUT", pair), choose: () => weigh("DELETE"), fail });

setUpExports({ trying, opened: read, fail });

document.getElementById("new-class").onsubmit = (event) => {
  event.preventDefault();
  begun(new FormData(event.target).get("name").trim());
  event.target.reset();
};
document.getElementById("add-background").onclick = () => begun(BACKGROUND);
document.getElementById("undo").onclick = () => {
  trying.remember();
  gesture(async () => edited(await ask("POST", "/v1/undo")));
};
document.getElementById("try-files").onchange = (event) => chosen(event.target, (files) => trying.add(files));
droppable(document.getElementById("try-drop"), async (transfer) => trying.add(await filesOf(transfer)));
droppable(document.getElementById("new-class"), teachFolders);
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => event.preventDefault());
addEventListener("paste", (event) => event.clipboardData.files.length && unzipped([...event.clipboardData.files]).then((files) => trying.add(files), fail));
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, dialog")) return;
  const chosen = [...selection.ids];
  if (!chosen.length) next.key(event);
  if (/^[1-9]$/.test(event.key) && names()[event.key - 1]) move(chosen, names()[event.key - 1]);
  if (event.key === "Delete" || event.key === "Backspace") take(chosen);
  if (event.key === "Escape") selection.set([]);
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) {
    if (next.skippedLast) next.bringBack();
    else document.getElementById("undo").click();
  }
});
// What somebody else edits is seen when the page is looked at again.
addEventListener("focus", () => gesture(read));
gesture(read);
