"""Tables in memory are understood as manifests are, whatever library they are of."""

import io

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tip_adapter import ImageClassifier
from tip_adapter.data.frames import images_of_frame, is_frame, labelled_images_of_frame
from tip_adapter.errors import DatasetError, InputError

FRAMES = {
    "pandas": pd.DataFrame,
    "another index": lambda columns: pd.DataFrame(columns, index=range(len(columns["path"]))[::-1]),
    "polars": pl.DataFrame,
    "arrow": pa.table,
    "records": lambda columns: [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)],
}


@pytest.mark.parametrize("make", FRAMES.values(), ids=FRAMES)
@given(rows=st.lists(st.tuples(st.text("abc", min_size=1), st.sampled_from(["hat", "cap"])), min_size=1, max_size=9))
def test_rows_are_read_as_they_stand(make, rows):
    paths, labels = (list(column) for column in zip(*rows, strict=True))
    frame = make({"path": paths, "label": labels})
    assert is_frame(frame)
    assert labelled_images_of_frame(frame) == (paths, labels)
    assert images_of_frame(frame) == paths


@pytest.mark.parametrize("image", ["path", "file_name", "Image", "image_path", "Photo"])
@pytest.mark.parametrize("label", ["label", "Class", "breed", "category", "target"])
def test_columns_are_called_as_in_manifests(image, label):
    frame = pd.DataFrame({label: ["hat", "cap"], image: ["a.jpg", "b.jpg"], "note": ["x", "y"]})
    assert labelled_images_of_frame(frame) == (["a.jpg", "b.jpg"], ["hat", "cap"])


def test_whole_numbers_stay_numbers():
    assert labelled_images_of_frame(pd.DataFrame({"image": ["a", "b"], "label": [1, 0]}))[1] == [1, 0]


def test_columns_of_zeros_and_ones_are_classes():
    frame = pd.DataFrame({"image": ["a", "b"], "hat": [1, 0], "cap": [0, 1]})
    assert labelled_images_of_frame(frame)[1] == ["hat", "cap"]


def test_of_several_splits_one_is_taken():
    frame = pd.DataFrame({"path": list("abcd"), "label": ["x", "y"] * 2, "split": ["train", "train", "test", "test"]})
    assert labelled_images_of_frame(frame, ("train",))[0] == ["a", "b"]
    assert labelled_images_of_frame(frame, ("test",))[0] == ["c", "d"]
    with pytest.raises(DatasetError, match="one split of the table, which has test, train"):
        labelled_images_of_frame(frame)


def png(level):
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16), (level, level, level)).save(buffer, "PNG")
    return buffer.getvalue()


def test_stored_images_are_learned_from():
    images = [{"bytes": png(level), "path": None} for level in (20, 30, 220, 230)]
    frame = pd.DataFrame({"image": images, "label": ["night", "night", "day", "day"]}, index=[3, 1, 2, 0])
    for table in (frame, pl.from_pandas(frame.reset_index(drop=True)), pa.Table.from_pandas(frame)):
        classifier = ImageClassifier("fake", "prototype", store=None).fit(table)
        assert classifier.predict(table) == ["night", "night", "day", "day"]
        assert classifier.evaluate(table).accuracy == 1.0


class Names:
    names = ("day", "night")


class HubDataset:
    """As `datasets.Dataset`: columns by name, and features that name the classes."""

    column_names = ("image", "label")

    @property
    def features(self):
        return {"image": None, "label": Names()}

    def __getitem__(self, column):
        return {"image": [Image.new("L", (8, 8), level) for level in (20, 220)], "label": [1, 0]}[column]


def test_numbers_of_a_data_set_of_the_hub_are_named():
    assert labelled_images_of_frame(HubDataset())[1] == ["night", "day"]


class FolderOfTorchvision:
    """As `torchvision.datasets.ImageFolder`: pairs by their index, and the names of the classes."""

    classes = ("day", "night")

    def __len__(self):
        return 4

    def __getitem__(self, index):
        level = (20, 220, 30, 230)[range(4)[index]]
        return Image.new("RGB", (8, 8), (level, level, level)), (1, 0)[index % 2]


def test_pairs_of_torchvision_are_learned_from():
    classifier = ImageClassifier("fake", "prototype", store=None).fit(FolderOfTorchvision())
    assert classifier.class_names == ("day", "night")
    assert classifier.model_.counts.tolist() == [2, 2]


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pd.DataFrame({"a": ["x"], "b": ["y"]}),
            "a column of files in the table, such as path, .* got the columns a, b",
        ),
        (pd.DataFrame({"path": ["x"], "b": ["y"], "c": ["z"]}), "a column of classes in the table"),
        (
            pd.DataFrame([["x", "y", "z"]], columns=["path", "path", "label"]),
            "every column once in the table, got path",
        ),
        (pd.DataFrame({"path": [], "label": []}), "rows in the table, found none"),
        (pd.DataFrame([("x", "y")]), "got the columns 0, 1"),
        (pl.LazyFrame({"path": ["x"], "label": ["y"]}), r"got a LazyFrame: collect\(\) it"),
    ],
)
def test_tables_that_are_not_understood_are_refused(frame, message):
    with pytest.raises(InputError, match=message):
        ImageClassifier("fake", store=None).fit(frame)


def test_missing_classes_are_refused_with_their_rows():
    frame = pd.DataFrame(
        {"image": [np.zeros((8, 8, 3), np.uint8)] * 4, "label": ["a", None, "b", "b"]}, index=[9, 8, 7, 6]
    )
    with pytest.raises(DatasetError, match=r"got none in row 1 of the labels \(the first is row 0\)"):
        ImageClassifier("fake", store=None).fit(frame)
