"""The exported script: other packages than its own three are blocked, and it sees what the classifier sees."""

import dataclasses
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from image_files import encoded, png, png_of_size, tiff
from tiny_onnx import some_photos
from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.errors import TipAdapterError
from tip_adapter.export import export_classifier, script
from tip_adapter.export.script import check_script

BLOCKED = ["tip_adapter", "torch", "onnx", "sklearn", "scipy"]
SETTINGS = Preprocessing(size=24, resize=32, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)


@pytest.fixture(scope="module")
def exported(fitted, tmp_path_factory):
    return export_classifier(fitted, tmp_path_factory.mktemp("exported") / "out").path / "predict.py"


def run(exported, *arguments, **options):
    block = f"import sys; sys.modules |= dict.fromkeys({BLOCKED!r}); sys.path[0] = {str(exported.parent)!r}; "
    start = f"sys.argv = {['predict.py', *map(str, arguments)]!r}; import runpy; "
    code = block + start + f"runpy.run_path({str(exported)!r}, run_name='__main__')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, **options)


def written(folder, images):
    for name, data in images.items():
        (folder / name).write_bytes(data)
    return [folder / name for name in images]


def test_it_is_short(exported):
    assert len(exported.read_text(encoding="utf-8").splitlines()) <= 60


def test_it_names_what_the_classifier_names(fitted, exported, tmp_path):
    photos = {f"{index}.png": encoded(Image.fromarray(pixels), "PNG") for index, pixels in enumerate(some_photos(6, 2))}
    grey = np.asarray(Image.fromarray(some_photos(1, 3)[0]).convert("L")).astype(np.uint16)
    turned = Image.Exif()
    turned[0x0112] = 6
    photos |= {
        "12 bits.png": png(16 * grey),
        "8 bits in 16.png": png(grey),
        "16 bits.tif": tiff(257 * grey),
        "colours of 12 bits.png": png(16 * some_photos(1, 4)[0].astype(np.uint16)),
        "turned.jpg": encoded(Image.fromarray(some_photos(1, 5)[0]), "JPEG", exif=turned),
        "no end.jpg": encoded(Image.fromarray(some_photos(1, 6)[0]), "JPEG")[:-2],
        "photo.heic": encoded(Image.fromarray(some_photos(1, 7)[0]), "HEIF"),
        "photo.avif": encoded(Image.fromarray(some_photos(1, 8)[0]), "AVIF"),
    }
    paths = written(tmp_path, photos)
    done = run(exported, *paths)
    assert (done.returncode, done.stderr) == (0, "")
    expected = fitted.predict_proba(paths)
    for path, row, line in zip(paths, expected, done.stdout.splitlines(), strict=True):
        name, percent = re.fullmatch(rf"{re.escape(str(path))}: (\w+) ([\d.]+) %, .*", line).groups()
        assert name == fitted.classes_[row.argmax()]
        assert float(percent) == pytest.approx(100 * row.max(), abs=0.06)


def test_names_do_not_steer_the_terminal(exported, tmp_path):
    photos = {"\x1b[2J\u202e.png": encoded(Image.fromarray(some_photos(1)[0]), "PNG"), "\x1b[2J.jpg": b"no photo"}
    done = run(exported, *written(tmp_path, photos))
    assert done.stdout.startswith(f"{tmp_path}/\\x1b[2J\\u202e.png: ")
    assert "\x1b" not in done.stdout + done.stderr


def test_it_goes_on_after_what_it_cannot_read(exported, tmp_path):
    good = encoded(Image.fromarray(some_photos(1, 0)[0]), "PNG")
    images = {
        "a.png": good,
        "bad.jpg": b"x",
        "bomb.png": png_of_size(30_000, 30_000),
        "cut.png": good[:60],
        "b.png": good,
    }
    paths = written(tmp_path, images)
    done = run(exported, *paths, tmp_path / "missing.jpg", tmp_path)
    assert done.returncode == 1
    assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [str(paths[0]), str(paths[4])]
    refused = [*(str(paths[index]) for index in (1, 2, 3)), str(tmp_path / "missing.jpg"), str(tmp_path)]
    for line, path in zip(done.stderr.splitlines(), refused, strict=True):
        assert line.startswith(f"Expected {path} to ")


def test_it_explains_itself(exported):
    assert run(exported, "--help").stdout.startswith("usage: predict.py [-h] PHOTO [PHOTO ...]\n\nClassify photos.")
    assert run(exported).returncode == 2


def test_a_closed_pipe_ends_it(exported, tmp_path):
    (path,) = written(tmp_path, {"a.png": encoded(Image.fromarray(some_photos(1, 0)[0]), "PNG")})
    arguments = [str(path)] * 400
    with subprocess.Popen(
        [sys.executable, exported, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_the_check_looks_at_files_of_odd_kinds_and_at_given_ones():
    assert check_script(SETTINGS) == 4
    assert check_script(dataclasses.replace(SETTINGS, resize=None), [np.zeros((9, 9, 3), np.uint8)] * 20) == 12


@pytest.mark.parametrize(
    "change", [(b"2 * self.min_side", b"self.min_side"), (b"(8, 10, 12,", b"(8, 10, 13,"), (b"def ", b"df ")]
)
def test_a_script_that_sees_other_pixels_is_found_out(change, monkeypatch):
    contents = script.script_files()
    changed = {name: content.replace(*change) for name, content in contents.items()}
    monkeypatch.setattr(script, "script_files", lambda: changed)
    assert changed != contents
    settings = dataclasses.replace(SETTINGS, size=224, resize=224)
    with pytest.raises(TipAdapterError, match=r"^Expected predict\.py to see the pixels of the Python classifier, got"):
        check_script(settings)
