// Photos that were not taught: answers that follow every edit, their reasons, and corrections.
// Each is encoded once; its feature stays in the page, and answers after an edit come from the features.

import { percent } from "./figures.js";
import { Pinned } from "./pinned.js";
import { ask, form, make, parts, query } from "./service.js";

const SHOWN = 100;
const AT_ONCE = 500;

export class Trying {
  constructor({ classes, leftOut, correct, fail }) {
    Object.assign(this, { classes, leftOut, correct, fail });
    this.photos = [];
    this.before = null;
    this.all = false;
    this.place = document.getElementById("answers");
    document.getElementById("none").onchange = () => this.refresh();
    document.getElementById("rate").onchange = () => this.refresh();
    document.getElementById("forget-pinned").onclick = () => this.#forget().catch(fail);
  }

  // Photos that were pinned for a classifier before are there again; those of this moment stay for the next time.
  async open(project) {
    if (this.kept?.project === project) return;
    this.kept = new Pinned(project);
    try {
      const present = new Set(this.photos.map((photo) => photo.sha256));
      const found = (await this.kept.all()).filter((photo) => !present.has(photo.sha256));
      this.photos.filter((photo) => photo.truth).forEach((photo) => this.#keep(photo));
      this.photos.push(...found.map((photo) => ({ ...photo, url: URL.createObjectURL(photo.file) })));
      await this.#answer();
    } catch (error) {
      this.fail(error);
    }
  }

  #keep(photo) {
    if (!photo.feature || !this.kept) return;
    const kept = photo.truth && !photo.taught ? this.kept.keep(photo) : this.kept.forget([photo]);
    kept.catch((error) => this.fail(new Error(`${photo.file.name} will not outlive this page: ${error.message}`)));
  }

