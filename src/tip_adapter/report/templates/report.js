"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const dialog = document.getElementById("photos");
  const element = (name, text, className) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  };
  const show = (row, column) => {
    const here = data.photos.filter((photo) => photo.t === row && photo.p === column).sort((a, b) => b.c - a.c);
    const title = row === column
      ? `${data.classes[row]}, recognised`
      : `${data.classes[row]}, taken for ${data.classes[column]}`;
    document.getElementById("photos-title").textContent = `${title} (${here.length})`;
    const wall = document.getElementById("wall");
    wall.replaceChildren(...here.map((photo) => {
      const figure = element("figure");
      if (photo.i) {
        const picture = element("img", undefined, "photo");
        picture.src = photo.i;
        picture.alt = photo.n;
        figure.append(picture);
      } else {
        figure.append(element("div", "no picture", "photo none"));
      }
      figure.append(element("figcaption", `${photo.c} · ${photo.n.split(/[\\/]/).pop()}`));
      return figure;
    }));
    dialog.showModal();
    dialog.scrollTop = 0;
  };
  const act = (event) => {
    const cell = event.target.closest("[data-row]");
    if (!cell || (event.type === "keydown" && event.key !== "Enter" && event.key !== " ")) return;
    if (event.type === "keydown" && cell.tagName === "BUTTON") return;
    event.preventDefault();
    show(Number(cell.dataset.row), Number(cell.dataset.column));
  };
  document.addEventListener("click", act);
  document.addEventListener("keydown", act);
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  const search = document.getElementById("class-search");
  search?.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    for (const row of document.querySelectorAll("#classes tbody tr")) {
      row.hidden = !row.dataset.name.includes(wanted);
    }
  });
})();
