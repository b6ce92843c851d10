"""System folders are ignored, files that are no photos passed over, and both are said."""

import io
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tip_adapter.data import Findings, find_images, load_dataset
from tip_adapter.errors import DatasetError, SkippableError

SYSTEM = [
    *("#recycle", "#Recycle", "@Recycle", "$RECYCLE.BIN", "$recycle.bin", "RECYCLER", ".Trash", ".Trash-1000"),
    *("lost+found", "System Volume Information", "@eaDir", "#snapshot", "__MACOSX", "__pycache__", "found.000"),
    *(".ipynb_checkpoints", ".git", ".cache", "@Recently-Snapshot", "Network Trash Folder", "Temporary Items"),
]
SYSTEM_FILES = ["Thumbs.db", "desktop.ini", ".DS_Store", "._1.jpg", "Icon\r", "ehthumbs_vista.db"]


def encoded(format):
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, format)
    return buffer.getvalue()


CONTENT = {format: encoded(format) for format in ("JPEG", "PNG", "GIF", "WebP", "BMP", "TIFF")}


def write(root, **files):
    for name, data in files.items():
        path = Path(root, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@given(st.sets(st.sampled_from(SYSTEM), min_size=1), st.sets(st.sampled_from(SYSTEM_FILES)), st.booleans())
def test_system_folders_are_no_classes_and_are_said(names, files, inside):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, **{"cat/1.jpg": b"", "dog/1.jpg": b""})
        for name in names:
            write(folder, **{f"{'cat/' * inside}{name}/red/1.jpg": b"", f"{name}/2.jpg": b""})
        for name in files:
            write(folder, **{name: b"", f"dog/{name}": b""})
        dataset = load_dataset(folder)
        assert [path.relative_to(folder).as_posix() for path in dataset.paths] == ["cat/1.jpg", "dog/1.jpg"]
        [line] = dataset.findings.lines
        assert line.startswith(f"ignored: hidden or system folder{'s' * (len(names) > 1)} ")
        assert find_images([folder]) == list(dataset.paths)


@pytest.mark.parametrize("name", ["recycling", "#hashtag", "@home", "$100", "lost", "found", "system", "trash"])
def test_classes_that_only_sound_like_the_system(tmp_path, name):
    write(tmp_path, **{f"{name}/1.jpg": b"", "zebra/1.jpg": b""})
    assert name in load_dataset(tmp_path).class_names


@given(st.lists(st.tuples(st.sampled_from(sorted(CONTENT)), st.sampled_from(["", ".bin", ".image", ".photo", ".mov"]))))
def test_unknown_suffixes_are_tried_by_content(kinds):
    with tempfile.TemporaryDirectory() as folder:
        write(folder, **{f"cat/{n}{suffix}": CONTENT[format] for n, (format, suffix) in enumerate(kinds)})
        write(folder, **{"cat/1.jpg": b"", "cat/notes": b"text", "dog/1.jpg": b"", "dog/data.bin": bytes(100)})
        dataset = load_dataset(folder)
        assert len(dataset) == 2 + len(kinds)
        assert dataset.findings.lines == [
            f"passed over: 2 files without a picture (1 without suffix, 1 .bin), such as {folder}/cat/notes"
        ]


def test_photos_of_an_iphone(tmp_path):
    """A HEIC photo is one, whether or not it can be read here; its film and its edits are passed over."""
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99)
    film = b"\0\0\0\x14ftypqt  \0\0\0\0qt  "
    for name in ("cat", "dog"):
        write(
            tmp_path, **{f"{name}/IMG_0001.HEIC": heic, f"{name}/IMG_0001.MOV": film, f"{name}/IMG_0001.AAE": b"<?xml"}
        )
    dataset = load_dataset(tmp_path)
    assert [path.name for path in dataset.paths] == ["IMG_0001.HEIC"] * 2
    [line] = dataset.findings.lines
    assert line.startswith("passed over: 4 files without a picture (2 .aae, 2 .mov), such as")


