// The page: photos by drop, choice or paste; a card with bars for each.

import { Classifier } from "./classifier.js";
import { withEightBits } from "./deep-png.js";

const byId = (id) => document.getElementById(id);
const percent = new Intl.NumberFormat("en", { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 });

const UNREADABLE = "This photo cannot be read here: browsers read whole JPEG, PNG, WebP, GIF, BMP and AVIF files.";

let classifier;
let queue = Promise.resolve();
let waiting = 0;

try {
  classifier = await Classifier.load();
  introduce(classifier.about);
  byId("photos").disabled = false;
  say("Ready.");
  document.documentElement.dataset.ready = "true";
} catch (error) {
  const served = location.protocol === "file:" ? " Browsers do not let a page read files from the disk: serve this folder, for example with python -m http.server." : "";
  say(`The classifier could not be loaded: ${error.message}.${served}`, true);
}

function introduce({ classes, method, encoder }) {
  const shown = classes.slice(0, 12).join(", ");
  byId("classes").textContent = `One of ${classes.length}: ${shown}${classes.length > 12 ? " …" : ""}`;
  byId("about").textContent = `${method.name} on ${encoder.name} (${encoder.precision}, ${encoder.dim} dimensions)`;
}

function say(text, failed = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("error", failed);
}

/** One photo after the other: memory stays bounded, and the page stays responsive. */
function add(files) {
  if (!classifier) return;
  const photos = [...files].filter((file) => file.type.startsWith("image/"));
  if (photos.length < files.length) say("Only photos can be classified.", true);
  waiting += photos.length;
  for (const photo of photos) queue = queue.then(() => classify(photo));
}

async function classify(file) {
  say(`Looking at ${file.name} …`);
  const started = performance.now();
  let photo = file;
  try {
    photo = new File([await withEightBits(file)], file.name);
    const top = await classifier.classify(photo);
    const milliseconds = Math.round(performance.now() - started);
    show(photo, top).dataset.ms = milliseconds;
    say(`${milliseconds} ms for the last photo.`);
  } catch (error) {
    showCard(photo, [element("p", { className: "error", textContent: `${UNREADABLE} (${error.message})` })]);
    say("");
  }
  waiting -= 1;
  document.documentElement.dataset.waiting = waiting;
}

function show(photo, top) {
  const bars = top.map(({ name, probability }) => {
    const bar = element("i");
    bar.style.width = `${100 * probability}%`;
    const texts = [element("span", { textContent: name }), element("span", { textContent: percent.format(probability) })];
    return element("li", { title: name }, bar, ...texts);
  });
  const card = showCard(photo, [element("ul", { className: "bars" }, ...bars)], top[0].name);
  card.dataset.top = top[0].name;
  return card;
}

function showCard(photo, content, title = "?") {
  const picture = element("img", { alt: "", src: URL.createObjectURL(photo) });
  picture.onload = picture.onerror = () => URL.revokeObjectURL(picture.src);
  const heading = [element("h2", { textContent: title }), element("p", { className: "file", textContent: photo.name })];
  const card = element("li", { className: "card" }, picture, element("div", {}, ...heading, ...content));
  card.dataset.file = photo.name;
  byId("results").prepend(card);
  return card;
}

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

byId("photos").addEventListener("change", ({ target }) => {
  add(target.files);
  target.value = "";
});
document.addEventListener("paste", ({ clipboardData }) => add(clipboardData.files));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    byId("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") add(event.dataTransfer.files);
  });
}
