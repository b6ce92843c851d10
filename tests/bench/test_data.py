"""Support sets: which shots, and when there is but one possible set."""

import numpy as np
import pytest

from tip_adapter.bench import FeatureData, Part
from tip_adapter.bench.data import PhotoSettings, prepare
from tip_adapter.bench.draws import Wanted
from tip_adapter.data import load_dataset
from tip_adapter.data.sampling import sample_shots
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import DatasetError, ImageError, InputError
from tip_adapter.features.extraction import extract_features

SETTINGS = PhotoSettings(lambda: load_encoder("fake"), "fake")


@pytest.fixture
def given(tiny):
    """Support sets as published: of 1, 2 and 6 shots, the largest to draw others from."""
    rows = {1: [0, 6, 12], 2: [1, 2, 7, 8, 13, 14], 6: list(range(18))}
    # The small ones are of other views, so they differ from any that is drawn.
    supports = {
        shots: Part(
            tiny.train.features[chosen][:, ::-1] if shots < 6 else tiny.train.features, tiny.train.labels[chosen]
        )
        for shots, chosen in rows.items()
    }
    return FeatureData("tiny", tiny.class_names, tiny.test, tiny.zero_shot_weights, supports=supports)


def prepared(source, shots=None, n_seeds=3, validation=False, settings=SETTINGS):
    return prepare(source, settings, Wanted(shots, n_seeds, ("paper",) if validation else ()))


def test_seed_0_is_the_given_set_and_others_are_drawn_from_the_largest(given):
    data = prepared(given)
    assert sorted(data.draws.sets) == [(1, 0), (1, 1), (1, 2), (2, 0), (2, 1), (2, 2), (6, 0)]
    assert data.draws.single == {6}
    for (shots, seed), draw in data.draws.sets.items():
        part = draw.of(given)
        assert np.bincount(part.labels).tolist() == [shots] * 3
        if seed == 0:
            assert part.digest == given.supports[shots].digest
        else:
            rows = sample_shots(given.supports[6].labels, shots, random_state=seed)
            np.testing.assert_array_equal(part.features, given.supports[6].features[rows])


def test_a_training_part_gives_all_draws(tiny):
    draws = prepared(tiny, shots=[2, 6]).draws
    assert {draw.part for draw in draws.sets.values()} == {"train"}
    assert draws.single == {6}
    assert sorted(draws.sets) == [(2, 0), (2, 1), (2, 2), (6, 0)]


def test_more_training_photos_to_validate_on_are_apart_from_the_shots(tiny):
    draws = prepared(tiny, shots=[1, 3, 4, 6]).draws
    # Six photos a class: 3 + 3 are there, 4 + 4 and 6 + 4 are not.
    assert sorted(draws.validation) == [(shots, seed) for shots in (1, 3) for seed in range(3)]
    for (shots, seed), draw in draws.validation.items():
        assert not set(draw.rows) & set(draws.sets[shots, seed].rows)
        assert np.bincount(draw.of(tiny).labels).tolist() == [min(shots, 4)] * 3


def test_beside_a_given_support_set_nothing_is_known_to_be_apart(given):
    assert sorted(prepared(given).draws.validation) == [(1, 1), (1, 2), (2, 1), (2, 2)]


def test_photos_to_validate_on_are_encoded_too(photos):
    data = prepare(photos, SETTINGS, Wanted([2], 1, ("paper-few",)))
    draw = data.draws.validation[2, 0]
    assert not set(draw.rows) & set(data.draws.sets[2, 0].rows)
    assert np.bincount(draw.of(data.features).labels).tolist() == [2, 2, 2]
    shown = [data.photos["train"][row].parent.name for row in draw.rows]
    assert shown == [data.features.class_names[label] for label in draw.of(data.features).labels]


def test_shots_that_are_not_there(tiny):
    draws = prepared(tiny).draws
    assert {shots for shots, _ in draws.sets} == {1, 2, 4}
    assert draws.notes == ("tiny has 6 photos of 'ant' to learn from, so 8, 16 shots are left out",)
    with pytest.raises(DatasetError, match="at most 6 shots, got 8: tiny has 6 photos of 'ant'"):
        prepared(tiny, shots=[1, 8])
    with pytest.raises(InputError, match="at least 1"):
        prepared(tiny, shots=[0])


