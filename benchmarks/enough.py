"""Whether what is foreseen of one more photo of a class comes true, and what "enough" is worth.

Usage: python benchmarks/enough.py ../shared/data [--encoder lite-fast] [--draws 20]

Support sets of 2, 4, 8 and 16 photos a class, and of unequal counts (1 to 12), are drawn; `tip_adapter.trust.enough`
foresees the gain of one more photo for each class. Then other photos are added to one class at a time (up to four, each
alone), and the recall of that class on photos apart says what they gained; one is added to all classes, too. Clothes
with the encoder given; Caltech with CLIP ViT-B/32, its validation photos as shots; Cars, whose shots are means of ten
views.

Printed for each set, method and count: gain foreseen and gained, slope of the one on the other (1 were perfect), rank
correlation over classes within a draw, beside it the highest that could be measured (from the gains on halves of the
test photos, stepped up by Spearman and Brown), how often the recall lies in its interval, and for each verdict its
share and the gain.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from provenance import write_result
from tip_adapter.methods import METHODS
from tip_adapter.methods.left_out import left_out_logits
from tip_adapter.processors import single_threaded_blas
from tip_adapter.trust.enough import Enough, enough
from trust import Data, load_all

SHOTS = (2, 4, 8, 16, 0)
UNEQUAL = (1, 2, 3, 4, 6, 8, 12)
"""Photos of a class where counts differ, each as often as the others."""

VERDICTS = ("enough", "more would help", "too few to say")


@dataclass(frozen=True)
class Told:
    """What was foreseen of a draw, and what came: gains in recall (C,) on all test photos and on halves of them."""

    foreseen: Enough
    recall: np.ndarray
    gained: np.ndarray
    halves: np.ndarray
    gained_by_all: float


def sets(folder: Path, encoder: str) -> Iterator[Data]:
    """Put more photos apart: Caltech's shots are photos, and those of clothes are tested on all that are no shots."""
    for data in load_all(folder, encoder):
        if data.name == "caltech60":
            with np.load(folder / "clip-vit-b32" / "caltech60.npz", allow_pickle=False) as file:
                photos, labels = (file[f"validation_{what}"] for what in ("features", "labels"))
            data = replace(data, support=photos.astype(np.float32), support_labels=labels.astype(np.intp), means=False)
        if data.name == "clothing":
            photos, labels = validation(folder / "clothing" / "validation", encoder)
            queries = np.vstack([data.queries, photos])
            data = replace(data, queries=queries, labels=np.concatenate([data.labels, labels]))
        yield data


def validation(folder: Path, encoder: str) -> tuple[np.ndarray, np.ndarray]:
    from tip_adapter.data import load_dataset
    from tip_adapter.encoders import load_encoder
    from tip_adapter.features.extraction import extract_features
    from tip_adapter.features.store import FeatureStore

    photos = load_dataset(folder)
    with FeatureStore() as store:
        return extract_features(load_encoder(encoder), photos.paths, store=store).features.unit, photos.labels


def told(data: Data, method: str, shots: int, seed: int, others: int) -> Told:
    """Draw a support set, foresee, and add other photos to one class at a time, and to all."""
    rng, n_classes = np.random.default_rng(seed), len(data.weights)
    rows, rest = [], []
    for number in range(n_classes):
        own = rng.permutation(np.flatnonzero(data.support_labels == number))
        count = min(shots or int(rng.choice(UNEQUAL)), len(own) - 1)
        rows += own[:count].tolist()
        rest.append(own[count : count + others])
    labels = data.support_labels[rows]
    names = [str(number) for number in range(n_classes)]
    fitted = METHODS[method](data.weights, logit_scale=data.scale).fit(data.support[rows], labels)
    answers = left_out_logits(fitted, data.support[rows], labels)
    foreseen = enough(answers, labels, None, names)
    held = fitted.held_parameters()

    def right(more: list[int]) -> np.ndarray:
        chosen = [*rows, *more]
        again = METHODS[method](data.weights, logit_scale=data.scale, **held)
        again.fit(data.support[chosen], data.support_labels[chosen])
        return (again.logits(data.queries).argmax(axis=1) == data.labels).astype(float)

    before = right([])
    gained, halves = np.zeros(n_classes), np.zeros((n_classes, 2))
    for number, photos in enumerate(rest):
        own = np.flatnonzero(data.labels == number)
        change = np.mean([(right([int(photo)]) - before)[own] for photo in photos], axis=0)
        gained[number], halves[number] = change.mean(), [change[half::2].mean() for half in (0, 1)]
    recall = np.array([before[data.labels == number].mean() for number in range(n_classes)])
    after = right([int(photos[0]) for photos in rest])
    by_all = np.mean([(after - before)[data.labels == number].mean() for number in range(n_classes)])
    return Told(foreseen, recall, gained, halves, float(by_all))


