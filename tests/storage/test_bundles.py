import errno
import fcntl
import hashlib
import json
import os
import stat
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from tip_adapter.errors import InputError, ModelFileError, TipAdapterError
from tip_adapter.storage import atomic, bundle_files
from tip_adapter.storage.arrays import load_arrays, save_arrays
from tip_adapter.storage.bundle_files import FORMAT_VERSION, RESERVED, config_digest
from tip_adapter.storage.bundles import load_bundle, push_to_hub, save_bundle

ARRAYS = {"keys": np.arange(12, dtype=np.float32).reshape(3, 4), "labels": np.array([0, 1, 1])}
CONFIG = {"classes": ["hat", "Schuh ß"], "alpha": 1.5, "nothing": None}
PICTURES, CARD = b"\xff\xd8 pictures", "# Clothes"


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "my clothes.tip"
    save_bundle(path, ARRAYS, CONFIG, PICTURES, card=CARD)
    return path


def data_file(path, name):
    """The data file of a name, whatever its content."""
    stem, _, suffix = name.partition(".")
    (found,) = path.glob(f"{stem}-*.{suffix}")
    return found


def rewrite_config(path, change, *, sign=True):
    whole = json.loads((path / "config.json").read_text())
    change(whole)
    if sign:
        whole["checksums"]["config.json"] = config_digest(whole)
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
    config=st.dictionaries(st.text().filter(lambda key: key not in RESERVED), json_values, max_size=3),
    picture=st.binary(max_size=50),
)
def test_save_then_load_is_bit_equal(tmp_path_factory, content, config, picture):
    path = tmp_path_factory.mktemp("bundle") / "a.tip"
    save_bundle(path, content, config, picture)
    bundle = load_bundle(path)
    assert bundle.config == config
    assert bundle.read_thumbnails() == (picture, True)
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
    config = json.loads((saved / "config.json").read_text())
    assert config["format_version"] == FORMAT_VERSION
    assert config["classes"] == ["hat", "Schuh ß"]
    names = {name: f"{{}}-{config['checksums'][name][:16]}" for name in ("arrays.safetensors", "thumbnails.zip")}
    data = {name: pattern.format(name.partition(".")[0]) + name[name.index(".") :] for name, pattern in names.items()}
    assert {file.name for file in saved.iterdir()} == {"README.md", "config.json", ".lock", *data.values()}
    for name, file in data.items():
        assert config["checksums"][name] == hashlib.sha256((saved / file).read_bytes()).hexdigest()
    assert list(saved.parent.iterdir()) == [saved]


def test_equal_content_gives_equal_files(saved, tmp_path):
    save_bundle(tmp_path / "again.tip", ARRAYS, CONFIG, PICTURES, card=CARD)
    assert {file.name: file.read_bytes() for file in saved.iterdir()} == {
        file.name: file.read_bytes() for file in (tmp_path / "again.tip").iterdir()
    }


def test_tuples_come_back_as_lists(tmp_path):
    save_bundle(tmp_path / "a.tip", {}, {"templates": ("a {}.", ("b",))})
    assert load_bundle(tmp_path / "a.tip").config == {"templates": ["a {}.", ["b"]]}


def test_overwriting_replaces_everything(saved):
    save_bundle(saved, {}, {"new": 1}, card="# Others")
    bundle = load_bundle(saved)
    assert (bundle.arrays, bundle.config, bundle.read_thumbnails()) == ({}, {"new": 1}, (b"", True))
    assert len(list(saved.iterdir())) == 5
    assert (saved / "README.md").read_text() == "# Others"
    assert list(saved.parent.iterdir()) == [saved]


@pytest.mark.parametrize("name", ["arrays.safetensors", "thumbnails.zip"])
def test_damaged_bundle_can_be_replaced(saved, name):
    damaged = data_file(saved, name)
    damaged.write_bytes(b"x" * damaged.stat().st_size)
    save_bundle(saved, ARRAYS, CONFIG, PICTURES)
    bundle = load_bundle(saved)
    assert (bundle.config, bundle.read_thumbnails()) == (CONFIG, (PICTURES, True))


def test_files_of_others_and_permissions_stay(saved):
    (saved / ".git").mkdir()
    (saved / ".git" / "HEAD").write_text("ref: refs/heads/main")
    others = {"notes.txt": "mine", "arrays-mine.safetensors": "mine", ".config.json.swp": "mine"}
    for name, text in others.items():
        (saved / name).write_text(text)
    saved.chmod(0o700)
    (saved / "config.json").chmod(0o640)
    save_bundle(saved, {}, {"new": 1}, card="# Others")
    assert {name: (saved / name).read_text() for name in others} == others
    assert (saved / ".git" / "HEAD").is_file()
    assert stat.S_IMODE(saved.stat().st_mode) == 0o700
    ours = [file for file in saved.iterdir() if file.name not in {*others, ".git", ".lock"}]
    assert {stat.S_IMODE(file.stat().st_mode) for file in ours} == {0o640}
    assert len(ours) == 4


