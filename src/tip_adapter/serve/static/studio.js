// The studio: classes as columns, every gesture one edit that is on the disk before it shows.

import { ask, form, make, parts, query, say } from "./service.js";
import { Selection } from "./selection.js";
import { Trying } from "./trying.js";
import { burst } from "./webcam.js";

const SHOWN = 60;
const REFIT_UP_TO = 2000;
const place = document.getElementById("classes");
const selection = new Selection(place);
const drafts = new Map(); // photos by class, while there is no classifier yet
let state = { classes: {}, shots: 0, edits: 0 };
let shots = new Map();
let taught = false;
let opened = new Set();
let working = Promise.resolve();

const names = () => [...new Set([...Object.keys(state.classes), ...drafts.keys()])];
const fail = (error) => say(error.message);
const refit = () => (state.shots <= REFIT_UP_TO ? true : null);

// One gesture after the other; each shows what it takes longer than a moment.
function gesture(work) {
  working = working.then(async () => {
    const busy = setTimeout(() => document.body.setAttribute("aria-busy", "true"), 300);
    try {
      await work();
    } catch (error) {
      fail(error);
    }
    clearTimeout(busy);
    document.body.removeAttribute("aria-busy");
  });
  return working;
}

async function read() {
  const [model] = (await ask("GET", "/v1/models")).models;
  document.getElementById("title").textContent = model.name;
  const before = taught ? state.edits : null;
  taught = model.shots > 0;
  if (taught) {
    const described = await ask("GET", "/v1/model");
    state = { ...described, classes: Object.fromEntries(described.classes.map((one) => [one.class, one.shots])) };
  }
  // What has not changed is not drawn anew under somebody's hand.
  if (before === null || before !== state.edits) await readShots();
}

async function readShots() {
  shots = new Map(names().map((name) => [name, []]));
  if (taught) for (const shot of (await ask("GET", "/v1/shots?limit=100000")).shots) shots.get(shot.class)?.push(shot);
  show();
}

async function edited(answer) {
  state = { ...state, ...answer };
  selection.ids.clear();
  await readShots();
  await trying.refresh();
}

function add(name, files, group = null) {
  files = [...files].filter((file) => file.type.startsWith("image/") || !file.type);
  if (!files.length) return say("Expected photos, got none");
  return gesture(() => (taught ? send(name, files, group) : draft(name, files.map((file) => ({ file, group: group ?? "" })))));
}

async function send(name, files, group) {
  for (const part of parts(files)) {
    const given = { class: name, new_class: !(name in state.classes) || null, group, refit: refit() };
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
  await readShots();
  try {
    await begin();
  } catch (error) {
    drafts.set(name, before);
    await readShots();
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
  gesture(async () => edited(await ask("PATCH", query("/v1/shots", { refit: refit() }), { ids, class: name })));
}

function take(ids) {
  if (!ids.length) return;
  const path = query("/v1/shots", { refit: refit() });
  const joint = path.includes("?") ? "&" : "?";
  gesture(async () => {
    // An address holds a thousand ids.
    for (let start = 0; start < ids.length; start += 1000) {
      const part = new URLSearchParams(ids.slice(start, start + 1000).map((id) => ["id", id]));
      await edited(await ask("DELETE", `${path}${joint}${part}`));
    }
  });
}

async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const walk = async (entry) => {
    if (entry.isFile) return [await new Promise((done, fault) => entry.file(done, fault))];
    const reader = entry.createReader();
    const found = [];
    for (let part = [null]; part.length; ) {
      part = await new Promise((done, fault) => reader.readEntries(done, fault));
      for (const one of part) found.push(...(await walk(one)));
    }
    return found;
  };
  return entries.length ? (await Promise.all(entries.map(walk))).flat() : [...transfer.files];
}

function droppable(element, drop) {
  element.addEventListener("dragover", (event) => { event.preventDefault(); element.classList.add("over"); });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    element.classList.remove("over");
    drop(event.dataTransfer);
  });
}

