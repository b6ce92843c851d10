"""Export a classifier to a folder, checked on sample photos."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tip_adapter.classifier import ImageClassifier
from tip_adapter.data.decoding import ImageSource
from tip_adapter.encoders import without_paths
from tip_adapter.encoders.base import Encoder
from tip_adapter.encoders.joined import JoinedEncoder
from tip_adapter.encoders.onnx import OnnxEncoder
from tip_adapter.encoders.torch_encoder import TorchEncoder
from tip_adapter.errors import EncoderError, InputError, ModelFileError
from tip_adapter.export.inputs import inputs_of
from tip_adapter.export.models import ImageGraph, classifier_model, head_model, serialized, set_metadata
from tip_adapter.export.parity import HALF_TOLERANCE, LOGIT_TOLERANCE, Parity, check_classifier, check_head, views_of
from tip_adapter.export.script import check_script, script_files
from tip_adapter.export.web import ORT_WEB_FILES, PAGE_FILES, web_files, with_size
from tip_adapter.libraries import require_extra
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.storage.atomic import read_file, write_folder
from tip_adapter.storage.locking import locked
from tip_adapter.storage.strict_json import parse_json
from tip_adapter.typing import Float32Array, StrPath

DESCRIPTION_FILE = "classifier.json"
FORMAT = "tip-adapter export 1"
_MAX_THUMBNAILS = 64
_MAX_DESCRIPTION_BYTES = 2**24


@dataclass(frozen=True)
class ExportReport:
    """What `export_classifier` wrote."""

    path: Path
    """The folder."""
    files: tuple[str, ...]
    """Names in it."""
    head: Parity
    """Of head.onnx against the head's formula."""
    classifier: Parity | None
    """Of classifier.onnx against the Python classifier; None with ``head_only``."""


def export_classifier(
    classifier: ImageClassifier,
    out_dir: StrPath,
    *,
    samples: Sequence[ImageSource] = (),
    ort_web: StrPath | None = None,
    head_only: bool = False,
) -> ExportReport:
    """Write a classifier as files that need neither this package nor torch.

    ``classifier.onnx`` takes views (B, S, S, 3) of uint8, resized and cropped but not normalised, and gives logits and
    probabilities (with an int8 encoder, give it one view a run); ``head.onnx`` takes features of the encoder;
    ``predict.py`` names the class of photos with ONNX Runtime, NumPy and Pillow, and decodes them with this package's
    own modules (the folder ``pixels``); ``classifier.json`` repeats the metadata of the ONNX files.

    Both graphs are compared with the Python classifier before anything is written, and the script's pixels with its
    pixels, which have to be the same. The figures go into the metadata.
    """
    require_extra("onnx", "export")
    out = Path(out_dir)
    _check_target(out)
    if head_only and ort_web is not None:
        raise InputError("Expected a web page or the head alone, got both: a page needs the encoder")
    page = {} if ort_web is None else web_files(Path(ort_web))
    if not hasattr(classifier, "model_"):
        raise InputError("Expected a fitted classifier: call fit with labelled photos, or load a saved one")
    model = classifier.model_
    head, head_parity = _head_file(model)
    contents = {"head.onnx": head}
    parity, description = None, _description(model, None, head_parity)
    if not head_only:
        graph, parity, description = _classifier_file(classifier, samples)
        check_script(classifier.encoder.preprocessing, samples)
        contents = with_size(page, graph) | script_files() | {"classifier.onnx": graph} | contents
    _write(out, contents, description)
    return ExportReport(out, tuple(sorted({*contents, DESCRIPTION_FILE})), head_parity, parity)


def _write(out: Path, contents: dict[str, bytes], description: dict[str, Any]) -> None:
    """Write a new folder in one step; in an earlier export replace each file in one step, the description last.

    Whoever runs a classifier reads one file, which is the former one or the new one.
    """
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(contents.items())}
    text = json.dumps(description | {"files": checksums}, indent=2, ensure_ascii=False) + "\n"
    whole = contents | {DESCRIPTION_FILE: text.encode()}
    former = _described(out).get("files")
    if not isinstance(former, dict):
        write_folder(out, whole)
        return
    with locked(out.resolve()):
        write_folder(out, whole)
        ours = {"classifier.onnx", *script_files(), *PAGE_FILES, *(f"ort/{name}" for name in ORT_WEB_FILES)}
        for name in ours & {*former} - {*whole}:
            (out / name).unlink(missing_ok=True)


def _head_file(model: FewShotModel) -> tuple[bytes, Parity]:
    graph = head_model(model.head, model.encoder.dim, temperature=model.temperature)
    features, source = _sample_features(model)
    parity = check_head(serialized(graph), model.head, temperature=model.temperature, features=features, source=source)
    set_metadata(graph, _as_texts(_description(model, None, parity)))
    return serialized(graph), parity


def _classifier_file(
    classifier: ImageClassifier, samples: Sequence[ImageSource]
) -> tuple[bytes, Parity, dict[str, Any]]:
    model, encoder, temperature = classifier.model_, classifier.encoder, classifier.model_.temperature
    photos, source = _sample_photos(model, samples)
    with ExitStack() as stack:
        towers = _image_graphs(encoder, stack)
        graph = classifier_model(towers, model.head, temperature=temperature)
    alone = _one_at_a_time(model) or any(tower.one_by_one for tower in towers)
    parity = check_classifier(
        serialized(graph),
        encoder,
        model.head,
        temperature=temperature,
        pixels=views_of(encoder, photos),
        source=source,
        one_at_a_time=alone,
        tolerance=HALF_TOLERANCE if any(tower.half for tower in towers) else LOGIT_TOLERANCE,
    )
    description = _description(model, encoder, parity, alone=alone)
    set_metadata(graph, _as_texts(description))
    return serialized(graph), parity, description


