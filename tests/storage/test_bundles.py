import errno
import hashlib
import json
import os
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tip_adapter.errors import InputError, ModelFileError, TipAdapterError
from tip_adapter.storage import atomic
from tip_adapter.storage import bundles as persistence
from tip_adapter.storage.arrays import load_arrays, save_arrays
from tip_adapter.storage.bundles import FORMAT_VERSION, load_bundle, push_to_hub, save_bundle

ARRAYS = {"keys": np.arange(12, dtype=np.float32).reshape(3, 4), "labels": np.array([0, 1, 1])}
CONFIG = {"classes": ["hat", "Schuh ß"], "alpha": 1.5, "nothing": None}
FILES = {"README.md": b"# Clothes", "thumbs/0.jpg": b"\xff\xd8 picture"}


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "my clothes.tip"
    save_bundle(path, ARRAYS, CONFIG, FILES)
    return path


def rewrite_config(path, change, *, sign=True):
    whole = json.loads((path / "config.json").read_text())
    change(whole)
    if sign:
        whole["checksums"]["config.json"] = persistence._config_digest(whole)
    (path / "config.json").write_text(json.dumps(whole))


any_array = st.sampled_from(["<f4", "<f8", "<f2", "<i8", "<i4", "|u1", "|b1", ">f4", ">i8"]).flatmap(
    lambda dtype: arrays(np.dtype(dtype), array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


# ---------------------------------------------------------------- save → load


@settings(max_examples=40, deadline=None)  # every example waits for the disk
@given(
    content=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(lambda name: name != "__metadata__"),
        any_array,
        max_size=3,
    ),
    config=st.dictionaries(st.text().filter(lambda key: key not in persistence.RESERVED), json_values, max_size=3),
    picture=st.binary(max_size=50),
)
def test_save_then_load_is_bit_equal(tmp_path_factory, content, config, picture):
    path = tmp_path_factory.mktemp("bundle") / "a.tip"
    save_bundle(path, content, config, {"thumbs/0.png": picture})
    bundle = load_bundle(path)
    assert bundle.config == config
    assert bundle.read_file("thumbs/0.png") == picture
    assert set(bundle.arrays) == set(content)
    for name, array in content.items():
        loaded = bundle.arrays[name]
        assert loaded.shape == array.shape
        assert loaded.dtype == array.dtype.newbyteorder("=")
        assert loaded.tobytes() == array.astype(array.dtype.newbyteorder("<")).tobytes()


def test_transposed_arrays_are_not_scrambled(tmp_path):
    array = np.arange(6.0).reshape(2, 3).T
    save_bundle(tmp_path / "a.tip", {"a": array}, {})
    assert load_bundle(tmp_path / "a.tip").arrays["a"].tolist() == array.tolist()


def test_loaded_arrays_can_be_written_to(saved):
    load_bundle(saved).arrays["keys"][0, 0] = 7


def test_what_lies_on_the_disk(saved):
    files = {str(file.relative_to(saved)) for file in saved.rglob("*") if file.is_file()}
    assert files == {"README.md", "config.json", "model.safetensors", "thumbs/0.jpg"}
    config = json.loads((saved / "config.json").read_text())
    assert config["format_version"] == FORMAT_VERSION
    assert config["classes"] == ["hat", "Schuh ß"]
    for name in ("README.md", "model.safetensors", "thumbs/0.jpg"):
        assert config["checksums"][name] == hashlib.sha256((saved / name).read_bytes()).hexdigest()
    assert list(saved.parent.iterdir()) == [saved]


def test_equal_content_gives_equal_files(saved, tmp_path):
    save_bundle(tmp_path / "again.tip", ARRAYS, CONFIG, FILES)
    for name in ("config.json", "model.safetensors"):
        assert (saved / name).read_bytes() == (tmp_path / "again.tip" / name).read_bytes()


def test_tuples_come_back_as_lists(tmp_path):
    save_bundle(tmp_path / "a.tip", {}, {"templates": ("a {}.", ("b",))})
    assert load_bundle(tmp_path / "a.tip").config == {"templates": ["a {}.", ["b"]]}


def test_overwriting_replaces_everything(saved):
    save_bundle(saved, {}, {"new": 1}, {})
    bundle = load_bundle(saved)
    assert (bundle.arrays, bundle.config, bundle.file_names) == ({}, {"new": 1}, ())
    assert sorted(file.name for file in saved.iterdir()) == ["config.json", "model.safetensors"]
    assert list(saved.parent.iterdir()) == [saved]


def test_damaged_bundle_can_be_replaced(saved):
    (saved / "model.safetensors").write_bytes(b"")
    save_bundle(saved, ARRAYS, CONFIG)
    assert load_bundle(saved).config == CONFIG


# ---------------------------------------------------------------- refused before anything is written


@pytest.mark.parametrize(
    ("content", "config", "files", "message"),
    [
        ({"a": np.array(["text"])}, {}, {}, "arrays of numbers .* for 'a'"),
        ({"a": np.array([None])}, {}, {}, "arrays of numbers"),
        ({}, {"x": float("nan")}, {}, "JSON values"),
        ({}, {"x": object()}, {}, "JSON values"),
        ({}, {"x": {1: "one"}}, {}, "text as keys"),
        ({}, {"format": "mine"}, {}, "without the keys format"),
        ({}, {}, {"../evil": b""}, r"got '\.\./evil'"),
        ({}, {}, {"/etc/passwd": b""}, "got '/etc/passwd'"),
        ({}, {}, {"a/../../b": b""}, "Expected a name"),
        ({}, {}, {"C:\\x": b""}, "Expected a name"),
        ({}, {}, {"": b""}, "Expected a name"),
        ({}, {}, {"config.json": b""}, "Expected a name"),
        ({}, {}, {"model.safetensors": b""}, "Expected a name"),
    ],
)
def test_unfit_content(tmp_path, content, config, files, message):
    with pytest.raises(InputError, match=message):
        save_bundle(tmp_path / "a.tip", content, config, files)
    assert list(tmp_path.iterdir()) == []


def test_other_folders_and_files_are_not_replaced(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.jpg").write_bytes(b"mine")
    (photos / "config.json").write_text('{"format": "of another program"}')
    file = tmp_path / "file.tip"
    file.write_bytes(b"mine")
    (tmp_path / "link.tip").symlink_to(photos)
    for path in (photos, file, tmp_path / "link.tip"):
        with pytest.raises(TipAdapterError, match="is no saved classifier, so it is not replaced"):
            save_bundle(path, ARRAYS, CONFIG)
    assert (photos / "a.jpg").read_bytes() == file.read_bytes() == b"mine"


# ---------------------------------------------------------------- full disk, and saves that end midway


def failing_after(calls, error):
    """Return an os.fsync that fails at its n-th call, as it does when the disk is full."""
    real, left = os.fsync, iter(range(calls))

    def fsync(descriptor):
        if next(left, None) is None:
            raise error
        real(descriptor)

    return fsync


@pytest.mark.parametrize("calls", range(7))
@pytest.mark.parametrize("kind", ["new", "overwritten"])
def test_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, calls, kind):
    path = tmp_path / "a.tip"
    if kind == "overwritten":
        save_bundle(path, {}, {"former": 1}, FILES)
    monkeypatch.setattr(os, "fsync", failing_after(calls, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(
        TipAdapterError, match=r"a\.tip cannot be written: No space left on device: free space"
    ) as raised:
        save_bundle(path, ARRAYS, CONFIG, FILES)
    assert "\n" not in str(raised.value)
    remaining = [file.name for file in tmp_path.iterdir() if file != path]
    if calls < 6:  # the last flush is that of the parent folder, after the new one is in place
        assert remaining == []
        assert path.exists() == (kind == "overwritten")
        if kind == "overwritten":
            assert load_bundle(path).config == {"former": 1}
            assert load_bundle(path).read_file("README.md") == FILES["README.md"]
    else:
        assert load_bundle(path).config == CONFIG


def test_rename_that_fails_puts_the_former_one_back(saved, monkeypatch):
    real = Path.rename

    def rename(self, target):
        if ".tmp-" in self.name:
            raise OSError(errno.EIO, "Input/output error")
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(TipAdapterError, match="Input/output error"):
        save_bundle(saved, {}, {"new": 1})
    assert load_bundle(saved).config == CONFIG
    assert list(saved.parent.iterdir()) == [saved]


def test_ctrl_c_while_saving_keeps_the_former_one(saved, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing_after(2, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save_bundle(saved, {}, {"new": 1}, FILES)
    assert load_bundle(saved).config == CONFIG
    assert list(saved.parent.iterdir()) == [saved]


def test_save_killed_between_its_renames_can_be_undone_by_hand(saved):
    former = saved.rename(saved.parent / f".{saved.name}.old-0123")
    with pytest.raises(ModelFileError, match=r"a save was interrupted: rename .*old-0123 to get the former one back"):
        load_bundle(saved)
    former.rename(saved)
    assert load_bundle(saved).config == CONFIG


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TipAdapterError, match=r"cannot be written: (Not a directory|File exists)"):
        save_bundle(tmp_path / "file" / "a.tip", ARRAYS, CONFIG)


# ---------------------------------------------------------------- damaged, changed and hostile files


def read_everything(path):
    bundle = load_bundle(path)
    return [bundle.read_file(name) for name in bundle.file_names]


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "README.md", "thumbs/0.jpg"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "delete", "append"])
def test_every_damage_to_every_file_is_noticed(saved, name, damage):
    file = saved / name
    data = file.read_bytes()
    if damage == "delete":
        file.unlink()
    else:
        changed = {
            "truncate": data[: len(data) // 2],
            "empty": b"",
            "flip": data[:-3] + bytes([data[-3] ^ 1]) + data[-2:],
            "append": data + b"x",
        }
        file.write_bytes(changed[damage])
    with pytest.raises(ModelFileError, match=file.name) as raised:
        read_everything(saved)
    assert "\n" not in str(raised.value)


def test_tampered_config(saved):
    rewrite_config(saved, lambda whole: whole.update(alpha=99), sign=False)
    with pytest.raises(ModelFileError, match=r"config\.json is not as it was saved, its checksum differs"):
        load_bundle(saved)


def test_newer_format_version(saved):
    rewrite_config(saved, lambda whole: whole.update(format_version=FORMAT_VERSION + 1), sign=False)
    with pytest.raises(ModelFileError, match=r"version 2, got 3 in .*upgrade tip-adapter"):
        load_bundle(saved)


def test_older_format_version(saved):
    rewrite_config(saved, lambda whole: whole.update(format_version=1), sign=False)
    with pytest.raises(ModelFileError, match=r"version 2, got 1 in .*fit again"):
        load_bundle(saved)


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "thumbs/../../x", "..", "a\\b", "a\0b"])
def test_file_names_that_lead_elsewhere(saved, name):
    rewrite_config(saved, lambda whole: whole["checksums"].update({name: "0" * 64}))
    with pytest.raises(ModelFileError, match="Expected plain file names"):
        load_bundle(saved)


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"format": "tip-adapter"}', "[" * 100_000, "{}"])
def test_configs_of_other_kinds(saved, content):
    (saved / "config.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"my clothes\.tip"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "checksums", [None, [], {}, {"config.json": "0"}, {"model.safetensors": "0"}, {"model.safetensors": 3}]
)
def test_checksums_of_other_kinds(saved, checksums):
    rewrite_config(saved, lambda whole: whole.update(checksums=checksums), sign=False)
    with pytest.raises(ModelFileError, match=r"config\.json is not as it was saved"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x05",
        (2**63).to_bytes(8, "little") + b"{}",
        (100).to_bytes(8, "little") + b"{}",
        (2).to_bytes(8, "little") + b"[]",
        (2).to_bytes(8, "little") + b"{]",
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}     ',
        (60).to_bytes(8, "little") + b'{"a":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}     ' + b"ab",
    ],
)
def test_arrays_of_other_kinds_with_matching_checksums(saved, data):
    (saved / "model.safetensors").write_bytes(data)
    checksum = hashlib.sha256(data).hexdigest()
    rewrite_config(saved, lambda whole: whole["checksums"].update({"model.safetensors": checksum}))
    with pytest.raises(ModelFileError, match=r"Expected a safetensors file, .*model\.safetensors"):
        load_bundle(saved)


