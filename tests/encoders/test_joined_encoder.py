"""Encoders side by side: features, texts, scales, names, and what cannot be joined."""

import pickle

import numpy as np
import pytest
from PIL import Image

from tiny_onnx import write_encoder
from tip_adapter.data.joined_preprocessing import JoinedPreprocessing
from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.encoders import anchored, export_encoder, load_encoder, members_of
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.errors import EncoderError, InputError, MissingExtraError
from tip_adapter.features.extraction import extract_features

TEXTS = ["red", "green photo", "blue"]


class SeeingOnly:
    """What an image-only encoder does, around one that reads texts, too."""

    has_text_tower = False

    def __new__(cls, encoder):
        encoder.has_text_tower = False
        return encoder


@pytest.fixture
def folders(tmp_path):
    return [write_encoder(tmp_path / f"tiny{seed}", seed=seed) for seed in (0, 1)]


@pytest.fixture
def photos():
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (60, 50 + 9 * index, 3), dtype=np.uint8) for index in range(3)]


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_unit_features_stand_side_by_side_each_from_its_own_view(folders, photos):
    joined = load_encoder(f"{folders[0]}+fake")
    alone = [load_encoder(folders[0]), load_encoder("fake")]
    found = joined.encode_images(photos)
    assert (joined.dim, found.shape) == (12 + 64, (3, 76))
    expected = np.concatenate([unit(encoder.encode_images(photos)) for encoder in alone], axis=1) / np.sqrt(2)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)


def test_zero_shot_logits_are_the_mean_of_the_members_own(folders, photos):
    """Also where their logit scales differ: 100 of the folder, 20 of the other."""
    joined = load_encoder(f"{folders[0]}+fake")
    alone = [load_encoder(folders[0]), load_encoder("fake")]

    def logits(encoder):
        return encoder.logit_scale * unit(encoder.encode_images(photos)) @ unit(encoder.encode_texts(TEXTS)).T

    np.testing.assert_allclose(logits(joined), np.mean([logits(encoder) for encoder in alone], axis=0), atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(joined.encode_texts(TEXTS), axis=1), 1, atol=1e-6)


def test_a_member_without_text_tower_leaves_the_zero_shot_logits_as_they_are(folders, photos):
    reading, seeing = load_encoder(folders[0]), SeeingOnly(load_encoder(folders[1]))
    joined = JoinedEncoder("both", [reading, seeing])
    texts = joined.encode_texts(TEXTS)
    assert not texts[:, 12:].any()
    np.testing.assert_allclose(
        joined.logit_scale * joined.encode_images(photos) @ texts.T,
        reading.logit_scale * unit(reading.encode_images(photos)) @ unit(reading.encode_texts(TEXTS)).T,
        atol=1e-4,
    )


def test_members_without_any_text_tower_learn_from_shots_alone(folders, photos):
    members = [SeeingOnly(load_encoder(folder)) for folder in folders]
    joined = JoinedEncoder("both", members)
    assert not joined.has_text_tower
    with pytest.raises(EncoderError, match="both has no text tower: name one that reads texts"):
        joined.encode_texts(TEXTS)


def test_a_joined_member_has_the_say_of_one_member(folders, photos):
    pair = load_encoder(f"{folders[0]}+{folders[1]}")
    nested = JoinedEncoder("nested", [pair, load_encoder("fake")])
    expected = np.concatenate([pair.encode_images(photos), unit(load_encoder("fake").encode_images(photos))], axis=1)
    np.testing.assert_allclose(nested.encode_images(photos), expected / np.sqrt(2), atol=1e-6)

    def logits(encoder):
        return encoder.logit_scale * unit(encoder.encode_images(photos)) @ unit(encoder.encode_texts(TEXTS)).T

    mean = (logits(pair) + logits(load_encoder("fake"))) / 2
    np.testing.assert_allclose(logits(nested), mean, atol=1e-4)


def test_each_tower_has_its_own_part_in_the_ids(folders, tmp_path):
    one = load_encoder(f"{folders[0]}+fake")
    other = load_encoder(f"{folders[1]}+fake")
    assert one.image_id != other.image_id
    text_model = folders[0] / "onnx" / "text_model.onnx"
    text_model.write_bytes((folders[1] / "onnx" / "text_model.onnx").read_bytes())
    again = load_encoder(f"{folders[0]}+fake")
    assert (again.image_id, again.text_id != one.text_id) == (one.image_id, True)