@pytest.mark.parametrize(
    ("name", "data"),
    [("1.CR2", b"II*\0"), ("1.dng", b"II*\0"), ("1", b"\xff\x0a"), ("1.psd", b"8BPS"), ("1.svg", b"<svg")],
)
def test_formats_that_are_not_read_are_counted_and_named(tmp_path, name, data):
    write(tmp_path, **{"cat/1.jpg": b"", f"cat/{name}": data, "dog/1.jpg": b""})
    dataset = load_dataset(tmp_path)
    assert len(dataset) == 2
    assert dataset.findings.unread_photos == [f"{tmp_path}/cat/{name}"]
    assert dataset.findings.lines[0].startswith("not read: 1 photo of other formats (1 ")
    findings = Findings()
    assert find_images([tmp_path / "cat"], findings=findings) == [tmp_path / "cat" / "1.jpg"]
    assert findings.unread_photos == dataset.findings.unread_photos
    (tmp_path / "cat" / "1.jpg").unlink()
    with pytest.raises(SkippableError, match=r"class folder .*cat, found 1 file of other kinds .*: convert them"):
        load_dataset(tmp_path)
    with pytest.raises(SkippableError, match=r"images at .*cat, found 1 file of other kinds"):
        find_images([tmp_path / "cat"])
    assert load_dataset(tmp_path, min_classes=1, skip_bad=True).class_names == ("dog",)


@given(st.sets(st.sampled_from(["folder", "empty", "loose", "full"]), min_size=1))
def test_skipping_goes_on_and_lists(kinds):
    """What cannot be read stops a run, or with skip_bad is left out and listed; the rest is used."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        write(folder, **{"cat/1.jpg": b"", "dog/1.jpg": b""})
        if "folder" in kinds:
            write(folder, **{"closed/1.jpg": b""})
        if "empty" in kinds:
            Path(folder, "empty").mkdir()
        if "loose" in kinds:
            write(folder, **{"stray.jpg": b""})
        if "full" in kinds:
            write(folder, **{"full/1.txt": b"", "full/2.txt": b""})
        scan = os.scandir

        def refuse(path):
            if Path(path).name == "closed":
                raise PermissionError(13, "Permission denied")
            return scan(path)

        patch.setattr(os, "scandir", refuse)
        with pytest.raises(SkippableError):
            load_dataset(folder)
        dataset = load_dataset(folder, skip_bad=True)
        assert [path.relative_to(folder).as_posix() for path in dataset.paths] == ["cat/1.jpg", "dog/1.jpg"]
        assert len(dataset.findings.skipped) == len(kinds)
        assert all(folder in reason for _, reason in dataset.findings.skipped)


def test_sources_that_are_not_there_are_skipped(tmp_path):
    write(tmp_path, **{"1.jpg": b""})
    findings = Findings(skip_bad=True)
    assert find_images([tmp_path / "1.jpg", tmp_path / "gone.jpg", tmp_path / "*.webp"], findings=findings) == [
        tmp_path / "1.jpg"
    ]
    assert [Path(name).name for name, _ in findings.skipped] == ["gone.jpg", "*.webp"]
    with pytest.raises(DatasetError, match=r"at least one image, got none; the first problem: .*gone\.jpg"):
        find_images([tmp_path / "gone.jpg"], findings=Findings(skip_bad=True))


@pytest.mark.parametrize("read", [load_dataset, lambda path: find_images([path])])
def test_an_empty_path_is_not_the_current_folder(read):
    with pytest.raises(DatasetError, match="the path of photos, got an empty one"):
        read("")


def test_folders_that_are_one_class_are_merged_and_said(tmp_path):
    write(tmp_path, **{"green/1.jpg": b"", "green /2.jpg": b"", "red/1.jpg": b""})
    dataset = load_dataset(tmp_path)
    assert (dataset.class_names, len(dataset)) == (("green", "red"), 3)
    assert dataset.findings.lines == [f"{tmp_path}/green and {tmp_path}/green  are one class: green"]


NAMES = [
    "train",
    "test",
    "Val",
    "seg_train",
    "cat",
    "dog",
    "images",
    "part_1",
    "#recycle",
    "Cat",
    "green ",
    "_",
    "x.zip",
]
FILES = ["1.jpg", "2.png", "a-!-1.jpg", "labels.csv", "metadata.csv", "notes", "y.zip", "raw.cr2", "Thumbs.db", ".jpg"]


@settings(max_examples=200, deadline=None)
@given(
    st.sets(
        st.tuples(st.lists(st.sampled_from(NAMES), max_size=4), st.sampled_from(FILES)).map(
            lambda p: "/".join([*p[0], p[1]])
        ),
        max_size=12,
    )
)
def test_any_folder_is_read_or_refused_in_one_line(names):
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            data = b"file_name,label\n1.jpg,a\n2.png,b\n" if name.endswith("csv") else b""
            write(folder, **{name: data})
        for skip_bad in (False, True):
            said = None
            try:
                dataset = load_dataset(folder, min_classes=1, skip_bad=skip_bad)
                assert len(set(dataset.paths)) == len(dataset) > 0
            except DatasetError as error:
                said = str(error)
            assert said is None or (folder in said and "\n" not in said)
