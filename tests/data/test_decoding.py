"""Reading and decoding: every kind of source and format, and every way in which a file can be bad."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFile

from image_files import encoded, png_of_size
from tip_adapter.data.decoding import decode_image, image_digest, image_name, load_image, read_image_bytes
from tip_adapter.data.pixels import FORMATS
from tip_adapter.errors import ImageError

GRADIENT = np.stack(np.broadcast_arrays(np.arange(0, 240, 8)[None, :], np.arange(0, 200, 10)[:, None], 90), -1).astype(
    "u1"
)


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_decodes_to_the_same_picture(format):
    options = {"lossless": True} if format == "WebP" else {}
    image = decode_image(encoded(Image.fromarray(GRADIENT), format, **options), name="x")
    assert (image.mode, image.size) == ("RGB", (30, 20))
    tolerance = {"JPEG": 12, "GIF": 26, "AVIF": 8, "HEIF": 12}.get(format, 0)
    assert np.abs(np.asarray(image).astype(int) - GRADIENT).max() <= tolerance


def test_a_format_outside_the_list_is_refused():
    with pytest.raises(ImageError, match=r"^Expected x\.ppm to be one of JPEG, PNG.* convert or remove it$"):
        decode_image(encoded(Image.fromarray(GRADIENT), "PPM"), name="x.ppm")


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(orientation, format):
    upright = Image.fromarray(np.kron([[250, 170], [90, 10]], np.ones((16, 24))).astype("u1")).convert("RGB")
    transpose = Image.Transpose
    stored = {  # how a camera would store the picture under each orientation
        2: transpose.FLIP_LEFT_RIGHT,
        3: transpose.ROTATE_180,
        4: transpose.FLIP_TOP_BOTTOM,
        5: transpose.TRANSPOSE,
        6: transpose.ROTATE_90,
        7: transpose.TRANSVERSE,
        8: transpose.ROTATE_270,
    }
    image = upright.transpose(stored[orientation]) if orientation in stored else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    decoded = decode_image(encoded(image, format, exif=exif), name="x")
    assert decoded.size == (48, 32)
    assert np.abs(np.asarray(decoded).astype(int) - np.asarray(upright))[4:-4, 4:-4].mean() < 4


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_exif_block_leaves_the_picture_readable():
    data = encoded(Image.fromarray(GRADIENT), "JPEG", exif=b"Exif\x00\x00MM\x00\x2a\x00\x00\xff\xff\x01")
    assert decode_image(data, name="x").size == (30, 20)


@pytest.mark.parametrize("image", [Image.new("RGBA", (3, 2), (255, 0, 0, 0)), Image.new("LA", (3, 2), (0, 0))])
def test_transparent_pixels_become_white(image):
    assert decode_image(encoded(image, "PNG"), name="x").getpixel((1, 1)) == (255, 255, 255)
    assert load_image(image).getpixel((1, 1)) == (255, 255, 255)


def test_half_transparent_pixels_are_blended_with_white():
    data = encoded(Image.new("RGBA", (3, 2), (255, 0, 0, 128)), "PNG")
    assert decode_image(data, name="x").getpixel((0, 0)) == pytest.approx((255, 127, 127), abs=1)


def test_a_transparent_palette_colour_becomes_white():
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 255, 255, 0, 0])
    image.putpixel((0, 0), 0)
    decoded = decode_image(encoded(image, "PNG", transparency=1), name="x")
    assert decoded.getpixel((0, 0)) == (0, 0, 255)
    assert decoded.getpixel((2, 2)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "HSV"])
def test_other_modes_become_rgb(mode):
    image = load_image(Image.new("RGB", (5, 4), "white").convert(mode))
    assert (image.mode, image.getpixel((2, 2))) == ("RGB", (255, 255, 255))


def test_cmyk_jpeg_keeps_its_colours():
    data = encoded(Image.new("RGB", (16, 16), (200, 30, 60)).convert("CMYK"), "JPEG", quality=95)
    assert decode_image(data, name="x").getpixel((8, 8)) == pytest.approx((200, 30, 60), abs=6)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP"])
def test_the_first_of_several_frames_is_taken(format):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], format, save_all=True, append_images=frames[1:])
    assert decode_image(data, name="x").getpixel((4, 4)) == pytest.approx((255, 0, 0), abs=3)


def test_draft_decoding_keeps_twice_the_side_and_the_picture():
    rng = np.random.default_rng(0)
    blocks = np.kron(rng.integers(0, 255, (6, 8, 3)), np.ones((128, 128, 1))).astype("u1")
    data = encoded(Image.fromarray(blocks), "JPEG", quality=95)
    full, draft = decode_image(data, name="x"), decode_image(data, name="x", min_side=96)
    assert (full.size, draft.size) == ((1024, 768), (256, 192))
    difference = np.asarray(full.resize((64, 48), 3)).astype(int) - np.asarray(draft.resize((64, 48), 3))
    assert np.abs(difference).mean() < 1
    assert decode_image(data, name="x", min_side=97).size == (512, 384)


def test_draft_decoding_comes_before_rotation():
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.new("RGB", (1024, 512)), "JPEG", exif=exif)
    assert decode_image(data, name="x", min_side=64).size == (128, 256)


def test_draft_decoding_leaves_other_formats_alone():
    assert decode_image(encoded(Image.new("RGB", (512, 512)), "PNG"), name="x", min_side=16).size == (512, 512)


def test_a_file_named_with_another_formats_suffix_decodes(tmp_path):
    path = tmp_path / "really a png.jpg"
    Image.fromarray(GRADIENT).save(path, "PNG")
    np.testing.assert_array_equal(np.asarray(load_image(path)), GRADIENT)


def test_paths_bytes_images_and_arrays_agree(tmp_path):
    path = tmp_path / "größe π.png"
    image = Image.fromarray(GRADIENT)
    image.save(path)
    for source in (path, str(path), path.read_bytes(), image, GRADIENT):
        np.testing.assert_array_equal(np.asarray(load_image(source)), GRADIENT)


def test_digest_is_of_the_file_and_of_the_pixels_in_memory(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GRADIENT).save(path)
    data = read_image_bytes(path)
    assert data == path.read_bytes()
    assert image_digest(data) == hashlib.sha256(data).hexdigest()
    of_array = image_digest(read_image_bytes(GRADIENT))
    assert of_array == image_digest(read_image_bytes(Image.fromarray(GRADIENT)))
    assert of_array != image_digest(read_image_bytes(GRADIENT.reshape(15, 40, 3)))
    changed = GRADIENT.copy()
    changed[-1, -1, -1] += 1
    assert of_array != image_digest(read_image_bytes(changed))


def test_names_for_messages(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(GRADIENT).save(path)
    with Image.open(path) as image:
        assert image_name(image) == str(path)
    assert image_name(path) == str(path)
    assert image_name(GRADIENT) == "an image given as ndarray"


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 2, 3), dtype=np.complex64),
        np.zeros((3, 2, 2), dtype=np.uint8),
        np.zeros((2, 2, 5), dtype=np.uint8),
        np.full((2, 2), None),
        np.zeros((0, 2, 3), dtype=np.uint8),
        np.zeros(4, dtype=np.uint8),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(array):
    with pytest.raises(ImageError, match=r"to be numbers of shape \(H, W\), \(H, W, 3\) or \(H, W, 4\), got .*: conv"):
        load_image(array)


def test_other_objects_are_refused():
    with pytest.raises(ImageError, match="got list"):
        load_image([[0, 0]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file: replace or remove it"),
        (b"These are not pixels.", "to be one of JPEG, .* got something else"),
        (encoded(Image.fromarray(GRADIENT), "JPEG")[:-60], "to be a whole image, got one that is cut short"),
        (encoded(Image.fromarray(GRADIENT), "JPEG")[:-200], "to be a whole image, got the beginning of a JPEG file"),
        (encoded(Image.fromarray(GRADIENT), "PNG")[:-40], "to be a whole image, got damaged data"),
        (encoded(Image.fromarray(GRADIENT), "GIF")[:-200], "to be a whole image, got damaged data"),
        (encoded(Image.fromarray(GRADIENT), "BMP")[:-200], "to be a whole image, got damaged data"),
        (encoded(Image.fromarray(GRADIENT), "WEBP")[:-60], "Expected"),
        (encoded(Image.fromarray(GRADIENT), "JPEG")[:20], "Expected"),
        (encoded(Image.fromarray(GRADIENT), "TIFF")[:-60], "Expected"),
    ],
)
def test_bad_content_is_one_line_that_names_the_file(tmp_path, content, message):
    path = tmp_path / "bad file.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=message) as caught:
        load_image(path, min_side=4)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("size", [(12_000, 12_000), (60_000, 60_000)])
def test_decompression_bombs_are_refused_before_decoding(size, monkeypatch):
    def never(self):
        raise AssertionError("decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", never)
    with pytest.raises(ImageError, match=r"^Expected bomb\.png to .*[Ss]cale it down or leave it out$"):
        decode_image(png_of_size(*size), name="bomb.png")


def test_files_that_cannot_be_read(tmp_path, monkeypatch):
    with pytest.raises(ImageError, match=r"missing\.jpg to be an image file, found none: check the path$"):
        load_image(tmp_path / "missing.jpg")
    with pytest.raises(ImageError, match="got a folder: name the photos in it"):
        load_image(tmp_path)
    with pytest.raises(ImageError, match="null"):
        load_image("a\0b.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    with pytest.raises(ImageError, match=r"loop\.jpg to be a readable image file"):
        load_image(tmp_path / "loop.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(ImageError, match="got a device or pipe"):
        load_image(tmp_path / "pipe.jpg")


def test_a_file_without_read_permission(tmp_path, monkeypatch):
    path = tmp_path / "locked.jpg"
    path.write_bytes(b"x")
    if hasattr(os, "geteuid") and os.geteuid() != 0:
        path.chmod(0)
    else:  # the superuser may read everything, so play the refusal

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ImageError, match=r"locked\.jpg to be readable, permission was denied"):
        load_image(path)


def test_lazily_opened_images_with_damage_name_their_file(tmp_path):
    path = tmp_path / "cut.png"
    path.write_bytes(encoded(Image.fromarray(GRADIENT), "PNG")[:-40])
    with Image.open(path) as image, pytest.raises(ImageError, match=r"cut\.png to be a whole image"):
        load_image(image)


def test_real_photos_decode(shared_data: Path):
    photos = sorted((shared_data / "clothing" / "test").glob("*/*.jpg"))[::40]
    for photo in photos:
        image = load_image(photo)
        assert image.mode == "RGB"
        assert min(image.size) > 100
