// Requests to the service, errors as one sentence.

export async function ask(method, path, body) {
  const json = body !== undefined && !(body instanceof FormData || body instanceof Blob);
  const answer = await fetch(path, {
    method,
    body: json ? JSON.stringify(body) : body,
    headers: json ? { "Content-Type": "application/json" } : {},
  });
  if (!answer.ok) throw await refused(answer);
  return answer.json();
}

export async function refused(answer) {
  return Object.assign(new Error((await answer.json()).detail), { status: answer.status });
}

export function form(files) {
  const data = new FormData();
  for (const file of files) data.append("files", file, file.name || "photo.jpg");
  return data;
}

// What one request may hold: bytes and files, with room for what goes with them.
const MOST_BYTES = 48 * 2 ** 20;
const MOST_FILES = 200;

export function parts(files) {
  const found = [[]];
  let bytes = 0;
  for (const file of files) {
    bytes += file.size;
    if (found.at(-1).length && (bytes > MOST_BYTES || found.at(-1).length === MOST_FILES)) {
      found.push([]);
      bytes = file.size;
    }
    found.at(-1).push(file);
  }
  return found;
}

export function query(path, parameters) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export function say(words) {
  const line = document.createElement("p");
  line.textContent = words;
  document.getElementById("message").append(line);
  setTimeout(() => line.remove(), 6000);
}

// Build an element; text is text, whatever it looks like.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-")) element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}