def _one_at_a_time(model: FewShotModel) -> bool:
    """In int8, the views of a batch share the scale of their activations: each alone, as the encoder runs them.

    The graph keeps its dynamic batch all the same: with a fixed one ONNX Runtime fuses other operators than in the
    encoder, whose last digits differ, and 8-bit rounding makes much of them.
    """
    return "int8" in model.encoder.precision


def _image_graphs(encoder: Encoder, stack: ExitStack) -> list[ImageGraph]:
    """The image towers of an encoder, as the classifier joins them."""
    if not isinstance(encoder, JoinedEncoder):
        return [_image_graph(encoder, stack, "pixels", 1.0)]
    inputs = list(inputs_of(encoder.preprocessing))
    return [
        _image_graph(tower, stack, inputs[view], share)
        for tower, view, share in zip(encoder.towers, encoder.preprocessing.view_of, encoder.image_shares, strict=True)
    ]


def _image_graph(encoder: Encoder, stack: ExitStack, pixels: str, share: float) -> ImageGraph:
    """One image tower; one on torch is exported first, into a folder that lasts like `stack`."""
    if isinstance(encoder, TorchEncoder):
        from tip_adapter.encoders.export import export_towers

        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tip-adapter-")))
        encoder = OnnxEncoder(export_towers(encoder, folder / "encoder"))
    if not isinstance(encoder, OnnxEncoder):
        raise EncoderError(
            f"Expected an encoder with an image tower, got {encoder.name}: this part of the classifier cannot be "
            "exported, fit with another encoder, or export the head only"
        )
    tower = encoder.image_tower
    return ImageGraph(
        tower.path,
        tower.input,
        tower.output,
        encoder.preprocessing,
        pixels,
        share,
        pooling=tower.pooling,
        one_by_one=tower.one_by_one,
        half=tower.is_half,
    )


def _sample_photos(model: FewShotModel, samples: Sequence[ImageSource]) -> tuple[list[ImageSource], str]:
    if samples:
        return list(samples), "the given sample photos"
    thumbnails = model.shots.thumbnails
    step = max(1, -(-len(thumbnails) // _MAX_THUMBNAILS))  # from all classes, not from the first few
    chosen: list[ImageSource] = [thumbnails[name] for name in islice(thumbnails, None, None, step)]
    return chosen, "small pictures of the shots" if chosen else "noise"


def _sample_features(model: FewShotModel) -> tuple[Float32Array, str]:
    """Features of the shots, pushed a little off, since the shots themselves are keys of the cache."""
    if not len(model.shots):
        return np.random.default_rng(0).normal(size=(64, model.encoder.dim)).astype(np.float32), "random features"
    rows = model.shots.features.averaged().raw[:256, 0]
    noise = np.random.default_rng(0).normal(size=rows.shape) * rows.std()
    return np.concatenate([rows, rows + noise]).astype(np.float32), "features of the shots, with and without noise"


def _description(
    model: FewShotModel, encoder: Encoder | None, parity: Parity, *, alone: bool = False
) -> dict[str, Any]:
    """Everything that a reader of the files may want to know, as JSON values."""
    chosen = dict(model.method.chosen)
    heads = {name: getattr(model.head, name) for name in ("alpha", "beta") if hasattr(model.head, name)}
    described = {
        "format": FORMAT,
        "classes": list(model.class_names),
        "encoder": vars(model.encoder) | {"name": without_paths(model.encoder.name)},
        "method": {"name": model.method.name, "chosen": chosen, **heads},
        "temperature": model.temperature,
        "parity": parity.to_dict() | {"logit_tolerance": LOGIT_TOLERANCE},
        "versions": {"tip-adapter": version("tip-adapter"), "onnxruntime": version("onnxruntime")},
    }
    if encoder is None:
        return described | {"input": "features (B, D) float32 of the encoder, of any length"}
    inputs = inputs_of(encoder.preprocessing)
    shapes = " and ".join(f"{name} (B, {view.size}, {view.size}, 3)" for name, view in inputs.items())
    return described | {
        "input": f"{shapes} uint8 RGB, resized and cropped, not normalised{'; one a run, B = 1' if alone else ''}",
        "preprocessing": {name: view.to_dict() for name, view in inputs.items()},
    }


def _as_texts(description: dict[str, Any]) -> dict[str, str]:
    """Metadata of ONNX are texts: whatever is none already is written as JSON."""
    return {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in description.items()
    }


def _check_target(out: Path) -> None:
    if out.exists() and not (out.is_dir() and (_is_export(out) or not any(out.iterdir()))):
        raise InputError(f"Expected {out} to be new, empty or an earlier export: choose another folder or remove it")


def _is_export(folder: Path) -> bool:
    return _described(folder).get("format") == FORMAT


def _described(folder: Path) -> dict[str, Any]:
    """What an earlier export says about itself; nothing where there is none."""
    try:
        found = parse_json(read_file(folder / DESCRIPTION_FILE, _MAX_DESCRIPTION_BYTES))
    except (ModelFileError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
