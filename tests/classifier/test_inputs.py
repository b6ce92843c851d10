"""Images and labels as users hold them: series, stacks, pairs, numbers, one image alone."""

import io

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from tip_adapter import ImageClassifier
from tip_adapter.errors import DatasetError, ImageError, InputError

COLORS = {"red": (200, 40, 40), "green": (40, 200, 40), "blue": (40, 40, 200)}


def photos_of(names, seed=0):
    rng = np.random.default_rng(seed)
    return [np.uint8(np.array(COLORS[name]) + rng.integers(-40, 40, (16, 12, 3))) for name in names]


NAMES = ["red", "green", "blue"] * 4
PHOTOS = photos_of(NAMES)
FRAME = pd.DataFrame({"image": PHOTOS, "label": NAMES, "number": [["red", "green", "blue"].index(n) for n in NAMES]})


def new():
    return ImageClassifier("fake", "tip-adapter", method_parameters={"alpha": 50.0, "beta": 5.5}, store=None)


@pytest.fixture(scope="module")
def fitted():
    return new().fit(PHOTOS, NAMES)


# Rows of a frame in any order, some of them left out; every class is there.
rows = (
    st.permutations(range(len(NAMES)))
    .map(lambda order: [*order[:7]])
    .filter(lambda order: len({NAMES[row] for row in order}) == 3)
)
often = settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@often
@given(order=rows)
def test_any_rows_of_a_frame_train_as_their_list_does(order):
    frame = FRAME.iloc[order]
    expected = new().fit(list(frame.image), list(frame.label)).predict_proba(PHOTOS)
    for images, labels in (
        (frame.image, frame.label),
        (frame.image, frame.label.astype("category")),
        (np.stack(list(frame.image)), pl.Series(list(frame.label))),
        ((image for image in frame.image), iter(frame.label)),
        (list(zip(frame.image, frame.label, strict=True)), None),
    ):
        np.testing.assert_array_equal(new().fit(images, labels).predict_proba(PHOTOS), expected)


@often
@given(order=rows)
def test_any_rows_of_a_frame_are_answered_in_their_order(fitted, order):
    frame = FRAME.iloc[order]
    listed = list(frame.image)
    assert fitted.predict(frame.image) == fitted.predict(listed) == list(frame.label)
    np.testing.assert_array_equal(fitted.predict_proba(frame.image), fitted.predict_proba(listed))
    assert [one.class_name for one in fitted.predict_top(frame.image)] == list(frame.label)
    assert [one.answer for one in fitted.explain(frame.image)] == list(frame.label)
    assert [one.classes[0][0] for one in fitted.predict_set(frame.image, 0.5).sets] == list(frame.label)
    assert fitted.evaluate(frame.image, frame.label).accuracy == 1.0
    assert fitted.doctor(frame.image, frame.label).n_other == len(order)


def test_series_are_added_and_calibrated_with_in_their_order(tmp_path):
    order = [5, 0, 4, 2, 7, 3]
    others = pd.DataFrame({"image": photos_of(NAMES, seed=1), "label": NAMES}).iloc[order]
    added, listed = new().fit(PHOTOS, NAMES), new().fit(PHOTOS, NAMES)
    added.add_shots(others.image, others.label)
    listed.add_shots(list(others.image), list(others.label))
    np.testing.assert_array_equal(added.predict_proba(PHOTOS), listed.predict_proba(PHOTOS))
    added.add_class("grey", images=pd.Series([np.full((16, 12, 3), level, np.uint8) for level in (90, 120)], [4, 1]))
    assert added.model_.counts.tolist()[-1] == 2
    fresh = pd.DataFrame({"image": photos_of(NAMES, seed=2), "label": NAMES}).iloc[order]
    assert added.calibrate(fresh.image, fresh.label).calibration.n == len(order)
    assert added.report(tmp_path / "report.html", fresh.image, fresh.label).accuracy == 1.0


def png(photo):
    buffer = io.BytesIO()
    Image.fromarray(photo).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("form", [np.asarray, Image.fromarray, png, lambda photo: io.BytesIO(png(photo))])
