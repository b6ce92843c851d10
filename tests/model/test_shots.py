"""Pictures of shots in one archive, which may have been changed by others."""

import io
import zipfile

import pytest

from tip_adapter.errors import ModelFileError
from tip_adapter.model.shots import Archive, thumbnail_archive


def test_pictures_come_back():
    archive = Archive(lambda: thumbnail_archive({"a": b"one", "b": b"two"}))
    assert (archive.read("b"), archive.read("a")) == (b"two", b"one")


def test_a_missing_picture_and_a_damaged_archive_are_told():
    for data in (thumbnail_archive({}), b"no archive"):
        with pytest.raises(ModelFileError, match="lack the one of the shot a"):
            Archive(lambda data=data: data).read("a")


def test_compressed_pictures_are_refused():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bomb:
        bomb.writestr("a.jpg", bytes(1_000_000))
    with pytest.raises(ModelFileError, match="got it compressed"):
        Archive(buffer.getvalue).read("a")
