"""What people get wrong: one line that names it, the right exit code, and nothing half-written."""

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.methods import METHODS

pytestmark = pytest.mark.usefixtures("fake_encoder")


# ---------------------------------------------------------------- wrong usage


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["fit"], ["Missing argument", "tip-adapter fit --help"]),
        (["bogus"], ["No such command 'bogus'", "tip-adapter --help"]),
        (["fit", "photos", "--shots", "0"], ["--shots"]),
        (["fit", "photos", "--shots", "many"], ["--shots"]),
        (["fit", "photos", "--shtos", "3"], ["--shtos"]),
        (["predict", "c.tip"], ["photos"]),
        (["predict", "c.tip", "a.jpg", "--top-k", "0"], ["--top-k"]),
    ],
)
def test_wrong_usage(fails, here, arguments, words):
    fails(2, words, *arguments)


def test_without_arguments_the_help_is_shown(run):
    code, out, err = run()
    assert (code, err) == (2, "")
    assert "predict" in out


# ---------------------------------------------------------------- data


MANIFESTS = {
    "no_column.csv": ("note,label\na.png,x\n", ["no_column.csv", "path"]),
    "missing_file.csv": ("path,label\na.png,x\n", ["a.png", "row 2", "missing_file.csv"]),
    "no_label.jsonl": ('{"path": "photos/train/red/photo 0é.png", "label": ""}\n', ["row 1", "no_label.jsonl"]),
    "empty.csv": ("", ["empty.csv"]),
    "broken.jsonl": ('{"path": \n', ["row 1", "broken.jsonl"]),
    "sheet.xlsx": ("", ["sheet.xlsx", ".csv"]),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_manifests(fails, here, name):
    content, words = MANIFESTS[name]
    (here / name).write_text(content, encoding="utf-8")
    fails(3, words, "fit", name)
    assert not (here / "classifier.tip").exists()


def test_photos_without_class_folders(fails, here):
    fails(3, ["photos/train/red", "folder of their class"], "fit", "photos/train/red")


@pytest.mark.parametrize("kind", ["dangling link", "folder", "pipe"])
def test_what_looks_like_a_photo(fails, run, here, model, kind):
    odd = here / "odd.jpg"
    if kind == "folder":
        odd.mkdir()
    elif kind == "pipe":
        os.mkfifo(odd)
    else:
        odd.symlink_to(here / "gone.jpg")
    fails(3, "odd.jpg", "predict", model, "odd.jpg")


def test_all_photos_of_a_class_are_bad(fails, here):
    for path in (here / "photos" / "train" / "red").iterdir():
        path.write_bytes(b"")
    code = ["fit", "photos", "--skip-bad"]
    fails(3, ["'red'"], *code)
    assert not (here / "classifier.tip").exists()


def test_skipped_photos_are_listed(run, here, model):
    for name in ("a.jpg", "b.png"):
        (here / "photos" / "test" / "red" / name).write_bytes(b"no picture")
    code, out, err = run("predict", model, "photos/test", "--skip-bad", "--json")
    facts = json.loads(out)
    assert (code, len(facts["predictions"]), err.count("skipped: ")) == (0, 9, 2)
    assert [row["path"] for row in facts["skipped"]] == [f"photos/test/red/{name}" for name in ("a.jpg", "b.png")]
    assert run("evaluate", model, "photos", "--skip-bad")[1].startswith("9 photos")
    assert run("predict", model, "photos/test/red/a.jpg", "--skip-bad")[0] == 3


def test_a_file_name_that_is_no_text(run, here, model):
    odd = os.fsdecode(b"photos/test/red/caf\xe9.png")
    try:
        shutil.copy(here / "photos" / "test" / "red" / "photo 0é.png", odd)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    assert json.loads(run("predict", model, odd, "--json")[1])["predictions"][0]["path"] == odd
    assert run("predict", model, odd, "-o", "a.csv")[0] == 0
    os.rename(here / "photos" / "train" / "red", os.fsdecode(os.fsencode(here) + b"/photos/train/r\xe9d"))
    code, _, err = run("fit", "photos")
    assert (code, err.count("\n"), "UTF-8" in err) == (3, 1, True)


def test_names_that_look_like_markup(run, here, model):
    path = here / "[bold]x[1]:smile:.png"
    shutil.copy(here / "photos" / "test" / "red" / "photo 0é.png", path)
    assert path.name in run("predict", model, path)[1]


def test_letters_that_the_terminal_lacks(here, model):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "tip_adapter", "predict", str(model), "photos/test"]
    process = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (process.returncode, process.stderr) == (0, "")
    assert "photo 0\\xe9.png" in process.stdout


# ---------------------------------------------------------------- options and places


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"rde": "red"}', ["'rde'", "did you mean 'red'"]),
        ('{"red": ', ["names.json", "line 1"]),
        ('["red"]', ["names.json", "list"]),
        ('{"red": 3}', ["'red'"]),
        (None, ["names.json"]),
    ],
)
def test_class_names(fails, here, content, words):
    if content is not None:
        (here / "names.json").write_text(content)
    fails(3, words, "fit", "photos", "--class-texts", "names.json")


def test_what_can_be_checked_is_checked_before_any_photo_is_encoded(fails, here, model, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "encode_pixels", lambda *_: pytest.fail("encoded before the check"))
    fails(1, "photos exists and is no saved classifier", "fit", "photos", "-o", "photos")
    fails(3, "'nothing'", "fit", "photos", "-m", "nothing")
    fails(3, "'a photo'", "fit", "photos", "-t", "a photo")
    fails(3, "c.txt", "evaluate", model, "photos", "--plot", "c.txt")
    fails(3, "a.xls", "predict", model, "photos", "-o", "a.xls")
    fails(3, "f.txt", "embed", "photos/train", "-o", "f.txt")
    fails(3, "outside the photos", "demo", "photos", "-o", "photos/demo")
    fails(3, "manifest alone", "embed", "a.csv", "b.csv")


