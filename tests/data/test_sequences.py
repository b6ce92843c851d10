"""Whatever holds images or labels is listed in its order, whatever its index."""

import io
import tempfile

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tip_adapter.data.decoding import load_image
from tip_adapter.data.sequences import is_one_image, list_images, list_labels
from tip_adapter.errors import ImageError, InputError

WORDS = ("read", "columns", "shape", "detach")
HOLDERS = {
    "list": list,
    "tuple": tuple,
    "generator": lambda values: (value for value in values),
    "iterator": iter,
    "keys": lambda values: dict.fromkeys(values).keys(),
    "series": pd.Series,
    "reversed index": lambda values: pd.Series(values, index=range(len(values))[::-1]),
    "index of words": lambda values: pd.Series(
        values, index=(["read", "columns", "shape", "detach"] * 9)[: len(values)]
    ),
    "objects": lambda values: pd.Series(values, dtype=object),
    "categories": pd.Categorical,
    "pandas index": pd.Index,
    "polars": pl.Series,
    "arrow": pa.array,
    "chunks": lambda values: pa.chunked_array([values[:1], values[1:]]),
    "array": np.array,
    "array of objects": lambda values: np.array(values, dtype=object),
}
PHOTO = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def paths(min_size=1):
    return st.lists(st.text("ab/.", min_size=1, max_size=3), min_size=min_size, max_size=30, unique=True)


@pytest.mark.parametrize("hold", HOLDERS.values(), ids=HOLDERS)
@given(values=paths())
def test_paths_in_anything_are_listed_in_their_order(hold, values):
    assert list_images(hold(values)) == values
    assert list_labels(hold(values)) == values


@pytest.mark.parametrize("hold", [hold for name, hold in HOLDERS.items() if name != "keys"])
@given(values=st.lists(st.integers(-9, 9), min_size=1, max_size=30))
def test_numbers_in_anything_are_pythons_own(hold, values):
    labels = list_labels(hold(values))
    assert labels == values
    assert {type(label) for label in labels} == {int}


@given(data=st.data(), values=paths(min_size=2))
def test_any_rows_of_a_frame_are_listed_as_they_stand(data, values):
    rows = data.draw(st.lists(st.sampled_from(range(len(values))), min_size=1))
    expected = [values[row] for row in rows]
    assert list_images(pd.DataFrame({"path": values}).iloc[rows].path) == expected
    assert list_images(pl.DataFrame({"path": values})[rows]["path"]) == expected
    assert list_images(pa.table({"path": values}).take(rows)["path"]) == expected


def of_torch(photo, *, first=True, floats=False):
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    tensor = torch.from_numpy(np.ascontiguousarray(photo))
    tensor = tensor.movedim(-1, -3) if first else tensor
    return tensor / 255 if floats else tensor


def png():
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, "PNG")
    return buffer.getvalue()


ONE = {
    "array": lambda: PHOTO,
    "transparent": lambda: np.dstack([PHOTO, np.full(PHOTO.shape[:2], 255, dtype=np.uint8)]),
    "pillow": lambda: Image.fromarray(PHOTO),
    "bytes": png,
    "bytearray": lambda: bytearray(png()),
    "memory": lambda: memoryview(png()),
    "open file": lambda: io.BytesIO(png()),
    "stored bytes": lambda: {"bytes": png(), "path": None},
    "tensor": lambda: of_torch(PHOTO),
    "tensor of floats": lambda: of_torch(PHOTO, floats=True),
    "doubles": lambda: of_torch(PHOTO, floats=True).double(),
    "tensor with channels last": lambda: of_torch(PHOTO, first=False),
}


@pytest.mark.parametrize("make", ONE.values(), ids=ONE)
def test_one_image_is_one_image(make):
    assert is_one_image(make())
    for images in (make(), [make()], (make() for _ in range(1))):
        (image,) = list_images(images)
        np.testing.assert_array_equal(np.asarray(load_image(image)), PHOTO)


