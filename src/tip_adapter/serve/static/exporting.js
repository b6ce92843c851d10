// Downloads: the classifier, its pictures, ONNX files, a report; and a classifier that comes back.

import { ask, form, make, parts, refused, say } from "./service.js";

export function setUpExports({ trying, opened, fail }) {
  const menu = document.getElementById("export");
  const busy = menu.querySelector("summary");
  const offered = async (work) => {
    menu.open = false;
    menu.setAttribute("aria-busy", "true");
    busy.textContent = "Exporting …";
    try {
      await work();
    } catch (error) {
      fail(error);
    }
    busy.textContent = "Export";
    menu.removeAttribute("aria-busy");
  };
  for (const button of menu.querySelectorAll("[data-path]")) {
    button.onclick = () => offered(() => download(button.dataset.path));
  }
  document.getElementById("report").onclick = () => offered(() => report(trying.pinned));
  document.getElementById("open").onchange = async ({ target }) => {
    try {
      await ask("POST", "/v1/open", new Blob([target.files[0]], { type: "application/zip" }));
      await opened();
    } catch (error) {
      fail(error);
    }
    target.value = "";
  };
}

async function report(pinned) {
  if (!pinned.length) return say("Say of some tried photos what they are: the report measures the classifier on them");
  const [files] = parts(pinned.map((photo) => photo.file));
  if (files.length < pinned.length) say(`The report is on the first ${files.length} of ${pinned.length} pinned photos`);
  const data = form(files);
  data.append("classes", JSON.stringify(pinned.slice(0, files.length).map((photo) => photo.truth)));
  await download("/v1/export/report.html", data);
}

async function download(path, body) {
  const answer = await fetch(path, { method: body ? "POST" : "GET", body });
  if (!answer.ok) throw await refused(answer);
  const named = /filename\*?=(?:utf-8'')?"?([^";]+)/.exec(answer.headers.get("content-disposition"));
  const link = make("a", { href: URL.createObjectURL(await answer.blob()), download: decodeURIComponent(named?.[1] ?? "export") });
  link.click();
  URL.revokeObjectURL(link.href);
}
