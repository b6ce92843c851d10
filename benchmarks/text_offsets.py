"""What `auto` gains from making up for texts that are named too often or too seldom: the same fits, with and without.

Usage: python benchmarks/text_offsets.py ../shared/data [--draws 5]

The sets, texts and draws of `outsiders.py`, true texts and texts shuffled among the classes. The offsets are a constant
of each class that comes after everything else was chosen, so that without them is their subtraction.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from outsiders import SETS, SHOTS, Data, draw, interval, load, texts_of
from provenance import write_result
from tip_adapter.methods.auto import Auto
from tip_adapter.methods.selection.text_offsets import text_offsets
from tip_adapter.methods.support_set import SupportSet


def with_and_without(data: Data, shots: str, seed: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Which queries are right with the offsets and without."""
    rows, weights = draw(data, shots, seed), texts_of(data, seed)[kind]
    features, labels = data.pool[rows], data.pool_labels[rows].astype(np.intp)
    method = Auto(weights, logit_scale=data.scale).fit(features, labels)
    found, logits = method.search_, method.logits(data.queries)
    support = SupportSet(features, labels, len(weights), weights, data.scale)
    offsets = np.zeros(len(weights))
    if any(found.weights[1:]):
        offsets = text_offsets(support.weigh_text(found.weights[0] * found.parameters["text weight"]))
    return logits.argmax(axis=1) == data.labels, (logits - offsets).argmax(axis=1) == data.labels


def measure(data: Data, shots: str, kind: str, draws: int) -> dict[str, object]:
    # All of a pool of 16 shots can be drawn in one way.
    whole = shots == "16" and len(data.pool) == 16 * len(data.weights)
    pairs = [with_and_without(data, shots, seed, kind) for seed in range(1 if whole else draws)]
    gains = np.mean([after.astype(float) - before for after, before in pairs], axis=0)
    low, high = interval(gains)
    before, after = (100 * float(np.mean([pair[place] for pair in pairs])) for place in (1, 0))
    return {"without": before, "with": after, "gain": 100 * float(gains.mean()), "low": low, "high": high}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--draws", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    with threadpool_limits(1):
        for name in SETS:
            data = load(name, arguments.folder)
            for kind in ("true", "shuffled"):
                for shots in SHOTS:
                    row = {"set": name, "texts": kind, "shots": shots}
                    rows.append(row | measure(data, shots, kind, arguments.draws))
                    print(rows[-1], flush=True)
    write_result("text_offsets", {"rows": rows, "draws": arguments.draws})


if __name__ == "__main__":
    main()