def test_no_folder_a_file_and_a_folder_of_something_else(tmp_path):
    with pytest.raises(ModelFileError, match=r"there is no folder .*nowhere\.tip$"):
        load_bundle(tmp_path / "nowhere.tip")
    (tmp_path / "file.tip").write_bytes(b"")
    with pytest.raises(ModelFileError, match=r"which is a folder, got the file .*file\.tip"):
        load_bundle(tmp_path / "file.tip")
    with pytest.raises(ModelFileError, match=r"got a folder without config\.json"):
        load_bundle(tmp_path)


def test_pipes_and_oversized_files_are_not_read(saved, monkeypatch):
    (saved / "model.safetensors").unlink()
    os.mkfifo(saved / "model.safetensors")
    with pytest.raises(ModelFileError, match="Expected a file, got something else"):
        load_bundle(saved)
    monkeypatch.setattr(persistence, "MAX_CONFIG_BYTES", 10)
    with pytest.raises(ModelFileError, match=r"at most 10 bytes, got \d+: .*config\.json"):
        load_bundle(saved)


def test_unknown_file_names_the_known_ones(saved):
    with pytest.raises(ModelFileError, match=r"no file 'a\.txt': it has README\.md, thumbs/0\.jpg"):
        load_bundle(saved).read_file("a.txt")


