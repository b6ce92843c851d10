"""What a report shows, as plain values: figures, photos and findings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tip_adapter.methods.selection.cache_search import Landscape
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.doctor import Diagnosis
from tip_adapter.trust.evaluation import Evaluation
from tip_adapter.typing import FloatArray, IntArray

__all__ = ["Mistake", "PhotoStrip", "ReportContent"]


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
    """All that `render_report` needs.

    Attributes
    ----------
    title : str
    facts : mapping of str to str
        About the classifier: method, encoder, shots and so on.
    evaluation : Evaluation
    probabilities : ndarray of shape (B, C)
        Calibrated.
    labels : ndarray of shape (B,)
    names : sequence of B str
        What the photos are called.
    thumbnails : mapping of row to bytes
        JPEG pictures of some of the photos.
    raw_probabilities : ndarray of shape (B, C), optional
        At temperature 1.
    calibration : Calibration, optional
    landscape : Landscape, optional
        With the chosen α and β in `chosen`.
    chosen : tuple of (α, β), optional
    mistakes : sequence of Mistake
        The most confident first.
    diagnosis : Diagnosis, optional
    shot_thumbnails : mapping of shot name to bytes
        Pictures of the shots that the doctor speaks of.
    """

    title: str
    facts: Mapping[str, str]
    evaluation: Evaluation
    probabilities: FloatArray
    labels: IntArray
    names: Sequence[str]
    thumbnails: Mapping[int, bytes] = field(default_factory=dict)
    raw_probabilities: FloatArray | None = None
    calibration: Calibration | None = None
    landscape: Landscape | None = None
    chosen: tuple[float, float] | None = None
    mistakes: Sequence[Mistake] = ()
    diagnosis: Diagnosis | None = None
    shot_thumbnails: Mapping[str, bytes] = field(default_factory=dict)
