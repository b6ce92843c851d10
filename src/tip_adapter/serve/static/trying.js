// Photos that were not taught: answers that follow every edit, their reasons, and corrections.

import { ask, form, make, parts, query } from "./service.js";

export class Trying {
  constructor({ classes, leftOut, correct, fail }) {
    Object.assign(this, { classes, leftOut, correct, fail });
    this.photos = [];
    this.before = null;
    this.place = document.getElementById("answers");
    document.getElementById("none").onchange = () => this.refresh();
    document.getElementById("rate").onchange = () => this.refresh();
  }

  async add(files) {
    const before = this.photos;
    this.photos = [...files.map((file) => ({ file, url: URL.createObjectURL(file), truth: "" })), ...before];
    try {
      await this.#answer();
    } catch (error) {
      // Before anything is taught photos wait for their answers; those that cannot be read do not stay.
      if (error.status !== 409) this.photos = before;
      this.fail(error);
    }
  }

  refresh() {
    return this.#answer().catch(this.fail);
  }

  async #answer() {
    const photos = this.photos;
    if (!photos.length) return;
    const found = await this.#predict(photos.map((photo) => photo.file), this.#promises());
    found.forEach((answer, index) => Object.assign(photos[index], { answer }));
    this.show();
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

  async #predict(files, parameters) {
    const found = [];
    for (const part of parts(files)) {
      found.push(...(await ask("POST", query("/v1/predict", parameters), form(part))).predictions);
    }
    return found;
  }

  show() {
    const answered = this.photos.filter((photo) => photo.answer);
    this.place.replaceChildren(...answered.map((photo) => this.#card(photo)));
    const pinned = answered.filter((photo) => photo.truth);
    const right = pinned.filter((photo) => photo.answer.class === photo.truth).length;
    const now = pinned.length ? `${right} of ${pinned.length} pinned photos are right` : "";
    const changed = this.before && this.before !== now && now;
    document.getElementById("pinned").textContent = changed ? `${now} (before: ${this.before})` : now;
    this.before = now || null;
  }

  #card(photo) {
    const { answer } = photo;
    const card = make("article", { className: "answer-card" }, make("img", { src: photo.url, alt: `Photo ${photo.file.name}` }));
    if (answer.error) {
      card.append(make("p", {}, answer.error));
      return card;
    }
    const bars = answer.top.map((one) => {
      const fill = make("div", { className: "fill" });
      fill.style.width = `${100 * one.probability}%`;
      const track = make("div", { className: "track" }, fill);
      return make("div", { className: "row" }, make("span", {}, one.class), track, make("span", {}, `${Math.round(100 * one.probability)} %`));
    });
    const truth = make("select", { "aria-label": `Right answer for ${photo.file.name}` }, make("option", { value: "" }, "it is …"));
    truth.append(...this.classes().map((name) => make("option", { value: name, selected: name === photo.truth }, name)));
    truth.onchange = () => { photo.truth = truth.value; this.show(); };
    const teach = make("button", { type: "button", disabled: !photo.truth }, "Teach it");
    teach.onclick = () => this.correct(photo.file, photo.truth);
    const why = make("button", { type: "button" }, "Why?");
    const body = make("div", {}, make("h3", {}, answer.class ?? "none of these"), ...bars);
    if (answer.set?.length > 1) body.append(make("p", { className: "note" }, `90 % set: ${answer.set.map((one) => one.class).join(", ")}`));
    body.append(make("div", { className: "tools" }, why, truth, teach));
    card.append(body);
    why.onclick = () => this.#explain(photo, card).catch(this.fail);
    return card;
  }

  async #explain(photo, card) {
    const [answer] = await this.#predict([photo.file], { evidence: 5 });
    const { evidence } = answer;
    const signed = (value) => (value === null ? "" : `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`);
    const shots = evidence.deciding.map((shot) => make("li", {},
      make("img", { src: `/v1/shots/${shot.id}/thumbnail`, alt: `Shot of ${shot.class}` }),
      `${shot.class} ${signed(shot.margin)}`,
      make("br"),
      `without it: ${shot.answer_without}`));
    const words = `${evidence.answer} leads ${evidence.runner_up} by ${evidence.margin.toFixed(2)}: `
      + `class texts ${signed(evidence.text.margin)}, photos ${signed(evidence.shots.margin)}.`;
    card.querySelector(".reasons")?.remove();
    card.append(make("div", { className: "reasons" }, words, make("ul", {}, ...shots)));
  }
}