  async #forget() {
    const { pinned } = this;
    await this.kept.forget(pinned);
    for (const photo of pinned) URL.revokeObjectURL(photo.url);
    this.photos = this.photos.filter((photo) => !pinned.includes(photo));
    this.before = null;
    this.show();
  }

  // What measures the classifier: photos that it was not taught.
  get pinned() {
    const known = new Set(this.classes());
    return this.photos.filter((photo) => known.has(photo.truth) && photo.answer && !photo.taught);
  }

  // A photo out of a folder that is called like a class is pinned as one of it.
  async add(files) {
    const known = new Set(this.classes());
    const added = files.map((file) => ({ file, url: URL.createObjectURL(file), truth: known.has(file.folder) ? file.folder : "" }));
    try {
      await this.#encode(added);
      this.photos = [...added.filter((photo) => photo.feature || photo.answer), ...this.photos];
      added.filter((photo) => photo.truth).forEach((photo) => this.#keep(photo));
      await this.#answer();
    } catch (error) {
      // Before anything is taught photos wait for their answers.
      if (error.status !== 409) this.fail(error);
    }
  }

  refresh() {
    return this.#answer().catch(this.fail);
  }

  // Keep how it is now, to compare it with how it is after an edit.
  remember(more = []) {
    this.lastLeftOut = this.leftOut();
    const { pinned } = this;
    for (const photo of [...pinned, ...more]) photo.was = photo.answer.class === photo.truth;
    this.before = pinned.length ? this.#score(pinned) : null;
  }

  async #encode(photos) {
    let start = 0;
    for (const part of parts(photos.map((photo) => photo.file))) {
      const { photos: rows } = await ask("POST", "/v1/embed", form(part));
      for (const [index, row] of rows.entries()) {
        const photo = photos[start + index];
        if (row.feature) Object.assign(photo, { feature: Float32Array.from(row.feature), sha256: row.sha256 });
        else photo.answer = { error: row.error };
      }
      start += part.length;
    }
  }

  async #answer() {
    const photos = this.photos.filter((photo) => photo.feature);
    for (let start = 0; start < photos.length; start += AT_ONCE) {
      const part = photos.slice(start, start + AT_ONCE);
      const found = await this.#predict(part, this.#promises());
      found.forEach((answer, index) => Object.assign(part[index], { answer }));
    }
    if (this.photos.length) this.show();
  }

  // What so few left-out photos can promise: a share of 5 % takes 19 of them.
  #promises() {
    const enough = (share) => this.leftOut() + 1 >= 1 / share - 1e-9;
    const box = document.getElementById("none");
    const rate = Number(document.getElementById("rate").value);
    document.getElementById("promise").textContent =
      box.checked && !enough(rate) ? `It takes ${Math.ceil(1 / rate - 1e-9) - 1} photos, or groups of them, to promise that.` : "";
    return { top_k: 3, none_of_these: box.checked && enough(rate) ? rate : null, coverage: enough(0.1) ? 0.9 : null };
  }

  async #predict(photos, parameters) {
    const features = new Blob(photos.map((photo) => photo.feature), { type: "application/octet-stream" });
    return (await ask("POST", query("/v1/predict/features", parameters), features)).predictions;
  }

  #score(pinned) {
    const right = pinned.filter((photo) => photo.answer.class === photo.truth).length;
    return { right, of: pinned.length, words: `${right} of ${pinned.length}` };
  }

  show() {
    const photos = this.all ? this.photos : this.photos.slice(0, SHOWN);
    const cards = photos.filter((photo) => photo.answer).map((photo) => this.#card(photo));
    // Cards that stay are not taken out: somebody's focus may be in one.
    if (cards.length !== this.place.children.length || cards.some((card, index) => card !== this.place.children[index])) {
      this.place.replaceChildren(...cards);
    }
    if (photos.length < this.photos.length) {
      const more = make("button", { type: "button" }, `Show all ${this.photos.length}`);
      more.onclick = () => { this.all = true; this.show(); };
      this.place.append(more);
    }
    this.#showPinned();
  }

  #showPinned() {
    const line = document.getElementById("pinned");
    const { pinned } = this;
    document.getElementById("pinned-line").hidden = !pinned.length;
    if (!pinned.length) return;
    const now = this.#score(pinned);
    const words = `${now.words} pinned photos are right (${percent(now.right / now.of)})`;
    line.textContent = this.before ? `${words}; before the edit: ${this.before.words}` : words;
  }

  #card(photo) {
    photo.card ??= photo.feature ? this.#newCard(photo) : make("article", { className: "answer-card" },
      make("img", { src: photo.url, alt: `Photo ${photo.file.name}` }), make("p", {}, photo.answer.error));
    if (photo.feature) this.#fill(photo);
    return photo.card;
  }

  #newCard(photo) {
    const truth = make("select", { "aria-label": `Right answer for ${photo.file.name}` });
    truth.onchange = () => { photo.truth = truth.value; photo.was = undefined; this.#keep(photo); this.show(); };
    const teach = make("button", { type: "button" }, "Teach it");
    teach.onclick = () => {
      this.remember([photo]);
      photo.taught = true;
      this.#keep(photo);
      this.correct(photo.file, photo.truth);
    };
    const why = make("button", { type: "button" }, "Why?");
    why.onclick = () => this.#explain(photo).catch(this.fail);
    const parts = { title: make("h3"), bars: make("div"), set: make("p", { className: "note" }), truth, teach };
    photo.parts = parts;
    const body = make("div", {}, parts.title, parts.bars, parts.set, make("div", { className: "tools" }, why, truth, teach));
    return make("article", { className: "answer-card" }, make("img", { src: photo.url, alt: `Photo ${photo.file.name}` }), body);
  }

  #fill(photo) {
    const { answer, parts, truth } = photo;
    // Reasons that somebody asked for follow the answer.
    if (photo.explained && photo.explained !== answer) this.#explain(photo).catch(this.fail);
    const right = truth && answer.class === truth;
    parts.title.replaceChildren(answer.class ?? "none of these");
    if (truth && photo.was !== undefined && photo.was !== right) {
      parts.title.append(" ", make("span", { className: right ? "tag good" : "tag" }, right ? "now right" : "now wrong"));
    }
    parts.bars.replaceChildren(...answer.top.map((one) => {
      const fill = make("div", { className: "fill" });
      fill.style.width = `${100 * one.probability}%`;
      return make("div", { className: "row" }, make("span", {}, one.class), make("div", { className: "track" }, fill), make("span", {}, percent(one.probability)));
    }));
    parts.set.textContent = answer.set?.length > 1 ? `90 % set: ${answer.set.map((one) => one.class).join(", ")}` : "";
    parts.set.hidden = !parts.set.textContent;
    const names = this.classes();
    if (parts.names !== names.join("\n")) {
      parts.names = names.join("\n");
      parts.truth.replaceChildren(make("option", { value: "" }, "it is …"), ...names.map((name) => make("option", { value: name }, name)));
    }
    parts.truth.value = truth;
    parts.teach.disabled = !truth;
  }

  async #explain(photo) {
    photo.explained = photo.answer;
    const [answer] = await this.#predict([photo], { evidence: 5 });
    const { evidence } = answer;
    const signed = (value) => (value === null ? "" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`);
    const shots = evidence.deciding.map((shot) => make("li", {},
      make("img", { src: `/v1/shots/${shot.id}/thumbnail`, alt: `Shot of ${shot.class}` }),
      `${shot.class} ${signed(shot.margin)}`,
      make("br"),
      `without it: ${shot.answer_without}`));
    const words = `${evidence.answer} leads ${evidence.runner_up} by ${evidence.margin.toFixed(2)}: `
      + `class texts ${signed(evidence.text.margin)}, photos ${signed(evidence.shots.margin)}.`;
    photo.card.querySelector(".reasons")?.remove();
    photo.card.append(make("div", { className: "reasons" }, words, make("ul", {}, ...shots)));
  }
}
