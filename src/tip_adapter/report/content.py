"""What a report shows, as plain values: figures, photos and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from tip_adapter.data.thumbnails import make_thumbnails
from tip_adapter.explain.explanation import Explanation
from tip_adapter.methods.selection.cache_search import Landscape
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.doctor import Diagnosis
from tip_adapter.trust.evaluation import Evaluation
from tip_adapter.typing import FloatArray, IntArray

PHOTO_SIDE = 320
"""Pixels of the longer side of a photo that is explained."""


@dataclass(frozen=True)
class ComparedMethod:
    """The accuracy of one way to classify, with its 95 % interval and, where it was fitted, the seconds that took."""

    name: str
    note: str
    accuracy: float
    interval: tuple[float, float]
    seconds: float | None = None


@dataclass(frozen=True)
class ExplainedPhoto:
    """A photo and why it got its class."""

    explanation: Explanation
    picture: bytes

    @classmethod
    def read(cls, explanation: Explanation) -> Self:
        """Read the photo that an explanation is about from its path."""
        return cls(explanation, make_thumbnails([explanation.path], PHOTO_SIDE)[0])


@dataclass(frozen=True)
class PhotoStrip:
    """A shot that decided, with its class and, in words, how much it counted."""

    name: str
    class_name: str
    caption: str
    thumbnail: bytes | None = None


@dataclass(frozen=True)
class Mistake:
    """A photo whose answer was wrong: its row, and the shots that spoke for the answer."""

    row: int
    shots: tuple[PhotoStrip, ...] = ()


@dataclass(frozen=True, eq=False)
class ReportContent:
    """All that `render_report` needs."""

    title: str
    facts: Mapping[str, str]
    """About the classifier: method, encoder, shots and so on."""
    evaluation: Evaluation
    probabilities: FloatArray
    """(B, C): calibrated."""
    labels: IntArray
    """(B,)."""
    names: Sequence[str]
    """B of them: what the photos are called."""
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    """JPEG pictures of some of the photos."""
    raw_probabilities: FloatArray | None = None
    """(B, C): at temperature 1."""
    calibration: Calibration | None = None
    landscape: Landscape | None = None
    """With the chosen α and β in `chosen`."""
    chosen: tuple[float, float] | None = None
    """(α, β)."""
    mistakes: Sequence[Mistake] = ()
    """The most confident first."""
    diagnosis: Diagnosis | None = None
    shot_thumbnails: Mapping[str, bytes] = field(default_factory=dict)
    """Pictures of the shots that the doctor speaks of."""
    compared: Sequence[ComparedMethod] = ()
    """The last is the classifier of the report. Without any, its texts, its shots and both are compared."""
    explained: ExplainedPhoto | None = None
