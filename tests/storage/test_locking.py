"""Several processes and threads that edit one classifier: all succeed, or are told, and no edit is lost."""

import errno
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tip_adapter.classifier import ImageClassifier
from tip_adapter.classifier.encoding import PhotoEncoder
from tip_adapter.cli import main
from tip_adapter.errors import InputError, ModelFileError, StorageWarning, TipAdapterError
from tip_adapter.storage.locking import locked

EDITOR = """
import sys
import numpy as np
from tip_adapter.classifier import ImageClassifier

path, number = sys.argv[1], int(sys.argv[2])
for shade in range(3):
    with ImageClassifier.editing(path, store=None) as classifier:
        classifier.add_shots([np.full((32, 32, 3), 10 * number + shade, dtype=np.uint8)], ["red"])
"""


@pytest.fixture
def saved(photos, tmp_path):
    path = tmp_path / "c.tip"
    ImageClassifier("fake", "tip-adapter", store=None).fit(photos / "train", shots=1).save(path)
    return path


def shade(value):
    return np.full((32, 32, 3), value, dtype=np.uint8)


def test_no_edit_of_processes_with_other_cache_folders_is_lost(saved, tmp_path):
    editors = [
        subprocess.Popen(
            [sys.executable, "-c", EDITOR, str(saved), str(number)],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TIP_ADAPTER_CACHE": str(tmp_path / f"cache of {number}")},
        )
        for number in range(3)
    ]
    for editor in editors:
        _, told = editor.communicate(timeout=120)
        assert editor.returncode == 0, told
    classifier = ImageClassifier.load(saved)
    assert len(classifier.model_.shots) == 3 + 9
    assert [entry.action for entry in classifier.journal] == ["fit", *["add"] * 9]
    assert all(len(classifier.model_.shots.thumbnails[one]) for one in classifier.model_.shots.ids)


def test_no_edit_of_threads_is_lost(saved):
    classifier = ImageClassifier.load(saved, store=None)
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(lambda value: classifier.add_shots([shade(value)], ["red"]).ids, range(24)))
    assert {one for ids in added for one in ids} <= set(classifier.model_.shots.ids)
    assert len(classifier.model_.shots) == 3 + 24
    assert [entry.number for entry in classifier.journal] == list(range(1, 26))


def test_threads_with_a_session_each_and_threads_that_share_one(saved):
    def edit(value):
        with ImageClassifier.editing(saved, store=None) as classifier:
            return classifier.add_shots([shade(value)], ["red"]).ids

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(edit, range(8)))
    with ImageClassifier.editing(saved, store=None) as classifier, ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda value: classifier.add_shots([shade(value)], ["red"]), range(8, 16)))
    assert len(ImageClassifier.load(saved).model_.shots) == 3 + 16


def test_photos_are_encoded_before_others_are_kept_out(saved, monkeypatch):
    extract, seen = PhotoEncoder.extract, []

    def extract_while_another_edits(self, *arguments, **options):
        if not seen:
            seen.append(True)
            with ImageClassifier.editing(saved, store=None) as other:
                other.add_shots([shade(1)], ["red"])
        return extract(self, *arguments, **options)

    monkeypatch.setattr(PhotoEncoder, "extract", extract_while_another_edits)
    with ImageClassifier.editing(saved, store=None) as classifier:
        added = classifier.add_shots([shade(1), shade(2)], ["red"] * 2)
    assert (len(added.ids), [class_name for _, _, class_name in added.known]) == (1, ["red"])
    assert [entry.action for entry in ImageClassifier.load(saved).journal] == ["fit", "add", "add"]


@pytest.mark.parametrize("command", ["calibrate", "add", "remove"])
def test_an_edit_is_applied_to_what_others_made_of_it(saved, photos, command):
    with ImageClassifier.editing(saved) as mine:
        with ImageClassifier.editing(saved) as theirs:
            theirs.rename_class("red", "crimson")
        if command == "calibrate":
            mine.calibrate([shade(1), shade(2), shade(3)], ["green", "crimson", "sky blue"])
        elif command == "add":
            mine.add_shots([shade(1)], ["crimson"])
        else:
            mine.remove_shots(mine.model_.shots.ids[:1])
        assert "crimson" in mine.class_names
    again = ImageClassifier.load(saved)
    assert "crimson" in again.class_names
    assert again.journal[1].action == "rename-class"
    if command == "calibrate":
        assert again.model_.calibration.source == "photos"
    else:
        assert again.journal[-1].action == command


def test_what_others_fitted_again_is_not_edited(saved, photos):
    def edit():
        with ImageClassifier.editing(saved) as mine:
            ImageClassifier("fake", "gda", store=None).fit(photos / "train", shots=2).save(saved)
            mine.rename_class("red", "crimson")

    with pytest.raises(TipAdapterError, match=r"c\.tip was fitted again .* run this again"):
        edit()
    assert ImageClassifier.load(saved).model_.method.name == "gda"


