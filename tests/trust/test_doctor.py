"""The doctor finds flipped labels, copies wherever they are, and classes that are mixed up."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tip_adapter.trust.doctor import contradicted, diagnose, find_small_images
from tip_adapter.trust.duplicates import Photos, find_duplicates

NAMES = [f"class {number}" for number in range(8)]


def photos(seed=0, shots=8, n_classes=8, dim=32, noise=0.9):
    rng = np.random.default_rng(seed)
    texts = np.random.default_rng(99).normal(size=(n_classes, dim))
    labels = np.repeat(np.arange(n_classes), shots)
    features = texts[labels] + noise * rng.normal(size=(len(labels), dim))
    texts, features = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (texts, features))
    names = tuple(f"{seed}-{index}.jpg" for index in range(len(labels)))
    return texts.astype(np.float32), Photos(features.astype(np.float32), labels, names, names)


def flipped(shots, rows, by=1):
    labels = shots.labels.copy()
    labels[rows] = (labels[rows] + by) % 8
    return Photos(shots.features, labels, shots.names, shots.digests, shots.hashes)


@pytest.mark.parametrize("seed", range(3))
def test_flipped_labels_are_found_and_told_what_they_are(seed):
    texts, shots = photos(seed)
    rows = [3, 20, 41]
    found = diagnose(flipped(shots, rows, by=3), NAMES, texts, 20.0).labels
    assert {shot.index for shot in found} == set(rows)
    for shot in found:
        assert shot.suggested == NAMES[shots.labels[shot.index]]
        assert shot.given_probability < 0.1 * shot.suggested_probability


def test_a_class_with_neither_text_nor_shots_does_not_shift_the_others():
    _, shots = photos(noise=0.3)
    there = shots.labels != 2
    labels, names = shots.labels[there], tuple(np.array(shots.names)[there])
    labels[50] = 4
    shots = Photos(shots.features[there], labels, names, names)
    diagnosis = diagnose(shots, NAMES, None, 20.0)
    assert [(shot.index, shot.given, shot.suggested) for shot in diagnosis.labels] == [(50, "class 4", "class 7")]


def test_right_labels_are_left_alone():
    texts, shots = photos()
    diagnosis = diagnose(shots, NAMES, texts, 20.0)
    assert diagnosis.labels == ()
    assert diagnosis.healthy


def test_one_shot_per_class_is_checked_by_the_texts():
    texts, shots = photos(shots=1, noise=0.3)
    swapped = flipped(flipped(shots, [2]), [3], by=-1)
    diagnosis = diagnose(swapped, NAMES, texts, 20.0)
    assert {shot.index for shot in diagnosis.labels} == {2, 3}
    assert "texts alone" in diagnosis.evidence


def test_one_shot_per_class_and_no_texts_is_nothing():
    _, shots = photos(shots=1)
    diagnosis = diagnose(shots, NAMES, None, 20.0)
    assert diagnosis.labels == ()
    assert "nothing" in diagnosis.evidence


def test_the_threshold_is_strict():
    assert not contradicted(np.array([[0.05, 0.5, 0.45]]), np.array([0]))[0]
    assert contradicted(np.array([[0.0499, 0.5, 0.4501]]), np.array([0]))[0]


def test_copies_inside_across_and_between_sets():
    _, shots = photos()
    features = shots.features.copy()
    features[1], features[60] = features[0], features[10]
    digests = ("same", "same", *shots.digests[2:])
    shots = Photos(features, shots.labels, shots.names, digests)
    _, apart = photos(seed=1, shots=2)
    other = Photos(
        np.vstack([apart.features[:3], features[30:31]]), apart.labels[:4], apart.names[:4], apart.digests[:4]
    )
    pairs = {(pair.first, pair.second): pair for pair in find_duplicates(shots, NAMES, other)}
    assert len(pairs) == 3
    assert pairs["0-0.jpg", "0-1.jpg"].where == "inside a class"
    assert pairs["0-0.jpg", "0-1.jpg"].same_file
    assert pairs["0-10.jpg", "0-60.jpg"].where == "across classes"
    assert pairs["1-3.jpg", "0-30.jpg"].where == "train and test"
    assert not pairs["1-3.jpg", "0-30.jpg"].same_file


def test_where_all_photos_look_much_alike_copies_must_be_nearer():
    """As with digits or X-rays: every pair is above a cosine of .97, one pair is a copy."""
    rng = np.random.default_rng(3)
    _, shots = photos(n_classes=6, shots=6)
    features = rng.normal(size=32) + 0.12 * rng.normal(size=(36, 32))
    features[20] = features[3] + 0.01 * rng.normal(size=32)
    features = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32)
    assert (features @ features.T).min() > 0.97
    # Half of the fields are dark in every picture; those of 20 are nearly those of 3.
    hashes = np.zeros((36, 2, 64), dtype=bool)
    hashes[:, :, :32] = True
    hashes[:, :, 32:] = rng.random((36, 2, 32)) < 0.2
    hashes[20] = hashes[3]
    alike = Photos(features, shots.labels, shots.names, shots.digests, hashes)
    pairs = list(find_duplicates(alike, NAMES, alike))
    inside = [(pair.first, pair.second) for pair in pairs if pair.where != "train and test"]
    assert inside == [(shots.names[3], shots.names[20])]
    assert len(pairs) == 1 + 36 + 2  # the same files between the sets, and the copy both ways


def test_pictures_that_are_alike_need_features_that_allow_it():
    _, shots = photos(n_classes=2, shots=2)
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2, (4, 2, 64)).astype(bool)
    # 1 is 0 with four bits changed, 3 is the mirror image of 0.
    hashes[1, 0] = hashes[0, 0]
    hashes[1, 0, :4] ^= True
    hashes[3, 1] = hashes[0, 0]
    features = np.array([[1, 0, 0], [0.9, 0.436, 0], [0, 0, 1], [0.5, 0, 0.866]], dtype=np.float32)
    pairs = list(find_duplicates(Photos(features, shots.labels, shots.names, shots.digests, hashes), NAMES))
    assert [(pair.first, pair.second) for pair in pairs] == [("0-0.jpg", "0-1.jpg")]


def test_a_file_that_claims_to_be_huge_is_named(tmp_path):
    header = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    claim = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
    claim += struct.pack(">I", 99) + b"IDAT"
    (tmp_path / "huge.png").write_bytes(claim)
    Image.new("RGB", (64, 63)).save(tmp_path / "small.png")
    Image.new("RGB", (64, 64)).save(tmp_path / "fine.png")
    found = find_small_images(sorted(tmp_path.iterdir()))
    assert [(Path(image.name).name, image.reason.split(" /", 1)[0]) for image in found] == [
        ("huge.png", "Expected"),
        ("small.png", "only 64 × 63 pixels"),
    ]
