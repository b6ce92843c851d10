// RGBA pixels go in; the resized and cropped RGB view comes out, to the grey level as Pillow computes it.

const BITS = 22; // fixed-point digits of a weight, as in Pillow

const FILTERS = {
  bicubic: { support: 2, weight: (x) => cubic(Math.abs(x)) },
  bilinear: { support: 1, weight: (x) => Math.max(0, 1 - Math.abs(x)) },
};

function cubic(x) {
  const a = -0.5;
  if (x < 1) return ((a + 2) * x - (a + 3)) * x * x + 1;
  return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
}

/** For each output position from `start` on: the first input it sees, and the weights of that and the following ones. */
function windows(inputSize, outputSize, start, count, filter) {
  const scale = inputSize / outputSize;
  const stretch = Math.max(scale, 1); // wider when shrinking: antialiasing
  const support = filter.support * stretch;
  return Array.from({ length: count }, (_, index) => {
    const center = (start + index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(center - support + 0.5));
    const end = Math.min(inputSize, Math.trunc(center + support + 0.5));
    const weights = Array.from({ length: end - first }, (_, k) => filter.weight((first + k - center + 0.5) / stretch));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return { first, weights: Int32Array.from(weights, (weight) => roundAway((weight / sum) * 2 ** BITS)) };
  });
}

const roundAway = (x) => Math.trunc(x < 0 ? x - 0.5 : x + 0.5);
const byte = (sum) => Math.min(255, Math.max(0, sum >> BITS));

/** Python's round: halves go to the even neighbour. */
function round(x) {
  const floor = Math.floor(x);
  if (x - floor !== 0.5) return Math.round(x);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Size that a picture gets before the crop, and where the crop begins. */
export function geometry(width, height, { size, resize }) {
  if (resize === null) return { width: size, height: size, left: 0, top: 0 };
  const short = Math.min(width, height);
  const [wide, high] = [width, height].map((side) => Math.trunc((resize * side) / short));
  return { width: wide, height: high, left: round((wide - size) / 2), top: round((high - size) / 2) };
}

/**
 * Resize and crop.
 * @param {{width: number, height: number, data: Uint8ClampedArray}} image opaque RGBA, as from a canvas
 * @param {{size: number, resize: ?number, interpolation: string}} settings
 * @returns {Uint8Array} size × size × 3
 */
export function view(image, settings) {
  const { size } = settings;
  const filter = FILTERS[settings.interpolation];
  const target = geometry(image.width, image.height, settings);
  const columns = windows(image.width, target.width, target.left, size, filter);
  const rows = windows(image.height, target.height, target.top, size, filter);
  const firstRow = rows[0].first;
  const last = rows[size - 1];
  const narrow = horizontal(image, columns, firstRow, last.first + last.weights.length);
  return vertical(narrow, rows, firstRow, size);
}

function horizontal(image, columns, firstRow, endRow) {
  const { data, width } = image;
  const out = new Uint8Array((endRow - firstRow) * columns.length * 3);
  let at = 0;
  for (let row = firstRow; row < endRow; row++) {
    for (const { first, weights } of columns) {
      let [red, green, blue] = [1 << (BITS - 1), 1 << (BITS - 1), 1 << (BITS - 1)];
      let from = (row * width + first) * 4;
      for (let k = 0; k < weights.length; k++, from += 4) {
        const weight = weights[k];
        red += data[from] * weight;
        green += data[from + 1] * weight;
        blue += data[from + 2] * weight;
      }
      out[at++] = byte(red);
      out[at++] = byte(green);
      out[at++] = byte(blue);
    }
  }
  return out;
}

function vertical(narrow, rows, firstRow, size) {
  const stride = size * 3;
  const out = new Uint8Array(size * stride);
  let at = 0;
  for (const { first, weights } of rows) {
    for (let column = 0; column < stride; column++) {
      let sum = 1 << (BITS - 1);
      let from = (first - firstRow) * stride + column;
      for (let k = 0; k < weights.length; k++, from += stride) sum += narrow[from] * weights[k];
      out[at++] = byte(sum);
    }
  }
  return out;
}