def test_a_model_card_that_somebody_edited_stays(saved):
    for text in ("# My own words", "# More of them"):
        (saved / "README.md").write_text(text)
        save_bundle(saved, {}, {}, card="# New")
        save_bundle(saved, {}, {}, card="# Newer")
        assert (saved / "README.md").read_text() == text
    (saved / "README.md").unlink()
    save_bundle(saved, {}, {}, card="# New")
    assert (saved / "README.md").read_text() == "# New"


def test_a_model_card_that_a_killed_save_left_behind_is_no_edited_one(saved):
    before = (saved / "README.md").read_bytes()
    for number in range(2):
        save_bundle(saved, {}, {"number": number}, card=f"# {number}")
        (saved / "README.md").write_bytes(before)
    save_bundle(saved, {}, {}, card="# New")
    assert (saved / "README.md").read_text() == "# New"


def test_a_symbolic_link_is_followed(saved, tmp_path):
    (tmp_path / "link.tip").symlink_to(saved)
    save_bundle(tmp_path / "link.tip", {}, {"new": 1})
    assert (tmp_path / "link.tip").is_symlink()
    assert load_bundle(saved).config == load_bundle(tmp_path / "link.tip").config == {"new": 1}


def test_an_empty_folder_and_one_where_a_first_save_was_killed_can_be_saved_in(tmp_path):
    path = tmp_path / "a.tip"
    path.mkdir()
    for leftovers in ([], [".lock"], [".lock", f"arrays-{'0' * 16}.safetensors", f".config.json.tmp-{'0' * 12}"]):
        for name in leftovers:
            (path / name).touch()
        with pytest.raises(ModelFileError, match=r"without config\.json: .*a\.tip(; nothing was saved there yet)?$"):
            load_bundle(path)
        save_bundle(path, ARRAYS, CONFIG)
        assert load_bundle(path).config == CONFIG
        for file in path.iterdir():
            file.unlink()


# ---------------------------------------------------------------- refused before anything is written


