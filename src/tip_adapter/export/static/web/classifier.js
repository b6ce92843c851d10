// Classify photos with classifier.onnx, which also says what its classes are and how photos are cut.

import * as ort from "./ort/ort.wasm.min.mjs";
import { metadataOf } from "./metadata.js";
import { view } from "./resample.js";

const MAX_PIXELS = 16_000_000; // some browsers have no larger canvas

export class Classifier {
  constructor(about, session) {
    this.about = about;
    this.session = session;
  }

  static async load() {
    ort.env.wasm.wasmPaths = new URL("ort/", import.meta.url).href;
    if (!globalThis.crossOriginIsolated) ort.env.wasm.numThreads = 1; // threads need headers that few hosts send
    const model = new Uint8Array(await (await fetched("classifier.onnx")).arrayBuffer());
    return new Classifier(metadataOf(model), await ort.InferenceSession.create(model));
  }

  /** Name the most probable classes of a photo: [{name, probability}], the most probable first. */
  async classify(blob, count = 5) {
    const inputs = Object.entries(this.about.preprocessing);
    const photo = await pixelsOf(blob, Math.max(...inputs.map(([, { size, resize }]) => resize ?? size)));
    const feeds = inputs.map(([name, settings]) => {
      const { size } = settings;
      return [name, new ort.Tensor("uint8", view(photo, settings), [1, size, size, 3])];
    });
    const { probabilities } = await this.session.run(Object.fromEntries(feeds), ["probabilities"]);
    return this.about.classes
      .map((name, index) => ({ name, probability: probabilities.data[index] }))
      .sort((a, b) => b.probability - a.probability)
      .slice(0, count);
  }
}

async function fetched(name) {
  const response = await fetch(new URL(name, import.meta.url));
  if (!response.ok) throw new Error(`${name} is missing beside this page (${response.status})`);
  return response;
}

/** Decode as the classifier's own reader does: upright, colours as they are stored, transparent parts white. */
async function pixelsOf(blob, shortest) {
  const bitmap = await createImageBitmap(blob, { imageOrientation: "from-image", colorSpaceConversion: "none" });
  const enough = (4 * shortest) / Math.min(bitmap.width, bitmap.height);
  const scale = bitmap.width * bitmap.height > MAX_PIXELS ? Math.min(1, enough) : 1;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(bitmap.width * scale));
  canvas.height = Math.max(1, Math.round(bitmap.height * scale));
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.fillStyle = "white";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  return context.getImageData(0, 0, canvas.width, canvas.height);
}
