"""Folders, splits, manifests and patterns, sound and broken."""

import json
import os
import unicodedata
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from image_files import touch
from tip_adapter.data import ImageDataset, find_images, load_dataset
from tip_adapter.errors import DatasetError, MissingExtraError, SkippableError


@pytest.fixture
def make(tmp_path):
    """Create empty files below a temporary folder; nothing here opens an image."""
    return partial(touch, tmp_path)


def relative(paths, root):
    return [path.relative_to(root).as_posix() for path in paths]


def test_class_folders_are_read_in_order(make):
    root = make("dog/b.JPG", "dog/a.png", "cat/z.webp", "cat/deep/er/y.tiff", "Zebra/1.gif")
    pets = load_dataset(root)
    assert pets.class_names == ("Zebra", "cat", "dog")
    assert relative(pets.paths, root) == ["Zebra/1.gif", "cat/deep/er/y.tiff", "cat/z.webp", "dog/a.png", "dog/b.JPG"]
    assert pets.labels.tolist() == [0, 1, 1, 2, 2]
    assert pets.labels.dtype == np.intp
    assert pets.name == root.name


def test_hidden_and_foreign_files_are_passed_over(make):
    root = make("cat/1.jpg", "cat/._1.jpg", "cat/.cache/2.jpg", "cat/Thumbs.db", "cat/notes.txt", "dog/1.jpg")
    make("__MACOSX/cat/1.jpg", ".git/x.jpg", "README.md")
    assert relative(load_dataset(root).paths, root) == ["cat/1.jpg", "dog/1.jpg"]


def test_unicode_and_spaces_in_names(make):
    decomposed = unicodedata.normalize("NFD", "café crème")
    root = make(f"{decomposed}/ein Bild.jpg", "日本 茶/緑 茶.png")
    assert load_dataset(root).class_names == ("café crème", "日本 茶")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "one folder per class in .*, found none: sort the images into class folders"),
        (["a.jpg", "b.jpg"], r"only class folders in .*, got a\.jpg and 1 more images: move them"),
        (["cat/1.jpg", "dog/1.jpg", "stray.png"], r"got stray\.png: move them into a folder of their class"),
        (
            ["cat/1.jpg", "dog/notes.txt"],
            r"images in the class folder .*dog, found 1 file of other kinds \(\.txt\): convert them, or remove",
        ),
        (
            ["cat/1.jpg", "dog/Thumbs.db"],
            r"images in the class folder .*dog, found none: add some or remove the folder",
        ),
        (["cat/1.jpg"], "at least 2 classes in .*, found only 'cat': add images of others"),
        (["Cat/1.jpg", "cat/1.jpg"], "to differ in more than case, got 'Cat' and 'cat': merge or rename them"),
        (["cat/1.jpg", "dog/1.cr2"], r"class folder .*dog, found 1 file of other kinds \(\.cr2\): convert them"),
        (["train/cat/1.jpg", "test/cat/1.jpg"], "one split of .*, which has train, test: name the split to take"),
        (
            ["val/cat/1.jpg", "validation/cat/1.jpg", "train/cat/1.jpg"],
            "one validation folder in .*, got val and validation: merge",
        ),
    ],
)
def test_broken_folders_are_one_clear_line(make, files, message):
    root = make(*files)
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(root)
    assert str(root) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_source_that_is_not_there(tmp_path):
    with pytest.raises(DatasetError, match=r"at .*nowhere, found neither: check the path"):
        load_dataset(tmp_path / "nowhere")


def test_one_class_is_enough_where_asked(make):
    assert load_dataset(make("cat/1.jpg"), min_classes=1).class_names == ("cat",)


def test_a_split_is_taken_by_any_of_its_names(make):
    root = make("train/cat/1.jpg", "train/dog/1.jpg", "Val/cat/2.jpg", "Val/dog/2.jpg", "notes/readme.txt")
    for name in ("validation", "val", "Valid"):
        assert relative(load_dataset(root, split=name).paths, root) == ["Val/cat/2.jpg", "Val/dog/2.jpg"]
    assert load_dataset(root, split="train").name == f"{root.name}/train"
    assert len(load_dataset(root / "train")) == 2
    with pytest.raises(DatasetError, match=r"split 'test' in .*, but it has train, validation \(Val\): choose another"):
        load_dataset(root, split="test")


def test_a_class_may_be_called_train(make):
    root = make("train/1.jpg", "bus/1.jpg")
    assert load_dataset(root).class_names == ("bus", "train")
    with pytest.raises(DatasetError, match="but it has no splits: choose another"):
        load_dataset(root, split="train")


