"""Samples of more than 8 bits: in every file that holds them, and in arrays."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from image_files import encoded, png, tiff
from tip_adapter.data.decoding import load_image
from tip_adapter.errors import ImageError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (12, 18))
COLOUR = RNG.integers(0, 256, (12, 18, 3))
GREY[0, 0] = COLOUR[0, 0] = 255
DEPTHS = (8, 10, 12, 14, 16)


def of_depth(values, bits):
    """Spread values of 8 bits over a depth."""
    return np.round(values / 255 * (2**bits - 1)).astype(np.uint16)


def seen(source):
    return np.asarray(load_image(source)).astype(int)


def grey(values):
    return np.repeat(np.round(values).astype(int)[:, :, None], 3, axis=2)


def with_opacity(values, opaque):
    values = values[:, :, None] if values.ndim == 2 else values
    return np.concatenate([values, np.full((*values.shape[:2], 1), opaque, values.dtype)], axis=2)


@pytest.mark.parametrize("bits", DEPTHS)
def test_the_smallest_depth_that_holds_the_values_is_white(bits):
    values, colours, top = of_depth(GREY, bits), of_depth(COLOUR, bits), 2**bits - 1
    for source in (png(values), png(with_opacity(values, top)), tiff(values), tiff(values, ">"), values):
        np.testing.assert_array_equal(seen(source), grey(GREY))
    for source in (png(colours), png(with_opacity(colours, top)), png(with_opacity(colours, 65535)), colours):
        np.testing.assert_array_equal(seen(source), COLOUR)
    for order in "<>":
        for extra in ({}, {284: (3, [2])}):
            np.testing.assert_array_equal(seen(tiff(colours, order, extra)), COLOUR)
            np.testing.assert_array_equal(seen(tiff(with_opacity(colours, top), order, extra)), COLOUR)


@pytest.mark.parametrize("kind", [np.uint32, np.int32, np.int64, np.uint16])
def test_integers_of_any_type_are_scaled_alike(kind):
    np.testing.assert_array_equal(seen(of_depth(GREY, 12).astype(kind)), grey(GREY))
    if kind is np.int32:
        np.testing.assert_array_equal(seen(tiff(of_depth(GREY, 12).astype(kind))), grey(GREY))


def test_signed_samples_of_sixteen_bits_have_fifteen():
    values = of_depth(GREY, 15).astype(np.int16)
    np.testing.assert_array_equal(seen(values), grey(GREY))
    np.testing.assert_array_equal(seen(tiff(values)), grey(GREY))


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_tiff_files_are_scaled_alike(compression):
    data = encoded(Image.fromarray(of_depth(GREY, 12)), "TIFF", compression=compression)
    np.testing.assert_array_equal(seen(data), grey(GREY))


@pytest.mark.parametrize(
    ("data", "white"),
    [
        (lambda dark: png(dark, {b"sBIT": b"\x10"}), 65535),
        (lambda dark: png(dark, {b"sBIT": b"\x0c"}), 4095),
        (lambda dark: png(16 * dark, {b"sBIT": b"\x0c"}), 4095.9),  # scaled up, as the standard asks for
        (lambda dark: tiff(dark, tags={281: (3, [65535])}), 65535),
        (lambda dark: tiff(dark, tags={281: (3, [3000])}), 4095),
        (lambda dark: tiff(dark, tags={281: (3, [3])}), 1023),
    ],
)
def test_a_declared_depth_is_believed(data, white):
    dark = np.round(GREY / 255 * 900).astype(np.uint16)
    assert np.abs(seen(data(dark)) - grey(255.0 * dark / white)).max() <= 1


def test_colours_of_a_declared_depth():
    dark = np.round(COLOUR / 255 * 900).astype(np.uint16)
    np.testing.assert_array_equal(seen(png(dark, {b"sBIT": b"\x10\x10\x10"})), np.round(dark / 257))


@pytest.mark.parametrize(("white", "tolerance"), [(1, 0), (255, 0), (4095, 1), (65535, 1)])
def test_floating_point_samples_have_the_range_that_holds_them(white, tolerance):
    values = (GREY / 255 * white).astype(np.float32)
    for source in (values, tiff(values), tiff(values, ">"), values.astype(np.float64)):
        assert np.abs(seen(source) - grey(GREY)).max() <= tolerance
    np.testing.assert_array_equal(seen((COLOUR / 255).astype(np.float32)), COLOUR)


def test_resampled_samples_may_overshoot():
    values = (GREY / 255 * 1.1 - 0.05).astype(np.float32)
    assert np.abs(seen(values) - grey(np.clip(values * 255, 0, 255))).max() <= 1


def test_the_declared_range_of_floating_point_samples():
    values = (GREY / 255 * 4 - 2).astype(np.float32)
    assert np.abs(seen(tiff(values, tags={340: (11, [-2.0]), 341: (11, [2.0])})) - grey(GREY)).max() <= 1


def test_zero_is_white_where_a_file_says_so():
    np.testing.assert_array_equal(seen(tiff(of_depth(255 - GREY, 12), tags={262: (3, [0])})), grey(GREY))


def test_booleans_are_black_and_white():
    assert seen(np.array([[True, False]])).tolist() == [[[255] * 3, [0] * 3]]


def test_a_transparent_colour_of_sixteen_bits_becomes_white():
    values = np.array([[0, 1000], [2000, 4095]], dtype=np.uint16)
    assert seen(png(values, {b"tRNS": struct.pack(">H", 1000)}))[..., 0].tolist() == [[0, 255], [125, 255]]
    colours = np.stack([values] * 3, axis=-1)
    assert seen(png(colours, {b"tRNS": struct.pack(">HHH", 0, 0, 0)}))[..., 0].tolist() == [[255, 62], [125, 255]]


def test_opacity_of_any_type_is_blended_with_white():
    red = np.array([255, 0, 0, 128])
    for scale, kind in ((1, np.uint8), (257, np.uint16), (1 / 255, np.float32)):
        pixels = np.tile((red * scale).astype(kind), (2, 3, 1))
        pixels[0, 0, 3] = 255 * scale
        assert seen(pixels)[1, 1].tolist() == pytest.approx([255, 127, 127], abs=1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.full((3, 3), -1000, np.int16), "samples from 0 to 65,535, got -1,000 to 0"),
        (np.full((3, 3), 1 << 20, np.int32), "samples from 0 to 65,535, got 0 to 1.04858e"),
        (np.full((3, 3), np.nan, np.float32), "finite samples, got NaN or infinity"),
        (np.full((3, 3), np.inf, np.float32), "finite samples, got NaN or infinity"),
        (np.full((3, 3), -3, np.float32), "samples from 0 to 1, 255 or 65,535, got -3 to 0"),
    ],
)
def test_values_that_no_depth_explains_are_refused_with_a_remedy(values, message):
    for source in (values, tiff(values)):
        with pytest.raises(ImageError, match=f"^Expected .* to have {message}.*: s(hift|ave)"):
            load_image(source)


def test_compressed_planes_of_sixteen_bits_are_refused():
    data = tiff(of_depth(COLOUR, 12), tags={284: (3, [2]), 259: (3, [8])})
    with pytest.raises(ImageError, match="colours of 16 bits are interleaved or not compressed, got compressed planes"):
        load_image(data)


@given(
    highest=st.integers(1, 65535),
    bits=st.sampled_from(DEPTHS),
    channels=st.sampled_from([(), (2,), (3,), (4,)]),
    seed=st.integers(0, 99),
)
def test_files_and_arrays_agree_with_the_rule(highest, bits, channels, seed):
    """Against the rule written down pixel by pixel, in float64."""
    values = np.random.default_rng(seed).integers(0, highest, (5, 7, *channels), endpoint=True).astype(np.uint16)
    if channels in ((2,), (4,)):
        values[..., -1] = 65535
    colours = values if channels in ((), (3,)) else values[..., :-1]
    white = min(2**depth - 1 for depth in DEPTHS if colours.max() < 2**depth)
    expected = np.broadcast_to(np.floor(colours.reshape(5, 7, -1) * 255.0 / white + 0.5), (5, 7, 3))
    np.testing.assert_array_equal(seen(png(values)), expected)
    if channels != (2,):
        np.testing.assert_array_equal(seen(values), expected)
        np.testing.assert_array_equal(seen(tiff(values)), expected)