def test_photos_are_drawn_from_the_training_split_and_only_those_are_encoded(photos):
    data = prepared(photos, shots=[1, 2], n_seeds=2)
    train = load_dataset(photos, split="train")
    features = extract_features(load_encoder("fake"), train.paths).features.unit
    used = set()
    for (shots, seed), draw in data.draws.sets.items():
        rows = sample_shots(train.labels, shots, random_state=seed)
        part = draw.of(data.features)
        np.testing.assert_array_equal(part.labels, train.labels[rows])
        np.testing.assert_allclose(part.features, features[rows], atol=1e-6)
        assert [data.photos["train"][row] for row in draw.rows] == [train.paths[row] for row in rows]
        used |= set(rows.tolist())
    assert len(data.features.train) == len(used) < len(train)
    assert data.features.test.labels.tolist() == load_dataset(photos, split="test").labels.tolist()


def test_more_seeds_or_shots_do_not_change_a_draw(photos):
    few, many = prepared(photos, shots=[1], n_seeds=1), prepared(photos, shots=[1, 4], n_seeds=3)
    assert few.draws.sets[1, 0].of(few.features).digest == many.draws.sets[1, 0].of(many.features).digest
    assert few.features.digest == many.features.digest


def test_views_are_kept_for_methods_that_train_on_them(photos):
    settings = PhotoSettings(lambda: load_encoder("fake"), "fake", views=3)
    data = prepared(photos, shots=[1], n_seeds=1, settings=settings)
    assert data.features.train.views.shape == (3, 3, 64)
    assert data.features.test.views is None


def test_without_splits_half_of_every_class_is_the_test_set(photos):
    data = prepared(photos / "train", shots=[1], n_seeds=1)
    assert np.bincount(data.features.test.labels).tolist() == [2, 2, 2]
    assert not {path.name + path.parent.name for path in data.photos["train"]} & {
        path.name + path.parent.name for path in data.photos["test"]
    }


def test_validation_photos_are_encoded_when_asked_for(photos):
    (photos / "test").rename(photos / "kept")
    for split in ("val", "test"):
        (photos / split).mkdir()
        for folder in (photos / "kept").iterdir():
            (photos / split / folder.name).mkdir()
            names = sorted(folder.iterdir())
            for path in names[:1] if split == "val" else names[1:]:
                (photos / split / folder.name / path.name).write_bytes(path.read_bytes())
    for folder in sorted((photos / "kept").rglob("*"), reverse=True):
        folder.rmdir() if folder.is_dir() else folder.unlink()
    (photos / "kept").rmdir()
    assert prepared(photos, shots=[1]).features.validation is None
    assert len(prepared(photos, shots=[1], validation=True).features.validation) == 3


def test_unreadable_shots_are_drawn_again_when_they_may_be_skipped(photos):
    broken = sorted((photos / "train" / "red").iterdir())[0]
    broken.write_bytes(b"no picture")
    with pytest.raises(ImageError, match=broken.name):
        prepared(photos, shots=[4], n_seeds=3)
    settings = PhotoSettings(lambda: load_encoder("fake"), "fake", skip_bad=True)
    data = prepared(photos, shots=[4], n_seeds=3, settings=settings)
    assert broken not in data.photos["train"]
    assert len(data.skipped) == 1
    for draw in data.draws.sets.values():
        assert np.bincount(draw.of(data.features).labels).tolist() == [4, 4, 4]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("nowhere", "Unknown data set 'nowhere': .* or one of imagenet, caltech101.* with --data-root"),
        ("caltech101", "--data-root, the folder that holds caltech-101/"),
        ("missing.npz", "no feature file"),
    ],
)
def test_unknown_sources_list_the_valid_ones(source, words):
    with pytest.raises(DatasetError, match=words):
        prepared(source)
