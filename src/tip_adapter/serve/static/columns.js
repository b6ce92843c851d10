// Classes as columns. A column asks for its photos when it comes into view, some at a time, and lets go of them after.

import { verdictOf } from "./enough.js";
import { ask, make, query, say } from "./service.js";
import { unzipped } from "./zip.js";

const PAGE = 30;
const FAR = "600px";
const MANY_CLASSES = 12;

class Column {
  constructor(name, { selection, add, move, burst, words, fail }) {
    Object.assign(this, { name, selection, fail });
    this.shots = [];
    this.buttons = new Map();
    this.version = null;
    this.seen = false;
    this.loading = null;
    this.key = make("kbd");
    this.count = make("small");
    this.place = make("div", { className: "shots" });
    this.more = make("div", { className: "more" });
    this.verdict = make("p", { className: "verdict" });
    this.hints = new Map();
    const title = make("h3", {}, this.key, make("span", { className: "name" }, name), this.count);
    const choose = make("input", { type: "file", accept: "image/*,.zip", multiple: true, "aria-label": `Photos of ${name}` });
    choose.onchange = () => chosen(choose, (files) => add(name, files));
    const webcam = make("button", { type: "button", "aria-label": `Webcam for ${name}` }, "Webcam");
    webcam.onclick = () => burst(name);
    const all = make("button", { type: "button", "aria-label": `Select all of ${name}` }, "All");
    all.onclick = () => this.selectAll().catch(fail);
    const text = make("button", { type: "button", "aria-label": `Words for ${name}` }, "Words");
    text.onclick = () => words(name);
    this.tools = make("div", { className: "tools" }, make("label", { className: "choose" }, "Photos", choose), webcam, all, text);
    this.element = make("article", { className: "class", "aria-label": `Class ${name}` }, title, this.verdict, this.place, this.tools);
    this.taughtOnly = [all, text];
    this.place.addEventListener("click", (event) => {
      const button = event.target.closest("button.shot");
      if (button) selection.click(button, event);
    });
    this.place.addEventListener("dragstart", (event) => {
      const button = event.target.closest("button.shot");
      if (!button) return;
      if (!selection.ids.has(button.dataset.id)) selection.click(button, {});
      event.dataTransfer.setData("application/x-shots", JSON.stringify([...selection.ids]));
    });
    droppable(this.element, async (transfer) => {
      const moved = transfer.getData("application/x-shots");
      moved ? move(JSON.parse(moved), name) : add(name, await filesOf(transfer));
    });
  }

  update(number, total, waiting, version) {
    Object.assign(this, { total, waiting });
    const count = total + waiting.length;
    this.count.textContent = `${count} photo${count === 1 ? "" : "s"}`;
    this.key.hidden = number > 9;
    this.key.textContent = number;
    this.key.title = `Key ${number} moves the selected photos here`;
    for (const one of this.taughtOnly) one.hidden = !total;
    if (waiting.length) this.#draw();
    if (version !== this.version && this.seen) this.load(version).catch(this.fail);
    this.wanted = version;
  }

  // Whether there are enough photos, and which of them somebody should look at.
  tell(one, hints) {
    this.verdict.replaceChildren(...(one ? verdictOf(one) : []));
    this.hints = hints;
    for (const [id, button] of this.buttons) this.#hint(id, button);
  }

  see(visible) {
    this.seen = visible;
    if (visible && this.wanted !== this.version) this.load(this.wanted).catch(this.fail);
    else if (visible) this.#draw();
    else this.#letGo();
  }

  // The photos that are shown, again after an edit; what has not changed is not drawn anew.
  async load(version, wanted = Math.max(PAGE, this.shots.length)) {
    this.version = version;
    const given = { class: this.name, limit: wanted };
    this.shots = this.total ? (await ask("GET", query("/v1/shots", given))).shots : [];
    if (this.seen) this.#draw();
  }

  async loadMore() {
    if (this.loading || this.shots.length >= this.total) return;
    this.loading = ask("GET", query("/v1/shots", { class: this.name, offset: this.shots.length, limit: PAGE }));
    try {
      this.shots = [...this.shots, ...(await this.loading).shots];
    } finally {
      this.loading = null;
    }
    this.#draw();
  }

  async selectAll() {
    const { shots } = await ask("GET", query("/v1/shots", { class: this.name, limit: 100000 }));
    this.selection.set(shots.map((shot) => shot.id));
  }

