// PNG files with 16 bits a sample, of which browsers show the high bytes alone, become 8-bit ones, scaled as the
// classifier's own reader does: by the bits that the file declares, else by the fewest that hold its values.

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CHANNELS = { 0: 1, 2: 3, 4: 2, 6: 4 }; // by kind of colour: grey, colours, grey and opacity, colours and opacity
const DEPTHS = [8, 10, 12, 14, 16];
const MAX_SAMPLES = 2 ** 28;

/**
 * @param {Blob} blob any image file
 * @returns {Promise<Blob>} the same file, or a PNG with 8 bits a sample
 */
export async function withEightBits(blob) {
  const head = new Uint8Array(await blob.slice(0, 33).arrayBuffer());
  if (SIGNATURE.some((byte, index) => head[index] !== byte) || head[24] !== 16) return blob;
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const chunks = chunksOf(bytes);
  const header = chunks.find(({ kind }) => kind === "IHDR").body;
  const [width, height, channels] = [uint32(header, 0), uint32(header, 4), CHANNELS[header[9]]];
  if (header[12]) throw new Error("of PNG files with 16 bits, only those without interlacing are read");
  if (width * height * channels > MAX_SAMPLES) throw new Error("it is too large");
  const packed = chunks.filter(({ kind }) => kind === "IDAT").map(({ body }) => body);
  const rows = await inflated(packed, height * (1 + 2 * channels * width));
  unfilter(rows, height, 2 * channels);
  const pixels = eightBitPixels(rows, width, height, channels, chunks);
  return encoded(width, height, pixels, chunks.filter(({ kind }) => kind === "eXIf"));
}

const uint32 = (bytes, at) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(at);

function chunksOf(bytes) {
  const chunks = [];
  for (let at = 8; at + 8 <= bytes.length; ) {
    const length = uint32(bytes, at);
    const kind = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    chunks.push({ kind, body: bytes.subarray(at + 8, at + 8 + length) });
    at += 12 + length;
  }
  return chunks;
}

async function inflated(parts, size) {
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const result = new Uint8Array(size);
  for (let filled = 0; filled < size; ) {
    const { done, value } = await reader.read();
    if (done) throw new Error("it is cut short");
    result.set(value.subarray(0, size - filled), filled);
    filled += value.length;
  }
  reader.cancel().catch(() => {});
  return result;
}

/** How PNG predicts a byte from those to the left, above, and above to the left. */
const PREDICTORS = [() => 0, (left) => left, (_, up) => up, (left, up) => (left + up) >> 1, paeth];

function unfilter(rows, height, pixelBytes) {
  const stride = rows.length / height;
  for (let row = 0; row < height; row++) {
    const start = row * stride;
    const predict = PREDICTORS[rows[start]];
    if (predict === undefined) throw new Error("it is damaged");
    for (let at = start + 1; at < start + stride; at++) {
      const left = at - start > pixelBytes ? rows[at - pixelBytes] : 0;
      const up = row ? rows[at - stride] : 0;
      const corner = row && at - start > pixelBytes ? rows[at - stride - pixelBytes] : 0;
      rows[at] += predict(left, up, corner);
    }
  }
}

function paeth(left, up, corner) {
  const toLeft = Math.abs(up - corner);
  const toUp = Math.abs(left - corner);
  const toCorner = Math.abs(left + up - 2 * corner);
  if (toLeft <= toUp && toLeft <= toCorner) return left;
  return toUp <= toCorner ? up : corner;
}

/** Rows of 8-bit samples, each row behind a zero, as PNG has them; where a colour stands for transparent, with opacity. */
function eightBitPixels(rows, width, height, channels, chunks) {
  const colours = channels < 3 ? 1 : 3;
  const samples = samplesOf(rows, height, width * channels);
  const declared = chunks.find(({ kind }) => kind === "sBIT")?.body.subarray(0, colours);
  const white = whiteLevel(highest(samples, channels, 0, colours), declared && Math.max(...declared));
  const opaque = whiteLevel(highest(samples, channels, colours, channels));
  const key = chunks.find(({ kind }) => kind === "tRNS")?.body;
  const scaled = (value, top) => Math.floor((value * 255 + (top >> 1)) / top);
  const kept = colours + (key || channels > colours ? 1 : 0);
  const out = new Uint8Array(height * (1 + kept * width));
  for (let row = 0, from = 0, at = 0; row < height; row++) {
    at++;
    for (let x = 0; x < width; x++, from += channels) {
      let hidden = key !== undefined;
      for (let c = 0; c < colours; c++) {
        out[at++] = scaled(samples[from + c], white);
        hidden &&= samples[from + c] === ((key[2 * c] << 8) | key[2 * c + 1]);
      }
      if (channels > colours) out[at++] = scaled(samples[from + colours], opaque);
      else if (key) out[at++] = hidden ? 0 : 255;
    }
  }
  return { out, kind: { 1: 0, 2: 4, 3: 2, 4: 6 }[kept] };
}

function samplesOf(rows, height, perRow) {
  const samples = new Uint16Array(height * perRow);
  for (let row = 0, from = 0, at = 0; row < height; row++) {
    from++;
    for (const end = at + perRow; at < end; from += 2) samples[at++] = (rows[from] << 8) | rows[from + 1];
  }
  return samples;
}

function highest(samples, channels, first, end) {
  let found = 0;
  for (let pixel = 0; pixel < samples.length; pixel += channels) {
    for (let channel = first; channel < end; channel++) found = Math.max(found, samples[pixel + channel]);
  }
  return found;
}

function whiteLevel(highest, declared) {
  if (declared) return 2 ** (highest < 2 ** declared ? declared : 16) - 1;
  return 2 ** DEPTHS.find((bits) => highest < 2 ** bits) - 1;
}

async function encoded(width, height, { out, kind }, kept) {
  const header = new Uint8Array(13);
  new DataView(header.buffer).setUint32(0, width);
  new DataView(header.buffer).setUint32(4, height);
  header.set([8, kind, 0, 0, 0], 8);
  const stream = new Blob([out]).stream().pipeThrough(new CompressionStream("deflate"));
  const body = new Uint8Array(await new Response(stream).arrayBuffer());
  const chunks = [{ kind: "IHDR", body: header }, ...kept, { kind: "IDAT", body }, { kind: "IEND", body: new Uint8Array() }];
  return new Blob([new Uint8Array(SIGNATURE), ...chunks.map(written)], { type: "image/png" });
}

function written({ kind, body }) {
  const chunk = new Uint8Array(12 + body.length);
  const view = new DataView(chunk.buffer);
  view.setUint32(0, body.length);
  chunk.set([...kind].map((letter) => letter.charCodeAt()), 4);
  chunk.set(body, 8);
  view.setUint32(8 + body.length, checksum(chunk.subarray(4, 8 + body.length)));
  return chunk;
}

const REMAINDERS = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  return sum;
});

function checksum(bytes) {
  let sum = ~0;
  for (const byte of bytes) sum = REMAINDERS[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}
