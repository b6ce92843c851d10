// Are there enough photos? Of each class and in all: how often left-out groups are recognised, what one more would gain.

import { figure, percent } from "./figures.js";
import { ask, make } from "./service.js";

const BY_ITSELF_UP_TO = 2000; // photos: with more, measuring takes longer than somebody waits for it
const LISTED = 100;
const BUSY_MS = 300;
const find = (id) => document.getElementById(id);
const TAGS = { enough: "tag good", "more would help": "tag", "too few to say": "tag unsure" };

const recognised = ({ accuracy, interval }) =>
  `${percent(accuracy)} (${figure(interval[0])} to ${figure(interval[1])})`;
const points = (gain) => (gain < 0.0005 ? "nothing" : `${figure(gain, 1)} points`);

// What a column says of its class.
export function verdictOf(one) {
  const tag = make("span", { className: TAGS[one.verdict] }, one.verdict);
  if (one.accuracy === null) {
    const left = one.groups === 1 && one.photos > 1 ? "its photos are one group" : "of one photo nothing is known";
    return [tag, make("span", {}, left)];
  }
  const words = [`${recognised(one)} recognised`];
  if (one.gain !== null) words.push(`one more adds ${points(one.gain)}`);
  if (one.taken_for) words.push(`taken for ${one.taken_for}`);
  return [tag, make("span", {}, words.join(" · "))];
}

export class Enough {
  constructor({ tell, choose }) {
    Object.assign(this, { tell, choose });
    this.known = null; // the number of edits that the figures are of
    this.hints = new Map(); // reasons by shot
    find("enough-ask").onclick = () => this.#measure();
  }

  // After every edit; figures wait until what it made stale has settled.
  update(state, taught, settling) {
    find("enough").hidden = !taught;
    if (!taught || (this.known === state.edits && !settling)) return;
    this.state = state;
    this.known = null;
    if (settling) return this.#say("Measuring again …");
    if (state.shots > BY_ITSELF_UP_TO || state.trains) {
      this.#show({ classes: [], hints: [] }, "");
      find("enough-ask").hidden = false;
      return;
    }
    this.#measure();
  }

  async #measure() {
    const { edits } = this.state;
    this.known = edits;
    find("enough-ask").hidden = true;
    const busy = setTimeout(() => this.#say("Measuring …"), BUSY_MS);
    try {
      const found = await ask("GET", "/v1/model/enough");
      // Meanwhile somebody edited: that is measured when it has settled.
      if (this.known === edits && found.edits === edits) this.#show(found, this.#inAll(found));
    } catch (error) {
      this.#show({ classes: [], hints: [] }, error.message);
    }
    clearTimeout(busy);
  }

  #say(words) {
    find("enough").classList.add("stale");
    find("enough-all").textContent = words;
  }

  #show(found, words) {
    find("enough").classList.remove("stale");
    find("enough-all").replaceChildren(...[words].flat());
    this.hints = Map.groupBy(found.hints, (hint) => hint.shot);
    this.tell(new Map(found.classes.map((one) => [one.name, one])), this.hints);
    this.#list();
  }

  #inAll({ verdict, gain, gain_interval: range }) {
    const tag = make("span", { className: TAGS[verdict] }, verdict);
    const words = gain === null
      ? "two photos of a class, taken apart, tell"
      : `one more photo of each class is expected to add ${points(gain)} (${range.map((bound) => figure(bound, 1)).join(" to ")})`;
    return ["Have I done enough? ", tag, ` ${words}`];
  }

  // Photos to look at, which may be far down in their columns.
  #list() {
    const place = find("enough-hints");
    const shots = [...this.hints];
    place.hidden = !shots.length;
    place.querySelector("summary").textContent = `${shots.length} photo${shots.length === 1 ? "" : "s"} to look at`;
    place.querySelector("ul").replaceChildren(...shots.slice(0, LISTED).map(([shot, hints]) => {
      const image = make("img", { src: `/v1/shots/${shot}/thumbnail`, alt: "", loading: "lazy" });
      const button = make("button", { type: "button" }, image, make("span", {}, hints.map((one) => one.reason).join("; ")));
      button.onclick = () => {
        this.choose(shot);
        document.querySelector(`.shot[data-id="${shot}"]`)?.scrollIntoView({ block: "nearest" });
      };
      return make("li", {}, button);
    }));
  }
}