# ---------------------------------------------------------------- one file of arrays


def test_array_file(tmp_path):
    save_arrays(tmp_path / "new folder" / "a.safetensors", ARRAYS, {"encoder": "ß"})
    arrays, metadata = load_arrays(tmp_path / "new folder" / "a.safetensors")
    assert metadata == {"encoder": "ß"}
    assert all(np.array_equal(arrays[name], ARRAYS[name]) for name in ARRAYS)


def test_changed_array_file(tmp_path):
    path = tmp_path / "a.safetensors"
    save_arrays(path, ARRAYS, {"encoder": "one"})
    data = path.read_bytes()
    for changed in (data[:-1] + b"\x07", data.replace(b'"one"', b'"two"')):
        path.write_bytes(changed)
        with pytest.raises(ModelFileError, match="is not as it was saved"):
            load_arrays(path)
    path.write_bytes(data[:-1])
    with pytest.raises(ModelFileError, match="is damaged"):
        load_arrays(path)


def test_other_safetensors_files_have_no_checksum(tmp_path, saved):
    with pytest.raises(ModelFileError, match="another safetensors file"):
        load_arrays(saved / "model.safetensors")
    with pytest.raises(InputError, match="without the key sha256"):
        save_arrays(tmp_path / "a", ARRAYS, {"sha256": ""})


