"""Compute what every use of a classifier starts from: features of photos and zero-shot weights, each encoded once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from tip_adapter.classifier.inputs import LabelledImages, images_of
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sequences import is_one_image
from tip_adapter.encoders import ENCODERS, load_encoder, members_of
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.errors import EncoderError, InputError
from tip_adapter.features.extraction import Extraction, extract_features
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.features.pipeline import CENTER_VIEW
from tip_adapter.features.prompts import prompt_features, zero_shot_weights
from tip_adapter.features.store import FeatureStore
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.predictions import Results
from tip_adapter.typing import Float32Array, StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.encoders.trainable import TrainableEncoder
    from tip_adapter.methods import FewShotMethod
    from tip_adapter.progress import Progress

_T = TypeVar("_T")

ENCODER_VARIABLE = "TIP_ADAPTER_ENCODER"
DEFAULT_METHOD = "auto"
ClassTexts = Mapping[str, str | Sequence[str]] | Mapping[int, str | Sequence[str]] | Literal["none"] | None


def default_encoder() -> str:
    """Name the encoder that is used where none is given."""
    return os.environ.get(ENCODER_VARIABLE) or "clip-vit-b-32"


def _changed_members(encoder: Encoder, made: EncoderRecord) -> str:
    """Say which members of a joined encoder are not those that a model was fitted with."""
    members = encoder.members if isinstance(encoder, JoinedEncoder) else ()
    if len(members) != len(made.member_ids):
        return ""
    pairs = zip(members, made.member_ids, strict=True)
    others = [
        f"{one.name} is another one (id {one.image_id[:12]}, was {was[:12]})"
        for one, was in pairs
        if one.image_id != was
    ]
    return f", in which {' and '.join(others)}" if others else ""


@dataclass(frozen=True)
class Queries:
    """Encoded images to classify."""

    extraction: Extraction
    n: int
    """Images given, those that could not be read among them."""
    one: bool
    """Whether it was one image, which gets one answer, and no list of answers."""

    @property
    def features(self) -> Float32Array:
        """Unit rows, (B, D)."""
        return self.extraction.features.unit

    @property
    def names(self) -> tuple[str, ...]:
        """What each image is called: its path, if it has one."""
        return self.extraction.features.names

    def results(self, found: list[_T]) -> Results[_T]:
        """Add what was skipped."""
        return Results(found, self.extraction.skipped)


class PhotoEncoder:
    """An encoder, loaded when it is first needed, and the store of what it made."""

    def __init__(
        self,
        encoder: StrPath | Encoder | None,
        *,
        precision: str = "fp32",
        store: StrPath | Literal["default"] | None = "default",
        allow_truncated: bool = False,
    ) -> None:
        self.source: StrPath | Encoder = default_encoder() if encoder is None else encoder
        self.given = encoder is not None
        self.precision = precision
        self.store = store
        self.allow_truncated = allow_truncated
        self.may_download = True
        """Not where a saved classifier names it: a file must not make a program fetch whatever it likes."""
        self.made_by: EncoderRecord | None = None
        """The encoder that a model was fitted with: another one is refused."""
        self._loaded: Encoder | None = None
        self._loading = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the lock, and an encoder that a copy can load again by its name."""
        state = dict(vars(self))
        if isinstance(self.source, str | os.PathLike):
            state["_loaded"] = None
        del state["_loading"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _loading=threading.Lock())

    @property
    def name(self) -> str:
        """The encoder's name, without loading it."""
        source = self.source if self._loaded is None else self._loaded
        return str(getattr(source, "name", source))

    def rename(self, source: str) -> None:
        """Take the encoder that a file names, where none was given."""
        self.source, self._loaded, self.may_download = source, None, False

    @property
    def encoder(self) -> Encoder:
        """The encoder, checked against the one that the model was fitted with."""
        with self._loading:
            if self._loaded is None:
                source = self.source
                if isinstance(source, str | os.PathLike):
                    download = self.may_download or all(name in ENCODERS for name in members_of(os.fspath(source)))
                    source = load_encoder(source, precision=self.precision, download=download)
                self._check(source)
                self._loaded = source
            return self._loaded

    @property
    def text_encoder(self) -> Encoder:
        """The encoder, whose text tower is the one that the model's class texts were encoded with."""
        encoder, made = self.encoder, self.made_by
        if made is not None and encoder.text_id != made.text_id:
            raise EncoderError(
                f"The class texts were encoded with {made.name} (text id {made.text_id[:12]}), got {encoder.name} "
                f"(text id {encoder.text_id[:12]}): give that encoder, or fit again"
            )
        return encoder

    def towers_for(self, estimator: FewShotMethod) -> TrainableEncoder | None:
        """Load the towers that a method trains through: of the encoder, or of its name, where it was not needed yet."""
        if not estimator.needs_encoder:
            return None
        from tip_adapter.encoders.trainable import load_trainable_encoder

        source = self.source
        needs_it = not self.may_download and isinstance(source, str) and source.startswith("huggingface:")
        return load_trainable_encoder(self.encoder if self._loaded is not None or needs_it else source)

    def _check(self, encoder: Encoder) -> None:
        made = self.made_by
        if made is not None and encoder.image_id != made.image_id:
            raise EncoderError(
                f"The classifier was fitted with the encoder {made.name} (id {made.image_id[:12]}), got {encoder.name} "
                f"(id {encoder.image_id[:12]}){_changed_members(encoder, made)}: give that encoder, or fit again"
            )

    def weights_of(
        self, texts: tuple[tuple[str, ...], ...], templates: tuple[str, ...], names: Sequence[str]
    ) -> Float32Array:
        """Zero-shot weights (C, D) of classes; NaN where there are no texts at all."""
        if not any(texts):
            return np.full((len(names), self.encoder.dim), np.nan, dtype=np.float32)
        with self.open_store() as store:
            return zero_shot_weights(self.text_encoder, texts, templates, class_names=names, store=store)

    def give_prompts(
        self,
        estimator: FewShotMethod,
        class_texts: Sequence[Sequence[str]],
        templates: Sequence[str],
        class_names: Sequence[str],
    ) -> None:
        """Encode every prompt for a method that weighs them: a classifier keeps their means alone."""
        if not estimator.takes_prompts:
            return
        if not templates:
            raise InputError(
                f"{type(estimator).__name__} takes every prompt of a class, and these features do not say their "
                "templates: give them (templates=…, --template)"
            )
        encoder = self.text_encoder
        known = [column for column, texts in enumerate(class_texts) if texts]
        texts, names = [class_texts[column] for column in known], [class_names[column] for column in known]
        with self.open_store() as store:
            found = prompt_features(encoder, texts, templates, class_names=names, store=store)
        prompts = np.full((len(class_texts), *found.shape[1:]), np.nan, dtype=np.float32)
        prompts[known] = found
        estimator.set_params(prompt_features=prompts)

    def extract(
        self,
        images: Sequence[ImageSource],
        *,
        views: int = 1,
        random_state: int = 0,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Extraction:
        """Encode photos, but those that are in the store."""
        with self.open_store() as store:
            return extract_features(
                self.encoder,
                images,
                views=views,
                random_state=random_state,
                store=store,
                skip_bad=skip_bad,
                allow_truncated=self.allow_truncated,
                progress=progress,
            )

    def extract_labelled(self, photos: LabelledImages, *, skip_bad: bool, progress: Progress | None) -> Extraction:
        """Encode labelled images; what was skipped when they were looked for stays with what is skipped now."""
        extraction = self.extract(photos.images, skip_bad=skip_bad, progress=progress)
        return replace(extraction, skipped=(*photos.skipped, *extraction.skipped))

    def queries(self, images: Any, *, skip_bad: bool, progress: Progress | None) -> Queries:
        """Encode what is to be classified: images, or one alone, which is never skipped."""
        listed, one = images_of(images), is_one_image(images)
        return Queries(self.extract(listed, skip_bad=skip_bad and not one, progress=progress), len(listed), one)

    def middle_views(self, images: Sequence[ImageSource], views: int, progress: Progress | None) -> Float32Array | None:
        """Features of the shots as photos to classify are seen, where their keys are means of several views."""
        if views == 1:
            return None
        return self.extract(images, skip_bad=False, progress=progress).features.unit

    def stored_middle_views(self, model: FewShotModel) -> Float32Array | None:
        """Features of the shots as `middle_views` gives them, from the store; None if it lacks one."""
        if model.views == 1:
            return None
        digests = model.shots.features.digests
        with self.open_store() as store:
            found = {} if store is None else store.get(model.encoder.image_id, [(one, CENTER_VIEW) for one in digests])
        if len(found) < len(set(digests)):
            return None
        raw = np.stack([found[one, CENTER_VIEW] for one in digests])[:, None]
        return FeatureSet(raw, model.encoder.image_id, digests, model.shots.features.names).unit

    def forget(self, digests: Iterable[str]) -> None:
        """Delete all features of photos from the store."""
        with self.open_store() as store:
            if store is not None:
                store.delete(set(digests))

    @contextlib.contextmanager
    def open_store(self) -> Iterator[FeatureStore | None]:
        """Open the store for a while, if there is one."""
        if self.store is None:
            yield None
            return
        with FeatureStore(None if self.store == "default" else self.store) as opened:
            yield opened
