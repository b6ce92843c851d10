import hashlib
import os

import pytest

from tip_adapter.encoders import file_hashes
from tip_adapter.encoders.file_hashes import file_sha256
from tip_adapter.storage.cache_folder import CACHE_VARIABLE


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(file_hashes, "_SETTLED_S", -1.0)
    path = tmp_path / "weights.bin"
    path.write_bytes(b"abc")
    return path


def forbid_hashing(monkeypatch):
    def fail(*arguments):
        raise AssertionError("read again")

    monkeypatch.setattr(hashlib, "file_digest", fail)


def test_it_is_the_sha256_and_read_only_once(path, monkeypatch):
    assert file_sha256(path) == hashlib.sha256(b"abc").hexdigest()
    forbid_hashing(monkeypatch)
    assert file_sha256(path) == hashlib.sha256(b"abc").hexdigest()


def test_a_change_of_the_same_size_and_modification_time_is_seen(path):
    file_sha256(path)
    status = path.stat()
    path.write_bytes(b"abd")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert file_sha256(path) == hashlib.sha256(b"abd").hexdigest()


def test_a_fresh_file_is_not_remembered(path, monkeypatch):
    monkeypatch.setattr(file_hashes, "_SETTLED_S", 60.0)
    file_sha256(path)
    forbid_hashing(monkeypatch)
    with pytest.raises(AssertionError, match="read again"):
        file_sha256(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b'{"stamp": 1, "sha256": 2}'])
def test_a_damaged_note_only_means_hashing_again(path, tmp_path, content):
    file_sha256(path)
    (note,) = (tmp_path / "cache" / "hashes").iterdir()
    note.write_bytes(content)
    assert file_sha256(path) == hashlib.sha256(b"abc").hexdigest()


def test_a_cache_folder_that_cannot_be_written_is_no_obstacle(path, tmp_path):
    (tmp_path / "cache").write_text("a file in the way")
    assert file_sha256(path) == hashlib.sha256(b"abc").hexdigest()