def test_random_views_are_the_same_part_of_the_photo_for_all(photos):
    settings = [Preprocessing(size, size, "bicubic", (0.5,) * 3, (0.5,) * 3) for size in (16, 24)]
    joined = JoinedPreprocessing(tuple(settings))
    image = Image.fromarray(photos[0])
    for seed in range(5):
        views = joined.split(joined.random_view(image, np.random.default_rng(seed))[None])
        for member, found in zip(settings, views, strict=True):
            np.testing.assert_array_equal(found[0], member.random_view(image, np.random.default_rng(seed)))


def test_members_that_want_the_same_view_share_it(folders):
    joined = load_encoder(f"{folders[0]}+{folders[1]}")
    assert joined.preprocessing.view_shape == (8 * 8 * 3,)
    assert joined.preprocessing.view_of == (0, 0)


def test_rows_of_another_length_are_refused(folders):
    with pytest.raises(InputError, match=r"Expected uint8 views of shape \(B, 3264\)"):
        load_encoder(f"{folders[0]}+fake").encode_pixels(np.zeros((1, 3265), dtype=np.uint8))


def test_features_go_through_the_pipeline_and_the_store(folders, photos, tmp_path):
    from tip_adapter.features.store import FeatureStore

    joined = load_encoder(f"{folders[0]}+fake")
    with FeatureStore(tmp_path / "features.sqlite3") as store:
        first = extract_features(joined, photos, views=3, store=store)
        counts = []
        again = extract_features(
            joined, photos, views=3, store=store, progress=lambda done, total, cached: counts.append(cached)
        )
    assert counts[-1] == 3
    np.testing.assert_array_equal(first.features.raw, again.features.raw)


def test_a_copy_encodes_alike(folders, photos):
    joined = load_encoder(f"{folders[0]}+fake")
    copied = pickle.loads(pickle.dumps(joined))
    np.testing.assert_array_equal(copied.encode_images(photos), joined.encode_images(photos))


def test_paths_with_plus_signs_stay_whole(folders, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folders[0].rename("c++ towers")
    name = "c++ towers+huggingface:c++ towers+fake"
    assert members_of(name) == ["c++ towers", "huggingface:c++ towers", "fake"]
    assert anchored(name) == f"{tmp_path}/c++ towers+huggingface:{tmp_path}/c++ towers+fake"
    assert load_encoder("c++ towers+fake").dim == 76


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("fake+nothing", r"fake\+nothing needs nothing, which cannot be used. Unknown encoder 'nothing'"),
        ("fake+", "name an encoder on both sides"),
        ("+", "name an encoder on both sides"),
        ("fake+fake", r"Expected fake\+fake to join different encoders, got fake twice"),
        ("fake+/gone/away", "needs /gone/away, which cannot be used. There is no encoder folder"),
    ],
)
def test_what_cannot_be_joined_is_named(name, message):
    with pytest.raises(EncoderError, match=message):
        load_encoder(name)


def test_precisions_are_one_for_all_or_one_each(folders):
    name = f"{folders[0]}+{folders[1]}"
    assert load_encoder(name, precision="fp32+fp32").precision == "fp32"
    with pytest.raises(EncoderError, match=r"one for each of its 2 members such as int8\+fp32, got 'fp32\+fp32\+fp32'"):
        load_encoder(name, precision="fp32+fp32+fp32")
    with pytest.raises(EncoderError, match=r"needs fake, which cannot be used. .* no precision 'int8', only fp32"):
        load_encoder(f"{folders[0]}+fake", precision="fp32+int8")


def test_a_missing_extra_stays_one(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="torch"):
        load_encoder("fake+huggingface:owner/name")


def test_several_encoders_are_not_exported_as_one(folders, tmp_path):
    with pytest.raises(EncoderError, match="which joins several: export each"):
        export_encoder(f"{folders[0]}+fake", tmp_path / "out")


def test_eight_bits_of_one_member(tmp_path):
    """The transformer in 8 bits, the convolutions beside it in full precision."""
    pytest.importorskip("onnx")
    pytest.importorskip("torch", reason="the extra torch is not installed")
    from tiny_models import write_clip

    (tmp_path / "clip").mkdir()
    towers = export_encoder(f"huggingface:{write_clip(tmp_path / 'clip')}", tmp_path / "towers")
    joined = load_encoder(f"{towers}+fake", precision="int8+fp32")
    assert joined.precision in ("int8+fp32", "fp32")
    exact = joined.in_full_precision()
    assert exact.precision == "fp32"
    pixels = np.random.default_rng(0).integers(0, 256, (2, *joined.preprocessing.view_shape), dtype=np.uint8)
    np.testing.assert_allclose(joined.encode_pixels(pixels), exact.encode_pixels(pixels), atol=0.05)
