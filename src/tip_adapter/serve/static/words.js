// Words for a class, with what they would do to the answers of the texts alone while they are typed.

import { percent } from "./figures.js";
import { ask } from "./service.js";

const TYPED_MS = 250;

export function setUpWords({ save, fail }) {
  const dialog = document.getElementById("words");
  const field = document.getElementById("words-field");
  const effect = document.getElementById("words-effect");
  let name = "";
  let typed = null;
  const texts = () => field.value.split("\n").map((line) => line.trim()).filter(Boolean);

  async function measure() {
    const asked = field.value;
    const { before, after } = await ask("POST", "/v1/words", { class: name, texts: texts() });
    if (asked !== field.value) return; // somebody types on
    const own = after.class_shots ? `, ${after.class_right} of ${after.class_shots} of this class (as saved: ${before.class_right})` : "";
    effect.textContent = `The texts alone name ${percent(after.accuracy)} of the photos (as saved: ${percent(before.accuracy)})${own}.`;
  }

  field.oninput = () => {
    clearTimeout(typed);
    typed = setTimeout(() => measure().catch((error) => { effect.textContent = error.message; }), TYPED_MS);
  };
  document.getElementById("close-words").onclick = () => dialog.close();
  document.getElementById("save-words").onclick = () => { dialog.close(); save(name, texts()); };

  return async (wanted) => {
    name = wanted;
    try {
      const { texts: present } = await ask("POST", "/v1/words", { class: name, texts: [] });
      field.value = present.join("\n");
      document.getElementById("words-class").textContent = name;
      effect.textContent = "";
      dialog.showModal();
      await measure();
    } catch (error) {
      fail(error);
    }
  };
}
