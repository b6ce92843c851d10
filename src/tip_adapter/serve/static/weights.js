// α and β for who wants them: how pairs do on left-out photos, two sliders over them, and a choice that holds.

import { percent } from "./figures.js";
import { ask } from "./service.js";

const METHOD = "tip-adapter";
const BUSY_MS = 300;
const FADE = 0.1; // log loss above the least, in nats, by which a cell fades to 1/e
const [WIDTH, HEIGHT, LEFT, BELOW] = [26, 13, 58, 46]; // of a cell, and room for the labels
const TICKS = 3;
const find = (id) => document.getElementById(id);
const short = (value) => String(Number(value.toPrecision(3)));
const nearest = (axis, value) => axis.reduce((best, one, place) => (Math.abs(one - value) < Math.abs(axis[best] - value) ? place : best), 0);

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

export class Weights {
  constructor({ hold, choose, fail }) {
    this.fail = fail;
    this.known = null; // the number of edits that the figures are of
    this.room = find("weights");
    this.sliders = { alphas: find("alpha"), betas: find("beta") };
    this.room.ontoggle = () => this.#measure();
    for (const slider of Object.values(this.sliders)) slider.oninput = () => this.#tell();
    find("weights-hold").onclick = () => hold(this.#wanted());
    find("weights-choose").onclick = () => choose();
  }

  // After every edit; figures wait until what it made stale has settled, and until somebody looks.
  update(state, taught, settling) {
    this.room.hidden = !taught || state.method !== METHOD;
    if (this.known !== state.edits || settling) this.known = null;
    Object.assign(this, { state, settling });
    this.#measure();
  }

  async #measure() {
    if (this.room.hidden || !this.room.open || this.known !== null) return;
    if (this.settling) return this.#say("Measuring again …");
    const { edits } = this.state;
    this.known = edits;
    const busy = setTimeout(() => this.#say("Measuring …"), BUSY_MS);
    try {
      const found = await ask("GET", "/v1/model/weights");
      if (this.known === edits && found.edits === edits) this.#show(found);
    } catch (error) {
      this.known = null;
      this.fail(error);
    }
    clearTimeout(busy);
  }

  #show(found) {
    this.found = found;
    for (const [axis, slider] of Object.entries(this.sliders)) {
      slider.max = found[axis].length - 1;
      slider.value = nearest(found[axis], found[slider.id]);
    }
    find("weights-body").hidden = false;
    find("weights-map").replaceChildren(...(found.nll ? [this.#map()] : []));
    find("weights-legend").hidden = !found.nll;
    this.#tell();
  }

  #wanted() {
    return { alpha: this.found.alphas[this.sliders.alphas.value], beta: this.found.betas[this.sliders.betas.value] };
  }

  // What left-out photos say of the pair under the sliders, beside the present one.
  #tell() {
    const { found } = this;
    const wanted = this.#wanted();
    for (const slider of Object.values(this.sliders)) {
      const value = short(wanted[slider.id]);
      slider.setAttribute("aria-valuetext", value);
      find(`${slider.id}-value`).textContent = value;
    }
    const same = wanted.alpha === found.alpha && wanted.beta === found.beta;
    const present = `${found.held ? "held" : "chosen by the photos"}: α ${short(found.alpha)}, β ${short(found.beta)}`;
    const words = found.nll
      ? [`${this.#score(wanted)} of the left-out photos are right`, same ? `now ${present}` : `now ${this.#score(found)}, ${present}`]
      : [`of one photo, or group, of each class nothing can be left out, so nobody knows; now ${present}`];
    this.#say(words.join("; ").replace(/^./, (first) => first.toUpperCase()));
    find("weights-hold").disabled = same && found.held;
    find("weights-choose").disabled = !found.held;
    this.#mark(find("weights-map").querySelector(".wanted"), wanted);
  }

  #place({ alpha, beta }) {
    return [nearest(this.found.alphas, alpha), nearest(this.found.betas, beta)];
  }

  #score(pair) {
    const [row, column] = this.#place(pair);
    return `${percent(this.found.accuracy[row][column], 1)} (log loss ${this.found.nll[row][column].toFixed(3)})`;
  }

  #mark(element, pair) {
    const [row, column] = this.#place(pair);
    element?.setAttribute("transform", `translate(${LEFT + column * WIDTH} ${(this.found.alphas.length - 1 - row) * HEIGHT})`);
    return element;
  }

  // The deeper, the likelier: α upwards from 0, β to the right.
  #map() {
    const { alphas, betas, nll, accuracy, alpha, beta, automatic, held } = this.found;
    const [width, height] = [betas.length * WIDTH, alphas.length * HEIGHT];
    const least = Math.min(...nll.flat());
    const cells = alphas.flatMap((one, row) => betas.map((other, column) => {
      const [x, y] = [LEFT + column * WIDTH, (alphas.length - 1 - row) * HEIGHT];
      const words = `α ${short(one)}, β ${short(other)}: ${percent(accuracy[row][column], 1)}, log loss ${nll[row][column].toFixed(3)}`;
      const depth = 0.06 + 0.94 * Math.exp((least - nll[row][column]) / FADE);
      const cell = svg("rect", { x, y, width: WIDTH - 1, height: HEIGHT - 1, rx: 2, "fill-opacity": depth.toFixed(3) }, svg("title", {}, words));
      cell.onclick = () => {
        [this.sliders.alphas.value, this.sliders.betas.value] = [row, column];
        this.#tell();
      };
      return cell;
    }));
    const ticks = [
      ...alphas.map((one, row) => row % TICKS === 0 && svg("text", { x: LEFT - 6, y: (alphas.length - row) * HEIGHT - 2, "text-anchor": "end" }, short(one))),
      ...betas.map((one, column) => column % TICKS === 0 && svg("text", { x: LEFT + (column + 0.5) * WIDTH, y: height + 16, "text-anchor": "middle" }, short(one))),
      svg("text", { x: LEFT + width / 2, y: height + 38, class: "title", "text-anchor": "middle" }, "β"),
      svg("text", { x: 4, y: height / 2, class: "title" }, "α"),
    ].filter(Boolean);
    const [x, y] = [(WIDTH - 1) / 2, (HEIGHT - 1) / 2];
    const marks = [
      this.#mark(svg("circle", { class: "mark", cx: x, cy: y, r: 5 }), automatic),
      held && this.#mark(svg("path", { class: "mark", d: `M${x} ${y - 7}l7 7l-7 7l-7-7z` }), { alpha, beta }),
      svg("rect", { class: "wanted", width: WIDTH - 1, height: HEIGHT - 1, rx: 2 }),
    ].filter(Boolean);
    const pair = (words, one) => `${words} α ${short(one.alpha)}, β ${short(one.beta)}: ${this.#score(one)}`;
    const told = [
      `Accuracy on left-out photos for α from 0 to ${short(alphas.at(-1))} and β from ${short(betas[0])} to ${short(betas.at(-1))}`,
      pair("the photos choose", automatic),
      held && pair("held are", { alpha, beta }),
      `the texts alone, α 0: ${this.#score({ alpha: 0, beta })}`,
    ].filter(Boolean).join("; ");
    return svg("svg", { viewBox: `0 0 ${LEFT + width + 4} ${height + BELOW}`, role: "img", "aria-label": told }, ...cells, ...ticks, ...marks);
  }

  #say(words) {
    find("weights-told").textContent = words;
  }
}