@pytest.mark.parametrize(
    ("content", "config", "message"),
    [
        ({"a": np.array(["text"])}, {}, "arrays of numbers .* for 'a'"),
        ({"a": np.array([None])}, {}, "arrays of numbers"),
        ({}, {"x": float("nan")}, "JSON values"),
        ({}, {"x": object()}, "JSON values"),
        ({}, {"x": {1: "one"}}, "text as keys"),
        ({}, {"format": "mine"}, "without the keys format"),
    ],
)
def test_unfit_content(tmp_path, content, config, message):
    with pytest.raises(InputError, match=message):
        save_bundle(tmp_path / "a.tip", content, config)
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
        save_bundle(path, {}, {"former": 1}, PICTURES, card=CARD)
    monkeypatch.setattr(os, "fsync", failing_after(calls, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(
        TipAdapterError, match=r"a\.tip cannot be written: No space left on device: free space"
    ) as raised:
        save_bundle(path, ARRAYS, CONFIG, b"others", card="# New")
    assert "\n" not in str(raised.value)
    assert [file for file in tmp_path.iterdir() if file != path] == []
    if calls >= 4:  # from there on, the new state is in place
        assert load_bundle(path).config == CONFIG
    elif kind == "overwritten":
        assert load_bundle(path).config == {"former": 1}
        assert load_bundle(path).read_thumbnails() == (PICTURES, True)
    else:
        assert not path.exists()
    assert not path.exists() or len([file for file in path.iterdir() if file.name != "README.md"]) == 4


def test_a_rename_that_fails_keeps_the_former_state(saved, monkeypatch):
    real = os.replace

    def replace(source, target):
        if target.name == "config.json":
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", replace)
    before = {file.name for file in saved.iterdir()}
    with pytest.raises(TipAdapterError, match="Input/output error"):
        save_bundle(saved, {}, {"new": 1})
    assert load_bundle(saved).config == CONFIG
    assert {file.name for file in saved.iterdir()} == before


def test_ctrl_c_while_saving_keeps_the_former_one(saved, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing_after(2, KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        save_bundle(saved, {}, {"new": 1}, b"others")
    assert load_bundle(saved).config == CONFIG
    assert len(list(saved.iterdir())) == 5


def test_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(TipAdapterError, match=r"cannot be written: (Not a directory|File exists)"):
        save_bundle(tmp_path / "file" / "a.tip", ARRAYS, CONFIG)


# ---------------------------------------------------------------- damaged, changed and hostile files


def read_everything(path):
    load_bundle(path).read_thumbnails()


@pytest.mark.parametrize("name", ["arrays.safetensors", "config.json", "thumbnails.zip"])
@pytest.mark.parametrize("damage", ["truncate", "empty", "flip", "delete", "append"])
def test_every_damage_to_every_file_is_noticed(saved, name, damage):
    file = saved / name if name == "config.json" else data_file(saved, name)
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
    with pytest.raises(ModelFileError, match=r"version 3, got 4 in .*upgrade tip-adapter"):
        load_bundle(saved)


def test_older_format_version(saved):
    rewrite_config(saved, lambda whole: whole.update(format_version=1), sign=False)
    with pytest.raises(ModelFileError, match=r"version 3, got 1 in .*fit again"):
        load_bundle(saved)


@pytest.mark.parametrize("forgetting", [3, {}, [3], [{}], [{"id": "a"}], [{"id": 1, "digest": "a"}], None])
def test_shots_that_are_to_be_forgotten_are_checked(saved, forgetting):
    rewrite_config(saved, lambda whole: whole.update(forgetting=forgetting))
    with pytest.raises(ModelFileError, match=r"my clothes\.tip, but forgetting"):
        load_bundle(saved)


@pytest.mark.parametrize("content", ["[]", "{", "null", '{"format": "tip-adapter"}', "[" * 100_000, "{}"])
def test_configs_of_other_kinds(saved, content):
    (saved / "config.json").write_text(content)
    with pytest.raises(ModelFileError, match=r"my clothes\.tip"):
        load_bundle(saved)


@pytest.mark.parametrize(
    "checksums", [None, [], {}, {"config.json": "0"}, {"arrays.safetensors": "0"}, {"arrays.safetensors": 3}]
)
def test_checksums_of_other_kinds(saved, checksums):
    rewrite_config(saved, lambda whole: whole.update(checksums=checksums), sign=False)
    with pytest.raises(ModelFileError, match=r"config\.json is not as it was saved"):
        load_bundle(saved)


@pytest.mark.parametrize("checksum", ["../../secret", "/etc/passwd", "a\\b", "A" * 64, "0" * 63, None, 3, ["0" * 64]])
@pytest.mark.parametrize("name", ["arrays.safetensors", "thumbnails.zip", "../evil"])
def test_checksums_that_are_none_name_no_file(saved, name, checksum):
    rewrite_config(saved, lambda whole: whole["checksums"].update({name: checksum}))
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
    checksum = hashlib.sha256(data).hexdigest()
    (saved / f"arrays-{checksum[:16]}.safetensors").write_bytes(data)
    rewrite_config(saved, lambda whole: whole["checksums"].update({"arrays.safetensors": checksum}))
    with pytest.raises(ModelFileError, match=r"Expected a safetensors file, .*arrays-\w+\.safetensors"):
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
    file = data_file(saved, "arrays.safetensors")
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(ModelFileError, match="Expected a file, got something else"):
        load_bundle(saved)
    monkeypatch.setattr(bundle_files, "MAX_CONFIG_BYTES", 10)
    with pytest.raises(ModelFileError, match=r"at most 10 bytes, got \d+: .*config\.json"):
        load_bundle(saved)


def test_a_file_that_is_missing_is_told(saved):
    for name in ("thumbnails.zip", "arrays.safetensors"):
        data_file(saved, name).unlink()
        with pytest.raises(ModelFileError, match=rf"{name.partition('.')[0]}-\w+\."):
            load_bundle(saved)


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
        load_arrays(data_file(saved, "arrays.safetensors"))
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


def test_windows_has_neither_locks_nor_a_flush_of_folders(tmp_path, monkeypatch):
    real, opened = os.open, []
    monkeypatch.setattr(atomic.os, "open", lambda path, *rest: (opened.append(path), real(path, *rest))[1])
    monkeypatch.setattr(atomic, "fcntl", None)
    monkeypatch.setattr(atomic.os, "name", "nt")
    try:
        atomic.write_file(tmp_path / "a", b"abc")
    finally:
        monkeypatch.undo()
    assert tmp_path not in opened
    assert (tmp_path / "a").read_bytes() == b"abc"


# ---------------------------------------------------------------- leftovers


def test_leftovers_of_the_dead_are_deleted_and_those_of_the_living_stay(tmp_path):
    path, other = tmp_path / "a.txt", tmp_path / "b.txt"
    names = [f".a.txt.tmp-{digit * 12}" for digit in "01"] + [f".b.txt.tmp-{'0' * 12}"]
    for number, name in enumerate(names):
        (tmp_path / name).write_bytes(b"half")
        # No clock decides: one was set back since, or the file is very old.
        os.utime(tmp_path / name, times=(10_000_000_000 * (number != 1),) * 2)
    (tmp_path / f".a.txt.tmp-{'2' * 12}").mkdir()
    with (tmp_path / names[1]).open("rb") as alive:
        fcntl.flock(alive, fcntl.LOCK_EX)
        atomic.write_file(path, b"whole")
        assert {file.name for file in tmp_path.iterdir()} == {"a.txt", *names[1:]}
    atomic.write_file(path, b"whole")
    atomic.write_file(other, b"whole")
    assert {file.name for file in tmp_path.iterdir()} == {"a.txt", "b.txt"}


def test_no_writer_takes_another_writers_temporary_for_a_leftover(tmp_path, monkeypatch):
    path, real, inside = tmp_path / "a.txt", os.fsync, []

    def write_another_meanwhile(descriptor):
        if not inside:
            inside.append(True)
            atomic.write_file(path, b"another")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", write_another_meanwhile)
    atomic.write_file(path, b"mine")
    assert path.read_bytes() == b"mine"
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_is_there_whole_and_keeps_the_files_of_others(tmp_path):
    out = tmp_path / "out"
    atomic.write_folder(out, {"a": b"1", "in/b": b"2"})
    (out / "mine").write_text("stays")
    out.chmod(0o700)
    (out / "a").chmod(0o600)
    atomic.write_folder(out, {"a": b"3", "in/c": b"4"})
    files = {str(file.relative_to(out)): file.read_bytes() for file in out.rglob("*") if file.is_file()}
    assert files == {"a": b"3", "in/b": b"2", "in/c": b"4", "mine": b"stays"}
    assert [stat.S_IMODE(path.stat().st_mode) for path in (out, out / "a")] == [0o700, 0o600]


def test_a_new_folder_that_fails_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", failing_after(1, OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(TipAdapterError, match="No space left"):
        atomic.write_folder(tmp_path / "out", {"a": b"1", "b": b"2"})
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- Hub


def test_load_from_the_hub(saved, monkeypatch):
    calls = []

    def snapshot_download(repo_id, revision, allow_patterns):
        calls.append((repo_id, revision))
        return str(saved)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    assert load_bundle("hub:me/clothes").config == CONFIG
    assert load_bundle("hub:me/clothes@v1").config == CONFIG
    assert calls == [("me/clothes", None), ("me/clothes", "v1")]


def test_the_hubs_cache_of_symbolic_links_can_be_loaded(saved):
    for file in list(saved.iterdir()):
        blob = file.rename(saved.parent / f"blob of {file.name}")
        file.symlink_to(blob)
    assert load_bundle(saved).config == CONFIG


@pytest.mark.parametrize("address", ["hub:clothes", "hub:", "hub:a/b/c", "hub:../x"])
def test_bad_hub_address(address):
    with pytest.raises(TipAdapterError, match="Expected hub:owner/name"):
        load_bundle(address)


def test_hub_out_of_reach(monkeypatch):
    def snapshot_download(repo_id, revision, allow_patterns):
        raise ConnectionError("no network\nmany more lines")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    with pytest.raises(
        TipAdapterError, match=r"^The Hub repository me/clothes cannot be reached \(no network\)"
    ) as raised:
        load_bundle("hub:me/clothes")
    assert "\n" not in str(raised.value)


def test_push_to_hub(saved, monkeypatch):
    calls = []
    monkeypatch.setattr(huggingface_hub, "get_token", lambda: "hf_of_the_test")
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda repo_id, **options: calls.append((repo_id, options)))

    def upload_folder(**options):
        calls.append(options)
        return SimpleNamespace(commit_url="https://hub/commit")

    monkeypatch.setattr(huggingface_hub, "upload_folder", upload_folder)
    (saved / "private note.txt").write_text("stays here")
    assert push_to_hub(saved, "me/clothes") == "https://hub/commit"
    assert calls[0] == ("me/clothes", {"private": True, "exist_ok": True})
    assert calls[1]["folder_path"] == saved
    data = [data_file(saved, name).name for name in ("arrays.safetensors", "thumbnails.zip")]
    assert calls[1]["allow_patterns"] == ["config.json", "README.md", *data]


def test_damaged_classifier_is_not_pushed(saved, monkeypatch):
    monkeypatch.setattr(huggingface_hub, "create_repo", lambda *_, **__: pytest.fail("pushed"))
    data_file(saved, "thumbnails.zip").write_bytes(b"changed")
    with pytest.raises(ModelFileError, match="thumbnails"):
        push_to_hub(saved, "me/clothes")
