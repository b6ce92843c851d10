"""Full conformal sets cover as often as wanted where shots and photos are drawn alike, and equal slow ones."""

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.errors import InputError
from tip_adapter.methods.heads import CacheHead, softmax
from tip_adapter.trust.full_conformal import FullConformal


def drawn(rng, n, n_classes=5, dim=8):
    """Photos of random classes, as many of each as comes; at least one."""
    labels = np.r_[np.arange(n_classes), rng.integers(n_classes, size=n)]
    return unit(np.eye(n_classes, dim)[labels] + 0.6 * rng.normal(size=(len(labels), dim))), labels


def head_of(keys, labels, texts, *, balanced=True, n_classes=5):
    return CacheHead(n_classes, texts, 4.0, keys=keys, labels=labels, alpha=0.6, beta=3.0, balanced=balanced)


@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("with_text", [True, False])
def test_every_rank_is_that_of_fits_made_anew(balanced, with_text):
    rng = np.random.default_rng(0)
    keys, labels = drawn(rng, 12)
    queries, _ = drawn(rng, 3)
    texts = unit(rng.normal(size=(5, 8))) if with_text else None
    found = FullConformal.of(head_of(keys, labels, texts, balanced=balanced), 1.3).p_values(queries)
    for row, query in enumerate(queries):
        for label in range(5):
            photos, owners = np.vstack([keys, query]), np.r_[labels, label]
            fits = []
            for one in range(len(owners)):
                others = np.arange(len(owners)) != one
                logits = head_of(photos[others], owners[others], texts, balanced=balanced).logits(photos[one : one + 1])
                missing = ~np.isin(np.arange(5), owners[others])
                if missing.any():  # what is left has no shot of the class: it has its text, the others count by five
                    text = 4.0 * photos[one] @ texts.T if with_text else np.zeros(5)
                    logits = np.where(missing, text, text + (logits - text) * (0.8 if balanced else 1.0))
                fits.append(softmax(logits / 1.3)[0, owners[one]])
            expected = np.mean(np.array(fits) <= fits[-1] + 1e-7)
            assert found[row, label] == pytest.approx(expected)


@pytest.mark.parametrize("coverage", [0.8, 0.9])
def test_coverage_is_as_wanted_where_photos_are_exchangeable(coverage):
    rng, held = np.random.default_rng(1), []
    texts = unit(np.eye(5, 8) + 0.3 * rng.normal(size=(5, 8)))
    while len(held) < 600:
        # A photo is any of those drawn together; draws that leave a class without shots are made again.
        labels = rng.integers(5, size=31)
        if len(np.unique(labels[:-1])) < 5:
            continue
        photos = unit(np.eye(5, 8)[labels] + 0.6 * rng.normal(size=(31, 8)))
        sets = FullConformal.of(head_of(photos[:-1], labels[:-1], texts)).sets(photos[-1:], coverage)
        held.append(sets[0, labels[-1]])
    exact = np.ceil(31 * coverage) / 31
    assert np.mean(held) == pytest.approx(exact, abs=3 * np.sqrt(exact * (1 - exact) / len(held)))


def test_sets_grow_with_the_coverage():
    rng = np.random.default_rng(2)
    full = FullConformal.of(head_of(*drawn(rng, 60), None))
    queries, _ = drawn(rng, 20)
    sizes = [full.sets(queries, coverage).sum() for coverage in (0.5, 0.8, 0.95)]
    assert sizes == sorted(sizes)
    assert sizes[0] < sizes[-1]


def test_what_cannot_be_is_said():
    rng = np.random.default_rng(3)
    keys, labels = drawn(rng, 10)
    with pytest.raises(InputError, match="a shot of every class, got none of 1"):
        FullConformal.of(head_of(keys, labels, None, n_classes=6))
    with pytest.raises(InputError, match="needs at least 19 calibration photos, got 15"):
        FullConformal.of(head_of(keys, labels, None)).sets(keys[:1], 0.95)
