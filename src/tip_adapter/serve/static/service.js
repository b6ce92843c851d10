// Requests to the service, errors as one sentence.

export async function ask(method, path, body) {
  const json = body !== undefined && !(body instanceof FormData);
  const answer = await fetch(path, {
    method,
    body: json ? JSON.stringify(body) : body,
    headers: json ? { "Content-Type": "application/json" } : {},
  });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.detail);
  return found;
}

export function form(files) {
  const data = new FormData();
  for (const file of files) data.append("files", file, file.name || "photo.jpg");
  return data;
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
