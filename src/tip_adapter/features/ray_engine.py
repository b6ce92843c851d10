"""Run long jobs on Ray Data: each worker is an actor with an encoder that reads images and writes shards."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tip_adapter.data.records import Record, from_json, to_json
from tip_adapter.errors import TipAdapterError
from tip_adapter.features.batch_encoder import batch_of
from tip_adapter.features.jobs import Cluster, Worker
from tip_adapter.features.shards import ShardFolder
from tip_adapter.libraries import require_extra

CALL_S = 10
"""How long a cluster may take to answer."""

QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}


def run_on_ray(
    chunks: Sequence[Sequence[Record]], load_worker: Callable[[], Worker], output: ShardFolder, cluster: Cluster
) -> Iterator[int]:
    """Do chunks of records, and return the size of each when its shard is written.

    Only references to images and counts pass through Ray, so the object store never spills. A worker that is killed is
    started again and does its chunk again, into a file of the same name.
    """
    with _connected(cluster) as ray:
        data = require_extra("ray.data", "ray")
        context = data.DataContext.get_current()
        # It would read the whole memory map of every worker each second, to tune what nothing here needs tuned.
        context.enable_progress_bars, context.memory_usage_poll_interval_s = False, None
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        rows = [{"records": to_json(chunk)} for chunk in chunks]
        most, at_once = (min(len(chunks), cluster.workers or others) for others in (len(chunks), 1))
        pool = data.ActorPoolStrategy(min_size=1, initial_size=at_once, max_size=most)
        written = data.from_items(rows, override_num_blocks=len(rows)).map(
            _ShardWorker,
            fn_constructor_args=(load_worker, output),
            compute=pool,
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
        )
        try:
            for row in written.iter_rows():
                yield int(row["count"])
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[-1]
            raise TipAdapterError(f"The job on Ray stopped ({reason}): finished shards are kept, run again") from error


@contextlib.contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Connect to a cluster, or start a local one; one that the caller has connected to is used and stays."""
    os.environ.update(QUIET)
    ray = require_extra("ray", "ray")
    local: dict[str, Any] = {} if cluster.address else {"include_dashboard": False, "num_cpus": _processors(cluster)}
    ours = not ray.is_initialized()
    # Ray prints on stdout, which has the result alone.
    with contextlib.redirect_stdout(sys.stderr):
        try:
            if ours:
                _call(cluster.address)
                ray.init(address=cluster.address or "local", log_to_driver=False, logging_level="ERROR", **local)
        except (OSError, ImportError, ValueError, RuntimeError) as error:
            raise TipAdapterError(
                f"There is no Ray cluster at {cluster.address} ({str(error).splitlines()[0]}): check the address"
            ) from error
        try:
            yield ray
        finally:
            if ours:
                ray.shutdown()


def _call(address: str | None) -> None:
    """Fail where nobody answers: Ray itself would try for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CALL_S).close()


def _processors(cluster: Cluster) -> int | None:
    """Of a local cluster: as many as the workers take, where their number is given."""
    return None if cluster.workers is None else max(1, round(cluster.workers * cluster.cpus))


class _ShardWorker:
    """One worker: its encoder is loaded once."""

    def __init__(self, load_worker: Callable[[], Worker], output: ShardFolder) -> None:
        self.worker, self.output = load_worker(), output

    def __call__(self, row: dict[str, Any]) -> dict[str, int]:
        records = from_json(row["records"])
        self.output.write(self.worker(batch_of(records)))
        return {"count": len(records)}
