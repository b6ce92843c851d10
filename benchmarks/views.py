"""Whether shots of several views choose hyper-parameters better when they are asked about as means or as single views.

Usage: python benchmarks/views.py ../shared/data/clothing [--encoder lite] [--views 4] [--draws 10]

Keys are means of views in both. Shots that are left out while hyper-parameters are chosen are asked about by these
means, or as photos to classify are seen: by the middle of the photo alone. Test photos, which are seen so, decide.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from provenance import write_result
from tip_adapter.data import load_dataset
from tip_adapter.data.sampling import sample_shots
from tip_adapter.encoders import load_encoder
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.prompts import load_class_texts, resolve_templates, texts_for, zero_shot_weights
from tip_adapter.features.store import FeatureStore
from tip_adapter.methods import METHODS
from tip_adapter.methods.selection.weight import nll_and_accuracy
from tip_adapter.processors import single_threaded_blas

SHOTS = (1, 2, 4, 8, 16)


def features_of(folder: Path, encoder_name: str, views: int) -> dict[str, np.ndarray]:
    encoder = load_encoder(encoder_name)
    train, *others = (load_dataset(folder / split) for split in ("train", "test", "validation"))
    with FeatureStore() as store:
        asked = [extract_features(encoder, part.paths, store=store).features.unit for part in (train, *others)]
        means = extract_features(encoder, train.paths, views=views, store=store).features.unit
    found = {"means": means, "single": asked[0], "asked": np.concatenate(asked[1:])}
    texts = texts_for(train.class_names, load_class_texts(folder / "class_names.json"))
    found["texts"] = zero_shot_weights(encoder, texts, resolve_templates("ensemble"))
    labels = {"labels": train.labels, "truth": np.concatenate([part.labels for part in others])}
    return found | labels | {"scale": np.array(encoder.logit_scale)}


def measure(found: dict[str, np.ndarray], method: str, shots: int, seed: int) -> list[list[float]]:
    """Negative log-likelihood and accuracy in percent of test photos, asked about means and about single views."""
    rows, result = sample_shots(found["labels"], shots, random_state=seed), []
    for queries in (None, found["single"][rows]):
        fitted = METHODS[method](found["texts"], logit_scale=float(found["scale"]))
        fitted.fit(found["means"][rows], found["labels"][rows], queries=queries)
        nll, accuracy = nll_and_accuracy(fitted.logits(found["asked"]).astype(float), found["truth"])
        result.append([nll, 100 * accuracy])
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="lite")
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--methods", nargs="+", default=["auto", "tip-adapter", "gda", "proker"])
    options = parser.parse_args()
    found, rows = features_of(options.folder, options.encoder, options.views), []
    with single_threaded_blas():
        for method in options.methods:
            for shots in SHOTS:
                draws = np.array([measure(found, method, shots, seed) for seed in range(options.draws)])
                change = draws[:, 1] - draws[:, 0]
                errors = change.std(axis=0, ddof=1) / np.sqrt(len(change))
                seen = {"means": draws[:, 0].mean(axis=0), "single": draws[:, 1].mean(axis=0)}
                row = {name: value.tolist() for name, value in (seen | {"change": change.mean(axis=0)}).items()}
                rows.append({"method": method, "shots": shots, **row, "standard error": errors.tolist()})
                print(rows[-1], flush=True)
    settings = {"encoder": options.encoder, "views": options.views, "draws": options.draws}
    write_result("views", {**settings, "rows": rows})


if __name__ == "__main__":
    main()