def test_link_loops_end_and_links_count_once(make):
    root = make("cat/1.jpg", "cat/sub/2.jpg", "dog/1.jpg", "elsewhere/3.jpg")
    pets = root / "pets"
    pets.mkdir()
    for name in ("cat", "dog"):
        (pets / name).symlink_to(root / name)
    (root / "cat" / "self").symlink_to(root / "cat")
    (root / "cat" / "up").symlink_to(root)
    (root / "cat" / "sub" / "over").symlink_to(root / "elsewhere")
    (root / "cat" / "again").symlink_to(root / "elsewhere")
    (root / "dog" / "me").symlink_to("me")
    found = relative(load_dataset(pets).paths, pets)
    assert found == ["cat/1.jpg", "cat/again/3.jpg", "cat/sub/2.jpg", "dog/1.jpg"]
    assert len(find_images([pets])) == 4


def test_a_folder_without_permission(make, monkeypatch):
    root = make("cat/1.jpg", "dog/1.jpg")

    def refuse(path):
        if path.name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(path)

    scan = os.scandir
    make("closed/1.jpg")
    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(SkippableError, match=r"a readable folder at .*: Permission denied: change its permissions"):
        load_dataset(root)
    pets = load_dataset(root, skip_bad=True)
    assert pets.class_names == ("cat", "dog")
    assert [name for name, _ in pets.findings.skipped] == [str(root / "closed")]


def write_manifest(path, rows):
    if path.suffix == ".csv":
        columns = list(rows[0])
        lines = [",".join(columns), *(",".join(f'"{row[column]}"' for column in columns) for row in rows)]
        path.write_text("\n".join(lines), encoding="utf-8-sig")
    elif path.suffix == ".jsonl":
        path.write_text("\n".join(json.dumps(row) for row in rows) + "\n\n", encoding="utf-8")
    else:
        pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        parquet.write_table(pa.Table.from_pylist(rows), path)
    return path


SUFFIXES = pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])


@SUFFIXES
def test_manifests_of_every_kind_agree(make, suffix):
    root = make("img/é, 1.jpg", "img/2.jpg", "img/3.jpg")
    rows = [
        {"path": "img/3.jpg", "label": "dog", "note": "x"},
        {"path": "img/é, 1.jpg", "label": "cat ", "note": "y"},
        {"path": str(root / "img/2.jpg"), "label": "cat", "note": "z"},
    ]
    pets = load_dataset(write_manifest(root / f"pets{suffix}", rows))
    assert pets.class_names == ("cat", "dog")
    assert relative(pets.paths, root) == ["img/2.jpg", "img/é, 1.jpg", "img/3.jpg"]
    assert pets.labels.tolist() == [0, 0, 1]


@SUFFIXES
def test_manifests_may_have_splits(make, suffix):
    root = make("1.jpg", "2.jpg", "3.jpg", "4.jpg")
    rows = [
        {"path": f"{i}.jpg", "label": label, "split": split}
        for i, label, split in [(1, "a", "train"), (2, "b", "train"), (3, "a", "val"), (4, "b", "val")]
    ]
    path = write_manifest(root / f"m{suffix}", rows)
    assert relative(load_dataset(path, split="validation").paths, root) == ["3.jpg", "4.jpg"]
    with pytest.raises(DatasetError, match=r"which has train, validation \(val\): name the split to take"):
        load_dataset(path)
    with pytest.raises(DatasetError, match=r"but it has train, validation \(val\): choose another"):
        load_dataset(path, split="test")
    assert len(load_dataset(write_manifest(path, rows[:2]))) == 2


@SUFFIXES
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"note": "1.jpg", "label": "cat"}, "a column of files in .*, got the columns note, label: rename .* path"),
        ({"path": "1.jpg"}, "a column of classes in .*, got the columns path: rename the one that holds them to label"),
        ({"path": "gone.jpg", "label": "cat"}, r"an image at .*gone\.jpg \(row \d of .*\), found none"),
        ({"path": "1.jpg", "label": " "}, r"a label in every row of .*, got none in row \d: fill them in"),
        ({"path": "", "label": "cat"}, r"a path in row \d of .*, got '': fill it in"),
        ({"path": "1.jpg", "label": "cat"}, "at least 2 classes in"),
    ],
)
def test_broken_manifests_are_one_clear_line(make, suffix, row, message):
    path = write_manifest(make("1.jpg") / f"m{suffix}", [row])
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("label", [1.5, ["cat"], {"name": "cat"}])
def test_labels_that_are_no_names_are_refused(make, label):
    path = write_manifest(make("1.jpg") / "m.jsonl", [{"path": "1.jpg", "label": label}])
    with pytest.raises(DatasetError, match=r"one class name or whole number as a label, got .* in row 1 of"):
        load_dataset(path)


def test_numbers_may_be_labels(make):
    rows = [{"path": "1.jpg", "label": 0}, {"path": "2.jpg", "label": 7}]
    assert load_dataset(write_manifest(make("1.jpg", "2.jpg") / "m.jsonl", rows)).class_names == ("0", "7")


