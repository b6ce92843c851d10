"""Write the model card of a classifier in Markdown."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tip_adapter.storage.escaping import for_markdown
from tip_adapter.trust.metrics import wilson_interval

if TYPE_CHECKING:
    from tip_adapter.model.few_shot_model import FewShotModel


def card_of(model: FewShotModel, *, license_name: str | None = None, repository: str | None = None) -> str:
    """Describe a model: what it knows, how it was made, how good it is on shots that it had not seen."""
    rows = "\n".join(
        f"| {for_markdown(name)} | {count} | {for_markdown(', '.join(texts) or 'none')} |"
        for name, count, texts in zip(model.class_names, model.counts, model.class_texts, strict=True)
    )
    chosen = "\n".join(f"- {name}: {for_markdown(value)}" for name, value in model.choices)
    chosen += "".join(f"\n- note: {for_markdown(note)}" for note in model.stale_notes)
    kept = "; features of each view are in this folder" if model.shots.features.n_views > 1 else ""
    licensed = "" if license_name is None else f"license: {json.dumps(license_name)}\n"
    load = 'load("THIS_FOLDER")' if repository is None else f"from_pretrained({json.dumps(repository)})"
    place = "THIS_FOLDER" if repository is None else f"hub:{repository}"
    return f"""---
library_name: tip-adapter
pipeline_tag: image-classification
tags: [few-shot, clip, tip-adapter]
{licensed}---

# Few-shot image classifier

A classifier made with Tip-Adapter from {model.counted}.

- accuracy: {_accuracy(model)}
- method: {for_markdown(model.method.name)}
- encoder: {for_markdown(model.encoder.summary)}
- views per shot: {model.views}, seed {model.random_state}{kept}
- templates: {for_markdown("; ".join(model.templates))}
{chosen}
- probabilities: {"not calibrated" if model.calibration is None else model.calibration.summary}

| class | shots | texts |
|---|---|---|
{rows}

Use it with `tip-adapter predict {place} photo.jpg`, or in Python with
`tip_adapter.ImageClassifier.{load}.predict(["photo.jpg"])`.
It answers with one of its classes for any photo; measure it on photos of your own before you rely on it.
"""


def _accuracy(model: FewShotModel) -> str:
    """What photos that the model had not seen say, with a 95 % interval."""
    calibration = model.calibration
    if calibration is None or not len(calibration.scores):
        return "not measured"
    n = len(calibration.scores)
    right = int((calibration.scores.ahead == 0).sum())
    low, high = (100 * bound for bound in wilson_interval(right, n))
    asked = "photos apart from the shots" if calibration.source == "photos" else "shots, each left out in turn"
    return f"{100 * right / n:.1f} % ({low:.1f} to {high:.1f} %) of {n} {asked}"
