"""Two processes that edit one classifier: each waits or is told, and no edit is lost."""

import subprocess
import sys

import pytest

from tip_adapter.classifier import ImageClassifier
from tip_adapter.cli import main
from tip_adapter.errors import InputError, ModelFileError, TipAdapterError
from tip_adapter.storage.locking import locked

EDITOR = """
import sys
from tip_adapter.classifier import ImageClassifier

path, name = sys.argv[1:]
for number in range(5):
    with ImageClassifier.editing(path, store=None, wait_s=60) as classifier:
        classifier.add_class(f"{name} {number}")
"""


@pytest.fixture
def saved(photos, tmp_path):
    path = tmp_path / "c.tip"
    ImageClassifier("fake", "tip-adapter", store=None).fit(photos / "train", shots=1).save(path)
    return path


def test_two_processes_lose_no_edit(saved):
    editors = [
        subprocess.Popen([sys.executable, "-c", EDITOR, str(saved), name], stderr=subprocess.PIPE, text=True)
        for name in ("one", "two")
    ]
    for editor in editors:
        _, told = editor.communicate(timeout=120)
        assert editor.returncode == 0, told
    classifier = ImageClassifier.load(saved)
    assert set(classifier.class_names) == {
        "green",
        "red",
        "sky blue",
        *(f"{name} {number}" for name in ("one", "two") for number in range(5)),
    }
    assert [entry.action for entry in classifier.journal] == ["fit", *["add-class"] * 10]


def test_whoever_waits_too_long_is_told(saved):
    before = (saved / "config.json").read_bytes()
    with (
        locked(saved),
        pytest.raises(TipAdapterError, match=r"Another process is changing .*c\.tip.*try again"),
        ImageClassifier.editing(saved, wait_s=0.1),
    ):
        pytest.fail("edited beside another process")
    assert (saved / "config.json").read_bytes() == before


def test_the_command_calibrate_keeps_others_out(saved, photos, monkeypatch):
    calibrate, refused = ImageClassifier.calibrate, []

    def calibrate_while_another_edits(self, *arguments, **options):
        with pytest.raises(TipAdapterError, match="Another process is changing"), locked(saved, wait_s=0):
            pytest.fail("two held the lock")
        refused.append(True)
        return calibrate(self, *arguments, **options)

    monkeypatch.setattr(ImageClassifier, "calibrate", calibrate_while_another_edits)
    monkeypatch.setattr(sys, "argv", ["tip-adapter", "calibrate", str(saved), str(photos / "test")])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert refused == [True]
    assert ImageClassifier.load(saved).model_.calibration.source == "photos"


def test_saving_over_what_another_changed_is_refused(saved, tmp_path):
    mine, theirs = ImageClassifier.load(saved, store=None), ImageClassifier.load(saved, store=None)
    theirs.rename_class("red", "crimson")
    theirs.save(saved)
    theirs.rename_class("crimson", "scarlet")
    theirs.save(saved)
    mine.rename_class("green", "olive")
    with pytest.raises(TipAdapterError, match=r"changed since it was loaded.*another name"):
        mine.save(saved)
    assert ImageClassifier.load(saved).class_names == ("green", "scarlet", "sky blue")
    mine.save(tmp_path / "other.tip")
    assert ImageClassifier.load(tmp_path / "other.tip").class_names == ("olive", "red", "sky blue")


def test_an_edit_that_fails_leaves_the_saved_classifier(saved):
    before = (saved / "config.json").read_bytes()

    def edit():
        with ImageClassifier.editing(saved) as classifier:
            classifier.rename_class("green", "olive")
            classifier.remove_class("nothing")

    with pytest.raises(InputError, match="no class"):
        edit()
    assert (saved / "config.json").read_bytes() == before
    with ImageClassifier.editing(saved) as classifier:
        classifier.rename_class("green", "olive")
    assert "olive" in ImageClassifier.load(saved).class_names


def test_what_cannot_be_edited_is_told_and_leaves_no_lock(tmp_path):
    with pytest.raises(ModelFileError, match=r"no folder .*none\.tip"), ImageClassifier.editing(tmp_path / "none.tip"):
        pytest.fail("edited nothing")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(InputError, match="save it in a folder"), ImageClassifier.editing("hub:owner/name"):
        pytest.fail("edited the Hub")