function card(name, number) {
  const list = shots.get(name) ?? [];
  const draft = drafts.get(name) ?? [];
  const visible = opened.has(name) ? list : list.slice(0, SHOWN);
  const pictures = visible.map((shot) => {
    const image = make("img", { src: `/v1/shots/${shot.id}/thumbnail`, alt: "", loading: "lazy", decoding: "async" });
    const button = make("button", { type: "button", className: "shot", draggable: true, title: shot.name, "data-id": shot.id, "aria-pressed": false, "aria-label": `${name}: ${shot.name}` }, image);
    button.onclick = (event) => selection.click(button, event);
    button.ondragstart = (event) => {
      if (!selection.ids.has(shot.id)) selection.click(button, {});
      event.dataTransfer.setData("application/x-shots", JSON.stringify([...selection.ids]));
    };
    return button;
  });
  const waiting = draft.slice(0, SHOWN).map(({ file }) => make("img", { className: "shot", src: URL.createObjectURL(file), alt: `${name}: ${file.name}` }));
  const choose = make("input", { type: "file", accept: "image/*", multiple: true, "aria-label": `Photos of ${name}` });
  choose.onchange = () => add(name, choose.files);
  const webcam = make("button", { type: "button", "aria-label": `Webcam for ${name}` }, "Webcam");
  webcam.onclick = () => burst().then((frames) => frames.length && add(name, frames, `webcam ${Date.now()}`), fail);
  const count = list.length + draft.length;
  const title = make("h3", {}, make("span", { className: "name" }, name), make("small", {}, `${count} photo${count === 1 ? "" : "s"}`));
  if (number <= 9) title.prepend(make("kbd", { title: `Key ${number} moves the selected photos here` }, `${number}`));
  const tools = make("div", { className: "tools" }, make("label", { className: "choose" }, "Add photos", choose), webcam);
  if (list.length > visible.length) {
    const all = make("button", { type: "button" }, `Show all ${list.length}`);
    all.onclick = () => { opened.add(name); show(); };
    tools.append(all);
  }
  const element = make("article", { className: "class", "aria-label": `Class ${name}` }, title, make("div", { className: "shots" }, ...pictures, ...waiting), tools);
  droppable(element, async (transfer) => {
    const moved = transfer.getData("application/x-shots");
    moved ? move(JSON.parse(moved), name) : add(name, await filesOf(transfer));
  });
  return element;
}

function show() {
  place.replaceChildren(...names().map((name, index) => card(name, index + 1)));
  selection.show();
  const { left_out: known, groups } = state;
  const parts = [];
  if (taught) {
    parts.push(groups < state.shots ? `${state.shots} photos, ${groups} groups` : `${state.shots} photos`);
    const percent = (value) => `${(100 * value).toFixed(0)} %`;
    parts.push(known ? `left-out accuracy ${percent(known.accuracy)} (${percent(known.low)} to ${percent(known.high)})` : "accuracy: two photos of each class tell");
  }
  document.getElementById("facts").textContent = parts.join(" · ");
  document.getElementById("start").hidden = taught;
  document.getElementById("undo").disabled = !(state.edits > 0);
}

const leftOut = () => state.left_out?.n ?? 0;
const trying = new Trying({ classes: names, leftOut, correct: (file, name) => add(name, [file]), fail });

document.getElementById("new-class").onsubmit = (event) => {
  event.preventDefault();
  const name = new FormData(event.target).get("name").trim();
  if (!name || names().includes(name)) return say(`There is a class ${name} already`);
  drafts.set(name, []);
  event.target.reset();
  readShots().catch(fail);
};
document.getElementById("undo").onclick = () => gesture(async () => edited(await ask("POST", "/v1/undo")));
document.getElementById("try-files").onchange = (event) => trying.add([...event.target.files]);
droppable(document.getElementById("try-drop"), async (transfer) => trying.add(await filesOf(transfer)));
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => event.preventDefault());
addEventListener("paste", (event) => event.clipboardData.files.length && trying.add([...event.clipboardData.files]));
addEventListener("keydown", (event) => {
  if (event.target.closest("input, select, textarea, dialog")) return;
  const chosen = [...selection.ids];
  if (/^[1-9]$/.test(event.key) && names()[event.key - 1]) move(chosen, names()[event.key - 1]);
  if (event.key === "Delete" || event.key === "Backspace") take(chosen);
  if (event.key === "Escape") selection.clear();
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) document.getElementById("undo").click();
});
// What somebody else edits is seen when the page is looked at again.
addEventListener("focus", () => gesture(read));
gesture(read);
