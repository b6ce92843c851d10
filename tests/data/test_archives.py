"""Archives are read as the folders they hold: nothing is written, nothing leads out, nothing is too large."""

import io
import os
import random
import struct
import tarfile
import tempfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tip_adapter import ImageClassifier
from tip_adapter.data import find_images, load_dataset
from tip_adapter.data.archives import ARCHIVE_SUFFIXES, members, open_archive
from tip_adapter.data.decoding import load_image
from tip_adapter.errors import DatasetError, ImageError, TipAdapterError

KINDS = [".zip", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tm"]


def picture(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), value, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {
    f"{name}/{number}.png": picture(value + number)
    for name, value in (("café", 20), ("tea house", 200))
    for number in range(3)
}


def pack(path, files=FILES):
    if path.name.endswith((".zip", ".tm")):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in files.items():
                archive.writestr(name, data)
        return path
    mode = {".gz": "w:gz", ".tgz": "w:gz", ".bz2": "w:bz2", ".xz": "w:xz"}.get(path.suffix, "w")
    with tarfile.open(path, mode) as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_an_archive_is_the_folder_that_it_holds(tmp_path, kind):
    path = pack(tmp_path / f"drinks{kind}")
    before = sorted(tmp_path.rglob("*"))
    drinks = load_dataset(path)
    assert drinks.class_names == ("café", "tea house")
    assert [image.relative_to(path).as_posix() for image in drinks.paths] == sorted(FILES)
    for image in drinks.paths:
        assert (
            np.asarray(load_image(image)).tobytes()
            == np.asarray(load_image(FILES[image.relative_to(path).as_posix()])).tobytes()
        )
    assert find_images([path]) == list(drinks.paths)
    assert find_images([path / "café"]) == list(drinks.paths[:3])
    assert find_images([path / "café" / "0.png"]) == [drinks.paths[0]]
    assert sorted(tmp_path.rglob("*")) == before


def test_a_saved_classifier_does_not_need_the_archive(tmp_path):
    path = pack(tmp_path / "drinks.zip")
    ImageClassifier("fake", store=None).fit(path).save(tmp_path / "c.tip")
    assert ImageClassifier("fake", store=None).fit(str(path)).evaluate(path).accuracy == 1.0
    path.unlink()
    loaded = ImageClassifier.load(tmp_path / "c.tip")
    assert loaded.model_.shots.features.names[0] == f"{path}/café/0.png"
    assert loaded.predict([FILES["café/1.png"]]) == ["café"]


def test_splits_wrappers_and_system_folders_inside(tmp_path):
    files = {f"pets/{split}/{name}": data for split in ("Train", "Test") for name, data in FILES.items()}
    path = pack(
        tmp_path / "a.zip", files | {"__MACOSX/pets/._x.png": b"", "pets/.DS_Store": b"", "pets/notes.txt": b"x"}
    )
    dataset = load_dataset(path, prefer=("train",))
    assert len(dataset) == 6
    assert dataset.findings.lines[0] == (f"{path}: 2 classes, splits train (Train) and test (Test); train is taken")


def test_the_samples_that_teachable_machine_gives(tmp_path):
    """One archive for each class, called after it; or a project with the class in each name."""
    for name in ("Class 1", "cup"):
        pack(tmp_path / f"{name}-samples.zip", {f"{n}.png": FILES[f"café/{n}.png"] for n in range(2)})
    dataset = load_dataset(tmp_path)
    assert (dataset.class_names, len(dataset)) == (("Class 1", "cup"), 4)
    project = {f"{name}-!-{n}.png": picture(n) for name in ("Class 1", "cup") for n in range(2)}
    dataset = load_dataset(pack(tmp_path / "project.tm", project | {"manifest.json": b"{}"}))
    assert (dataset.class_names, len(dataset)) == (("Class 1", "cup"), 4)


def test_names_as_macos_and_windows_write_them(tmp_path):
    path = tmp_path / "a.zip"
    pack(path, {"caf\u00e9/1.png": b"1", "red\\2.png": b"2"})
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset + 1] &= 0xF7  # the flag that says that the name is UTF-8
            start = data.find(signature, start + 1)
    path.write_bytes(data)
    assert load_dataset(path).class_names == ("café", "red")


