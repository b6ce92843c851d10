"""Photos that are there twice are told when a classifier is fitted."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tip_adapter import ImageClassifier
from tip_adapter.errors import DuplicateWarning
from tip_adapter.trust.duplicates import warn_of_copies

NAMES = ("cap", "hat", "shoe")


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), min_size=1, max_size=12))
def test_every_copy_is_told_and_nothing_else(photos):
    digests, labels = [str(digest) for digest, _ in photos], np.array([label for _, label in photos])
    classes = {digest: set() for digest in digests}
    for digest, label in zip(digests, labels.tolist(), strict=True):
        classes[digest].add(label)
    across = sum(len(found) > 1 for found in classes.values())
    inside = sum(len(found) == 1 and digests.count(digest) > 1 for digest, found in classes.items())
    with pytest.MonkeyPatch.context() as patch:
        told = []
        patch.setattr("tip_adapter.trust.duplicates.warn", lambda text, category: told.append(text))
        warn_of_copies(digests, labels, [f"{index}.jpg" for index in range(len(digests))], NAMES)
    assert [text.split()[0] for text in told] == [str(number) for number in (inside, across) if number]


def test_fit_tells_of_both_kinds():
    photos = [np.full((16, 16, 3), value, dtype=np.uint8) for value in (10, 10, 20, 200, 20)]
    with pytest.warns(DuplicateWarning) as told:
        ImageClassifier("fake", store=None).fit(photos, ["cap", "cap", "cap", "hat", "hat"])
    assert [str(one.message) for one in told] == [
        "1 photo is more than once in a class, such as image 0 and image 1: each counts as a shot of its own, so "
        "leave the copies out",
        "1 photo is in two classes, such as image 2 (cap) and image 4 (hat): one is wrong",
    ]