def test_whoever_waits_too_long_is_told(saved):
    before = (saved / "config.json").read_bytes()

    def edit():
        with ImageClassifier.editing(saved, wait_s=0.1) as classifier:
            classifier.rename_class("red", "crimson")

    with (
        locked(saved),
        pytest.raises(TipAdapterError, match=r"Another process is changing .*c\.tip, .* 0\.1 s: .*--wait"),
    ):
        edit()
    assert (saved / "config.json").read_bytes() == before
    with locked(saved), pytest.raises(TipAdapterError, match="Another process is changing"):
        ImageClassifier.load(saved).save(saved, wait_s=0)


def test_the_commands_wait_as_long_as_asked(saved, photos, monkeypatch, capsys):
    edits = [
        ("add", "PHOTO", "--class", "red"),
        ("remove", "ID"),
        ("relabel", "ID", "--class", "red"),
        ("purge",),
        ("refit",),
        ("undo",),
        ("class", "add", "x"),
        ("class", "remove", "red"),
        ("class", "rename", "red", "crimson"),
        ("calibrate", "TEST"),
    ]
    classifier = ImageClassifier.load(saved)
    places = {"PHOTO": next((photos / "test" / "red").iterdir()), "TEST": photos / "test"}
    places["ID"] = classifier.model_.shots.ids[0]
    for words in edits:
        n = 2 if words[0] == "class" else 1
        arguments = [*words[:n], saved, *(places.get(word, word) for word in words[n:]), "--wait", "0"]
        monkeypatch.setattr(sys, "argv", ["tip-adapter", *map(str, arguments)])
        with locked(saved), pytest.raises(SystemExit, match="1"):
            main()
        assert "Another process is changing" in capsys.readouterr().err, words


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


def test_what_was_loaded_before_still_explains_and_saves_elsewhere(saved, photos, tmp_path):
    mine, late = ImageClassifier.load(saved, store=None), ImageClassifier.load(saved, store=None)
    photo = next((photos / "test" / "red").iterdir())
    gone = mine.model_.shots.ids[0]
    with ImageClassifier.editing(saved, store=None) as theirs:
        theirs.add_shots([photo], ["red"])
    assert all(shot.thumbnail for shot in mine.explain(photo).deciding)
    mine.save(tmp_path / "copy.tip")
    assert len(ImageClassifier.load(tmp_path / "copy.tip").model_.shots.thumbnails) == 3
    with ImageClassifier.editing(saved, store=None) as theirs:
        theirs.remove_shots([gone], forget=True)
    with pytest.warns(StorageWarning, match="was changed since it was loaded"):
        late.save(tmp_path / "late.tip")
    assert set(ImageClassifier.load(tmp_path / "late.tip").model_.shots.thumbnails) == {*late.model_.shots.ids} - {gone}
    assert late.explain(photo).answer in late.class_names


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


def test_a_file_system_without_locks_is_told(saved, monkeypatch):
    import fcntl

    def flock(descriptor, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with (
        pytest.warns(StorageWarning, match=r"The file system of .*c\.tip has no locks"),
        ImageClassifier.editing(saved, store=None) as classifier,
    ):
        classifier.rename_class("red", "crimson")
    assert "crimson" in ImageClassifier.load(saved).class_names
    assert len(list(saved.iterdir())) == 5


def test_a_folder_that_is_read_only_is_read_and_not_edited(saved, photos, monkeypatch):
    import filelock._unix

    real = os.open

    def open_read_only(path, flags, *rest, **options):
        if flags & (os.O_CREAT | os.O_RDWR | os.O_WRONLY) and str(saved) in os.fspath(path):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, flags, *rest, **options)

    (saved / ".lock").unlink()
    monkeypatch.setattr(filelock._unix.os, "open", open_read_only)
    classifier = ImageClassifier.load(saved, store=None)
    assert len(classifier.predict([shade(3)])) == 1
    assert classifier.explain(shade(3)).deciding[0].thumbnail
    with (
        pytest.raises(TipAdapterError, match=r"c\.tip cannot be changed: Permission denied: .* copy it"),
        ImageClassifier.editing(saved, store=None) as edited,
    ):
        edited.rename_class("red", "crimson")


def test_readers_beside_a_writer_never_fail(saved):
    stop, failed, states = threading.Event(), [], set()

    def read():
        while not stop.is_set():
            try:
                model = ImageClassifier.load(saved, store=None).model_
                states.add(len(model.shots))
                assert all(model.shots.thumbnails.values())
            except BaseException as error:
                failed.append(error)
                raise

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    with ImageClassifier.editing(saved, store=None) as classifier:
        classifier.add_shots([shade(1)], ["red"])
    for value in range(2, 30):
        classifier.add_shots([shade(value)], ["red"])
        classifier.save(saved)
    stop.set()
    for reader in readers:
        reader.join()
    assert failed == []
    assert len(states) > 2