# ---------------------------------------------------------------- what must not be read


def link(name, target, kind=tarfile.SYMTYPE):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, target
    return entry


def test_nothing_leads_out_of_an_archive(tmp_path):
    (tmp_path / "secret.png").write_bytes(picture(1))
    inside = tmp_path / "in"
    inside.mkdir()
    names = ["../secret.png", "cat/../../secret.png", "/etc/passwd", f"{tmp_path}/secret.png", "C:/x/secret.png"]
    for path in (inside / "a.zip", inside / "a.tar"):
        pack(path, FILES | {name: picture(2) for name in names})
        for name in open_archive(path).members:
            assert ".." not in name
            assert not name.startswith("/")
        with pytest.raises(ImageError, match="its name leads out of the archive: leave it out"):
            open_archive(path).read("secret.png")
        with pytest.raises(ImageError):
            load_image(path / ".." / "secret.png")
    with tarfile.open(inside / "links.tar", "w") as archive:
        for entry in (link("cat/1.png", "/etc/passwd"), link("cat/2.png", "../../secret.png", tarfile.LNKTYPE)):
            archive.addfile(entry)
    for image in find_images([inside / "links.tar"]):
        with pytest.raises(ImageError, match=r"is a link or a device: put the file itself"):
            load_image(image)


def test_hard_links_are_the_file_they_name(tmp_path):
    path = pack(tmp_path / "a.tar")
    with tarfile.open(path, "a") as archive:
        archive.addfile(link("tea house/again.png", "café/0.png", tarfile.LNKTYPE))
    assert open_archive(path).read("tea house/again.png") == FILES["café/0.png"]


def test_encrypted_files_are_said(tmp_path):
    path = pack(tmp_path / "a.zip")
    data = bytearray(path.read_bytes())
    data[data.find(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"a\.zip/café/0\.png to be readable, but it is encrypted: unpack"):
        load_image(path / "café" / "0.png")
    assert len(load_dataset(path)) == 6
    fitted = ImageClassifier("fake", store=None).fit(path, skip_bad=True)
    assert [Path(name).name for name, _ in fitted.skipped_] == ["0.png"]


@pytest.mark.parametrize("kind", [".zip", ".tar.gz"])
def test_bombs_are_refused_before_they_are_unpacked(tmp_path, monkeypatch, kind):
    monkeypatch.setattr("tip_adapter.data.archives.tar_files._SMALL", 2**20)
    path = pack(tmp_path / f"a{kind}", {"cat/1.png": bytes(2**25), "dog/1.png": picture(3)})
    with pytest.raises((ImageError, DatasetError), match=r"times the bytes in the archive|unpacks to more than"):
        load_image(path / "cat" / "1.png")


def test_archives_of_too_many_files_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("tip_adapter.data.archives.opening.MAX_MEMBERS", 3)
    monkeypatch.setattr("tip_adapter.data.archives.tar_files.MAX_MEMBERS", 3)
    for kind in (".zip", ".tar", ".tar.gz"):
        with pytest.raises(DatasetError, match=r"Expected at most 3 files in .*, got more: unpack"):
            load_dataset(pack(tmp_path / f"a{kind}"))


def test_deep_folders_and_files_that_are_folders_too(tmp_path):
    path = pack(tmp_path / "a.zip", FILES | {"/".join("x" * 5000) + "/1.png": b"", "café/0.png/0.png": b""})
    with pytest.raises(ImageError, match="it lies in 5000 folders: leave it out"):
        open_archive(path).read("x/x/1.png")
    assert load_dataset(path, skip_bad=True).class_names == ("café", "tea house", "x")


def test_a_large_file_is_refused_by_its_size(tmp_path, monkeypatch):
    monkeypatch.setattr(members, "MAX_BYTES", 50)
    with pytest.raises(ImageError, match=r"it has \d+ bytes, more than 50: unpack the archive"):
        load_image(pack(tmp_path / "a.tar") / "café" / "0.png")


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([".zip", ".tar", ".tar.gz", ".tar.bz2"]), st.randoms(use_true_random=False))
def test_damaged_archives_end_in_one_line(kind, rng):
    """Flipped bits, cuts and repeats: an archive is read, or refused with its name, and never hangs or crashes."""
    with tempfile.TemporaryDirectory() as folder:
        path = pack(Path(folder) / f"a{kind}")
        path.write_bytes(damaged(path.read_bytes(), rng))
        error = None
        try:
            for image in find_images([path]):
                load_image(image)
        except TipAdapterError as caught:
            error = str(caught)
        assert error is None or (str(path) in error and "\n" not in error), error


