// Which photos are selected: one by one, as a range, within a frame.

export class Selection {
  constructor(root) {
    this.ids = new Set();
    this.last = null;
    this.root = root;
    root.addEventListener("pointerdown", (event) => this.#drawFrame(event));
  }

  get buttons() {
    return [...this.root.querySelectorAll(".shot")];
  }

  click(button, { shiftKey, ctrlKey, metaKey }) {
    const id = button.dataset.id;
    if (shiftKey && this.last) {
      const all = this.buttons.map((one) => one.dataset.id);
      const [from, to] = [all.indexOf(this.last), all.indexOf(id)].sort((a, b) => a - b);
      for (const one of all.slice(Math.max(0, from), to + 1)) this.ids.add(one);
    } else if (ctrlKey || metaKey || this.ids.has(id)) {
      this.ids.has(id) ? this.ids.delete(id) : this.ids.add(id);
    } else {
      this.ids = new Set([id]);
    }
    this.last = id;
    this.show();
  }

  clear() {
    this.ids.clear();
    this.show();
  }

  show() {
    for (const button of this.buttons) button.setAttribute("aria-pressed", this.ids.has(button.dataset.id));
  }

  #drawFrame(start) {
    const free = start.target.closest(".shots") && !start.target.closest(".shot");
    if (!free || start.pointerType === "touch" || start.button) return;
    start.preventDefault();
    const frame = document.createElement("div");
    frame.className = "frame";
    document.body.append(frame);
    const before = new Set(start.ctrlKey || start.shiftKey ? this.ids : []);
    const move = (event) => {
      const [left, top] = [Math.min(start.clientX, event.clientX), Math.min(start.clientY, event.clientY)];
      const [width, height] = [Math.abs(event.clientX - start.clientX), Math.abs(event.clientY - start.clientY)];
      Object.assign(frame.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
      this.ids = new Set(before);
      for (const button of this.buttons) {
        const box = button.getBoundingClientRect();
        const inside = box.left < left + width && box.right > left && box.top < top + height && box.bottom > top;
        if (inside) this.ids.add(button.dataset.id);
      }
      this.show();
    };
    const end = () => {
      frame.remove();
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", end);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", end);
    move(start);
  }
}
