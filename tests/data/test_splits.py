"""Names of splits are believed where the same classes recur in two of them, in any spelling and wrapping."""

import tempfile
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from image_files import touch
from tip_adapter import ImageClassifier
from tip_adapter.data import load_dataset, load_splits
from tip_adapter.data.splits import split_name
from tip_adapter.errors import DatasetError, SplitError

SPELLINGS = {
    "train": ["train", "Training", "TRAIN", "trainset", "Train_Set", "training data", "train2017", "images_train"],
    "validation": ["val", "valid", "Validation", "validation_set", "dev", "VAL-images"],
    "test": ["test", "Testing", "TEST", "test_set", "testset", "Test Data", "test1"],
}


@pytest.fixture
def tree(tmp_path):
    return partial(touch, tmp_path)


def relative(dataset, root):
    return [path.relative_to(root).as_posix() for path in dataset.paths]


@pytest.mark.parametrize(("split", "name"), [(split, name) for split, names in SPELLINGS.items() for name in names])
def test_spellings(split, name):
    assert split_name(name).split == split


@pytest.mark.parametrize(
    "name", ["trains", "training shoes train test", "attestation", "bus", "contest", "2017", "", "évaluer"]
)
def test_other_names_are_no_splits(name):
    assert split_name(name) is None


@given(
    st.fixed_dictionaries({split: st.sampled_from(names) for split, names in SPELLINGS.items()}),
    st.sets(st.sampled_from(sorted(SPELLINGS)), min_size=2),
    st.sampled_from(["", "seg_", "dogs-", "my ", "data_"]),
    st.booleans(),
    st.booleans(),
)
def test_splits_in_any_spelling_prefix_and_wrapping(spelling, splits, prefix, doubled, wrapped):
    with tempfile.TemporaryDirectory() as folder:
        top = "archive/" * wrapped
        for split in splits:
            name = prefix + spelling[split]
            inner = f"{top}{name}/{name}" if doubled else f"{top}{name}"
            touch(folder, *(f"{inner}/{kind}/{split}.jpg" for kind in ("cat", "dog")))
        touch(folder, f"{top}{prefix}predict/loose.jpg", f"{top}README.md")
        found = load_splits(folder)
        assert set(found) == splits
        for split, dataset in found.items():
            assert dataset.class_names == ("cat", "dog")
            assert {path.name for path in dataset.paths} == {f"{split}.jpg"}
        if "train" in splits:
            assert {path.stem for path in load_dataset(folder, prefer=("train",)).paths} == {"train"}
        else:
            with pytest.raises(DatasetError, match="name the split to take"):
                load_dataset(folder, prefer=("train",))


@given(st.lists(st.sampled_from(["train", "test", "Training", "val"]), min_size=1, max_size=1), st.booleans())
def test_a_class_that_is_called_like_a_split_is_a_class(names, nested):
    with tempfile.TemporaryDirectory() as folder:
        inner = ("/a", "/b") if nested else ("",)
        touch(folder, *(f"{name}{part}/1.jpg" for name in (*names, "bus", "tram") for part in inner))
        assert load_dataset(folder).class_names == tuple(sorted((*names, "bus", "tram")))
        assert load_dataset(folder).findings.lines == []


def test_what_was_understood_is_said_and_can_be_overruled(tree):
    root = tree("Training/cat/1.jpg", "Training/dog/1.jpg", "Testing/cat/2.jpg", "Testing/dog/2.jpg", "pred/3.jpg")
    dataset = load_dataset(root, prefer=("train",))
    said = "2 classes, splits train (Training) and test (Testing) and unlabelled (pred); train is taken"
    assert dataset.findings.lines == [f"{root}: {said}"]
    assert dataset.name == f"{root.name}/train"
    assert relative(load_dataset(root, split="Testing"), root) == ["Testing/cat/2.jpg", "Testing/dog/2.jpg"]
    as_they_are = load_dataset(root, split="none")
    assert as_they_are.class_names == ("Testing", "Training", "pred")
    assert as_they_are.findings.lines == []
    with pytest.raises(DatasetError, match=r"class folders in .*pred, got photos without a class"):
        load_dataset(root, split="pred")


def test_an_evaluation_set_is_the_test_set_unless_there_is_one(tree):
    classes = ("bread/1.jpg", "egg/1.jpg")
    root = tree(*(f"{split}/{name}" for split in ("training", "validation", "evaluation") for name in classes))
    assert set(load_splits(root)) == {"train", "validation", "test"}
    root = tree(*(f"more/{split}/{name}" for split in ("train", "test", "eval") for name in classes))
    assert set(load_splits(root / "more")) == {"train", "validation", "test"}


def test_a_test_set_without_classes_is_left_out(tree):
    root = tree("train/cat/1.jpg", "train/dog/1.jpg", "test/1.jpg", "test/2.jpg")
    assert relative(load_dataset(root, prefer=("train",)), root) == ["train/cat/1.jpg", "train/dog/1.jpg"]


@pytest.mark.parametrize(
    "names",
    [
        ["train/cat.0.jpg", "train/dog.0.jpg", "test/1.jpg"],
        ["train/cat/1.jpg", "train/dog/1.jpg", "val/owl/1.jpg", "val/fox/1.jpg"],
    ],
)
def test_splits_without_common_classes_are_no_classes_either(tree, names):
    with pytest.raises(DatasetError, match=r"the same class folders in the splits .*, got none: sort the photos"):
        load_dataset(tree(*names))


def test_class_folders_that_hold_the_splits(tree):
    root = tree(*(f"{kind}/{split}/{n}.jpg" for kind in ("cat", "dog") for split in ("train", "test") for n in "12"))
    assert relative(load_dataset(root, prefer=("train",)), root) == [
        f"{kind}/train/{n}.jpg" for kind in ("cat", "dog") for n in "12"
    ]


def test_other_folders_beside_splits_are_said(tree):
    names = [f"{split}/{kind}/1.jpg" for split in ("train", "test", "augmented") for kind in ("cat", "dog")]
    root = tree(*names, "train_grey/cat/1.jpg", "docs/readme.txt")
    dataset = load_dataset(root, split="train")
    assert f"passed over beside the splits of {root}: folders augmented, train_grey" in dataset.findings.lines


def test_a_folder_around_class_folders_is_entered(tree):
    root = tree("download/pets/cat/1.jpg", "download/pets/dog/1.jpg", "download/notes.txt")
    dataset = load_dataset(root)
    assert dataset.class_names == ("cat", "dog")
    assert dataset.findings.lines == [f"the classes are the folders in {root}/download/pets"]
    assert load_dataset(tree("one/cat/deep/1.jpg") / "one", min_classes=1).class_names == ("cat",)


def test_a_classifier_learns_from_train_and_is_measured_on_test(photos):
    classifier = ImageClassifier("fake", "tip-adapter", store=None).fit(photos)
    assert len(classifier.model_.shots) == 15
    assert classifier.evaluate(photos).n == 9
    with pytest.raises(SplitError, match="which has train, test: name the split to take"):
        classifier.calibrate(photos)
