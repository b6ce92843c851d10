"""Views and normalisation, against Pillow step by step, and the settings' ways in and out of files."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tip_adapter.data.decoding import load_image
from tip_adapter.data.preprocessing import PREPROCESSING_VERSION, Preprocessing
from tip_adapter.errors import EncoderError, InputError

MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
CLIP = Preprocessing(size=224, resize=224, interpolation="bicubic", mean=MEAN, std=STD)
LITE = Preprocessing(size=224, resize=256, interpolation="bicubic", mean=(0.5,) * 3, std=(0.5,) * 3)
SIGLIP = Preprocessing(size=256, resize=None, interpolation="bilinear", mean=(0.5,) * 3, std=(0.5,) * 3, draft=False)
CLIP_FILE = {
    "crop_size": {"height": 224, "width": 224},
    "do_center_crop": True,
    "do_convert_rgb": True,
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "image_mean": list(MEAN),
    "image_processor_type": "CLIPImageProcessor",
    "image_std": list(STD),
    "resample": 3,
    "rescale_factor": 0.00392156862745098,
    "size": {"shortest_edge": 224},
}


def noise(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("width", "height"), [(640, 480), (480, 640), (225, 500), (224, 224), (101, 333), (1, 1)])
@pytest.mark.parametrize("preprocessing", [CLIP, LITE])
def test_center_view_is_resize_then_crop(preprocessing, width, height):
    image = noise(width, height)
    side, short, long = preprocessing.resize, min(width, height), max(width, height)
    scaled = (side, int(side * long / short)) if width <= height else (int(side * long / short), side)
    left, top = (round((length - 224) / 2.0) for length in scaled)
    expected = image.resize(scaled, Image.Resampling.BICUBIC).crop((left, top, left + 224, top + 224))
    np.testing.assert_array_equal(preprocessing.center_view(image), np.asarray(expected))


def test_center_view_without_resize_squashes():
    image = noise(300, 100)
    expected = np.asarray(image.resize((256, 256), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(SIGLIP.center_view(image), expected)


@pytest.mark.parametrize("size", [(100_000, 1), (1, 100_000)])
def test_a_long_strip_takes_no_gigabytes(size):
    view = CLIP.center_view(Image.new("RGB", size, (10, 20, 30)))
    np.testing.assert_array_equal(view, np.broadcast_to(np.uint8([10, 20, 30]), (224, 224, 3)))


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 400), height=st.integers(1, 400), seed=st.integers(0, 2**32))
def test_random_views_are_squares_of_any_image(width, height, seed):
    small = Preprocessing(size=16, resize=16, interpolation="bicubic", mean=MEAN, std=STD)
    view = small.random_view(Image.new("RGB", (width, height), (10, 20, 30)), np.random.default_rng(seed))
    np.testing.assert_array_equal(view, np.broadcast_to(np.uint8([10, 20, 30]), (16, 16, 3)))


def test_random_views_follow_the_seed():
    image = noise(300, 200)
    first, again, other = (CLIP.random_view(image, np.random.default_rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_random_views_cover_half_to_all_of_the_image_and_mirror_half_of_the_time():
    ramp = np.broadcast_to(np.arange(256, dtype=np.uint8)[None, :, None], (256, 256, 3))
    image, rng = Image.fromarray(np.ascontiguousarray(ramp)), np.random.default_rng(0)
    views = [CLIP.random_view(image, rng)[..., 0].astype(int) for _ in range(400)]
    widths = np.array([abs(view[0, -1] - view[0, 0]) for view in views]) / 255
    assert 0.60 < widths.min() < 0.66
    assert widths.max() > 0.97
    mirrored = np.mean([view[0, 0] > view[0, -1] for view in views])
    assert 0.42 < mirrored < 0.58


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32))
def test_normalize_is_the_formula(seed):
    small = Preprocessing(size=5, resize=5, interpolation="bicubic", mean=MEAN, std=STD)
    pixels = np.random.default_rng(seed).integers(0, 256, (3, 5, 5, 3), dtype=np.uint8)
    inputs = small.normalize(pixels)
    expected = ((pixels.astype(np.float64) / 255 - MEAN) / STD).transpose(0, 3, 1, 2)
    assert inputs.dtype == np.float32
    assert inputs.flags.c_contiguous
    np.testing.assert_allclose(inputs, expected, atol=2e-6)


@pytest.mark.parametrize(
    "pixels", [np.zeros((224, 224, 3), "u1"), np.zeros((1, 224, 224, 3)), np.zeros((1, 3, 224, 224), "u1")]
)
def test_normalize_refuses_other_arrays(pixels):
    with pytest.raises(InputError, match=r"Expected uint8 views of shape \(B, 224, 224, 3\), got"):
        CLIP.normalize(pixels)


def test_min_side_leaves_every_crop_to_be_sampled_down():
    assert (CLIP.min_side(), LITE.min_side(), SIGLIP.min_side()) == (224, 256, None)
    assert CLIP.min_side(random_views=True) == 366
    assert SIGLIP.min_side(random_views=True) is None


def test_key_tells_apart_what_changes_pixels():
    draft_off = Preprocessing(**{**CLIP.to_dict(), "mean": MEAN, "std": STD, "draft": False})
    keys = {CLIP.key, LITE.key, SIGLIP.key, draft_off.key}
    assert len(keys) == 4
    assert json.loads(CLIP.key)["version"] == PREPROCESSING_VERSION


@pytest.mark.parametrize("preprocessing", [CLIP, LITE, SIGLIP])
def test_settings_survive_json(preprocessing):
    config = json.loads(json.dumps(preprocessing.to_preprocessor_config()))
    assert Preprocessing.from_preprocessor_config(config) == preprocessing


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"size": 224, "crop_size": 224},
        {"size": 224},
        {"crop_size": 224, "do_pad": None},
    ],
)
def test_clips_file_is_read_in_all_its_forms(sizes):
    assert Preprocessing.from_preprocessor_config({**CLIP_FILE, **sizes}) == CLIP


def test_siglips_file_is_read():
    half = [0.5, 0.5, 0.5]
    config = {
        "do_resize": True,
        "size": {"height": 256, "width": 256},
        "resample": 2,
        "image_mean": half,
        "image_std": half,
    }
    read = Preprocessing.from_preprocessor_config({**config, "do_convert_rgb": None, "draft": False})
    assert read == SIGLIP


def test_a_file_without_normalisation_leaves_pixels_between_0_and_1():
    read = Preprocessing.from_preprocessor_config({**CLIP_FILE, "do_normalize": False})
    assert (read.mean, read.std) == ((0, 0, 0), (1, 1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resample": 0}, "resample 2 or 3"),
        ({"do_pad": True}, "do_pad False, got True"),
        ({"do_resize": False}, "do_resize True, got False"),
        ({"rescale_factor": 1.0}, "rescale_factor 1/255, got 1.0"),
        ({"do_center_crop": False}, "a square size without crop"),
        ({"size": {"height": 224, "width": 320}, "do_center_crop": False}, "a square size without crop"),
        ({"size": {"shortest_edge": 224, "longest_edge": 512}}, "a shortest_edge with a square crop_size"),
        ({"size": None}, "got size None"),
        ({"size": {"shortest_edge": 200}}, "from the view size 224 to 4096, got 200"),
        ({"image_mean": 0.5}, "like CLIP's or SigLIP's"),
        ({"image_std": [0.5, 0.5]}, "three positive stds"),
    ],
)
def test_files_that_ask_for_more_are_refused(change, message):
    with pytest.raises(EncoderError, match=message):
        Preprocessing.from_preprocessor_config({**CLIP_FILE, **change})


def test_a_file_without_mean_is_refused():
    config = {key: value for key, value in CLIP_FILE.items() if key != "image_mean"}
    with pytest.raises(EncoderError, match="with 'image_mean', got"):
        Preprocessing.from_preprocessor_config(config)


@pytest.mark.parametrize("change", [{"size": 0}, {"resize": 100}, {"interpolation": "cubic"}, {"std": (1, 0, 1)}])
def test_settings_out_of_range_are_refused(change):
    with pytest.raises(InputError, match=r"Expected|Unknown"):
        replace(CLIP, **change)


def test_draft_decoding_of_real_photos_hardly_changes_a_view(shared_data):
    small = Preprocessing(size=64, resize=64, interpolation="bicubic", mean=MEAN, std=STD)
    for photo in sorted((shared_data / "clothing" / "test").glob("*/*.jpg"))[::60]:
        full, draft = load_image(photo), load_image(photo, min_side=small.min_side())
        assert draft.size < full.size
        difference = small.center_view(full).astype(int) - small.center_view(draft)
        assert np.abs(difference).mean() < 1.5
