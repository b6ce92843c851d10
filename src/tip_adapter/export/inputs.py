"""Name the inputs of an exported classifier: one for every view of its encoder."""

from __future__ import annotations

from tip_adapter.data.joined_preprocessing import JoinedPreprocessing
from tip_adapter.data.preprocessing import Preprocessing
from tip_adapter.typing import UInt8Array


def inputs_of(preprocessing: Preprocessing | JoinedPreprocessing) -> dict[str, Preprocessing]:
    """Return the inputs by name, and how the pixels of each are cut.

    Examples
    --------
    >>> from tip_adapter.encoders import load_encoder
    >>> from tip_adapter.export.inputs import inputs_of
    >>> list(inputs_of(load_encoder("fake").preprocessing))
    ['pixels']
    """
    views = preprocessing.views if isinstance(preprocessing, JoinedPreprocessing) else (preprocessing,)
    if len(views) == 1:
        return {"pixels": views[0]}
    return {f"pixels_{number}": view for number, view in enumerate(views, 1)}


def feeds_of(preprocessing: Preprocessing | JoinedPreprocessing, pixels: UInt8Array) -> dict[str, UInt8Array]:
    """Return what each input takes, of views as the encoder takes them."""
    parts = preprocessing.split(pixels) if isinstance(preprocessing, JoinedPreprocessing) else [pixels]
    return dict(zip(inputs_of(preprocessing), parts, strict=True))
