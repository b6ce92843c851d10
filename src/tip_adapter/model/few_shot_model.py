"""A fitted classifier as data: classes, texts, shots and a head, saved to and loaded from one folder.

No encoder and no estimator is needed to hold, save or load a model, so loading one is quick.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from tip_adapter.errors import InputError, ModelFileError
from tip_adapter.methods.heads import Head, head_from_state, head_state, softmax
from tip_adapter.methods.selection.folds import support_folds
from tip_adapter.model.card import card_of
from tip_adapter.model.fitting import MethodRecord
from tip_adapter.model.journal import JournalEntry, journal_from_state, journal_pictures, journal_state
from tip_adapter.model.picture_archive import Archive, archived_thumbnails, pack
from tip_adapter.model.schema import CALIBRATION_PREFIX, HEAD_PREFIX, JOURNAL_PREFIX, SHARED, check_saved
from tip_adapter.model.shots import Shots, features_from_state, features_state
from tip_adapter.storage.bundle_files import plain_config
from tip_adapter.storage.bundles import Bundle, load_bundle, save_bundle
from tip_adapter.storage.locking import FolderLock
from tip_adapter.trust.calibration import Calibration
from tip_adapter.trust.out_of_distribution import familiarity_parts
from tip_adapter.typing import BoolArray, Float32Array, FloatArray, IntArray, StrPath


@dataclass(frozen=True)
class EncoderRecord:
    """Which encoder a model was fitted with, and needs again."""

    name: str
    image_id: str
    text_id: str
    dim: int
    logit_scale: float
    precision: str = "fp32"
    """name, image_id, text_id, dim, logit_scale and precision: as of the encoder."""
    member_ids: tuple[str, ...] = ()
    """Of a joined encoder, the ids of its members' image towers."""

    @property
    def summary(self) -> str:
        """One phrase for people."""
        return f"{self.name} ({self.dim} dimensions, {self.precision}, id {self.image_id[:12]})"


