"""Pictures of shots in one archive, which may have been changed by others."""

import io
import pickle
import zipfile

import pytest

from tip_adapter.errors import ModelFileError, StorageWarning
from tip_adapter.model.picture_archive import Archive, Thumbnails, pack, thumbnail_archive
from tip_adapter.storage.atomic import MissingFileError


def test_pictures_come_back():
    archive = Archive(lambda: (thumbnail_archive({"a": b"one", "b": b"two"}), True), "c.tip")
    assert (archive.read("b"), archive.read("a")) == (b"two", b"one")


def test_a_missing_picture_and_a_damaged_archive_are_told():
    for data in (thumbnail_archive({}), b"no archive"):
        with pytest.raises(ModelFileError, match="lack the one of the shot a"):
            Archive(lambda data=data: (data, True), "c.tip").read("a")


def test_compressed_pictures_are_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a.jpg", bytes(1_000_000))
    with pytest.raises(ModelFileError, match="got it compressed"):
        Archive(lambda: (buffer.getvalue(), True), "c.tip").read("a")


def test_pictures_that_were_forgotten_since_are_left_out_with_one_word(recwarn):
    archive = Archive(lambda: (thumbnail_archive({"a": b"one"}), False), "c.tip")
    shots = Thumbnails({"1": (archive, "a"), "2": (archive, "b"), "3": (archive, "c")})
    assert shots.readable() == {"1": b"one"}
    assert ("1" in shots, "2" in shots, shots.get("2")) == (True, False, None)
    (told,) = recwarn.list
    assert told.category is StorageWarning
    assert "c.tip was changed since it was loaded" in str(told.message)


def test_pictures_of_a_folder_that_is_gone_are_left_out():
    def load():
        raise MissingFileError("gone")

    shots = Thumbnails({"1": (Archive(load, "c.tip"), "a")})
    with pytest.warns(StorageWarning, match="left out"):
        assert shots.readable() == {}


def test_an_archive_of_just_these_pictures_is_taken_as_it_is():
    data = thumbnail_archive({"a": b"one", "b": b"two"})
    archive = Archive(lambda: (data, True), "c.tip")
    assert pack({"b": (archive, "b"), "a": (archive, "a")}) == (data, {"a", "b"})
    fewer, found = pack({"b": (archive, "b")})
    assert (Archive(lambda: (fewer, True), "c.tip").read("b"), found) == (b"two", {"b"})
    assert b"one" not in fewer
    more, found = pack({"a": (archive, "a"), "c": b"three"})
    assert (Archive(lambda: (more, True), "c.tip").read("c"), found) == (b"three", {"a", "c"})
    assert pack({}) == (thumbnail_archive({}), set())


def test_a_pickle_takes_the_pictures_along():
    shots = Thumbnails({"1": (Archive(lambda: (thumbnail_archive({"a": b"one"}), True), "c.tip"), "a"), "2": b"two"})
    assert dict(pickle.loads(pickle.dumps(shots))) == {"1": b"one", "2": b"two"}
