"""What a file holds beside its pixels: it must neither cost memory or time, nor make a sound picture unreadable."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from image_files import encoded, png_chunk, png_of_size, tiff
from tip_adapter.data import find_images
from tip_adapter.data.decoding import decode_image, load_image, read_image_bytes
from tip_adapter.data.pixels import FORMATS, MAX_DECODED_BYTES, EncodedImage, image_format
from tip_adapter.errors import ImageError, TruncatedImageError

PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)).resize((160, 120), 3)
JPEG = encoded(PHOTO, "JPEG")
PNG = encoded(PHOTO, "PNG")
WHOLE = {format: encoded(PHOTO, format) for format in FORMATS}
WHOLE["GIF"] = encoded(PHOTO, "GIF", interlace=0)
WHOLE["progressive JPEG"] = encoded(PHOTO, "JPEG", progressive=True)
WHOLE["TIFF with LZW"] = encoded(PHOTO, "TIFF", compression="tiff_lzw")
CAN_BE_CUT = ("JPEG", "progressive JPEG", "PNG", "GIF", "BMP", "TIFF")


def seen(data, **options):
    return np.asarray(decode_image(data, name="x", **options)).astype(int)


def segment(code, body):
    return bytes([0xFF, code]) + struct.pack(">H", len(body) + 2) + body


def after_start(jpeg, inserted):
    return jpeg[:2] + inserted + jpeg[2:]


def with_chunks(data, *chunks):
    """Put chunks behind the header of a PNG."""
    return data[:33] + b"".join(png_chunk(*chunk) for chunk in chunks) + data[33:]


# ---------------------------------------------------------------- sound pictures


@pytest.mark.parametrize("format", WHOLE)
def test_whatever_follows_a_picture_is_passed_over(format):
    for tail in (b"\0", b"\xff\xd9", bytes(999), JPEG):
        np.testing.assert_array_equal(seen(WHOLE[format] + tail), seen(WHOLE[format]))


@pytest.mark.parametrize(
    "inserted",
    [
        b"\xff" * 5,
        segment(0xE1, b"Exif\0\0MM\0\x2a\0\0\xff\xff\x01"),
        segment(0xE1, b"Exif\0\0"),
        segment(0xE2, b"ICC_PROFILE\0\x07\x02broken"),
        segment(0xE2, b"MPF\0MM\0\x2a\0\0\xff\xff"),
        segment(0xED, b"Photoshop 3.0\0broken"),
        segment(0xFE, b"text" * 16_000) * 200,
    ],
)
def test_metadata_of_any_kind_leave_a_jpeg_readable(inserted):
    np.testing.assert_array_equal(seen(after_start(JPEG, inserted)), seen(JPEG))


def test_a_jpeg_may_hold_more_pictures():
    several = encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO.rotate(180)])
    np.testing.assert_array_equal(seen(several), seen(several.split(b"\xff\xd9")[0] + b"\xff\xd9"))


@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
def test_texts_and_profiles_of_any_size_leave_a_png_readable(kind):
    text = zlib.compress(b"a" * 5_000_000)
    head = b"name\0\1\0\0\0" if kind == b"iTXt" else b"name\0\0"
    bodies = [(kind, head + text)] * 20 if kind != b"tEXt" else [(kind, b"name\0" + b"a" * 3_000_000)]
    np.testing.assert_array_equal(seen(with_chunks(PNG, *bodies, (kind, b"broken"))), seen(PNG))


def test_damage_in_what_is_not_needed_is_passed_over():
    broken = bytearray(with_chunks(PNG, (b"tEXt", b"name\0text"), (b"acTL", b"\0" * 8)))
    broken[45] ^= 1  # so that the chunk's sum does not agree
    np.testing.assert_array_equal(seen(bytes(broken)), seen(PNG))
    values = np.asarray(PHOTO)
    private = {700: (2, [b"<xmp/>" * 100]), 34675: (2, [b"icc"]), 42000: (4, [0] * 5000)}
    np.testing.assert_array_equal(seen(tiff(values, tags=private)), values)


def test_of_an_animation_the_first_frame_is_kept_alone():
    frames = [PHOTO.rotate(10 * turn) for turn in range(40)]
    for format in ("GIF", "PNG", "WebP"):
        animation = encoded(PHOTO, format, save_all=True, append_images=frames)
        image = EncodedImage(animation)
        assert len(image.container.data) < len(animation) / 4
        first = Image.open(io.BytesIO(animation)).convert("RGB")
        np.testing.assert_array_equal(np.asarray(image.decode()), np.asarray(first))


def test_a_large_photo_is_judged_by_what_has_to_be_decoded():
    """Larger than Pillow itself allows."""
    large = encoded(Image.new("L", (14_000, 14_000), 90), "JPEG")
    assert decode_image(large, name="x", min_side=256).size == (1750, 1750)


@pytest.mark.parametrize("format", ["JPEG", "progressive JPEG", "PNG", "GIF"])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_end_mark_does_not_matter(format, missing):
    np.testing.assert_array_equal(seen(WHOLE[format][:-missing]), seen(WHOLE[format]))
    np.testing.assert_array_equal(seen(WHOLE[format][:-missing], min_side=16), seen(WHOLE[format], min_side=16))


def test_fill_bytes_in_place_of_the_end_do_not_matter():
    for format in ("JPEG", "progressive JPEG"):
        filled = WHOLE[format][:-2] + b"\xff" * 3_000_000
        np.testing.assert_array_equal(seen(filled), seen(WHOLE[format]))


# ---------------------------------------------------------------- truncated files


@pytest.mark.parametrize("format", WHOLE)
@pytest.mark.parametrize("share", [0.4, 0.7, 0.95])
def test_truncated_files_are_refused_unless_allowed(format, share):
    cut = WHOLE[format][: int(share * len(WHOLE[format]))]
    with pytest.raises(TruncatedImageError if format in CAN_BE_CUT else ImageError, match=r"^Expected x to "):
        decode_image(cut, name="x")
    if format not in CAN_BE_CUT:
        with pytest.raises(ImageError):
            decode_image(cut, name="x", allow_truncated=True)
    else:
        difference = np.abs(seen(cut, allow_truncated=True) - seen(WHOLE[format])).mean(axis=(1, 2))
        top = difference[::-1] if format == "BMP" else difference  # which is stored from the bottom up
        assert top[:20].mean() < (30 if format == "progressive JPEG" else 1)


def test_a_file_without_any_pixels_is_refused_even_so():
    for data in (PNG[:60], JPEG[:200], WHOLE["TIFF with LZW"][:200]):
        with pytest.raises(ImageError):
            decode_image(data, name="x", allow_truncated=True)


# ---------------------------------------------------------------- bombs


def test_scans_are_bounded():
    data = WHOLE["progressive JPEG"]
    last = data.rindex(b"\xff\xda")
    repeated = data[:last] + data[last:-2] * 200 + data[-2:]
    with pytest.raises(ImageError, match=r"^Expected x to have at most 100 scans, got more: save it again or leave it"):
        decode_image(repeated, name="x")


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (after_start(JPEG, segment(0xFE, b"") * 200_000), "segments"),
        (b"\xff\xd8" + b"\xff" * 3_000_000, None),
        (JPEG[: JPEG.rindex(b"\xff\xda")] + b"\xff" * 3_000_000, None),
        (PNG[:33] + png_chunk(b"tEXt", b"") * 200_000 + PNG[33:], "chunks"),
        (WHOLE["GIF"][:13] + b"!\xfe\0" * 200_000, None),
        (tiff(np.zeros((4, 4), np.uint8), tags={322: (3, [16]), 324: (4, [8] * 200_000)}), "values in an entry"),
        (tiff(np.zeros((4, 4), np.uint8), tags={338: (3, [0] * 9000)}), "values in an entry"),
    ],
    ids=["segments", "fill", "fill for a scan", "chunks", "extensions", "tiles", "samples"],
)
def test_structure_is_bounded(data, what):
    with pytest.raises(ImageError, match=f"^Expected x to have at most .* {what}" if what else "^Expected x to be"):
        decode_image(data, name="x")


@pytest.mark.parametrize(
    "data",
    [
        png_of_size(12_000, 12_000),
        png_of_size(60_000, 60_000, kind=0),
        png_of_size(8000, 8000, bits=16, kind=6),
        b"RIFF\x1a\0\0\0WEBPVP8L\x0d\0\0\0\x2f" + (9989 | 9999 << 14).to_bytes(4, "little") + bytes(8),
        tiff(np.zeros((4, 4, 3), np.uint8), tags={256: (4, [30_000]), 257: (4, [30_000])}),
        tiff(np.zeros((4, 4), np.uint8), tags={259: (3, [5]), 322: (4, [90_000]), 323: (4, [90_000]), 324: (4, [8])}),
        encoded(Image.new("RGB", (9, 9)), "JPEG").replace(b"\0\x09\0\x09", b"\xff\xf0\xff\xf0", 1),
        encoded(Image.new("RGB", (9, 9)), "GIF").replace(b"\x09\0\x09\0", b"\xff\xff\xff\xff"),
        encoded(Image.new("RGB", (9, 9)), "BMP").replace(b"\x09\0\0\0\x09\0\0\0", struct.pack("<II", 50_000, 50_000)),
    ],
    ids=["PNG", "grey PNG", "deep PNG", "WebP", "TIFF", "TIFF tile", "JPEG", "GIF", "BMP"],
)
def test_decompression_bombs_are_refused_before_decoding(data, monkeypatch):
    def never(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.Image, "load", never)
    with pytest.raises(ImageError, match=r"^Expected bomb to (take|have) at most .*: scale it down or leave it out$"):
        decode_image(data, name="bomb")


def test_a_progressive_jpeg_counts_in_full():
    """Of which a decoder holds all coefficients, however small the picture becomes."""
    whole = encoded(Image.new("RGB", (9, 9)), "JPEG", progressive=True, subsampling=0)
    large = whole.replace(b"\0\x09\0\x09", struct.pack(">HH", 12_000, 12_000), 1)
    with pytest.raises(ImageError, match=r"^Expected x to take at most .* got 12000 × 12000 pixels, which take 873 MB"):
        decode_image(large, name="x", min_side=16)
    assert EncodedImage(encoded(PHOTO, "JPEG", progressive=True), 16).memory < MAX_DECODED_BYTES


# ---------------------------------------------------------------- formats


def test_formats_are_told_by_their_content(tmp_path):
    for format, data in WHOLE.items():
        (tmp_path / "IMG_0001").write_bytes(data)
        assert find_images([tmp_path]) == [tmp_path / "IMG_0001"]
        assert image_format(data[:64]) in format
    (tmp_path / "notes").write_text("Bring a hat.")
    assert find_images([tmp_path]) == [tmp_path / "IMG_0001"]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"\xff\x0a\xff\x07\x08", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"8BPS\0\1", "Photoshop"),
        (b"%PDF-1.7", "something else"),
    ],
)
def test_formats_that_are_not_read_are_named(data, name):
    with pytest.raises(ImageError, match=f"^Expected x to be one of JPEG, PNG, .*, got {name}: convert or remove it$"):
        decode_image(data, name="x")


def test_a_missing_package_for_heif_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match="got HEIF, which needs the package pillow-heif: install it or convert"):
        decode_image(WHOLE["HEIF"], name="IMG_0001.HEIC")


# ---------------------------------------------------------------- damage


@given(seed=st.integers(0, 2**32), format=st.sampled_from(sorted(WHOLE)), allowed=st.booleans())
@settings(max_examples=200, deadline=None)
def test_any_damage_ends_in_a_picture_or_in_one_line(seed, format, allowed):
    rng = np.random.default_rng(seed)
    data = bytearray(WHOLE[format])
    for position in rng.integers(0, len(data), rng.integers(1, 20)):
        data[position] = rng.integers(256)
    start, end = np.sort(rng.integers(0, len(data), 2))
    kind = rng.integers(3)
    cut = {0: data, 1: data[:start] + data[end:], 2: data[:end] + data[start:]}[int(kind)]
    try:
        assert decode_image(bytes(cut), name="x", allow_truncated=allowed).mode == "RGB"
    except ImageError as error:
        refusal = str(error)
        assert refusal.count("\n") == 0


def test_nothing_is_written_where_nobody_asked(capfd):
    whole, refused = encoded(PHOTO, "TIFF", compression="tiff_adobe_deflate"), 0
    for position in range(500, len(whole) - 500, 1000):
        data = bytearray(whole)
        data[position : position + 20] = b"\xff" * 20
        try:
            decode_image(bytes(data), name="x")
        except ImageError:
            refused += 1
    assert refused
    assert capfd.readouterr() == ("", "")


def test_pillow_images_are_read_from_their_files_and_keep_no_pixels(tmp_path):
    """Else the pixels of every image of a list would stay in memory."""
    (tmp_path / "a.png").write_bytes(PNG)
    with Image.open(tmp_path / "a.png") as image:
        assert read_image_bytes(image) == PNG
        assert image.tile
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), seen(PNG))
        image.putpixel((0, 0), (1, 2, 3))
        assert load_image(image).getpixel((0, 0)) == (1, 2, 3)
