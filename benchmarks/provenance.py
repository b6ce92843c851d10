"""Keep the figures of a benchmark, with the command, the machine and the versions that gave them."""

from __future__ import annotations

import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

PACKAGES = ("tip-adapter", "numpy", "scipy", "scikit-learn", "onnxruntime", "pillow")
RESULTS = Path(__file__).parent / "results"
COMMAND = " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
"""As it was typed: some benchmarks run commands of the package in their own process."""


def write_result(name: str, figures: dict[str, Any]) -> None:
    """Write benchmarks/results/NAME.json and tell where."""
    # Imported here: the package's libraries must not be loaded before a benchmark begins.
    from tip_adapter.bench.provenance import machine

    RESULTS.mkdir(exist_ok=True)
    whole = {
        "command": COMMAND,
        "machine": machine() | {"python": platform.python_version()},
        "versions": {package: version(package) for package in PACKAGES},
        "figures": figures,
    }
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(whole, indent=2) + "\n")
    print(f"written: benchmarks/results/{path.name}")
