// Which photos are selected: one by one, as a range, within a frame.

export class Selection {
  constructor(root, order) {
    this.ids = new Set();
    this.last = null;
    this.root = root;
    this.order = order;
    root.addEventListener("pointerdown", (event) => this.#drawFrame(event));
  }

  click(button, { shiftKey, ctrlKey, metaKey }) {
    const id = button.dataset.id;
    if (shiftKey && this.last) {
      const all = this.order();
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

  set(ids) {
    this.ids = new Set(ids);
    this.show();
  }

  show(buttons = this.root.querySelectorAll("button.shot")) {
    for (const button of buttons) button.setAttribute("aria-pressed", this.ids.has(button.dataset.id));
    const count = this.ids.size;
    document.getElementById("selected").textContent = count ? `${count} selected` : "";
  }

  #drawFrame(start) {
    const free = start.target.closest(".shots") && !start.target.closest(".shot");
    if (!free || start.pointerType === "touch" || start.button) return;
    start.preventDefault();
    const frame = document.createElement("div");
    frame.className = "frame";
    document.body.append(frame);
    const before = new Set(start.ctrlKey || start.shiftKey ? this.ids : []);
    const buttons = [...this.root.querySelectorAll("button.shot")];
    const move = (event) => {
      const [left, top] = [Math.min(start.clientX, event.clientX), Math.min(start.clientY, event.clientY)];
      const [width, height] = [Math.abs(event.clientX - start.clientX), Math.abs(event.clientY - start.clientY)];
      Object.assign(frame.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
      this.ids = new Set(before);
      for (const button of buttons) {
        const box = button.getBoundingClientRect();
        const inside = box.left < left + width && box.right > left && box.top < top + height && box.bottom > top;
        if (inside) this.ids.add(button.dataset.id);
      }
      this.show(buttons);
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
