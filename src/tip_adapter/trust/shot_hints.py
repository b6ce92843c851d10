"""Point out shots to look at: doubtful labels, near-duplicates, tiny pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from tip_adapter.methods.heads import softmax
from tip_adapter.methods.left_out import LeftOut
from tip_adapter.trust.calibration import FEW_SHOTS, fit_temperature
from tip_adapter.trust.doctor import SMALL, suspicious_labels
from tip_adapter.trust.duplicates import Photos, find_duplicates
from tip_adapter.trust.enough import ShotHint


def shot_hints(
    shots: Photos, answers: LeftOut, class_names: Sequence[str], sizes: Mapping[str, tuple[int, int]]
) -> tuple[ShotHint, ...]:
    """Find shots whose label the others contradict, near-copies that are no group, and tiny pictures.

    Photos of one group are alike, and count as one already: only those in two classes are told.

    `sizes` are (width, height) in pixels by the names of shots, as far as they are known. The most contradicted labels
    come first, then near-copies, then tiny pictures.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter.methods import TipAdapter
    >>> from tip_adapter.methods.left_out import left_out_logits
    >>> from tip_adapter.trust.duplicates import Photos
    >>> from tip_adapter.trust.shot_hints import shot_hints
    >>> features, labels = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
    >>> answers = left_out_logits(TipAdapter(logit_scale=10.0).fit(features, labels), features, labels)
    >>> shots = Photos(features, labels, tuple("abcd"), tuple("1234"))
    >>> [(hint.shot, hint.reason) for hint in shot_hints(shots, answers, ["hat", "cap"], {"b": (40, 30)})]
    [('b', 'tiny picture: 40 × 30 pixels')]
    """
    found = []
    if len(answers.labels):
        temperature = fit_temperature(answers.logits, answers.labels) if answers.shots > FEW_SHOTS else 1.0
        opinion = softmax(answers.logits / temperature)
        for label in suspicious_labels(opinion, answers.labels, answers.rows, shots, class_names):
            sure = f"{100 * label.suggested_probability:.0f} %"
            reason = f"doubtful label: {label.given}, but left out it looks like {label.suggested} ({sure})"
            found.append(ShotHint(label.name, "doubtful label", reason))
    found += _near_copies(shots, class_names)
    found += [
        ShotHint(name, "tiny picture", f"tiny picture: {width} × {height} pixels")
        for name, (width, height) in sizes.items()
        if min(width, height) < SMALL
    ]
    return tuple(found)


def _near_copies(shots: Photos, class_names: Sequence[str]) -> list[ShotHint]:
    rows = {name: row for row, name in enumerate(shots.names)}
    groups = np.arange(len(shots)) if shots.groups is None else shots.groups
    found: dict[str, ShotHint] = {}
    for pair in find_duplicates(shots, class_names):
        what = "the same file as" if pair.same_file else "nearly the same as"
        if pair.first_class != pair.second_class:
            for name, other in ((pair.first, pair.second_class), (pair.second, pair.first_class)):
                reason = f"near-copy: {what} a photo of {other}, so one label is wrong"
                found[name] = ShotHint(name, "near-copy", reason)
        elif groups[rows[pair.first]] != groups[rows[pair.second]]:
            reason = f"near-copy: {what} another photo of {pair.first_class}, and tells nothing new"
            found.setdefault(pair.second, ShotHint(pair.second, "near-copy", reason))
    return list(found.values())