def test_full_disk_keeps_the_former_array_file(tmp_path, monkeypatch):
    path = tmp_path / "a.safetensors"
    save_arrays(path, ARRAYS, {"which": "former"})
    monkeypatch.setattr(os, "fsync", failing_after(0, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(TipAdapterError, match="No space left on device"):
        save_arrays(path, ARRAYS, {"which": "new"})
    assert load_arrays(path)[1] == {"which": "former"}
    assert list(tmp_path.iterdir()) == [path]


def test_windows_has_no_flush_of_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic.os, "open", lambda *_: pytest.fail("opened a folder"))
    monkeypatch.setattr(atomic, "os", SimpleNamespace(name="nt", fsync=os.fsync))
    atomic.write_file(tmp_path / "a", b"abc")
    assert (tmp_path / "a").read_bytes() == b"abc"


# ---------------------------------------------------------------- Hub


def test_load_from_the_hub(saved, monkeypatch):
    calls = []

    def snapshot_download(repo_id, revision):
        calls.append((repo_id, revision))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_bundle("hub:me/clothes").config == CONFIG
    assert load_bundle("hub:me/clothes@v1").config == CONFIG
    assert calls == [("me/clothes", None), ("me/clothes", "v1")]


def test_the_hubs_cache_of_symbolic_links_can_be_loaded(saved):
    for name in ("config.json", "model.safetensors"):
        blob = (saved / name).rename(saved.parent / f"blob of {name}")
        (saved / name).symlink_to(blob)
    assert load_bundle(saved).config == CONFIG


@pytest.mark.parametrize("address", ["hub:clothes", "hub:", "hub:a/b/c", "hub:../x"])
def test_bad_hub_address(address):
    with pytest.raises(TipAdapterError, match="Expected hub:owner/name"):
        load_bundle(address)


def test_hub_out_of_reach(monkeypatch):
    def snapshot_download(repo_id, revision):
        raise ConnectionError("no network\nmany more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(
        TipAdapterError, match=r"^The Hub repository me/clothes cannot be reached \(no network\)"
    ) as raised:
        load_bundle("hub:me/clothes")
    assert "\n" not in str(raised.value)


def test_push_to_hub(saved, monkeypatch):
    calls = []
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda repo_id, **options: calls.append((repo_id, options)))

    def upload_folder(**options):
        calls.append(options)
        return SimpleNamespace(commit_url="https://hub/commit")

    monkeypatch.setattr(huggingface_hub, "upload_folder", upload_folder)
    (saved / "private note.txt").write_text("stays here")
    assert push_to_hub(saved, "me/clothes") == "https://hub/commit"
    assert calls[0] == ("me/clothes", {"private": True, "exist_ok": True})
    assert calls[1]["folder_path"] == saved
    assert calls[1]["allow_patterns"] == ["config.json", "model.safetensors", "README.md", "thumbs/0.jpg"]


def test_damaged_classifier_is_not_pushed(saved, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda *_, **__: pytest.fail("pushed"))
    (saved / "README.md").write_text("changed")
    with pytest.raises(ModelFileError, match="README"):
        push_to_hub(saved, "me/clothes")
