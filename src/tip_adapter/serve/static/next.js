// Label these next: photos without a class, the most useful first, each labelled or skipped by one key.

import { chosen, droppable, filesOf } from "./columns.js";
import { percent } from "./figures.js";
import { ask, form, make, parts, query, say } from "./service.js";

const QUEUE = 9; // photos that are ready, the first of which is asked about
const KEYS = 9;
const FEW = 3;
const READING_MS = 1000;
const PAUSE_MS = 700; // while somebody labels one after the other, and the queue is not short, ranking would only slow it
const find = (id) => document.getElementById(id);
const picture = ({ id }) => `/v1/unlabelled/${id}/picture`;

export class Next {
  constructor({ label, fail }) {
    Object.assign(this, { label, fail });
    this.photos = [];
    this.names = [];
    this.over = new Map(); // what somebody labelled or skipped since it was last asked, and whether that is done
    this.current = null; // the photo that is asked about: nothing changes under somebody's hand
    this.choices = [];
    this.skipped = []; // what can be brought back, the last one last
    this.version = null;
    this.room = find("next");
    this.photo = find("next-photo");
    this.others = find("next-other");
    this.buttons = Array.from({ length: KEYS }, (_, index) => this.#button(index));
    find("next-classes").prepend(...this.buttons);
    find("next-skip").onclick = () => this.skip();
    find("next-back").onclick = () => this.bringBack();
    this.others.onchange = () => this.give(this.others.value);
    this.photo.onerror = () => this.#deal("is gone", ({ id }) => ask("DELETE", `/v1/unlabelled/${id}`).catch(() => null));
    find("next-files").onchange = ({ target }) => chosen(target, (files) => this.#send(files));
    droppable(this.room, async (transfer) => this.#send(await filesOf(transfer)));
  }

  // The classes as they are now; a version of null before there is a classifier.
  update(names, version) {
    this.room.hidden = version === null;
    if (version === null || version === this.version) return;
    if (names.join("\n") !== this.names.join("\n")) this.current = null; // its keys stand for other classes now
    Object.assign(this, { names, version });
    this.others.replaceChildren(make("option", { value: "" }, "another class …"), ...names.map((name) => make("option", { value: name }, name)));
    this.#loadSoon();
  }

  #loadSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.load(), this.#waiting().length > FEW ? PAUSE_MS : 0);
  }

  // One question at a time: what changes meanwhile is asked about once, afterwards.
  async load() {
    clearTimeout(this.timer);
    this.stale = true;
    if (this.loading) return;
    this.loading = true;
    try {
      while (this.stale) {
        this.stale = false;
        const done = [...this.over].filter(([, finished]) => finished).map(([id]) => id);
        const found = await ask("GET", query("/v1/unlabelled", { limit: Math.min(100, QUEUE + this.over.size), top_k: KEYS }));
        if (this.stale) continue;
        Object.assign(this, found);
        done.forEach((id) => this.over.delete(id));
      }
      if (this.unread) this.timer = setTimeout(() => this.load(), READING_MS);
    } catch (error) {
      this.fail(error);
    }
    this.loading = false;
    this.show();
  }

  // A key labels what somebody sees: not while it is held down, and no photo out of sight.
  key({ key, repeat, ctrlKey, metaKey, altKey }) {
    const { top, bottom, height } = this.photo.getBoundingClientRect();
    const seen = height && bottom > 0 && top < innerHeight && this.photo.complete && this.photo.naturalWidth;
    if (!seen || repeat || ctrlKey || metaKey || altKey) return;
    if (key === "0") this.skip();
    else if (/^[1-9]$/.test(key)) this.give(this.choices[key - 1]);
  }

  give(name) {
    this.skippedLast = false;
    if (name) this.#deal(`is ${name}`, ({ id }) => this.label(id, name));
  }

  skip() {
    const photo = this.current;
    if (!photo) return;
    this.skippedLast = true;
    this.skipped.push(photo);
    this.#deal("was skipped", ({ id }) => ask("DELETE", `/v1/unlabelled/${id}`).catch((error) => {
      this.skippedLast = false;
      this.skipped = this.skipped.filter((one) => one !== photo);
      throw error;
    }));
  }

  // What was skipped by mistake is asked about again, at once.
  async bringBack() {
    const photo = this.skipped.pop();
    this.skippedLast = this.skipped.length > 0;
    await this.dealing;
    try {
      await ask("POST", `/v1/unlabelled/${photo.id}/restore`);
      this.over.delete(photo.id);
      this.said = `${photo.name} waits again`;
      this.total += 1;
      this.#ask(photo);
      await this.load();
    } catch (error) {
      this.fail(error);
      this.show();
    }
  }

  // The next photo is there at once; one that could not be labelled comes back.
  async #deal(words, work) {
    const photo = this.current;
    if (!photo) return;
    this.over.set(photo.id, false);
    this.said = `${photo.name} ${words}`;
    this.show();
    this.dealing = work(photo).catch(this.fail);
    await this.dealing;
    this.over.set(photo.id, true);
    this.#loadSoon();
  }

  async #send(files) {
    let sent = 0;
    this.room.setAttribute("aria-busy", "true");
    try {
      for (const part of parts(files)) {
        this.#say(`Reading photos, ${sent} of ${files.length} …`);
        const { errors } = await ask("POST", "/v1/unlabelled", form(part));
        errors.forEach((one) => say(one.error));
        sent += part.length;
        this.load();
      }
    } catch (error) {
      this.fail(error);
      this.show();
    }
    this.room.removeAttribute("aria-busy");
  }

  #waiting() {
    return this.photos.filter((photo) => !this.over.has(photo.id));
  }

  show() {
    const waiting = this.#waiting();
    if (!this.current || this.over.has(this.current.id) || !this.total) this.#ask(waiting[0] ?? null);
    const after = waiting.filter((photo) => photo.id !== this.current?.id).slice(0, QUEUE - 1);
    find("next-queue").replaceChildren(...after.map((photo) => make("li", {}, make("img", { src: picture(photo), alt: "", title: photo.name }))));
    find("next-back").hidden = !this.skipped.length;
    const left = (this.total ?? 0) - this.over.size;
    this.#say([
      this.said,
      left > 0 && `${left} photo${left === 1 ? "" : "s"} without a class`,
      this.unread && `${this.unread} are being read`,
      this.unreadable && `${this.unreadable} could not be read`,
    ].filter(Boolean).join(" · "));
  }

  // The keys stand for the classes in their order; where those are more, for the most probable ones.
  #ask(photo) {
    this.current = photo;
    find("next-card").hidden = !photo;
    if (!photo) return;
    Object.assign(this.photo, { src: picture(photo), alt: `Photo ${photo.name}` });
    find("next-name").textContent = photo.name;
    const many = this.names.length > KEYS;
    const probable = new Map(photo.top.map((one) => [one.class, one.probability]));
    this.choices = many ? [...probable.keys()] : this.names;
    for (const [index, button] of this.buttons.entries()) {
      const name = this.choices[index];
      const [, called, share] = button.children;
      button.hidden = !name;
      called.textContent = name ?? "";
      share.textContent = probable.has(name) ? percent(probable.get(name)) : "";
    }
    this.others.parentElement.hidden = !many;
    this.others.value = "";
  }

  #say(words) {
    const line = find("next-status");
    if (line.textContent !== words) line.textContent = words;
  }

  #button(index) {
    const button = make("button", { type: "button" }, make("kbd", {}, String(index + 1)), make("span"), make("small"));
    button.onclick = () => this.give(this.choices[index]);
    return button;
  }
}
