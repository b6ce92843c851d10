// Read what an ONNX file says about itself, so that classes and weights are always of the same file.

const METADATA_FIELD = 14; // of the message ModelProto: an entry of a key (field 1) and a value (field 2)
const LENGTH_OF_WIRE_TYPE = { 1: 8, 5: 4 };

/** The metadata of an ONNX file, by name; values that are JSON are parsed. */
export function metadataOf(bytes) {
  const texts = {};
  for (const [field, entry] of fieldsOf(bytes)) {
    if (field !== METADATA_FIELD) continue;
    const parts = Object.fromEntries(fieldsOf(entry));
    texts[text(parts[1])] = parsed(text(parts[2]));
  }
  return texts;
}

/** Number and content of every field of a protobuf message that has a length, without looking into any. */
function* fieldsOf(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (!(byte & 128)) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const type = tag & 7;
    if (type === 2) {
      const length = varint();
      yield [tag >>> 3, bytes.subarray(at, at + length)];
      at += length;
    } else if (type === 0) varint();
    else at += LENGTH_OF_WIRE_TYPE[type] ?? bytes.length;
  }
}

const text = (bytes) => new TextDecoder().decode(bytes);

function parsed(value) {
  try {
    return JSON.parse(value);
  } catch {
    return value;
  }
}
