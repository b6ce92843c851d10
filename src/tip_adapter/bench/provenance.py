"""Record what a result depends on besides its data: versions, machine and the state of the code."""

from __future__ import annotations

import hashlib
import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from tip_adapter.processors import usable_processors

PACKAGES = ("tip-adapter", "numpy", "scipy", "scikit-learn", "torch", "onnxruntime", "pillow")


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, as far as they are installed."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def machine() -> dict[str, Any]:
    """Processor, cores, memory and system; nothing that names a person or a computer."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")
        ]
        cpu = names[0] if names else cpu
    return {"cpu": cpu, "cores": usable_processors(), "system": platform.system()}


@cache
def code_digest() -> str:
    """Hash the source of this package, so that results of two states of it can be told apart."""
    import tip_adapter

    whole = hashlib.sha256()
    root = Path(tip_adapter.__file__).parent
    measured = ("methods", "encoders")
    for path in sorted(root.rglob("*.py")):
        part = path.relative_to(root)
        # The command line, the studio … change no figure.
        if len(part.parts) == 1 or part.parts[0] in measured:
            whole.update(f"{part.as_posix()}\n".encode() + path.read_bytes())
    return whole.hexdigest()[:12]
