"""Texts of little use are found, good ones are left in peace: on made features, and on real photos."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_features import unit
from tip_adapter.data import load_dataset
from tip_adapter.data.sampling import sample_shots
from tip_adapter.encoders import load_encoder
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.prompts import texts_for, zero_shot_weights
from tip_adapter.trust.class_texts import doubt_texts, is_no_word, text_areas


def problem(seed, n_classes, shots):
    rng = np.random.default_rng(seed)
    centres, labels = rng.normal(size=(n_classes, 16)), np.repeat(np.arange(n_classes), shots)
    return unit(centres), unit(centres[labels] + rng.normal(size=(len(labels), 16))), labels


@given(seed=st.integers(0, 1000), shots=st.integers(1, 4))
def test_areas_are_the_naive_count_of_pairs(seed, shots):
    weights, features, labels = problem(seed, 4, shots)
    weights[2] = np.nan
    features[0] = features[-1]  # a tie
    areas, errors = text_areas(weights, features, labels)
    assert np.isnan(areas[2])
    assert np.isnan(errors[2])
    centre = weights[[0, 1, 3]].astype(np.float64).mean(axis=0)
    for column in (0, 1, 3):
        alike = features @ (weights[column] - centre)
        pairs = [(a > b) + 0.5 * (a == b) for a in alike[labels == column] for b in alike[labels != column]]
        assert areas[column] == pytest.approx(np.mean(pairs))
        assert errors[column] == pytest.approx(np.sqrt((4 * shots + 1) / (12 * shots * 3 * shots)))


@pytest.mark.parametrize("n_classes", [2, 10])
def test_good_texts_are_left_in_peace_and_those_of_other_things_are_not(n_classes):
    names = [f"word{'s' * number}" for number in range(n_classes)]
    texts = [[name] for name in names]
    for seed in range(20):
        for shots in (1, 2, 16):
            weights, features, labels = problem(seed, n_classes, shots)
            assert not doubt_texts(names, texts, weights, features, labels), (seed, shots)
        if n_classes == 2:
            continue  # too few to tell chance from bad luck
        others = unit(np.random.default_rng(seed + 1000).normal(size=weights.shape))
        others -= (others @ weights.T) @ np.linalg.pinv(weights.T)  # texts that know nothing of these photos
        found = doubt_texts(names, texts, others, features, labels)
        assert found.all_weak, (seed, found)
        assert "hardly better than chance" in str(found)


def test_one_bad_text_is_named_and_a_code_that_works_is_not():
    weights, features, labels = problem(3, 6, 16)
    names = ["hat", "outwear", "n0212", "class 01", "skirt", "7"]
    wrong = weights.copy()
    wrong[[1, 3]] = -weights[[1, 3]]
    found = doubt_texts(names, [[name] for name in names], wrong, features, labels)
    assert found.weak == ("outwear", "class 01")
    assert found.no_words == ("class 01",)
    assert str(found) == "class 01 looks like no word that the text encoder could know"
    # With two shots per class nothing is proven, so that every code is named.
    few = np.r_[0:2, 16:18, 32:34, 48:50, 64:66, 80:82]
    found = doubt_texts(names, [[name] for name in names], weights, features[few], labels[few])
    assert found.no_words == ("n0212", "class 01", "7")
    assert "class 01, 7 look like no words" in str(found)
    # Words of one's own count, not the name of the folder; a class without text has nothing to doubt.
    own = [["hat"], ["coat"], ["tabby"], [], ["skirt"], ["seven"]]
    wrong[3] = np.nan
    found = doubt_texts(names, own, wrong, features, labels)
    assert (found.no_words, found.weak) == ((), ("outwear",))
    assert str(found).startswith("the text of outwear finds photos of the class hardly better")


@pytest.mark.parametrize("word", ["hat", "ox", "t-shirt", "Boeing 737-200", "longsleeve", "été", "猫", "3d glasses"])
def test_words(word):
    assert not is_no_word(word)


@pytest.mark.parametrize("code", ["n02123045", "class 01", "Class-3", "0", "12", "a", "id 7", "x1 y2", "---"])
def test_codes(code):
    assert is_no_word(code)


def test_no_shots_or_no_texts_measure_nothing():
    weights, features, labels = problem(0, 3, 2)
    nothing = np.full_like(weights, np.nan)
    assert not doubt_texts("abc", [(), (), ()], nothing, features, labels)
    found = doubt_texts(["hat", "cap", "tie"], [["hat"], ["cap"], ["tie"]], weights, features[:2], labels[:2])
    assert not found


def test_real_clip_features_with_good_names(shared_data):
    for name, numbers in (("stanford_cars", (1, 16)), ("caltech60", (2,))):
        with np.load(shared_data / "clip-vit-b32" / f"{name}.npz", allow_pickle=False) as data:
            names = data["class_names"].tolist()
            for shots in numbers:
                features = data[f"support_{shots}_features"].astype(np.float32)
                given_to = (data["zero_shot_weights"], features, data[f"support_{shots}_labels"])
                assert not doubt_texts(names, [[each] for each in names], *given_to), (name, shots)


def test_real_photos_with_folder_names_and_with_words(shared_data):
    encoder = load_encoder("lite-fast")
    dataset = load_dataset(shared_data / "clothing" / "train")
    chosen = sample_shots(dataset.labels, 16, random_state=0)
    features = extract_features(encoder, [dataset.paths[row] for row in chosen]).features.unit
    words = json.loads((shared_data / "clothing" / "class_names.json").read_text(encoding="utf-8"))
    codes = {name: f"class {number:02d}" for number, name in enumerate(dataset.class_names)}

    def found(mapping):
        texts = texts_for(dataset.class_names, mapping)
        return doubt_texts(
            dataset.class_names, texts, zero_shot_weights(encoder, texts), features, dataset.labels[chosen]
        )

    assert not found(words)
    assert found(None).weak == ("longsleeve",)
    assert found(codes).all_weak
    assert len(found(codes).no_words) >= 8