def damaged(data, rng):
    data = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[start] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[start:]
        elif kind == 2:
            data[start:start] = data[: rng.randrange(300)]
        else:
            data[start : start + 4] = struct.pack("<L", rng.choice([0, 1, 0x7FFFFFFF, 0xFFFFFFFF]))
        if not data:
            return b"PK"
    return bytes(data)


def test_threads_and_forks_read_side_by_side(tmp_path):
    for kind in (".zip", ".tar.gz"):
        path = pack(tmp_path / f"a{kind}")
        images, wrong = find_images([path]), []

        def read(images=images, wrong=wrong, path=path):
            for _ in range(30):
                image = random.choice(images)
                if (
                    open_archive(path).read(image.relative_to(path).as_posix())
                    != FILES[image.relative_to(path).as_posix()]
                ):
                    wrong.append(image)

        threads = [threading.Thread(target=read) for _ in range(4)]
        for thread in threads:
            thread.start()
        if hasattr(os, "fork"):
            child = os.fork()
            if not child:
                read()
                os._exit(len(wrong))
            assert os.waitpid(child, 0)[1] == 0
        for thread in threads:
            thread.join()
        assert wrong == []


@pytest.mark.parametrize("name", ["a.zip", "a.tar", "a.tar.gz", "a.tm"])
@pytest.mark.parametrize("content", [b"", b"PK", b"PK\3\4" + bytes(50), b"\x1f\x8b" + bytes(20), b"text"])
def test_what_is_no_archive(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=r"archive at|one folder per class") as caught:
        load_dataset(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_changed_archive_is_read_anew(tmp_path):
    path = pack(tmp_path / "a.zip")
    assert len(load_dataset(path)) == 6
    pack(path, FILES | {"café/9.png": picture(9)})
    assert len(load_dataset(path)) == 7
    assert all(suffix == suffix.lower() for suffix in ARCHIVE_SUFFIXES)


def test_a_competition_in_an_archive(tmp_path):
    files = {f"{split}/{n}.png": picture(n) for split in ("train", "test") for n in range(4)}
    path = pack(tmp_path / "pets.zip", files | {"labels.csv": b"id,breed\n0,pug\n1,pug\n2,boxer\n3,boxer\n"})
    for source in (path, path / "labels.csv"):
        dataset = load_dataset(source)
        assert dataset.class_names == ("boxer", "pug")
        assert {image.parent.name for image in dataset.paths} == {"train"}


def test_archives_in_an_archive_have_to_be_unpacked(tmp_path):
    inner = pack(tmp_path / "train.zip").read_bytes()
    with pytest.raises(DatasetError, match=r"found 2 files, no photo among them: unpack test\.zip, train\.zip"):
        load_dataset(pack(tmp_path / "all.zip", {"train.zip": inner, "test.zip": inner}))


def test_an_archive_for_each_split(tmp_path):
    for split in ("train", "test"):
        pack(tmp_path / f"{split}.zip")
    assert len(load_dataset(tmp_path, prefer=("train",))) == 6
    assert find_images([f"{tmp_path}/*.zip"]) == find_images([tmp_path / "test.zip", tmp_path / "train.zip"])


def test_skipping_does_not_skip_the_whole(tmp_path):
    path = tmp_path / "photos.zip"
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(DatasetError, match="archive at"):
        load_dataset(path, skip_bad=True)
