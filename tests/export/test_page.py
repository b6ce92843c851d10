"""What the exported page does to photos itself, run in Node."""

import base64
import json
import shutil
import struct
import subprocess
from importlib.resources import files

import numpy as np
import pytest
from PIL import Image

from image_files import encoded, png, png_chunk
from tip_adapter.data.decoding import decode_image
from tip_adapter.export import export_classifier

WEB = files("tip_adapter.export").joinpath("static", "web")
RUN = """
import { withEightBits } from %s;
for (const text of JSON.parse(await new Response(process.stdin).text())) {
  try {
    const made = await withEightBits(new Blob([Buffer.from(text, "base64")]));
    console.log(Buffer.from(await made.arrayBuffer()).toString("base64"));
  } catch (error) {
    console.log("error " + error.message);
  }
}
"""


def with_eight_bits(*images):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not on this machine")
    code = RUN % json.dumps(str(WEB.joinpath("deep-png.js")))
    texts = json.dumps([base64.b64encode(image).decode() for image in images])
    done = subprocess.run(
        [node, "--input-type=module", "-e", code], input=texts, capture_output=True, text=True, check=True
    )
    return done.stdout.splitlines()


def test_the_page_reads_what_the_graph_says_about_itself(fitted, tmp_path):
    node = shutil.which("node")
    if node is None:
        pytest.skip("Node is not on this machine")
    export_classifier(fitted, tmp_path / "out")
    about = json.loads((tmp_path / "out" / "classifier.json").read_text(encoding="utf-8"))
    module, graph = (
        json.dumps(str(path)) for path in (WEB.joinpath("metadata.js"), tmp_path / "out" / "classifier.onnx")
    )
    code = f"""
        import {{ readFileSync }} from "node:fs";
        import {{ metadataOf }} from {module};
        console.log(JSON.stringify(metadataOf(readFileSync({graph}))));
    """
    done = subprocess.run([node, "--input-type=module", "-e", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {name: value for name, value in about.items() if name != "files"}


def filtered(values):
    """With every one of PNG's filters, as Pillow chooses them for a 16-bit image."""
    return encoded(Image.fromarray(values), "PNG")


def test_deep_pngs_become_what_the_classifier_sees():
    rng = np.random.default_rng(0)
    smooth = np.asarray(Image.fromarray(rng.random((6, 8)).astype(np.float32)).resize((60, 40), 3))
    grey = (np.clip(smooth, 0, 1) * 4000).astype(np.uint16)
    colours = rng.integers(0, 4096, (20, 30, 3)).astype(np.uint16)
    opacity = np.full((20, 30, 1), 65535, np.uint16)
    images = [
        filtered(grey),
        filtered(16 * grey),
        png(grey, {b"sBIT": b"\x10"}),
        png(grey, {b"sBIT": b"\x0c"}),
        png(grey, {b"tRNS": struct.pack(">H", int(grey[0, 0]))}),
        png(colours),
        png(colours * 16, {b"sBIT": b"\x0c\x0c\x0c"}),
        png(np.concatenate([colours, opacity], axis=2)),
        png(np.concatenate([colours[..., :1], opacity], axis=2)),
        png(np.arange(256, dtype=np.uint16)[None]),
    ]
    for image, text in zip(images, with_eight_bits(*images), strict=True):
        made = base64.b64decode(text)
        assert made[24] == 8
        np.testing.assert_array_equal(
            np.asarray(decode_image(made, name="made")), np.asarray(decode_image(image, name="x"))
        )


def test_how_a_photo_lies_is_kept():
    exif = b"MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    image = png(np.zeros((4, 9), np.uint16), {b"eXIf": exif})
    (text,) = with_eight_bits(image)
    assert png_chunk(b"eXIf", exif) in base64.b64decode(text)


def test_other_files_stay_as_they_are():
    images = [encoded(Image.new("RGB", (5, 4)), format) for format in ("PNG", "JPEG", "WebP")] + [b"", b"\x89PNG"]
    assert with_eight_bits(*images) == [base64.b64encode(image).decode() for image in images]


def test_what_cannot_be_read_says_why():
    whole = png(np.zeros((40, 90), np.uint16))
    interlaced = bytearray(whole)
    interlaced[28] = 1
    cut = png(np.random.default_rng(0).integers(0, 65536, (40, 90)).astype(np.uint16))[:4000]
    huge = whole[:16] + struct.pack(">II", 60_000, 60_000) + whole[24:]
    messages = with_eight_bits(bytes(interlaced), cut, huge)
    assert [message.startswith("error ") for message in messages] == [True] * 3
    assert "without interlacing" in messages[0]
    assert "too large" in messages[2]
