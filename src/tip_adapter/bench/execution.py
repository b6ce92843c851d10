"""Fit and test one method on one support set."""

from __future__ import annotations

import base64
import json
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tip_adapter.bench.draws import Draw, in_base
from tip_adapter.bench.memory import PeakMemory
from tip_adapter.bench.protocols import BASE_TO_NEW, TUNED
from tip_adapter.bench.records import DONE, FAILED, NOT_APPLICABLE, Record, write_record
from tip_adapter.errors import EncoderError, FeatureError, InputError, MissingExtraError, TipAdapterError
from tip_adapter.features.feature_data import FeatureData, Part
from tip_adapter.features.feature_files import load_feature_file
from tip_adapter.methods import METHODS, FewShotMethod
from tip_adapter.methods.heads import softmax
from tip_adapter.methods.spec import MethodSpec
from tip_adapter.storage.atomic import write_file
from tip_adapter.trust.metrics import accuracy, expected_calibration_error, negative_log_likelihood, wilson_interval
from tip_adapter.typing import BoolArray, FloatArray, IntArray, StrPath

OTHER_HALF = -1e9
"""Logit of classes that are not asked about."""


@dataclass(frozen=True)
class Job:
    """What a worker is told, all of it JSON values."""

    data: str
    """Feature file."""
    part: str
    """Part of it that holds the support set."""
    rows: list[int] | None
    """Which photos of that part."""
    base: dict[str, Any]
    """What the record says of the run before it began: data set, method, protocol, shots, seed, digests …"""
    method: str
    """One of `METHODS`."""
    parameters: dict[str, Any]
    """What differs from its defaults."""
    record: str
    """Where the result goes."""
    logits: str | None
    """Where the test logits go."""
    checkpoint: str | None
    """Where a long training may leave its state."""
    encoder: str | None
    """For methods that need it."""
    class_texts: list[list[str]]
    templates: list[str]
    photos: dict[str, list[str]]
    """Support, validation and test photos, for methods that take them."""
    threads: int
    """Of linear algebra; recorded."""
    twin: dict[str, Any] | None = None
    """A second result of the same training, for methods that can average their weights afterwards (WiSE-FT):
    `wise_weight`, and `base`, `record` and `logits` of its own."""
    validation_part: str = "validation"
    validation_rows: list[int] | None = None
    """validation_part and validation_rows: photos to tune on, where the protocol is not "fair"."""

    def support(self, data: FeatureData) -> Part:
        """Features to learn from."""
        return Draw(self.part, None if self.rows is None else np.array(self.rows, dtype=np.intp)).of(data)

    def validation(self, data: FeatureData) -> Part | None:
        """Features to tune on; None under protocols that choose from the shots."""
        if self.base["protocol"] not in TUNED:
            return None
        rows = None if self.validation_rows is None else np.array(self.validation_rows, dtype=np.intp)
        return Draw(self.validation_part, rows).of(data)

    def new_classes(self, data: FeatureData) -> BoolArray | None:
        """Which classes, (C,), are without shots on purpose; None where every class has some."""
        if self.base["protocol"] != BASE_TO_NEW:
            return None
        n_classes = len(data.class_names)
        return ~np.isin(np.arange(n_classes), in_base(n_classes))


def load_data(path: StrPath, base: Mapping[str, Any]) -> FeatureData:
    """Load the features of a job, and check that they are those that were planned with."""
    data = load_feature_file(path, name=base["dataset"])
    if data.digest != base["digests"]["test"]:
        raise InputError(f"Expected {path} as it was when the benchmark began, got other features: start it again")
    return data


def execute(job: Job, data: FeatureData) -> str:
    """Fit, predict, measure, and write the result."""
    twin = None
    try:
        figures, twin = _measure(job, data)
    except (InputError, EncoderError, MissingExtraError) as error:
        figures = {"status": FAILED if _is_fault(error, job, data) else NOT_APPLICABLE, "reason": _told(error)}
    except (Exception, RecursionError) as error:  # whatever a method raises: the other runs go on
        figures = {"status": FAILED, "reason": _told(error)}
    finished = {"finished": datetime.now(UTC).isoformat(timespec="seconds")}
    if job.twin:
        write_record(Path(job.twin["record"]), job.twin["base"] | (twin or figures) | finished)
    write_record(Path(job.record), job.base | figures | finished)
    return str(figures["status"])


def _is_fault(error: TipAdapterError, job: Job, data: FeatureData) -> bool:
    """Tell a mistake from a method that the data does not allow."""
    # Features were checked when they were loaded: features that do not fit now are the method's own.
    if isinstance(error, FeatureError):
        return True
    # Parameters that were given are to blame, unless the method would refuse the data without them, too.
    textless = METHODS[job.method].needs_text and data.zero_shot_weights is None
    return isinstance(error, InputError) and bool(job.parameters) and not textless


def _told(error: BaseException) -> str:
    text = " ".join(str(error).split()) or "no message"
    return text if isinstance(error, TipAdapterError) else f"{type(error).__name__}: {text}"