def test_one_image_gets_one_answer_from_every_method(fitted, form):
    photo = PHOTOS[0]
    (expected,) = fitted.predict_proba([photo])
    assert fitted.predict(form(photo)) == "red"
    np.testing.assert_array_equal(fitted.predict_proba(form(photo)), expected)
    assert fitted.predict_top(form(photo)).class_name == "red"
    assert fitted.explain(form(photo)).answer == "red"
    assert len(fitted.predict_set(form(photo), 0.5).sets) == 1
    assert fitted.evaluate(form(photo), "red").n == 1
    assert fitted.doctor(form(photo), "red").n_other == 1


def test_one_image_is_added_with_one_label():
    classifier = new().fit(PHOTOS, NAMES)
    assert len(classifier.add_shots(photos_of(["red"], seed=1)[0], "red").ids) == 1
    assert len(classifier.add_class("grey", images=np.full((16, 12, 3), 90, np.uint8)).ids) == 1


def test_one_image_that_cannot_be_read_is_never_skipped(fitted):
    with pytest.raises(ImageError, match="something else"):
        fitted.predict(b"no picture", skip_bad=True)


@pytest.mark.parametrize("images", [{"a.jpg"}, {"a": "a.jpg"}, None, np.zeros((9, 20, 20), dtype=np.uint8)], ids=str)
def test_what_is_no_sequence_is_refused_by_every_method(fitted, images):
    for method in ("predict", "predict_proba", "predict_top", "predict_set", "explain"):
        with pytest.raises(InputError, match="Expected") as refused:
            getattr(fitted, method)(images)
        assert "\n" not in str(refused.value)


WHOLE = {
    "list": list,
    "array": np.array,
    "series": pd.Series,
    "floats of a column with a gap": lambda labels: pd.Series([*labels, None])[:-1],
    "nullable": lambda labels: pd.array(labels, dtype="Int64"),
    "tensor": lambda labels: pytest.importorskip("torch", reason="the extra torch is not installed").tensor(labels),
}


@pytest.mark.parametrize("hold", WHOLE.values(), ids=WHOLE)
def test_whole_numbers_come_back_as_whole_numbers(tmp_path, hold):
    numbers = [11 if name == "red" else 2 if name == "green" else -1 for name in NAMES]
    classifier = new().fit(PHOTOS, hold(numbers))
    assert classifier.classes_ == (-1, 2, 11)
    assert classifier.class_names == ("-1", "2", "11")
    classifier.save(tmp_path / "numbers.tip")
    for one in (classifier, ImageClassifier.load(tmp_path / "numbers.tip", store=None)):
        assert one.predict(PHOTOS) == numbers
        assert {type(label) for label in one.predict(PHOTOS)} == {int}
        assert one.predict_top(PHOTOS[0]).class_name == "11"
        assert (
            one.evaluate(PHOTOS, hold(numbers)).accuracy == one.evaluate(PHOTOS, [*map(str, numbers)]).accuracy == 1.0
        )


def test_class_texts_are_found_by_whole_numbers(fitted):
    texts = {0: "a red thing", 1: ["grass", "a leaf"], 2: "the sea"}
    classifier = ImageClassifier("fake", class_texts=texts, store=None).fit(FRAME.image, FRAME.number)
    assert classifier.model_.class_texts == (("a red thing",), ("grass", "a leaf"), ("the sea",))


def test_a_class_that_is_named_in_words_makes_names_of_all():
    classifier = new().fit(FRAME.image, FRAME.number)
    classifier.rename_class("0", "red")
    assert classifier.classes_ == ("red", "1", "2")
    assert classifier.predict(PHOTOS[0]) == "red"