def test_one_image_with_two_labels_is_refused(make):
    rows = [{"path": "1.jpg", "label": "cat"}, {"path": "1.jpg", "label": "dog"}]
    with pytest.raises(DatasetError, match=r"one label for 1\.jpg in .*, got 'cat' and 'dog' in row 3: correct one"):
        load_dataset(write_manifest(make("1.jpg") / "m.csv", rows))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", b"", "rows in .*, found none"),
        ("m.csv", b"path,label\n", "rows in .*, found none"),
        ("m.csv", b'path,label\n"1.jpg,cat\n', "a comma-separated UTF-8 file at .*, got an error"),
        ("m.csv", b"path,label\n\xff.jpg,cat\n", "a comma-separated UTF-8 file at"),
        ("m.csv", b"path,label\n1.jpg\n", "a label in every row of .*, got none in row 2"),
        ("m.jsonl", b'{"path": "1.jpg"', "a JSON object in row 1 of .*, got an error"),
        ("m.jsonl", b"[1]", "a JSON object in row 1 of .*, got list"),
        ("m.jsonl", b"\xff", "UTF-8 lines of JSON at"),
        ("m.parquet", b"PAR1", "a Parquet file at"),
        ("m.xlsx", b"PK", r"a manifest \(\.csv, .*\.parquet\), got .*m\.xlsx: convert it"),
    ],
)
def test_damaged_manifests_are_one_clear_line(make, name, content, message):
    path = make("1.jpg") / name
    path.write_bytes(content)
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow")
    with pytest.raises(DatasetError, match=message) as caught:
        load_dataset(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_parquet_without_pyarrow_names_the_extra(make, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    monkeypatch.setitem(__import__("sys").modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"\.\[data\]"):
        load_dataset(make("m.parquet") / "m.parquet")


def test_subset_keeps_the_class_names():
    paths = tuple(Path(f"{i}.jpg") for i in range(4))
    pets = ImageDataset(paths, np.array([0, 1, 1, 2]), ("a", "b", "c"), "pets")
    part = pets.subset([3, 0])
    assert (part.paths, part.labels.tolist(), part.class_names) == ((paths[3], paths[0]), [2, 0], pets.class_names)
    assert len(pets.subset(pets.labels == 1)) == 2


def test_labels_without_a_name_are_refused():
    with pytest.raises(DatasetError, match="that index 1 class names, got 0 to 1"):
        ImageDataset((Path("a"), Path("b")), np.array([0, 1]), ("a",), "x")
    with pytest.raises(DatasetError, match="a label for each of 1 images"):
        ImageDataset((Path("a"),), np.array([0, 0]), ("a",), "x")


def test_find_images_reads_files_folders_and_patterns(make, monkeypatch):
    root = make("b/2.jpg", "b/1.png", "b/.hidden.jpg", "b/notes.txt", "a.jpg", "c/deep/3.JPG", "odd.bin", "x[1].jpg")
    monkeypatch.chdir(root)
    names = lambda *sources: [path.as_posix() for path in find_images(sources)]  # noqa: E731
    assert names("b") == ["b/1.png", "b/2.jpg"]
    assert names("*.jpg") == ["a.jpg", "x[1].jpg"]
    assert names("x[1].jpg") == ["x[1].jpg"]
    assert names("odd.bin") == ["odd.bin"]
    assert names("**/*.jpg") == ["a.jpg", "b/2.jpg", "x[1].jpg"]
    assert names("c/**", "c/*") == ["c/deep/3.JPG"]
    assert names("b/2.jpg", "./b/2.jpg", str(root / "b" / "2.jpg"), "b") == ["b/2.jpg", "b/1.png"]
    assert find_images("a.jpg") == [Path("a.jpg")]


@pytest.mark.parametrize("source", ["missing.jpg", "*.webp", "nowhere/*.jpg", "empty", "empty/**"])
def test_a_source_without_images_is_named(make, monkeypatch, source):
    monkeypatch.chdir(make("a.jpg", "empty/notes.txt"))
    with pytest.raises(DatasetError, match=r"found none: check the path or pattern|found 1 file of other") as caught:
        find_images(["a.jpg", source])
    assert source in str(caught.value)


def test_patterns_do_not_follow_link_loops(make):
    root = make("a/1.jpg")
    for name in ("x", "y"):
        (root / "a" / name).symlink_to(root)
    assert relative(find_images([f"{root}/**/*.jpg"]), root) == ["a/1.jpg"]
    assert relative(find_images([f"{root}/**"]), root) == ["a/1.jpg"]


def test_no_source_and_a_bad_pattern(tmp_path):
    with pytest.raises(DatasetError, match="at least one file, folder or pattern"):
        find_images([])
    with pytest.raises(DatasetError, match=r"found none|a pattern of image files"):
        find_images([f"{tmp_path}/**x/*.jpg"])


def test_real_photos(shared_data):
    clothing = load_dataset(shared_data / "clothing", split="test")
    assert len(clothing) == 372
    assert len(clothing.class_names) == 10
    counts = np.bincount(clothing.labels)
    assert (counts.min(), counts.max()) == (12, 73)
    assert len(find_images([shared_data / "clothing" / "train" / "hat"])) == 32
