"""Let embed and predict write Parquet files of many photos, by threads or on a cluster."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tip_adapter.cli.output import echo, echo_json
from tip_adapter.errors import InputError

if TYPE_CHECKING:
    from tip_adapter.features.jobs import Cluster, Worker


@dataclass(frozen=True)
class JobRequest:
    """What was asked for on the command line."""

    sources: Sequence[str]
    output: str
    cluster: Cluster
    dtype: str = "float32"
    rows_per_shard: int = 1024
    as_json: bool = False


@dataclass(frozen=True)
class LoadEncoder:
    """Make the function of a worker that encodes."""

    encoder: str
    precision: str
    seconds_per_image: float
    batch_size: int
    allow_truncated: bool

    def __call__(self) -> Worker:
        """Load the encoder, without a download."""
        from tip_adapter.encoders import load_encoder
        from tip_adapter.features.batch_encoder import BatchEncoder

        encoder = load_encoder(self.encoder, precision=self.precision)
        return BatchEncoder(
            encoder,
            seconds_per_image=self.seconds_per_image,
            batch_size=self.batch_size,
            allow_truncated=self.allow_truncated,
        )


@dataclass(frozen=True)
class LoadPredictor:
    """Make the function of a worker that predicts."""

    model: str
    encoder: str | None
    coverage: float | None
    sets: str
    allow_empty: bool
    none_of_these: float | None
    seconds_per_image: float
    allow_truncated: bool

    def __call__(self) -> Worker:
        """Load the classifier with its encoder."""
        from tip_adapter.classifier import ImageClassifier
        from tip_adapter.classifier.batch_predictor import BatchPredictor

        return BatchPredictor(
            ImageClassifier.load(self.model, encoder=self.encoder, store=None, allow_truncated=self.allow_truncated),
            coverage=self.coverage,
            sets=self.sets,
            allow_empty=self.allow_empty,
            none_of_these=self.none_of_these,
            seconds_per_image=self.seconds_per_image,
        )


def is_job(output: str | None) -> bool:
    """Whether an output is a Parquet file, a folder, or an address."""
    return output is not None and (output.endswith(".parquet") or "://" in output or not Path(output).suffix)


def expect_threads(cluster: Cluster) -> None:
    """Refuse a cluster for what is no job."""
    if cluster.engine != "threads":
        raise InputError("Expected --engine ray with an --output ending in .parquet, or a folder, got another output")


def run_request(request: JobRequest, load_worker: Callable[[], Worker], description: Mapping[str, Any]) -> None:
    """Do a job, and say what came of it."""
    from tip_adapter.data.records import list_records
    from tip_adapter.features.jobs import run_job
    from tip_adapter.features.shards import ShardFolder, merge
    from tip_adapter.progress import progress_bar

    if request.dtype not in ("float32", "float16"):
        raise InputError(f"Expected a dtype of float32 or float16, got {request.dtype!r}")
    single = request.output.endswith(".parquet") and "://" not in request.output and not os.path.isdir(request.output)
    folder = f"{request.output}.parts" if single else request.output
    # Workers may stand in other folders, or on other machines.
    where = folder if "://" in folder else os.path.abspath(folder)
    start = time.perf_counter()
    records = list_records([source if "://" in source else os.path.abspath(source) for source in request.sources])
    shards = ShardFolder(where, description, dtype=request.dtype)
    with progress_bar("Encoding photos") as progress:
        counts = run_job(
            records,
            load_worker,
            shards,
            cluster=request.cluster,
            rows_per_shard=request.rows_per_shard,
            progress=progress,
        )
    if single:
        merge(shards.parts(), Path(request.output))
    facts = {**counts, "output": request.output, "shards": where, "seconds": time.perf_counter() - start}
    if request.as_json:
        echo_json(facts)
        return
    echo(f"{counts['rows']} photos saved: {request.output}")
    if counts["errors"]:
        echo(f"{counts['errors']} photos could not be read; the reasons are in {folder}/_errors", err=True)
