import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.errors import FeatureError, InputError
from tip_adapter.features.prompts import (
    DEFAULT_TEMPLATES,
    TEMPLATES,
    load_class_texts,
    prompt_features,
    resolve_templates,
    texts_for,
    zero_shot_weights,
)
from tip_adapter.features.store import FeatureStore

ENCODER = FakeEncoder()


def test_every_named_template_has_one_place_for_the_class():
    assert all(template.count("{}") == 1 for templates in TEMPLATES.values() for template in templates)
    assert TEMPLATES["ensemble"] == DEFAULT_TEMPLATES
    assert TEMPLATES["photo"] == ("a photo of a {}.",)
    assert len(TEMPLATES["ensemble"]) == 7


def test_weights_are_the_normalised_mean_of_normalised_features():
    class_texts, templates = [["dog"], ["cat", "kitten"]], ("a {}.", "the {}!")
    expected = []
    for texts in class_texts:
        total = np.zeros(ENCODER.dim)
        for text in texts:
            for template in templates:
                feature = ENCODER.encode_texts([template.format(text)])[0].astype(np.float64)
                total += feature / np.sqrt((feature**2).sum())
        expected.append(total / np.sqrt((total**2).sum()))
    weights = zero_shot_weights(ENCODER, class_texts, templates)
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, expected, atol=1e-6)


@given(st.permutations(["hat", "shoe", "t-shirt", "{braces}", "日本語"]))
def test_permuting_classes_permutes_rows(names):
    rows = dict(zip(sorted(names), zero_shot_weights(ENCODER, [[name] for name in sorted(names)]), strict=True))
    weights = zero_shot_weights(ENCODER, [[name] for name in names])
    np.testing.assert_array_equal(weights, [rows[name] for name in names])
    np.testing.assert_allclose(np.linalg.norm(weights, axis=1), 1, atol=1e-6)


def test_many_prompts_are_encoded_in_batches_and_only_once():
    calls = []

    class Recorder(FakeEncoder):
        def encode_texts(self, texts):
            calls.extend(texts)
            assert len(texts) <= 256
            return super().encode_texts(texts)

    names = [[f"class {index % 150}"] for index in range(300)]
    weights = zero_shot_weights(Recorder(), names, TEMPLATES["ensemble"])
    assert weights.shape == (300, 64)
    assert len(calls) == len(set(calls)) == 150 * 7


def test_braces_in_a_class_name_are_text():
    weights = zero_shot_weights(ENCODER, [["{}"], ["{0}"]], ["a {}."])
    feature = ENCODER.encode_texts(["a {0}."])[0]
    np.testing.assert_allclose(weights[1], feature / np.linalg.norm(feature), atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, 0.0])
def test_unusable_text_feature_names_the_prompt(value):
    class Broken(FakeEncoder):
        def encode_texts(self, texts):
            return np.full((len(texts), self.dim), value, dtype=np.float32)

    with pytest.raises(FeatureError, match=r"the prompt 'itap of a hat\.'"):
        zero_shot_weights(Broken(), [["hat"]])


def test_wrong_shape_of_text_features():
    class Broken(FakeEncoder):
        def encode_texts(self, texts):
            return np.ones((len(texts), 3), dtype=np.float32)

    with pytest.raises(FeatureError, match=r"shape \(7, 64\) from encoder fake, got \(7, 3\)"):
        zero_shot_weights(Broken(), [["hat"]])


@pytest.mark.parametrize(
    ("class_texts", "templates", "message"),
    [
        ([], ["a {}"], "at least one class"),
        ([[]], ["a {}"], "for 'class 0', got"),
        ([["  "]], ["a {}"], "for 'class 0', got"),
        ([["hat"]], [], "at least one template"),
        ([["hat"]], ["a photo"], "got 'a photo'"),
    ],
)
def test_bad_texts_and_templates(class_texts, templates, message):
    with pytest.raises(InputError, match=message):
        zero_shot_weights(ENCODER, class_texts, templates)


def test_resolve_templates():
    assert resolve_templates("ensemble") == TEMPLATES["ensemble"]
    assert resolve_templates("a {}.") == ("a {}.",)
    assert resolve_templates(["a {}.", "b {}."]) == ("a {}.", "b {}.")
    with pytest.raises(InputError, match=r"or one of ensemble, photo, got 'opena'"):
        resolve_templates("opena")


# ---------------------------------------------------------------- class names from a file


def write(tmp_path, text):
    path = tmp_path / "class names.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_load_class_texts(tmp_path):
    path = write(tmp_path, '\ufeff{"outwear": ["jacket", "coat"], "tee": "t-shirt", "帽子": "hat"}')
    assert load_class_texts(path) == {"outwear": ("jacket", "coat"), "tee": ("t-shirt",), "帽子": ("hat",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": "b",\n"c" "d"}', r"class names\.json, got something else \(an error in line 2"),
        ("", r"error in line 1"),
        ('["a"]', "JSON object of class names.*got a list"),
        ('{"a": 3}', r"for 'a' in .*class names\.json, got 3"),
        ('{"a": []}', r"for 'a' in .*got \[\]"),
        ('{"a": ["b", ""]}', "for 'a' in"),
        ('{"a": "b", "a": "c"}', "'a' twice"),
        (b'{"a": "\xff"}', "than UTF-8"),
    ],
)
def test_bad_class_name_files(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_class_texts(write(tmp_path, text))


def test_missing_class_name_file(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.json, .*it cannot be read: No such file"):
        load_class_texts(tmp_path / "nowhere.json")


def test_texts_for():
    assert texts_for(["t-shirt", "tabby_cat"], None) == (("t-shirt",), ("tabby cat",))
    assert texts_for(["b", "a"], {"a": "x", "b": ["y", "z"]}) == (("y", "z"), ("x",))


def test_unknown_class_in_the_mapping_suggests_the_one_that_was_meant():
    with pytest.raises(
        InputError, match=r"'outware' \(did you mean 'outwear'\?\), 'xyz'; the classes are hat, outwear"
    ):
        texts_for(["hat", "outwear"], {"outware": "coat", "xyz": "q", "hat": "hat"})


def test_class_name_without_words():
    with pytest.raises(InputError, match="give it a text"):
        texts_for(["__"], None)


def test_prompts_are_encoded_once_and_kept(tmp_path):
    encoder, asked = FakeEncoder(), []
    encoder.encode_texts = lambda texts: asked.append(list(texts)) or type(encoder).encode_texts(encoder, texts)
    with FeatureStore(tmp_path / "features.sqlite3") as store:
        first = prompt_features(encoder, [["dog"], ["cat"]], "photo", store=store)
        again = prompt_features(encoder, [["cat"], ["dog"]], "photo", store=store)
        more = prompt_features(encoder, [["dog"], ["cow"]], "photo", store=store)
    np.testing.assert_array_equal(first, again[::-1])
    np.testing.assert_array_equal(first[0], more[0])
    np.testing.assert_array_equal(first, prompt_features(encoder, [["dog"], ["cat"]], "photo"))
    assert asked[:2] == [["a photo of a dog.", "a photo of a cat."], ["a photo of a cow."]]


def test_a_prompt_without_a_usable_feature_is_not_kept(tmp_path):
    encoder = FakeEncoder()
    encoder.encode_texts = lambda texts: np.full((len(texts), encoder.dim), np.nan)
    with FeatureStore(tmp_path / "features.sqlite3") as store:
        with pytest.raises(FeatureError, match=r"the prompt 'a photo of a dog\.'"):
            prompt_features(encoder, [["dog"]], "photo", store=store)
        assert store.count() == 0
