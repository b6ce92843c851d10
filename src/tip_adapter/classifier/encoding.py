"""What every use of a classifier begins with: the features of photos, each encoded once."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from tip_adapter.classifier.inputs import LabelledImages, images_of
from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.sequences import is_one_image
from tip_adapter.encoders import ENCODERS, load_encoder, members_of
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.errors import EncoderError, InputError
from tip_adapter.features.extraction import Extraction, extract_features
from tip_adapter.features.prompts import prompt_features
from tip_adapter.features.store import FeatureStore
from tip_adapter.model.few_shot_model import EncoderRecord, FewShotModel
from tip_adapter.model.predictions import Results
from tip_adapter.trust.precision import MAX_FLIPPED
from tip_adapter.typing import Float32Array, StrPath

if TYPE_CHECKING:
    from tip_adapter.classifier.changing import EditingSession
    from tip_adapter.encoders import Encoder
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
    """Encoded images to classify.

    Attributes
    ----------
    extraction : Extraction
    n : int
        Images given, those that could not be read among them.
    one : bool
        Whether it was one image, which gets one answer, and no list of answers.
    """

    extraction: Extraction
    n: int
    one: bool

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


class EncodingPart:
    """The part of `ImageClassifier` that holds its settings, its encoder and its store."""

    model_: FewShotModel

    def __init__(
        self,
        encoder: StrPath | Encoder | None = None,
        method: str | FewShotMethod = DEFAULT_METHOD,
        *,
        method_parameters: Mapping[str, Any] | None = None,
        templates: str | Sequence[str] = "ensemble",
        class_texts: ClassTexts = None,
        views: int = 1,
        precision: str = "fp32",
        max_flipped: float = MAX_FLIPPED,
        store: StrPath | Literal["default"] | None = "default",
        allow_truncated: bool = False,
    ) -> None:
        self._encoder_source: StrPath | Encoder = default_encoder() if encoder is None else encoder
        self._encoder: Encoder | None = None
        self._encoder_given = encoder is not None
        # Not where a saved classifier names it: a file must not make a program fetch whatever it likes.
        self._may_download = True
        self._loading = threading.Lock()
        self.method = method
        self.method_parameters = dict(method_parameters or {})
        self.templates = templates
        self.class_texts = class_texts
        self.views = views
        self.precision = precision
        self.max_flipped = max_flipped
        self.store = store
        self.allow_truncated = allow_truncated
        # Which saved classifier this one is, and as which it was read or written; None for none.
        self._origin: tuple[Path, str] | None = None
        # What has to be forgotten on the disk, too, when it is saved.
        self._forgetting: list[dict[str, str]] = []
        self._session: EditingSession | None = None
        self._changing = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out locks, and an encoder that a copy can load again by its name."""
        state = vars(self) | {"_session": None, "_explainer": None}
        if isinstance(self._encoder_source, str | os.PathLike):
            state["_encoder"] = None
        del state["_loading"], state["_changing"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state, _loading=threading.Lock(), _changing=threading.RLock())

    @property
    def encoder(self) -> Encoder:
        """The encoder, loaded when it is first needed, and checked against the one the model was fitted with."""
        with self._loading:
            if self._encoder is None:
                source = self._encoder_source
                if isinstance(source, str | os.PathLike):
                    download = self._may_download or all(name in ENCODERS for name in members_of(os.fspath(source)))
                    source = load_encoder(source, precision=self.precision, download=download)
                self._check_encoder(source)
                self._encoder = source
            return self._encoder

    def _source_for_training(self) -> StrPath | Encoder:
        """What towers with gradients are made of: the encoder, or its name, where it was not needed yet."""
        source = self._encoder_source
        needs_it = not self._may_download and isinstance(source, str) and source.startswith("huggingface:")
        return self.encoder if self._encoder is not None or needs_it else source

    def _check_encoder(self, encoder: Encoder) -> None:
        if hasattr(self, "model_") and encoder.image_id != self.model_.encoder.image_id:
            made = self.model_.encoder
            raise EncoderError(
                f"The classifier was fitted with the encoder {made.name} (id {made.image_id[:12]}), got {encoder.name} "
                f"(id {encoder.image_id[:12]}){_changed_members(encoder, made)}: give that encoder, or fit again"
            )

    @property
    def _text_encoder(self) -> Encoder:
        """The encoder, whose text tower is the one that the model's class texts were encoded with."""
        encoder, made = self.encoder, self._fitted().encoder
        if encoder.text_id != made.text_id:
            raise EncoderError(
                f"The class texts were encoded with {made.name} (text id {made.text_id[:12]}), got {encoder.name} "
                f"(text id {encoder.text_id[:12]}): give that encoder, or fit again"
            )
        return encoder

    def _give_prompts(
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
        encoder = self._text_encoder if hasattr(self, "model_") else self.encoder
        known = [column for column, texts in enumerate(class_texts) if texts]
        texts, names = [class_texts[column] for column in known], [class_names[column] for column in known]
        found = prompt_features(encoder, texts, templates, class_names=names)
        prompts = np.full((len(class_texts), *found.shape[1:]), np.nan, dtype=np.float32)
        prompts[known] = found
        estimator.set_params(prompt_features=prompts)

    @property
    def classes_(self) -> tuple[str, ...] | tuple[int, ...]:
        """What `predict` calls the classes, as the columns of probabilities: their names, or the integers of `fit`."""
        return self._fitted().classes

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, as the columns of probabilities."""
        return self._fitted().class_names

    def _fitted(self) -> FewShotModel:
        if not hasattr(self, "model_"):
            raise InputError("This classifier is not fitted yet: call fit with labelled photos, or load a saved one.")
        return self.model_

    def _extract(
        self,
        images: Sequence[ImageSource],
        *,
        views: int = 1,
        random_state: int = 0,
        skip_bad: bool,
        progress: Progress | None,
    ) -> Extraction:
        with self._open_store() as store:
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

    def _extract_labelled(self, photos: LabelledImages, *, skip_bad: bool, progress: Progress | None) -> Extraction:
        """Encode labelled images; what was skipped when they were looked for stays with what is skipped now."""
        extraction = self._extract(photos.images, skip_bad=skip_bad, progress=progress)
        return replace(extraction, skipped=(*photos.skipped, *extraction.skipped))

    def _queries(self, images: Any, *, skip_bad: bool, progress: Progress | None) -> Queries:
        """Encode what is to be classified: images, or one alone, which is never skipped."""
        listed, one = images_of(images), is_one_image(images)
        return Queries(self._extract(listed, skip_bad=skip_bad and not one, progress=progress), len(listed), one)

    def _as_queries(self, images: Sequence[ImageSource], views: int, progress: Progress | None) -> Float32Array | None:
        """Features of the shots as photos to classify are seen, where their keys are means of several views."""
        if views == 1:
            return None
        return self._extract(images, skip_bad=False, progress=progress).features.unit

    @contextlib.contextmanager
    def _open_store(self) -> Iterator[FeatureStore | None]:
        if self.store is None:
            yield None
            return
        with FeatureStore(None if self.store == "default" else self.store) as opened:
            yield opened