def test_one_image_in_a_file(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(png())
    with path.open("rb") as file, tempfile.NamedTemporaryFile() as named:
        named.write(png())
        named.seek(0)
        for image in (path, str(path), np.str_(path), file, named, {"bytes": None, "path": str(path)}):
            assert is_one_image(image)
            (listed,) = list_images(image)
            np.testing.assert_array_equal(np.asarray(load_image(listed)), PHOTO)


@pytest.mark.parametrize("shape", [(6, 5), (6, 5, 1)])
def test_one_grey_image(shape):
    (image,) = list_images(PHOTO[..., :1].reshape(shape))
    np.testing.assert_array_equal(np.asarray(load_image(image))[..., 0], PHOTO[..., 0])


@pytest.mark.parametrize("stack", [np.asarray, of_torch, lambda photos: of_torch(photos, floats=True)])
def test_a_stack_is_several_images(stack):
    photos = np.stack([PHOTO, 255 - PHOTO, PHOTO[::-1]])
    assert not is_one_image(stack(photos))
    for image, expected in zip(list_images(stack(photos)), photos, strict=True):
        np.testing.assert_array_equal(np.asarray(load_image(image)), expected)


def test_a_column_of_arrays():
    photos = [PHOTO, 255 - PHOTO]
    series = pd.Series(photos, index=[5, 3])
    assert all(image is photo for image, photo in zip(list_images(series), photos, strict=True))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        ({"a.jpg"}, "in an order, got a set"),
        (frozenset(["a.jpg"]), "in an order, got a frozenset"),
        ({"a": "a.jpg"}, "as a list, got a dict: give one of its values"),
        (None, "as a list, got a NoneType"),
        (7, "as a list, got a int"),
        (pd.DataFrame({"path": ["a.jpg"]}), "got a table .a DataFrame.: choose a column"),
        (pd.DataFrame({"path": ["a.jpg"]}).to_numpy(), r"in one dimension, got an array of shape \(1, 1\)"),
        (np.zeros((9, 28, 28), dtype=np.uint8), r"got an array of shape \(9, 28, 28\): for grey images give list"),
        (np.zeros((9, 3, 28, 28), dtype=np.uint8), r"got an array of shape \(9, 3, 28, 28\)"),
        pytest.param(io.StringIO("text"), "open it with 'rb'", id="text file"),
    ],
    ids=str,
)
def test_what_is_no_sequence_of_images_is_refused(images, message):
    with pytest.raises(InputError, match=message) as refused:
        list_images(images)
    assert "\n" not in str(refused.value)


def test_a_closed_file_is_refused():
    file = io.BytesIO(png())
    file.close()
    with pytest.raises(ImageError, match="open it again"):
        list_images(file)


@pytest.mark.parametrize("make", [np.asarray, of_torch])
def test_pixels_centred_for_a_network_are_refused(make):
    (image,) = list_images(make(PHOTO / np.float32(60) - 2))
    with pytest.raises(ImageError, match=r"samples from 0 to 1, 255 or 65,535, got -2 to"):
        load_image(image)


@pytest.mark.parametrize("labels", [np.eye(2), pd.DataFrame({"label": ["a"]}), {"a": 1}, {"a"}])
def test_labels_are_one_for_each_image(labels):
    with pytest.raises(InputError, match="label"):
        list_labels(labels)


def test_one_label():
    assert list_labels("hat") == ["hat"]
    assert list_labels(np.int64(3)) == list_labels(np.array(3)) == [3]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("/9j/" + "QUJDRA" * 9000 + "\n" * 3, r"got 54,00\d characters that begin with .*base64"),
        ("data:image/png;base64,iVBORw0KGgo=", "decoded first .base64.b64decode."),
        ("https://example.org/a.jpg", "got the web address https://example.org/a.jpg: download it first"),
        ("", "got an empty one"),
    ],
    ids=["base64", "data URL", "web address", "empty"],
)
def test_text_that_is_no_path_is_refused_in_a_short_line(text, message):
    with pytest.raises(ImageError, match=message) as refused:
        load_image(text)
    assert len(str(refused.value)) < 250
    assert "\n" not in str(refused.value)
