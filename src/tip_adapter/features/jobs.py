"""Run long jobs over many images, each exactly once whatever interrupts them, on threads or a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tip_adapter.data.records import Record
from tip_adapter.errors import InputError
from tip_adapter.features.batch_encoder import Batch, Columns, batch_of
from tip_adapter.features.shards import ShardFolder

if TYPE_CHECKING:
    from tip_adapter.progress import Progress

ENGINES = ("threads", "ray")

Worker = Callable[[Batch], Columns]


@dataclass(frozen=True)
class Cluster:
    """Where and by how many workers a job is done.

    Parameters
    ----------
    engine : {"threads", "ray"}
    address : str, optional
        Of a Ray cluster; a local one is started without.
    workers : int, optional
        At most so many, with an encoder each. Default: as many as fit.
    cpus, gpus : float
        Of each worker.
    """

    engine: str = "threads"
    address: str | None = None
    workers: int | None = None
    cpus: float = 1
    gpus: float = 0

    def __post_init__(self) -> None:
        if self.engine not in ENGINES:
            raise InputError(f"Expected an engine of {', '.join(ENGINES)}, got {self.engine!r}")
        if self.engine == "threads" and (self.address or self.workers):
            raise InputError("Expected --engine ray with --address or --workers: threads use this machine alone")


def run_job(
    records: Sequence[Record],
    load_worker: Callable[[], Worker],
    output: ShardFolder,
    *,
    cluster: Cluster | None = None,
    rows_per_shard: int = 1024,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Give records to workers and write what they return; what is finished already is left alone.

    Parameters
    ----------
    load_worker : callable
        Makes the function of a batch, once in each worker; it travels to other processes.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from tip_adapter.data.records import Record
    >>> from tip_adapter.features.jobs import run_job
    >>> from tip_adapter.features.shards import ShardFolder
    >>> def load_worker():
    ...     return lambda batch: {"id": batch["id"], "features": np.ones((1, 2)), "error": [None]}
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     run_job([Record("a", "a.jpg")], load_worker, ShardFolder(folder, {}))
    {'rows': 1, 'errors': 0}
    """
    cluster = cluster or Cluster()
    output.open()
    finished = output.finished()
    left = [record for record in records if record.id not in finished]
    chunks = [left[start : start + rows_per_shard] for start in range(0, len(left), rows_per_shard)]
    done = cached = len(records) - len(left)
    if chunks and cluster.engine == "ray":
        from tip_adapter.features.ray_engine import run_on_ray

        counts = run_on_ray(chunks, load_worker, output, cluster)
    else:
        counts = (_write(load, chunk, output) for load in ([load_worker()] if chunks else []) for chunk in chunks)
    for count in counts:
        done += count
        if progress:
            progress(done, len(records), cached)
    return output.close()


def _write(worker: Worker, records: Sequence[Record], output: ShardFolder) -> int:
    output.write(worker(batch_of(records)))
    return len(records)
