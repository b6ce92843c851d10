"""Find features that are kept outside of a classifier, and delete them there."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Protocol

from tip_adapter.errors import InputError
from tip_adapter.features.shards import MANIFEST, ShardFolder
from tip_adapter.libraries import require_extra


class FeatureSink(Protocol):
    """Keeps features of images; `FeatureStore` and `ParquetRows` do."""

    def delete(self, digests: Iterable[str]) -> int:
        """Forget images, named by the SHA-256 of their bytes; return how many rows are gone."""
        ...


class ParquetRows:
    """What a job wrote: a folder of shards, on this machine or where fsspec reaches, or one file.

    Examples
    --------
    >>> import numpy as np, tempfile
    >>> from tip_adapter.features.shards import ShardFolder
    >>> from tip_adapter.features.sinks import ParquetRows
    >>> folder = tempfile.TemporaryDirectory()
    >>> shards = ShardFolder(folder.name, {})
    >>> shards.open()
    >>> rows = {"id": ["a", "b"], "digest": ["1", "2"], "features": np.eye(2, dtype=np.float32), "error": [None, None]}
    >>> shards.write(rows)
    >>> ParquetRows(folder.name).delete(["1"]), shards.table(["id"])["id"].to_pylist()
    (1, ['b'])
    >>> folder.cleanup()
    """

    def __init__(self, path: str) -> None:
        self.path = path.rstrip("/")

    def delete(self, digests: Iterable[str]) -> int:
        """Write every file that has rows of these images again without them; return how many rows are gone."""
        wanted = sorted(set(digests))
        if self.path.endswith(".parquet") and "://" not in self.path:
            # The shards that the file was joined from may still be there.
            parts = f"{self.path}.parts"
            gone = _without(ShardFolder(os.path.dirname(self.path) or ".", {}), self.path, wanted)
            return gone + (ParquetRows(parts).delete(wanted) if os.path.isdir(parts) else 0)
        folder = ShardFolder(self.path, {})
        if not folder.is_job():
            raise InputError(f"Expected Parquet files that embed or predict wrote in {self.path}, got no {MANIFEST}")
        return sum(_without(folder, file, wanted) for file in folder.parts())


def _without(folder: ShardFolder, file: str, digests: list[str]) -> int:
    arrow = require_extra("pyarrow", "data")
    compute = require_extra("pyarrow.compute", "data")
    table: Any = folder.read(file)
    if "digest" not in table.column_names:
        raise InputError(f"Expected {file} to say of each row which image it is of, got no column 'digest'")
    kept = table.filter(compute.invert(compute.is_in(table["digest"], value_set=arrow.array(digests, arrow.string()))))
    if len(kept) < len(table):
        folder.replace(file, kept)
    return len(table) - len(kept)
