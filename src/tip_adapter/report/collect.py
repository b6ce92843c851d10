"""Collect what a report shows from a fitted model and labelled photos."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tip_adapter.data.decoding import ImageSource
from tip_adapter.data.thumbnails import make_thumbnails
from tip_adapter.explain.explainer import Explainer
from tip_adapter.explain.explanation import ShotEvidence
from tip_adapter.features.extraction import Extraction
from tip_adapter.methods.heads import CacheHead, softmax, zero_shot_logits
from tip_adapter.methods.selection.cache_search import Landscape, landscape
from tip_adapter.model.evaluation import evaluate_features
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.report import Mistake, PhotoStrip, ReportContent
from tip_adapter.trust.doctor import Diagnosis
from tip_adapter.typing import Float32Array, FloatArray, IntArray

SIDE = 96
"""Pixels of the photos in a report."""

MAX_PHOTOS = 2500
"""Photos that get a picture: mistakes first."""

MISTAKES, DECIDING, LOOKED_AT = 12, 3, 8
"""Mistakes that are shown, shots beside each, and deciding shots of which those that spoke for the answer are taken."""

OCTAVES = 4.0
"""The landscape goes this far from the chosen pair, in powers of two."""


def report_content(
    model: FewShotModel,
    extraction: Extraction,
    images: Sequence[ImageSource],
    labels: IntArray,
    title: str,
    diagnosis: Diagnosis | None,
    *,
    queries: Float32Array | None = None,
) -> ReportContent:
    """Put together what a report shows; `queries` (N, D) are single views of the shots, where keys are means."""
    logits = model.logits(extraction.features.unit)
    probabilities = model.probabilities(logits)
    wrong = probabilities.argmax(axis=1) != labels
    shown = np.lexsort((np.random.default_rng(0).permutation(len(labels)), ~wrong))[:MAX_PHOTOS]
    pictures = make_thumbnails([images[row] for row in shown], SIDE)
    names = extraction.features.names
    return ReportContent(
        title=title,
        facts=_facts(model),
        evaluation=evaluate_features(model, extraction, labels),
        probabilities=probabilities,
        labels=labels,
        names=names,
        thumbnails={int(row): data for row, data in zip(shown, pictures, strict=True)},
        raw_probabilities=softmax(logits),
        calibration=model.calibration,
        landscape=_landscape(model, queries),
        chosen=(model.head.alpha, model.head.beta) if isinstance(model.head, CacheHead) else None,
        mistakes=_mistakes(model, extraction, names, probabilities, labels),
        diagnosis=diagnosis,
        shot_thumbnails={} if diagnosis is None else pictures_of(model, diagnosis),
    )


def _facts(model: FewShotModel) -> dict[str, str]:
    facts = {
        "method": model.method.name,
        "encoder": model.encoder.name,
        "learned from": model.counted,
    }
    summary = model.method.chosen.get("summary")
    return facts | ({"chosen": str(summary)} if summary else {})


def _landscape(model: FewShotModel, queries: Float32Array | None) -> Landscape | None:
    head = model.head
    if not isinstance(head, CacheHead) or head.alpha <= 0 or head.beta <= 0:
        return None
    asked = head.keys if queries is None else queries
    text = zero_shot_logits(asked, head.zero_shot_weights, head.logit_scale, head.n_classes)
    return landscape(
        head.keys,
        head.labels,
        text,
        alphas=head.alpha * 2.0 ** np.linspace(-OCTAVES, OCTAVES, 25),
        betas=head.beta * 2.0 ** np.linspace(-OCTAVES, OCTAVES, 17),
        balanced=head.balanced,
        groups=model.shots.group_numbers,
        queries=queries,
    )


def _mistakes(
    model: FewShotModel, extraction: Extraction, names: Sequence[str], probabilities: FloatArray, labels: IntArray
) -> list[Mistake]:
    """The most confident mistakes, with the shots that spoke most for the answer."""
    best = probabilities.argmax(axis=1)
    wrong = np.flatnonzero(best != labels)
    rows = wrong[np.argsort(-probabilities[wrong, best[wrong]], kind="stable")][:MISTAKES]
    why = Explainer(model).explain(extraction.features.unit[rows], [names[row] for row in rows], shots=LOOKED_AT)
    return [
        Mistake(
            int(row),
            tuple(_strip(shot) for shot in told.deciding if shot.term is None or shot.term.margin > 0)[:DECIDING],
        )
        for row, told in zip(rows, why, strict=True)
    ]


def _strip(shot: ShotEvidence) -> PhotoStrip:
    caption = f"cos {shot.cosine:.2f}" if shot.term is None else f"+{shot.term.margin:.2f}"
    return PhotoStrip(shot.name, shot.class_name, caption, shot.thumbnail)


def pictures_of(model: FewShotModel, diagnosis: Diagnosis) -> dict[str, bytes]:
    """Pictures of the shots that a diagnosis names, by these names."""
    shots, named = model.shots, {shot.name for shot in diagnosis.labels}
    named |= {name for pair in diagnosis.duplicates for name in (pair.first, pair.second)}
    return {
        name: shots.thumbnails[key]
        for name, key in zip(shots.features.names, shots.ids, strict=True)
        if name in named and key in shots.thumbnails
    }