def test_outputs_into_folders_that_are_not_there_yet(run, here, model):
    assert run("fit", "photos", "-o", "new/deep/c.tip")[0] == 0
    assert run("predict", model, "photos/test", "-o", "new/answers/a.CSV")[0] == 0
    with (here / "new" / "answers" / "a.CSV").open(encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == 9
    assert run("evaluate", model, "photos", "--plot", "pictures/c.PNG")[0] == 0
    assert (here / "pictures" / "c.PNG").exists()
    assert run("evaluate", model, "photos", "--html", "new/pages/r.html")[0] == 0
    assert run("doctor", model, "--html", "new/pages/deep/d.html")[0] == 0
    assert sorted(path.name for path in (here / "new" / "pages").rglob("*.html")) == ["d.html", "r.html"]


def test_a_saved_classifier_among_the_photos_is_no_class(run, here, monkeypatch):
    monkeypatch.chdir(here / "photos" / "train")
    for _ in range(2):
        assert run("fit", ".")[1].startswith("15 shots of 3 classes")
    assert len(json.loads(run("predict", "classifier.tip", ".", "--json")[1])["predictions"]) == 15


def test_measuring_on_the_shots_is_said(run, here, model):
    code, out, err = run("evaluate", model, "photos/train", "--json")
    assert (code, json.loads(out)["n_shots_among"]) == (0, 12)
    assert "12 of the 15 photos are shots" in err
    assert run("evaluate", model, "photos/test")[2] == ""


def test_a_full_disk(fails, run, here, model, monkeypatch):
    before = sorted(here.rglob("*"))

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tip_adapter.storage.atomic.os.fsync", full)
    words = ["No space left on device", "free space"]
    fails(1, [*words, "new.tip"], "fit", "photos", "-o", "new.tip")
    fails(1, [*words, "c.tip"], "fit", "photos", "-o", model)
    fails(1, [*words, "a.csv"], "predict", model, "photos/test", "-o", "a.csv")
    fails(1, [*words, "f.npz"], "embed", "photos/train", "-o", "f.npz")
    monkeypatch.undo()
    left = [path for path in sorted(here.rglob("*")) if "cache" not in path.parts]
    assert left == [path for path in before if "cache" not in path.parts]
    assert run("predict", model, here / "photos" / "test" / "red")[0] == 0


# ---------------------------------------------------------------- models and encoders


def test_features_that_are_no_numbers(fails, here, monkeypatch):
    monkeypatch.setattr(FakeEncoder, "_encode_views", lambda self, x: np.full((len(x), self.dim), np.nan, np.float32))
    fails(3, ["NaN", ".png"], "fit", "photos")


@pytest.mark.parametrize("pattern", ["arrays-*.safetensors", "config.json"])
@pytest.mark.parametrize("damage", ["gone", "empty", "cut", "changed"])
def test_damaged_models(fails, here, model, pattern, damage):
    (file,) = model.glob(pattern)
    data = file.read_bytes()
    file.unlink()
    if damage != "gone":
        changed = data.replace(b"red", b"rad", 1) if pattern == "config.json" else data[:-1] + bytes([data[-1] ^ 1])
        file.write_bytes({"empty": b"", "cut": data[: len(data) // 2], "changed": changed}[damage])
    fails(4, ["c.tip", file.name], "predict", model, "photos/test")
    fails(4, ["c.tip", file.name], "info", model)


def test_places_that_are_no_model(fails, here):
    (here / "file").write_text("x")
    fails(4, "there is no folder no.tip", "predict", "no.tip", "photos/test")
    fails(4, "config.json", "predict", "photos", "photos/test")
    fails(4, "file", "info", "file")


def test_another_encoder(fails, here, model, monkeypatch):
    config = json.loads((model / "config.json").read_text())
    monkeypatch.setattr(FakeEncoder, "image_id", "f" * 64)
    fails(5, [config["encoder"]["image_id"][:12], "fit again"], "predict", model, "photos/test")
    fails(5, "Unknown encoder 'litee'", "predict", model, "photos/test", "-e", "litee")


def test_what_was_probably_meant(fails, here, model):
    (model.parent / "models").mkdir()
    shutil.copytree(model, model.parent / "models" / "pets.tip")
    fails(4, "did you mean models/pets.tip?", "predict", "models", "photos/test")
    fails(3, "did you mean 'tip-adapter'?", "fit", "photos", "-e", "fake", "-m", "tipadapter", "-o", "c.tip")
    fails(3, "web/a.jpg: download them first", "predict", model, "https://web/a.jpg")


@pytest.mark.parametrize(
    "method", [name for name, cls in METHODS.items() if not (cls.needs_encoder or cls.transductive)]
)
def test_every_method_is_fitted_measured_and_used(run, here, method):
    assert run("fit", "photos", "-m", method, "-o", "m.tip")[0] == 0
    code, out, err = run("evaluate", "m.tip", "photos", "--json")
    facts = json.loads(out)
    assert (code, err, facts["n"]) == (0, "", 9)
    assert (facts["cache_accuracy"] is None) == (method == "zero-shot")
    assert run("evaluate", "m.tip", "photos")[0] == 0
    assert run("predict", "m.tip", "photos/test/red")[0] == 0


def test_more_memory_than_there_is(fails, here):
    fails(1, ["Not enough memory", "smaller batches"], "embed", "photos/train", "--batch-size", 10**13)
