import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tip_adapter.encoders import Encoder, load_encoder
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.errors import EncoderError, ImageError, InputError

ENCODER = load_encoder("fake")


def some_pixels(count: int, seed: int = 0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 32, 3), dtype=np.uint8)


def test_it_is_an_encoder_and_names_itself():
    assert isinstance(ENCODER, Encoder)
    assert (ENCODER.name, ENCODER.dim, ENCODER.logit_scale) == ("fake", 64, 20.0)
    assert "fake" in repr(ENCODER)


def test_it_is_the_same_in_every_process():
    assert ENCODER.image_id == load_encoder("fake").image_id
    features = ENCODER.encode_texts(["a hat"])
    np.testing.assert_array_equal(features, load_encoder("fake").encode_texts(["a hat"]))
    # Literal values, so that another NumPy, or a changed projection without a new version, is found out.
    np.testing.assert_allclose(features[0, :3], [0.48224962, 0.28960496, -1.6539578], atol=1e-6)
    grey = np.full((1, 32, 32, 3), 128, dtype=np.uint8)
    np.testing.assert_allclose(ENCODER.encode_pixels(grey)[0, :3], [-0.11775348, -0.15448369, -0.2092196], atol=1e-6)


@given(st.integers(1, 6), st.integers(0, 5))
def test_batch_size_does_not_matter(count, seed):
    pixels = some_pixels(count, seed)
    alone = np.concatenate([ENCODER.encode_pixels(pixels[i : i + 1]) for i in range(count)])
    np.testing.assert_array_equal(ENCODER.encode_pixels(pixels), alone)


def test_like_colours_are_more_alike_than_unlike_ones():
    red, pink, blue = (Image.new("RGB", (50, 40), colour) for colour in ("red", "#f03020", "blue"))
    features = ENCODER.encode_images([red, pink, blue])
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    assert unit[0] @ unit[1] > 0.9 > unit[0] @ unit[2]


def test_nothing_in_gives_nothing_out():
    for features in (ENCODER.encode_pixels(some_pixels(0)), ENCODER.encode_texts([]), ENCODER.encode_images([])):
        assert features.shape == (0, 64)
        assert features.dtype == np.float32


def test_a_single_text_or_image_is_refused():
    with pytest.raises(InputError, match="put a single text into a list"):
        ENCODER.encode_texts("hat")
    with pytest.raises(InputError, match="sequence of texts"):
        ENCODER.encode_texts([1, 2])
    with pytest.raises(InputError, match="put it into a list"):
        ENCODER.encode_images("hat.jpg")


def test_views_of_another_size_or_type_are_refused():
    with pytest.raises(InputError, match=r"\(B, 32, 32, 3\)"):
        ENCODER.encode_pixels(np.zeros((1, 16, 16, 3), dtype=np.uint8))
    with pytest.raises(InputError, match="uint8"):
        ENCODER.encode_pixels(np.zeros((1, 32, 32, 3), dtype=np.float32))


def test_a_bad_photo_is_named(tmp_path):
    path = tmp_path / "no photo.jpg"
    path.write_text("text")
    with pytest.raises(ImageError, match=r"no photo\.jpg"):
        ENCODER.encode_images([path])


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_a_logit_scale_is_a_positive_number(scale):
    with pytest.raises(EncoderError, match="positive logit scale"):
        load_encoder("fake", logit_scale=scale)


def test_identity_depends_on_weights_preprocessing_and_precision():
    class Other(BaseEncoder):
        def _encode_views(self, pixels):
            return pixels[:, 0, 0]

        def _encode_texts(self, texts):
            return np.zeros((len(texts), self.dim), dtype=np.float32)

    from dataclasses import replace

    weights = {"image_weights": "a", "text_weights": "a"}
    settings = {**weights, "dim": 2, "logit_scale": 1.0, "preprocessing": ENCODER.preprocessing}
    undrafted = replace(ENCODER.preprocessing, draft=False)
    variants = [{}, {"image_weights": "b"}, {"preprocessing": undrafted}, {"precision": "int8"}]
    assert len({Other("x", **{**settings, **variant}).image_id for variant in variants}) == 4
    assert Other("x", **settings).image_id == Other("y", **{**settings, "logit_scale": 5.0}).image_id
    assert Other("x", **settings).text_id != Other("x", **{**settings, "text_weights": "b"}).text_id
