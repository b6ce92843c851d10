"""Figures of a benchmark in, one JSON file with command, machine and versions beside them out."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("tip-adapter", "numpy", "scipy", "scikit-learn", "onnxruntime", "pillow")
RESULTS = Path(__file__).parent / "results"


def write_result(name: str, figures: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and tell where."""
    # Imported here: the package's libraries must not be loaded before a benchmark begins.
    from tip_adapter.bench.provenance import machine

    RESULTS.mkdir(exist_ok=True)
    command = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    whole = {
        "command": command,
        "machine": machine() | {"python": platform.python_version()},
        "versions": {package: version(package) for package in PACKAGES},
        "figures": figures,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(whole, indent=2) + "\n")
    print(f"written: benchmarks/results/{path.name}")
