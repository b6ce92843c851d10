// Ask `tip-adapter serve` for the classes of photos, with nothing but fetch.
//
// node ask.mjs http://127.0.0.1:8000 a.jpg b.jpg
import { readFile } from "node:fs/promises";

const [address, ...photos] = process.argv.slice(2);
const form = new FormData();
for (const photo of photos) form.append("files", new Blob([await readFile(photo)]), photo);
const answer = await fetch(`${address}/v1/predict?top_k=3`, { method: "POST", body: form });
if (!answer.ok) throw new Error((await answer.json()).detail);
const { predictions } = await answer.json();
photos.forEach((photo, number) => {
  const found = predictions[number];
  console.log(`${photo}: ${found.error ?? `${found.class} ${found.probability.toFixed(3)}`}`);
});