def test_digits_as_text_stay_text():
    assert new().fit(FRAME.image, FRAME.number.astype(str)).classes_ == ("0", "1", "2")


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([*NAMES[:-1], None], r"got none in row 11 of the labels \(the first is row 0\)"),
        (pd.Series([float("nan"), *NAMES[1:]], index=[99, *range(11)]), "got none in row 0 of"),
        (pd.Series([pd.NA, *NAMES[1:-1], pd.NaT], dtype=object), "got none in rows 0, 11 of"),
        ([*NAMES[:-2], " ", ""], "got none in rows 10, 11 of"),
        ([*NAMES[:-1], 3], "all text or all whole numbers, got 'red' in row 0 and 3 in row 11"),
        ([name == "red" for name in NAMES], r"class name or whole number as a label, got True \(bool\) in row 0"),
        ([*NAMES[:-1], ["red", "green"]], r"got \['red', 'green'\] \(list\) in row 11"),
        (np.eye(12), r"one label for each image, got labels of shape \(12, 12\)"),
        ([*range(11), 0.5], r"got 0.5 \(float\) in row 11"),
        (NAMES[:-1], "a label for each of the 12 images, got 11"),
        ("red", "a label for each of the 12 images, got 1"),
        (None, "got none: give labels, .image, label. pairs, or a table"),
    ],
    ids=str,
)
def test_labels_that_do_not_fit_are_refused_with_their_rows(labels, message):
    with pytest.raises((DatasetError, InputError), match=message):
        new().fit(PHOTOS, labels)


@pytest.mark.parametrize("item", [None, float("nan"), 3, [[0, 0]], np.zeros((2, 2, 2, 2))], ids=str)
def test_what_is_no_image_is_named_by_its_place(fitted, item):
    with pytest.raises(ImageError, match=r"^image 1: Expected an image .* got "):
        fitted.predict([PHOTOS[0], item])
    assert [name for name, _ in fitted.predict([PHOTOS[0], item], skip_bad=True).skipped] == ["image 1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": "3"}, "1 shot per class as a whole number, got '3'"),
        ({"shots": 2.0}, "1 shot per class as a whole number, got 2.0"),
        ({"random_state": None}, "random_state to be a whole number of at least 0, got None"),
        ({"random_state": -1}, "random_state to be a whole number of at least 0, got -1"),
    ],
    ids=str,
)
def test_numbers_that_do_not_fit_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        new().fit(PHOTOS, NAMES, **options)


@pytest.mark.parametrize("top_k", [0, -1, 1.5, "3", None])
def test_a_number_of_classes_to_name_is_at_least_one(fitted, top_k):
    with pytest.raises(InputError, match="top_k as a whole number of at least 1"):
        fitted.predict_top(PHOTOS, top_k=top_k)


@pytest.mark.parametrize("name", [".", "photos.csv", "photos.parquet"])
def test_labels_beside_a_data_set_that_brings_its_own_are_refused(name):
    with pytest.raises(InputError, match="Labels were given twice"):
        new().fit(name, NAMES)


def test_no_image_at_all_is_refused():
    for images, labels in (([], []), ([], None), (iter([]), []), (pd.Series(dtype=object), pd.Series(dtype=object))):
        with pytest.raises(InputError, match="at least one image, got none"):
            new().fit(images, labels)


def test_skipped_photos_are_in_the_results(fitted, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"")
    images = [PHOTOS[0], bad, PHOTOS[1]]
    found = fitted.predict(images, skip_bad=True)
    assert found == ["red", None, "green"]
    assert [name for name, _ in found.skipped] == [str(bad)]
    rows = fitted.predict_proba(images, skip_bad=True)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, False]
    for kept in (fitted.predict_top(images, skip_bad=True), fitted.explain(images, skip_bad=True)):
        assert [one.path for one in kept] == ["image 0", "image 2"]
        assert kept.skipped == found.skipped
    assert fitted.predict_set(images, 0.5, skip_bad=True).skipped == found.skipped
    assert fitted.evaluate(images, ["red", "red", "green"], skip_bad=True).skipped == found.skipped
    assert fitted.report(tmp_path / "r.html", images, ["red"] * 3, skip_bad=True).skipped == found.skipped
    assert [one.name for one in fitted.doctor(images, ["red"] * 3, skip_bad=True).images] == [str(bad)]
    learned = new().fit([*PHOTOS, bad], [*NAMES, "red"], skip_bad=True)
    assert learned.skipped_ == found.skipped
    assert learned.add_shots([bad, *photos_of(["red"], 3)], ["red", "red"], skip_bad=True).skipped == found.skipped
    fresh = [bad, *photos_of(NAMES, 4)]
    assert learned.calibrate(fresh, ["red", *NAMES], skip_bad=True).skipped == found.skipped
    assert learned.skipped_ == found.skipped
