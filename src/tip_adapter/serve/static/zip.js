// Photos of ZIP files, in the page: the service gets photos alone, and no archive can harm it.

const MOST_PHOTOS = 10000;
const MOST_BYTES = 64 * 2 ** 20; // of one photo, as many as a request may have
const MOST_BYTES_OF_ALL = 2 ** 31;
const END = 0x06054b50;
const ENTRY = 0x02014b50;
const PHOTO = /\.(jpe?g|jpe|jfif|png|webp|gif|bmp|tiff?|hei[cf]|hif|avif)$/i;

const damaged = (zip, why) => new Error(`${zip.name} cannot be read: ${why}`);
const isZip = (file) => /\.zip$/i.test(file.name) || file.type === "application/zip";

// The files, with those of ZIP files in their place; each knows the folder that it was in.
export async function unzipped(files) {
  const found = [];
  for (const file of files) found.push(...(isZip(file) ? await photosOf(file) : [file]));
  return found;
}

async function photosOf(zip) {
  const photos = (await entriesOf(zip)).filter((entry) => PHOTO.test(entry.name) && !entry.name.startsWith(".") && !entry.system);
  if (!photos.length) throw damaged(zip, "there are no photos in it");
  if (photos.length > MOST_PHOTOS) throw damaged(zip, `there are more than ${MOST_PHOTOS} photos in it`);
  if (photos.some((entry) => entry.size > MOST_BYTES) || photos.reduce((sum, entry) => sum + entry.size, 0) > MOST_BYTES_OF_ALL) {
    throw damaged(zip, "its photos are too large");
  }
  const found = [];
  for (const entry of photos) found.push(await extracted(zip, entry));
  return found;
}

const view = async (blob) => new DataView(await blob.arrayBuffer());

// What the directory at the end says; its names are shown, and lead nowhere.
async function entriesOf(zip) {
  const tail = await view(zip.slice(-65557));
  let end = tail.byteLength - 22;
  while (end >= 0 && tail.getUint32(end, true) !== END) end -= 1;
  if (end < 0) throw damaged(zip, "it is no ZIP file");
  const [count, size, start] = [tail.getUint16(end + 10, true), tail.getUint32(end + 12, true), tail.getUint32(end + 16, true)];
  if (count === 0xffff || start === 0xffffffff) throw damaged(zip, "it is too large: unpack it, and drop the folder");
  const directory = await view(zip.slice(start, start + size));
  const entries = [];
  for (let at = 0; at + 46 <= directory.byteLength && directory.getUint32(at, true) === ENTRY; ) {
    const [flags, method] = [directory.getUint16(at + 8, true), directory.getUint16(at + 10, true)];
    const [packed, unpacked] = [directory.getUint32(at + 20, true), directory.getUint32(at + 24, true)];
    const lengths = [28, 30, 32].map((offset) => directory.getUint16(at + offset, true));
    const path = new TextDecoder().decode(new Uint8Array(directory.buffer, at + 46, Math.min(lengths[0], directory.byteLength - at - 46)));
    const parts = path.split(/[\\/]/);
    const folder = parts.at(-2) ?? zip.name.replace(/\.zip$/i, "");
    entries.push({ name: parts.at(-1), folder, system: parts[0] === "__MACOSX", flags, method, packed, size: unpacked, start: directory.getUint32(at + 42, true) });
    at += 46 + lengths[0] + lengths[1] + lengths[2];
  }
  return entries;
}

async function extracted(zip, { name, folder, flags, method, packed, size, start }) {
  if (flags & 1) throw damaged(zip, `${name} needs a password`);
  if (method !== 0 && method !== 8) throw damaged(zip, `${name} is packed in an unusual way`);
  const head = await view(zip.slice(start, start + 30));
  if (head.byteLength < 30) throw damaged(zip, "it is cut short");
  const begin = start + 30 + head.getUint16(26, true) + head.getUint16(28, true);
  const bytes = zip.slice(begin, begin + packed);
  if (method === 0) return Object.assign(new File([bytes], name), { folder });
  const parts = [];
  let left = size;
  const stream = bytes.stream().pipeThrough(new DecompressionStream("deflate-raw"));
  try {
    for (const reader = stream.getReader(); ; ) {
      const { done, value } = await reader.read();
      if (done) break;
      left -= value.length;
      if (left < 0) { await reader.cancel(); throw new Error("more than it says"); }
      parts.push(value);
    }
    if (left) throw new Error("less than it says");
  } catch {
    throw damaged(zip, `${name} is damaged`);
  }
  return Object.assign(new File(parts, name), { folder });
}
