"""Complete saved classifiers, methods and encoders in the shell; it completes files and folders itself."""

from __future__ import annotations

from pathlib import Path


def saved_classifiers(incomplete: str) -> list[str]:
    """List saved classifiers that begin with what was typed."""
    from tip_adapter.storage.bundle_files import is_bundle

    beginning = Path(incomplete)
    folder = beginning if incomplete.endswith("/") else beginning.parent
    typed = incomplete[: incomplete.rfind("/") + 1]
    try:
        names = sorted(path.name for path in folder.iterdir() if is_bundle(path))
    except OSError:
        return []
    return [typed + name for name in names if (typed + name).startswith(incomplete)]


def methods(incomplete: str) -> list[str]:
    """List methods, after others with a comma between them, too."""
    from tip_adapter.methods import METHODS

    typed, comma, last = incomplete.rpartition(",")
    return [f"{typed}{comma}{name}" for name in METHODS if name.startswith(last)]


def encoders(incomplete: str) -> list[str]:
    """List encoders by name, after others that they are joined with, too."""
    from tip_adapter.encoders import ENCODER_PREFIXES, ENCODERS

    typed, plus, last = incomplete.rpartition("+")
    return [f"{typed}{plus}{name}" for name in (*ENCODERS, *ENCODER_PREFIXES) if name.startswith(last)]