def summary(draws: list[Told]) -> dict[str, Any]:
    """Compare what was foreseen with what came, in points."""
    foreseen, gained, verdicts, ranks, ceilings, covered = [], [], [], [], [], []
    for one in draws:
        known = [row for row in one.foreseen.classes if row.gain is not None]
        places = [int(row.name) for row in known]
        gains = np.array([row.gain for row in known])
        foreseen.append(gains)
        gained.append(one.gained[places])
        verdicts += [row.verdict for row in known]
        ranks.append(_rank(gains, one.gained[places]))
        half = _rank(*one.halves[places].T)
        ceilings.append(np.sqrt(max(0.0, 2 * half / (1 + half))))
        covered += [row.interval[0] <= one.recall[int(row.name)] <= row.interval[1] for row in known if row.interval]
    if not verdicts:
        return {}
    expected, real, said = np.concatenate(foreseen), np.concatenate(gained), np.array(verdicts)
    in_all = [(one.foreseen.gain, one.gained_by_all) for one in draws if one.foreseen.gain is not None]
    return {
        "foreseen": 100 * float(expected.mean()),
        "gained": 100 * float(real.mean()),
        "slope": _slope(foreseen, gained),
        "rank": float(np.nanmean(ranks)),
        "highest_rank": float(np.nanmean(ceilings)),
        "covered": float(np.mean(covered)),
        "in_all": [100 * float(value) for value in np.mean(in_all, axis=0)],
        "verdicts": {
            verdict: [float(np.mean(said == verdict)), 100 * float(real[said == verdict].mean())]
            for verdict in VERDICTS
            if (said == verdict).any()
        },
        "verdicts_in_all": {
            verdict: [len(gains) / len(draws), 100 * float(np.mean(gains))]
            for verdict in VERDICTS
            if (gains := [one.gained_by_all for one in draws if one.foreseen.verdict == verdict])
        },
    }


def _rank(first: np.ndarray, second: np.ndarray) -> float:
    return float(spearmanr(first, second).statistic) if np.ptp(first) > 0 and np.ptp(second) > 0 else np.nan


def _slope(foreseen: list[np.ndarray], gained: list[np.ndarray]) -> list[float]:
    """Slope of what came on what was foreseen, and its 95 % interval over draws."""

    def slope(draws: np.ndarray) -> float:
        first, second = (np.concatenate([part[draw] for draw in draws]) for part in (foreseen, gained))
        spread = float(np.var(first))
        return float(np.cov(first, second, bias=True)[0, 1]) / spread if spread > 0 else np.nan

    rng, count = np.random.default_rng(0), len(foreseen)
    again = [slope(rng.integers(0, count, count)) for _ in range(500)]
    return [slope(np.arange(count)), *(float(bound) for bound in np.nanquantile(again, (0.025, 0.975)))]


def show(name: str, row: dict[str, Any]) -> None:
    slope, low, high = row["slope"]
    verdicts = ", ".join(f"{what} {share:.0%} → {gain:+.1f}" for what, (share, gain) in row["verdicts"].items())
    print(
        f"{name}: foreseen {row['foreseen']:.1f}, gained {row['gained']:.1f} points; slope {slope:.2f} "
        f"({low:.2f} to {high:.2f}); rank {row['rank']:.2f} of {row['highest_rank']:.2f}; "
        f"{row['covered']:.0%} in the interval; in all {row['in_all'][0]:.1f} → {row['in_all'][1]:.1f}; {verdicts}",
        flush=True,
    )


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    rows: dict[str, Any] = {}
    for data in sets(arguments.folder, arguments.encoder):
        if data.name not in arguments.sets:
            continue
        many = len(data.weights) > 20  # a fit for every class: fewer draws give as many classes
        draws = max(3, arguments.draws // 5) if many else arguments.draws
        for method in ("tip-adapter",) if len(data.weights) > 100 else ("auto", "tip-adapter"):
            for shots in SHOTS:
                if shots >= np.bincount(data.support_labels).min() and shots > 8:
                    continue
                seeds = range(min(draws, 3) if len(data.weights) > 100 else draws)
                name = f"{data.name}/{method}/{shots or 'unequal'}"
                found = summary([told(data, method, shots, seed, 1 if many else 4) for seed in seeds])
                rows[name] = found
                show(name, found)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="lite-fast")
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--sets", nargs="+", default=["clothing", "caltech60", "stanford_cars"])
    arguments = parser.parse_args()
    with single_threaded_blas():
        rows = measured(arguments)
    write_result("enough", {"encoder": arguments.encoder, "draws": arguments.draws, "rows": rows})


if __name__ == "__main__":
    main()