@dataclass(frozen=True, eq=False)
class FewShotModel:
    """All that a classifier knows once it is fitted.

    Attributes
    ----------
    encoder : EncoderRecord
    class_names : tuple of C str
    class_texts : tuple of C tuples of str
        The words for each class; an empty tuple for a class without text.
    templates : tuple of str
    zero_shot_weights : ndarray of shape (C, D), float32
        Unit rows; NaN for a class without text.
    shots : Shots
    head : Head
        The fitted formula; its columns are `class_names`.
    method : MethodRecord
    views : int
        Views per shot.
    random_state : int
        Seed of shots and views.
    calibration : Calibration or None
        What makes probabilities mean what they say, from answers to photos the model had not seen.
    stale : tuple of str
        What was chosen for other shots or classes than these: "hyper-parameters", "calibration".
    journal : tuple of JournalEntry
        What was done to the model since it was fitted, and what takes it back.
    integer_labels : bool
        Whether the classifier was fitted with whole numbers as labels.
    copy_cosine : float or None
        From which cosine on photos of a class are near-copies, so that new shots find their groups; None: unknown.
    """

    encoder: EncoderRecord
    class_names: tuple[str, ...]
    class_texts: tuple[tuple[str, ...], ...]
    templates: tuple[str, ...]
    zero_shot_weights: Float32Array
    shots: Shots
    head: Head
    method: MethodRecord
    views: int
    random_state: int
    calibration: Calibration | None = None
    stale: tuple[str, ...] = ()
    journal: tuple[JournalEntry, ...] = ()
    integer_labels: bool = False
    copy_cosine: float | None = None

    @property
    def classes(self) -> tuple[str, ...] | tuple[int, ...]:
        """What predictions are: class names, or the whole numbers of `fit` as long as every class is named by one."""
        names = self.class_names
        whole = self.integer_labels and all(name.removeprefix("-").isdecimal() for name in names)
        return tuple(map(int, names)) if whole else names

    @property
    def counts(self) -> IntArray:
        """Shots of every class, (C,)."""
        return np.bincount(self.shots.labels, minlength=len(self.class_names))

    @property
    def counted(self) -> str:
        """What was learned from, and how much of it was kept, in words."""
        fitted_to = self.method.fitted_to
        learned = f"{fitted_to} photos ({len(self.shots)} kept as shots)" if fitted_to else self.shots.counted
        return f"{learned} of {len(self.class_names)} classes"

    @property
    def temperature(self) -> float:
        """What logits are divided by before the softmax: 1 without calibration."""
        return 1.0 if self.calibration is None else self.calibration.temperature

    @property
    def stale_notes(self) -> tuple[str, ...]:
        """What was chosen before the last edits, and which command chooses it again; a sentence each."""
        from_photos = self.calibration is not None and self.calibration.source == "photos"
        by_hand = [part for part in self.stale if part == "calibration" and from_photos]
        by_refit = [part for part in self.stale if part not in by_hand]
        notes = [f"{' and '.join(by_refit)} chosen before the last edits; `tip-adapter refit` chooses again"] * bool(
            by_refit
        )
        if by_hand:
            notes.append("calibrated before the last edits; `tip-adapter calibrate` does it again, with photos")
        return tuple(notes)

    def logits(self, features: Float32Array) -> Float32Array:
        """Logits of photos.

        Parameters
        ----------
        features : ndarray of shape (B, D), float32
            Unit rows.

        Returns
        -------
        ndarray of shape (B, C), float32

        Raises
        ------
        ModelFileError
            When they are no numbers, because those of the head are out of all proportion.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            logits = self.head.logits(features)
        if not np.isfinite(logits).all():
            raise ModelFileError("Expected a head that gives finite logits, got one that does not: fit again")
        return logits

    def probabilities(self, logits: FloatArray) -> FloatArray:
        """Probabilities of logits of this model: ``softmax(logits / temperature)``.

        Parameters
        ----------
        logits : ndarray of shape (B, C)

        Returns
        -------
        ndarray of shape (B, C), float64
        """
        return softmax(logits.astype(np.float64) / self.temperature)

    def unfamiliar(self, probabilities: FloatArray, features: Float32Array, threshold: float | None) -> BoolArray:
        """Tell which photos are less familiar than the threshold of `calibration.familiarity`; none without one.

        Shapes: `probabilities` (B, C), `features` (B, D) → (B,).
        """
        if threshold is None or self.calibration is None:
            return np.zeros(len(features), dtype=bool)
        folds, shots = self.shots.folds, self.shots
        if self.calibration.n_folds not in (0, int(folds.max()) + 1):  # methods that train leave out fewer, larger ones
            folds = support_folds(shots.features.unit, shots.labels, self.calibration.n_folds, shots.group_numbers)
        signs = familiarity_parts(probabilities, features, shots.features.unit, shots.labels, folds)
        result: BoolArray = self.calibration.familiarity.score(signs) < threshold
        return result

    def save(
        self, path: StrPath, *, forgetting: Sequence[Mapping[str, str]] = (), lock: FolderLock | None = None
    ) -> str:
        """Write the model as a folder, whole or not at all.

        Parameters
        ----------
        path : path-like
            Such as ``clothes.tip``.
        forgetting : sequence of dict
            Shots that are forgotten with this save; see `tip_adapter.storage.bundles.save_bundle`.
        lock : FolderLock, optional
            Of the folder, where the caller holds it.

        Returns
        -------
        str
            Fingerprint of what was saved.

        Raises
        ------
        TipAdapterError
            When it cannot be written.
        """
        kind, head_arrays, head_parameters = head_state(self.head)
        shared = self._shared(head_arrays)
        arrays: dict[str, np.ndarray[Any, Any]] = {
            "zero_shot_weights": self.zero_shot_weights,
            **features_state(self.shots.features, "shots."),
            "shots.labels": self.shots.labels.astype(np.int64),
            **{HEAD_PREFIX + name: array for name, array in head_arrays.items() if name not in shared},
        }
        calibrated, calibration = ({}, None) if self.calibration is None else self.calibration.state()
        arrays |= {CALIBRATION_PREFIX + name: array for name, array in calibrated.items()}
        archive, pictures = pack(journal_pictures(self.journal) | self.shots.pictures())
        entries, kept_arrays = journal_state(self.journal, pictures)
        arrays |= {JOURNAL_PREFIX + name: array for name, array in kept_arrays.items()}
        config = {
            "encoder": vars(self.encoder),
            "class_names": list(self.class_names),
            "integer_labels": self.integer_labels,
            "copy_cosine": self.copy_cosine,
            "class_texts": [list(texts) for texts in self.class_texts],
            "templates": list(self.templates),
            "method": {
                "name": self.method.name,
                "parameters": dict(self.method.parameters),
                "chosen": dict(self.method.chosen),
                "held": dict(self.method.held),
                "trains": self.method.trains,
            },
            "head": {"kind": kind, "parameters": head_parameters, "shared": shared},
            "shots": {
                "ids": list(self.shots.ids),
                "names": list(self.shots.features.names),
                "digests": list(self.shots.features.digests),
                "thumbnails": self.shots.ids_with(pictures),
                "groups": list(self.shots.groups) if any(self.shots.groups) else [],
            },
            "calibration": calibration,
            "stale": list(self.stale),
            "journal": entries,
            "views": self.views,
            "random_state": self.random_state,
            "versions": {"tip-adapter": version("tip-adapter"), "python": platform.python_version()},
        }
        try:
            check_saved(plain_config(config), arrays)
        except ValueError as error:
            raise InputError(f"This classifier cannot be saved, since nobody could load it: {error}") from error
        return save_bundle(path, arrays, config, archive, card=card_of(self), forgetting=forgetting, lock=lock)

    def _shared(self, head_arrays: Mapping[str, np.ndarray[Any, Any]]) -> list[str]:
        """Which arrays of the head are, bit by bit, those of the shots and texts, so that they are saved once."""
        return [
            name
            for name, array in head_arrays.items()
            if name in SHARED and _identical(array, _shared_array(name, self.zero_shot_weights, self.shots))
        ]

    @classmethod
    def load(cls, path: StrPath) -> FewShotModel:
        """Read a model that `save` wrote.

        Parameters
        ----------
        path : path-like
            The folder, or ``hub:owner/name``.

        Raises
        ------
        ModelFileError
            When it is no model, truncated, changed since, or of a newer version.
        """
        return cls.from_bundle(load_bundle(path))

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> FewShotModel:
        """Put a model together from what was read, or raise `ModelFileError`."""
        try:
            check_saved(bundle.config, bundle.arrays)
            pictures = Archive(bundle.read_thumbnails, str(bundle.path))
            return cls._from_bundle(bundle.arrays, bundle.config, pictures)
        except ValueError as error:
            raise ModelFileError(
                f"Expected a classifier in {bundle.path} as it was saved, but {error}: do not trust it"
            ) from error

    @classmethod
    def _from_bundle(cls, arrays: Mapping[str, Any], config: Mapping[str, Any], pictures: Archive) -> FewShotModel:
        encoder = EncoderRecord(**config["encoder"] | {"member_ids": tuple(config["encoder"]["member_ids"])})
        record = config["shots"]
        features = features_from_state(arrays, "shots.", encoder.image_id, record["digests"], record["names"])
        labels = arrays["shots.labels"].astype(np.intp)
        thumbnails = archived_thumbnails(pictures, record["ids"], features.digests, record["thumbnails"])
        shots = Shots(features, labels, tuple(record["ids"]), thumbnails, tuple(record["groups"]))
        head_arrays, kept_arrays = (
            {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
            for prefix in (HEAD_PREFIX, JOURNAL_PREFIX)
        )
        head_arrays |= {
            name: _shared_array(name, arrays["zero_shot_weights"], shots) for name in config["head"]["shared"]
        }
        names = tuple(config["class_names"])
        return cls(
            encoder=encoder,
            class_names=names,
            integer_labels=bool(config["integer_labels"]),
            copy_cosine=config["copy_cosine"],
            class_texts=tuple(tuple(texts) for texts in config["class_texts"]),
            templates=tuple(config["templates"]),
            zero_shot_weights=arrays["zero_shot_weights"],
            shots=shots,
            head=head_from_state(config["head"]["kind"], head_arrays, config["head"]["parameters"]),
            method=MethodRecord(**config["method"]),
            views=config["views"],
            random_state=config["random_state"],
            calibration=_calibration(arrays, config["calibration"]),
            stale=tuple(config["stale"]),
            journal=journal_from_state(config["journal"], kept_arrays, pictures, encoder.image_id),
        )

    @property
    def choices(self) -> list[tuple[str, str]]:
        """What the method chose by itself, for people: names and values."""
        return [
            (
                "chosen method" if name == "method" else name.replace("_", " "),
                f"{value:.3g}" if isinstance(value, float) else str(value),
            )
            for name, value in self.method.chosen.items()
        ]


def _shared_array(name: str, zero_shot_weights: Float32Array, shots: Shots) -> np.ndarray[Any, Any]:
    """What a head and its model may have in common, by the name that the head has for it."""
    if name not in SHARED:
        raise InputError(f"its head cannot share {name!r}")
    if name == "keys":
        return shots.features.unit
    return shots.labels if name == "labels" else zero_shot_weights


def _identical(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Whether two arrays are the same bit by bit, NaN too."""
    same_kind = one.dtype == other.dtype and one.shape == other.shape
    return one is other or (same_kind and one.tobytes() == other.tobytes())


def _calibration(arrays: Mapping[str, Any], values: Mapping[str, Any] | None) -> Calibration | None:
    if values is None:
        return None
    names = [name for name in arrays if name.startswith(CALIBRATION_PREFIX)]
    return Calibration.from_state({name.removeprefix(CALIBRATION_PREFIX): arrays[name] for name in names}, values)