  #draw() {
    const buttons = new Map(this.shots.map((shot) => [shot.id, this.buttons.get(shot.id) ?? this.#button(shot)]));
    const waiting = this.waiting.slice(0, PAGE).map((one) => {
      one.url ??= URL.createObjectURL(one.file);
      return make("img", { className: "shot", src: one.url, alt: `${this.name}: ${one.file.name}` });
    });
    this.buttons = buttons;
    this.place.style.minHeight = "";
    const rest = this.shots.length < this.total ? [this.more] : [];
    this.place.replaceChildren(...buttons.values(), ...waiting, ...rest);
    this.selection.show(buttons.values());
  }

  #button(shot) {
    const image = make("img", { src: `/v1/shots/${shot.id}/thumbnail`, alt: "", loading: "lazy", decoding: "async" });
    const button = make("button", { type: "button", className: "shot", draggable: true, "data-id": shot.id, "data-name": shot.name }, image);
    this.#hint(shot.id, button);
    return button;
  }

  #hint(id, button) {
    const reasons = (this.hints.get(id) ?? []).map((hint) => hint.reason);
    const words = [button.dataset.name, ...reasons].join("; ");
    button.title = words;
    button.setAttribute("aria-label", `${this.name}: ${words}`);
    button.querySelector(".badge")?.remove();
    if (reasons.length) button.append(make("span", { className: "badge", "aria-hidden": "true" }, "!"));
  }

  #letGo() {
    if (!this.place.childElementCount || this.place.contains(document.activeElement)) return;
    this.place.style.minHeight = `${this.place.offsetHeight}px`;
    this.buttons = new Map();
    this.shots = this.shots.slice(0, PAGE);
    this.place.replaceChildren();
  }
}

export class Columns {
  constructor(place, actions) {
    Object.assign(this, { place, actions });
    this.columns = new Map();
    const of = (entry) => this.columns.get(entry.target.closest(".class").dataset.name);
    this.inView = new IntersectionObserver(
      (entries) => entries.forEach((entry) => of(entry)?.see(entry.isIntersecting)),
      { rootMargin: FAR },
    );
    this.atEnd = new IntersectionObserver((entries) => {
      for (const entry of entries) if (entry.isIntersecting) of(entry)?.loadMore().catch(actions.fail);
    });
    this.filter = document.getElementById("find-class");
    this.filter.oninput = () => this.#find();
  }

  // Ids of the photos that are known, in the order in which they stand.
  get ids() {
    return [...this.columns.values()].flatMap((column) => column.shots.map((shot) => shot.id));
  }

  update(names, counts, drafts, version) {
    const before = [...this.columns.keys()];
    const columns = new Map();
    for (const [index, name] of names.entries()) {
      const column = this.columns.get(name) ?? this.#made(name);
      columns.set(name, column);
      column.update(index + 1, counts[name] ?? 0, drafts.get(name) ?? [], version);
    }
    this.columns = columns;
    if (names.join("\n") !== before.join("\n")) this.place.replaceChildren(...[...columns.values()].map((one) => one.element));
    this.filter.parentElement.hidden = names.length <= MANY_CLASSES;
    this.#find();
  }

  tell(verdicts, hints) {
    for (const [name, column] of this.columns) column.tell(verdicts.get(name), hints);
  }

  #made(name) {
    const column = new Column(name, this.actions);
    column.element.dataset.name = name;
    this.inView.observe(column.element);
    this.atEnd.observe(column.more);
    return column;
  }

  #find() {
    const wanted = this.filter.value.trim().toLowerCase();
    for (const [name, column] of this.columns) column.element.hidden = !name.toLowerCase().includes(wanted);
  }
}

// Files of what was dropped; those of a folder know its name.
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const walk = async (entry, folder) => {
    if (entry.isFile) return [Object.assign(await new Promise((done, fault) => entry.file(done, fault)), { folder })];
    const reader = entry.createReader();
    const found = [];
    for (let part = [null]; part.length; ) {
      part = await new Promise((done, fault) => reader.readEntries(done, fault));
      for (const one of part) found.push(...(await walk(one, entry.name)));
    }
    return found;
  };
  return unzipped(entries.length ? (await Promise.all(entries.map((one) => walk(one, "")))).flat() : [...transfer.files]);
}

// Files of what was chosen, which can be chosen again.
export async function chosen(input, take) {
  const files = [...input.files];
  input.value = "";
  try {
    await take(await unzipped(files));
  } catch (error) {
    say(error.message);
  }
}

export function droppable(element, drop) {
  element.addEventListener("dragover", (event) => { event.preventDefault(); element.classList.add("over"); });
  element.addEventListener("dragleave", () => element.classList.remove("over"));
  element.addEventListener("drop", (event) => {
    event.preventDefault();
    event.stopPropagation();
    element.classList.remove("over");
    drop(event.dataTransfer).catch((error) => say(error.message));
  });
}
