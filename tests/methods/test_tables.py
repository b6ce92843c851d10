"""Features and labels as tables hold them: any rows of a frame, any kind of column, missing and mixed labels."""

import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import GridSearchCV, cross_val_score

from tip_adapter import ImageClassifier
from tip_adapter.bench.splits import load_splits
from tip_adapter.data.sampling import sample_shots, split_dataset
from tip_adapter.errors import InputError
from tip_adapter.methods import METHODS, Prototype, TipAdapter, method_class

NAMES = ["cat", "dog", "eel"]
TEXTS = np.eye(3, 8, dtype=np.float32)
LABELS = np.repeat(NAMES, 4)
ROWS = np.repeat(TEXTS, 4, axis=0) + 0.1 * np.random.default_rng(0).standard_normal((12, 8)).astype(np.float32)
ROWS /= np.linalg.norm(ROWS, axis=1, keepdims=True)
FRAME = pd.DataFrame(ROWS, columns=[f"d{index}" for index in range(8)]).assign(label=LABELS)
CLOSED_FORM = [name for name, cls in METHODS.items() if not (cls.trains or cls.needs_torch or cls.transductive)]


def new(cls=TipAdapter, **parameters):
    return cls(TEXTS, class_names=NAMES, logit_scale=10.0, **parameters)


@pytest.mark.parametrize("name", CLOSED_FORM)
@settings(max_examples=2, deadline=None)
@given(order=st.permutations(range(12)).map(lambda order: order[:9]).filter(lambda o: len({LABELS[i] for i in o}) == 3))
def test_any_rows_of_a_frame_fit_as_their_arrays_do(name, order):
    frame = FRAME.iloc[order]
    X, y = frame.drop(columns="label"), frame.label
    expected = new(method_class(name)).fit(X.to_numpy(), y.tolist()).predict_proba(ROWS)
    queries = FRAME.drop(columns="label")
    for labels in (y, y.astype("category"), pa.array(y.tolist()), pl.Series(y.tolist()), y.map(NAMES.index)):
        np.testing.assert_array_equal(new(method_class(name)).fit(X, labels).predict_proba(queries), expected)
    np.testing.assert_array_equal(new(method_class(name)).fit(pl.from_pandas(X), y).predict_proba(queries), expected)


def test_scikit_learn_searches_with_frames():
    X, y = FRAME.drop(columns="label"), FRAME.label.sample(frac=1, random_state=0)
    X = X.loc[y.index]
    assert cross_val_score(new(), X, y, cv=3).mean() == 1.0
    search = GridSearchCV(new(), {"alpha": [0.5, 1.0]}, cv=3).fit(X, y)
    assert search.predict(X).tolist() == y.tolist()


def test_tensors_that_require_gradients():
    torch = pytest.importorskip("torch", reason="the extra torch is not installed")
    numbers = torch.tensor([NAMES.index(label) for label in LABELS], dtype=torch.float32, requires_grad=True)
    fitted = new().fit(torch.from_numpy(ROWS).requires_grad_(), numbers)
    assert fitted.predict(ROWS).tolist() == numbers.int().tolist()


@pytest.mark.parametrize(
    "labels",
    [
        pd.Series([NAMES.index(label) for label in LABELS], dtype="Int64"),
        pd.Series([NAMES.index(label) for label in LABELS] + [None]).iloc[:-1],
        pd.Series([NAMES.index(label) for label in LABELS], dtype=object),
    ],
    ids=["nullable", "floats", "objects"],
)
def test_whole_numbers_of_any_column_index_the_classes(labels):
    assert new().fit(ROWS, labels).predict(ROWS).tolist() == [NAMES.index(label) for label in LABELS]


@pytest.mark.parametrize("cls", [TipAdapter, Prototype])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([*LABELS[:-1], None], r"got none in row 11 of y \(the first is row 0\)"),
        ([float("nan"), *LABELS[1:]], "got none in row 0 of y"),
        (pd.Series([*LABELS[:-2], pd.NA, ""], dtype=object), "got none in rows 10, 11 of y"),
        (pd.array([*range(11), None], dtype="Int64"), "got none in row 11 of y"),
        ([*LABELS[:-1], 3], "got 'cat' in row 0 and 3 in row 11"),
        ([*LABELS[:-1], ["cat", "dog"]], "got lists of labels"),
        pytest.param(set(LABELS), "in an order, got a set", id="set"),
        (dict(enumerate(LABELS)), "as a list, got a dict"),
        (pd.DataFrame({"label": LABELS}), r"got labels of shape \(12, 1\): give one column"),
    ],
    ids=str,
)
def test_labels_that_do_not_fit_are_refused_with_their_rows(cls, labels, message):
    with pytest.raises(InputError, match=message):
        new(cls).fit(ROWS, labels)
    if not isinstance(labels, dict | set):
        with pytest.raises(InputError, match=message):
            new(cls).fit(ROWS, LABELS, validation=(ROWS, labels))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("cat", "got the text 'cat'"),
        pytest.param({"cat", "dog", "eel"}, "in an order, got a set", id="set"),
        pytest.param((name for name in NAMES), "got a generator", id="generator"),
        ({"cat": 0, "dog": 1, "eel": 2}, "as a list, got a dict"),
    ],
    ids=str,
)
def test_class_names_are_a_list(names, message):
    with pytest.raises(InputError, match=message):
        TipAdapter(TEXTS, class_names=names, logit_scale=10.0).fit(ROWS, LABELS)


def test_class_names_of_a_series_are_taken_in_their_order():
    names = pd.Series(NAMES, index=[2, 0, 1])
    fitted = TipAdapter(pd.DataFrame(TEXTS, index=[1, 2, 0]), class_names=names, logit_scale=10.0).fit(ROWS, LABELS)
    assert fitted.predict(ROWS).tolist() == LABELS.tolist()


def test_booleans_do_not_index_classes():
    with pytest.raises(InputError, match="got bool such as True: name the classes"):
        TipAdapter(TEXTS[:2], logit_scale=10.0).fit(ROWS, LABELS == "cat")
    assert Prototype().fit(ROWS, LABELS == "cat").predict(ROWS).tolist() == (LABELS == "cat").tolist()


def test_messages_call_classes_by_their_names(photos):
    numbers = [0, 0, 0, 1]
    for refuse in (
        lambda: sample_shots(numbers, 2, random_state=0, class_names=["cat", "dog"]),
        lambda: split_dataset(numbers, (0.5, 0.5), random_state=0, class_names=["cat", "dog"]),
        lambda: TipAdapter(TEXTS[:1], class_names=["dog"]).fit(ROWS, [0] * 12),
        lambda: Prototype().fit(ROWS, ["dog"] * 12),
        lambda: ImageClassifier("fake", store=None).fit(photos / "train").add_class("dog", [" "]),
    ):
        with pytest.raises(InputError, match="'dog'"):
            refuse()
    for path in [*(photos / "train" / "green").iterdir()][1:]:
        path.unlink()
    with pytest.raises(InputError, match="'green'"):
        load_splits(photos / "train")


def test_nothing_warns_with_frames():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        X = FRAME.drop(columns="label")
        new().fit(X, FRAME.label).predict(X)
