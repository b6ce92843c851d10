"""One rule for names of classes, whatever they come from."""

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter import ImageClassifier
from tip_adapter.data import ImageDataset
from tip_adapter.data.class_names import check_class_names, class_name, folded, name_of_label, number_labels
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.prompts import text_of, texts_for

NFC, NFD = "café", unicodedata.normalize("NFD", "café")
FORMS = [NFC, NFD, f" {NFD}", f"{NFC}\u00a0", f"\ufeff{NFC}"]


def color(value):
    return np.full((16, 16, 3), value, dtype=np.uint8)


@given(st.text())
def test_a_name_has_one_form(text):
    name = class_name(text)
    assert class_name(name) == name == unicodedata.normalize("NFC", name).strip()
    assert class_name(unicodedata.normalize("NFD", text)) == name
    assert class_name(f"\u2003{text}\n") == name


@given(st.lists(st.sampled_from([*FORMS, "tea", "tea ", "ice  tea", "ice tea"]), min_size=1))
def test_labels_are_numbered_by_the_form_of_their_names(labels):
    numbers, names = number_labels(labels)
    assert [names[number] for number in numbers] == [class_name(label) for label in labels]
    assert list(names) == sorted(set(names))


@pytest.mark.parametrize("missing", [None, float("nan"), np.float32("nan"), "", " \t"])
def test_missing_labels_are_refused_with_their_rows(missing):
    with pytest.raises(DatasetError, match=r"got none in rows 1, 3 of the labels \(the first is row 0\)"):
        number_labels(["hat", missing, "cap", missing])


def test_the_rows_that_are_listed_are_few():
    with pytest.raises(DatasetError, match=r"got none in rows 0, 1, 2, 3, 4 and 95 more of"):
        number_labels([None] * 100)


@pytest.mark.parametrize("label", [1.5, ["hat"], {"hat": 1}, b"hat", True, np.False_, np.array([1, 0]), float("inf")])
def test_what_is_no_label_of_one_class_is_refused(label):
    with pytest.raises(DatasetError, match=r"one class name or whole number as a label, got .* in row 1 of"):
        number_labels(["cap", label])


def test_labels_that_are_numbers():
    assert name_of_label(np.int64(3)) == name_of_label(3.0) == name_of_label("3") == "3"
    assert number_labels([10, 9, 10.0]) == (pytest.approx([1, 0, 1]), ("9", "10"))
    assert number_labels(["10", "9"])[1] == ("10", "9")


def test_text_beside_numbers_is_refused_with_its_rows():
    with pytest.raises(DatasetError, match=r"all text or all whole numbers, got 'hat' in row 0 and 3 in row 2 \("):
        number_labels(["hat", "hat", 3])


def test_names_that_differ_only_in_case_are_refused():
    with pytest.raises(DatasetError, match=r"differ in more than case, got 'Straße' and 'strasse'"):
        check_class_names(["Straße", "strasse"], "photos")
    with pytest.raises(DatasetError, match="differ in more than case, got 'Hat' and 'hat'"):
        number_labels(["hat", "Hat"])
    assert folded("İ") == folded("İ")


def test_one_rule_for_the_text_of_a_name():
    assert text_of("tabby__cat") == "tabby cat"
    with pytest.raises(InputError, match=r"'___' holds no word: rename the class, or give it a text"):
        text_of("___")
    assert texts_for([NFC], {NFD: "coffee house"}) == (("coffee house",),)


@pytest.fixture
def classifier():
    photos = [color(10), color(14), color(200), color(204)]
    return ImageClassifier("fake", store=None, method="tip-adapter").fit(photos, [NFC, NFD, "tea", "tea "])


@pytest.mark.parametrize("form", FORMS)
def test_every_edit_knows_a_class_by_any_form_of_its_name(classifier, form):
    assert classifier.class_names == (NFC, "tea")
    classifier.add_shots([color(20)], [form])
    assert classifier.model_.counts.tolist() == [3, 2]
    shots = classifier.model_.shots
    classifier.relabel([shots.ids[shots.labels.tolist().index(1)]], form)
    assert classifier.model_.counts.tolist() == [4, 1]
    with pytest.raises(InputError, match=f"There is a class '{NFC}' already: choose another name"):
        classifier.add_class(form)
    classifier.rename_class(form, f"{form}  house")
    assert classifier.class_names == (f"{NFC} house", "tea")
    classifier.add_class("blue__cap")
    assert classifier.model_.class_texts[-1] == ("blue cap",)
    classifier.remove_class(f"{form} house")
    assert classifier.class_names == ("tea", "blue__cap")


def test_names_that_differ_only_in_case_are_explained(classifier):
    with pytest.raises(InputError, match=r"class 'tea' already, which differs from 'TEA' in case alone"):
        classifier.add_class("TEA")
    with pytest.raises(InputError, match=r"no class 'Tea', which differs in case from 'tea'"):
        classifier.remove_class("Tea")
    with pytest.raises(InputError, match="'___' holds no word"):
        classifier.add_class("___")
    classifier.rename_class("tea", "Tea")
    assert classifier.class_names == (NFC, "Tea")


@pytest.mark.parametrize("gap", ["nan", "NaN", "<NA>"])
def test_what_pandas_writes_for_a_gap_is_one(gap):
    with pytest.raises(DatasetError, match="got none in row 1 of the labels"):
        number_labels(["hat", gap, "cap"])
    assert number_labels(["hat", "None", "nantes"])[1] == ("None", "hat", "nantes")


def test_other_photos_of_a_class_in_another_case(classifier):
    for call in (classifier.evaluate, classifier.add_shots, classifier.calibrate):
        with pytest.raises(DatasetError, match=r"does not know: Tea \(which differs from 'tea' in case alone\)"):
            call([color(7)], ["Tea"])


def test_a_data_set_has_names_by_the_same_rule():
    paths = (Path("a.jpg"), Path("b.jpg"))
    assert ImageDataset(paths, np.array([0, 1]), (NFD, "tea "), "drinks").class_names == (NFC, "tea")
    with pytest.raises(DatasetError, match="different class names for drinks, got café, café"):
        ImageDataset(paths, np.array([0, 1]), (NFD, NFC), "drinks")
    with pytest.raises(DatasetError, match="differ in more than case"):
        ImageDataset(paths, np.array([0, 1]), ("tea", "Tea"), "drinks")