def _measure(job: Job, data: FeatureData) -> tuple[Record, Record | None]:
    """Fit and predict; figures of the method, and of its twin."""
    support, validation = job.support(data), job.validation(data)
    inputs = _Inputs.of(job, data, support, validation)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        memory = PeakMemory()
        method, options = _build(job, data), inputs.options(job, support, validation)
        start = time.perf_counter()
        method.fit(inputs.support, support.labels, **options)
        seconds = time.perf_counter() - start
        told = {"threads": job.threads, "fit_seconds": seconds}
        figures = _predicted(method, inputs.test, data.test.labels, job.logits, job.new_classes(data)) | told
        figures |= {"peak_memory_mb": memory.megabytes}
        twin = None
        if job.twin:
            other = method.at_wise_weight(job.twin["wise_weight"])
            twin = _predicted(other, inputs.test, data.test.labels, job.twin["logits"], job.new_classes(data)) | told
            twin |= {"peak_memory_mb": memory.megabytes}
    heard = {"warnings": sorted({" ".join(str(warning.message).split()) for warning in caught})[:5]}
    return figures | heard, None if twin is None else twin | heard


def _predicted(
    method: FewShotMethod, test: Any, labels: IntArray, logits_path: str | None, new: BoolArray | None
) -> Record:
    """Figures of a fitted method on the test photos."""
    start = time.perf_counter()
    logits = np.asarray(method.logits(test))
    seconds = time.perf_counter() - start
    figures = _figures(logits, labels) if new is None else _figures_of_halves(logits, labels, new)
    if logits_path:
        _save_logits(Path(logits_path), logits, labels)
    return figures | {
        "status": DONE,
        "predict_seconds": seconds,
        "trainable_parameters": int(method.trainable_parameters_),
        "chosen": _chosen(method),
        "logits": Path(logits_path).name if logits_path else None,
    }


def _build(job: Job, data: FeatureData) -> FewShotMethod:
    given: dict[str, Any] = {
        "zero_shot_weights": data.zero_shot_weights,
        "class_names": list(data.class_names),
        "prompt_features": data.prompt_features,
        "logit_scale": data.logit_scale,
        "random_state": job.base["seed"],
        "templates": job.templates,
    }
    return MethodSpec(job.method, job.parameters).build(given)


@dataclass(frozen=True)
class _Inputs:
    """What the method sees as X: features, or photos."""

    support: Any
    test: Any
    validation: Any

    @classmethod
    def of(cls, job: Job, data: FeatureData, support: Part, validation: Part | None) -> _Inputs:
        """Choose features or photos."""
        if METHODS[job.method].takes_images:
            return cls(job.photos["support"], job.photos["test"], job.photos.get("validation"))
        return cls(support.features, data.test.features, None if validation is None else validation.features)

    def options(self, job: Job, support: Part, validation: Part | None) -> dict[str, Any]:
        """Give what `fit` takes besides X and y."""
        options: dict[str, Any] = {}
        method = METHODS[job.method]
        if method.needs_encoder and job.encoder is not None:
            from tip_adapter.encoders.trainable import load_trainable_encoder

            options["encoder"] = load_trainable_encoder(job.encoder)
            options |= {"class_texts": job.class_texts, "checkpoint": job.checkpoint}
        if support.views is not None and method.takes_views:
            options["views"] = support.views
        groups = support.group_numbers
        if groups is not None and not method.takes_images:
            options["groups"] = groups
        if validation is not None:
            options["validation"] = (self.validation, validation.labels)
        return options


def _figures(logits: FloatArray, labels: IntArray) -> Record:
    if not np.isfinite(logits).all():
        raise FeatureError("Expected finite logits, got NaN or infinity: the method broke down, nothing was kept")
    right = logits.argmax(axis=1) == labels
    return {
        "accuracy": accuracy(logits, labels),
        "accuracy_interval": list(wilson_interval(int(right.sum()), len(right))),
        "nll": negative_log_likelihood(logits, labels, from_logits=True),
        "ece": expected_calibration_error(softmax(logits), labels),
        # One bit per test photo, so that methods can be compared photo by photo.
        "right": base64.b64encode(np.packbits(right).tobytes()).decode(),
    }


def _figures_of_halves(logits: FloatArray, labels: IntArray, new: BoolArray) -> Record:
    """Figures of base and new classes, each told apart among themselves, and the harmonic mean of their accuracies."""
    apart = np.where(new[labels][:, None] == new[None, :], logits, OTHER_HALF)
    right = apart.argmax(axis=1) == labels
    base, fresh = float(right[~new[labels]].mean()), float(right[new[labels]].mean())
    mean = 2 * base * fresh / (base + fresh) if base + fresh else 0.0
    return _figures(apart, labels) | {"accuracy": mean, "base_accuracy": base, "new_accuracy": fresh}


def _save_logits(path: Path, logits: FloatArray, labels: IntArray) -> None:
    import io

    buffer = io.BytesIO()
    np.savez_compressed(buffer, logits=logits.astype(np.float32), labels=labels.astype(np.int32))
    write_file(path, buffer.getvalue())


def _chosen(method: FewShotMethod) -> dict[str, Any]:
    """Hyper-parameters as fitted, and the sentence that explains them."""
    found: dict[str, Any] = {}
    for key, value in vars(method).items():
        plain = value.item() if isinstance(value, np.generic) else value
        if key.endswith("_") and not key.startswith("_") and isinstance(plain, int | float | str | bool | None):
            found[key.rstrip("_")] = plain
    for key in ("n_features_in", "trainable_parameters", "features"):
        found.pop(key, None)
    summary = getattr(getattr(method, "search_", None), "summary", None)
    if isinstance(summary, str):
        found["summary"] = summary
    # An α without bound is no JSON number.
    return {key: value if _is_json(value) else str(value) for key, value in found.items()}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except ValueError:
        return False
    return True
