"""Find what other packages add through entry points."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from tip_adapter.errors import InputError, PluginWarning, warn


@dataclass(frozen=True)
class Plugin:
    """What another package adds under a name."""

    entry_point: EntryPoint

    @property
    def package(self) -> str:
        """Name of the package that brings it."""
        return self.entry_point.dist.name if self.entry_point.dist else self.entry_point.module

    def load(self) -> Any:
        """Import it; a failure names the package, not a line inside it."""
        try:
            return self.entry_point.load()
        except Exception as error:
            raise InputError(
                f"{self.entry_point.name!r} of the package {self.package} cannot be imported "
                f"({type(error).__name__}: {error}): mend or remove that package"
            ) from error

    def works(self) -> bool:
        """Try to import it; a failure is said, and the others go on."""
        try:
            self.load()
        except InputError as error:
            warn(f"{error}; it is left out", PluginWarning)
            return False
        return True


def plugins(group: str) -> dict[str, Plugin]:
    """Find what other packages add to a group of entry points, by name."""
    return {entry_point.name: Plugin(entry_point) for entry_point in entry_points(group=group)}
