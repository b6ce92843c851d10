"""Know the usual names of splits: train, validation and test in all their spellings."""

from __future__ import annotations

import re
from dataclasses import dataclass

SPLITS = ("train", "validation", "test")
UNLABELLED = "unlabelled"
AS_IT_IS = "none"
"""As a split: folders are classes whatever they are called, rows are taken whatever their split is."""

_WORDS = {
    "train": ("train", "training", "trn", "trainset", "traindata", "trainingset", "trainval"),
    "validation": (
        *("validation", "val", "valid", "validate", "valset", "validset", "validationset", "dev", "devset"),
        "publictest",
    ),
    "test": ("test", "testing", "tst", "testset", "testdata", "testingset", "privatetest"),
    # Some call their test set like this; beside a test set it is the validation set.
    "evaluation": ("eval", "evaluation", "evalset", "holdout", "heldout"),
    UNLABELLED: ("pred", "predict", "prediction", "unlabelled", "unlabeled", "unlabel", "inference", "submission"),
}
_TOGETHER = (("hold", "out"), ("held", "out"), ("public", "test"), ("private", "test"))
_SPLIT_OF = {word: split for split, words in _WORDS.items() for word in words}
_FILLERS = frozenset(
    ("set", "data", "dataset", "image", "images", "imgs", "img", "photos", "pictures", "pics", "dir", "folder", "split")
)


@dataclass(frozen=True)
class SplitName:
    """A name that looks like a split's."""

    split: str
    """"train", "validation", "test", "evaluation" or "unlabelled"."""
    rest: frozenset[str]
    """The other words: splits of one data set share them, as seg_train and seg_test do."""


def split_name(name: str) -> SplitName | None:
    """Understand the name of a folder, or a value of a column, as that of a split; None where it is none.

    Examples
    --------
    >>> from tip_adapter.data.splits import split_name
    >>> split_name("seg_train").split, split_name("Testing Set").split, split_name("trains")
    ('train', 'test', None)
    """
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)  # trainSet
    words = re.findall(r"[^\W\d_]+", spaced.casefold())
    for first, second in _TOGETHER:
        words = " ".join(words).replace(f"{first} {second}", first + second).split()
    splits = [_SPLIT_OF[word] for word in words if word in _SPLIT_OF]
    if len(set(splits)) != 1:
        return None
    return SplitName(splits[0], frozenset(word for word in words if word not in _SPLIT_OF and word not in _FILLERS))
