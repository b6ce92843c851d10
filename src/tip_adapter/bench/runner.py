"""Run a whole comparison and keep its results in a folder."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tip_adapter.bench.data import BenchmarkData, PhotoSettings, prepare
from tip_adapter.bench.draws import TRAIN, ZIPF, Wanted
from tip_adapter.bench.execution import Job
from tip_adapter.bench.method_choice import choose_methods
from tip_adapter.bench.plan import Plan, described_stale, make_plan
from tip_adapter.bench.protocols import choose_protocols
from tip_adapter.bench.records import DONE, FAILED, Record, read_record, write_record
from tip_adapter.bench.report import Report, write_report
from tip_adapter.bench.workers import run_jobs
from tip_adapter.errors import InputError
from tip_adapter.features.feature_data import FeatureData
from tip_adapter.features.feature_files import is_feature_file, save_feature_file
from tip_adapter.methods.spec import MethodSpec
from tip_adapter.processors import usable_processors
from tip_adapter.storage.atomic import clear_errors, sweep_leftovers
from tip_adapter.storage.json_files import read_object
from tip_adapter.storage.locking import locked
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.features.store import FeatureStore
    from tip_adapter.progress import Progress

RunProgress = Callable[[int, int, str], None]
"""Called after every run with the runs done, the runs in all, and what was run."""


@dataclass(frozen=True)
class BenchmarkResult:
    """What a benchmark did.

    Attributes
    ----------
    output : Path
        Folder of results.
    n_run, n_kept : int
        Runs made now, and runs that were there already.
    records : tuple of Record
        Results of all that was asked for.
    report : Report
        Tables and figures that were written, of all the folder holds.
    notes : tuple of str
        What was left out, and why.
    skipped : tuple of (str, str)
        Photos that cannot be read, and why.
    """

    output: Path
    n_run: int
    n_kept: int
    records: tuple[Record, ...]
    report: Report
    notes: tuple[str, ...]
    skipped: tuple[tuple[str, str], ...]

    @property
    def failed(self) -> list[Record]:
        """Runs that failed."""
        return [record for record in self.records if record["status"] == FAILED]


def run(
    sources: Sequence[StrPath | FeatureData],
    output: StrPath,
    *,
    methods: str | Sequence[str] = "default",
    shots: Sequence[int] | None = None,
    n_seeds: int = 3,
    protocol: str = "fair",
    frequencies: StrPath = ZIPF,
    encoder: str | None = None,
    precision: str = "fp32",
    class_texts: StrPath | None = None,
    templates: str | Sequence[str] | None = None,
    no_text: bool = False,
    views: int = 1,
    data_root: StrPath | None = None,
    jobs: int | None = None,
    logits: bool = False,
    redo: bool = False,
    skip_bad: bool = False,
    store: FeatureStore | Literal["default"] | None = "default",
    figures: bool = True,
    encoding_progress: Progress | None = None,
    progress: RunProgress | None = None,
) -> BenchmarkResult:
    """Compare methods, and write tables, figures and one JSON file per run.

    Runs that are in the folder already are not made again, so an interrupted benchmark goes on where it ended.

    Parameters
    ----------
    sources : sequence of path, str or FeatureData
        Folders of class folders, manifests, feature files (.npz), names of `STANDARD_DATASETS`, features.
    output : path-like
        Folder of results, which one benchmark at a time may write to.
    methods : str or sequence of str, default="default"
        Names of methods or of groups: default, all, training-free, trained, on-encoder, transductive.
    shots : sequence of int, optional
        Photos per class. Default: those of 1, 2, 4, 8 and 16 that the data allows.
    n_seeds : int, default=3
        Support sets per number of shots, drawn with the seeds 0, 1, …
    protocol : str, default="fair"
        "fair": hyper-parameters come from the support set alone. "paper": as published, on the validation split.
        "paper-few": as published, on min(K, 4) more training photos per class. "both": fair and paper. "as-it-comes":
        as fair, with K photos a class on average, unequal as in life. "base-to-new": as fair, with shots of half of the
        classes. "transductive": for methods that see the test photos together. Several are separated by commas.
    frequencies : {"zipf", "train"} or path, default="zipf"
        Of the classes under "as-it-comes": one over the rank, in an order that the seed draws; those of the training
        photos; or a JSON file of class names to numbers.
    encoder : str, optional
        For photos, as `tip_adapter.load_encoder` takes it. Default: `tip_adapter.classifier.default_encoder`.
    precision : {"fp32", "int8"}, default="fp32"
        Of the encoder; results name its id, which differs.
    class_texts : path, optional
        JSON file of texts for classes, this project's or CLIP_benchmark's.
    templates : str or sequence of str, optional
        As `tip_adapter.features.prompts.resolve_templates` takes them, or a JSON file of CLIP_benchmark's. Default:
        those of a standard data set, else "ensemble".
    no_text : bool, default=False
        Let the shots answer alone: methods that need text are left out, and results are of another data set.
    views : int, default=1
        Views per shot, the same for all methods: keys are their mean, trained methods draw one at a time.
    data_root : path, optional
        Folder of the standard data sets.
    jobs : int, optional
        Processes side by side. Default: one per core. Each run has one thread, so that seconds can be compared;
        methods that work on the encoder run one at a time with all cores.
    logits : bool, default=False
        Also keep the logits of the test photos.
    redo : bool, default=False
        Make runs again that are in the folder already, also those of another version or other data.
    skip_bad : bool, default=False
        Go on without photos that cannot be read.
    store : FeatureStore, "default" or None
        Where features of photos are kept.
    figures : bool, default=True
        Draw figures, where matplotlib is installed.
    encoding_progress : Progress, optional
    progress : callable, optional
        See `RunProgress`.

    Raises
    ------
    InputError
        When an argument does not fit, another benchmark writes to the folder, or it holds results that these must not
        be mixed with.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from tip_adapter import bench
    >>> eye = np.eye(4, dtype=np.float32)
    >>> part = bench.Part(eye, np.array([0, 0, 1, 1]))
    >>> pets = bench.FeatureData("pets", ("cat", "dog"), part, eye[[0, 2]], train=part)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     result = bench.run([pets], folder, methods=["zero-shot", "prototype"], shots=[1], jobs=1)
    ...     sorted(path.name for path in result.output.glob("table.*"))
    ['table.csv', 'table.md']
    >>> result.n_run, len(result.failed)
    (6, 0)
    """
    chosen, protocols = choose_methods(methods), choose_protocols(protocol)
    if jobs is not None and jobs < 1:
        raise InputError(f"Expected at least 1 job, got {jobs}")
    if not sources:
        raise InputError("Expected at least one data set, got none")
    output = Path(output)
    _check_apart(output, sources)
    wanted = Wanted(shots, n_seeds, protocols, _read_frequencies(frequencies))
    with (
        _locked(output),
        _photo_settings(
            encoder, precision, class_texts, templates, views, data_root, skip_bad, store, sources, no_text
        ) as settings,
    ):
        data_sets = [
            _in_folder(prepare(source, settings, wanted, progress=encoding_progress), output) for source in sources
        ]
        cores = usable_processors()
        plan = make_plan(data_sets, chosen, protocols, output, logits=logits, redo=redo, cores=cores)
        _check_fresh(plan, output)
        _carry_out(plan, chosen, jobs or cores, cores, progress)
        report = write_report(output, figures=figures)
    records = tuple(read_record(path) for path in sorted(plan.paths))
    skipped = tuple(row for data in data_sets for row in data.skipped)
    return BenchmarkResult(output, len(plan.jobs), len(plan.kept), records, report, tuple(plan.notes), skipped)


def _read_frequencies(given: StrPath) -> str | Mapping[str, Any]:
    if given in (ZIPF, TRAIN):
        return str(given)
    return read_object(Path(given), "class names to numbers")


def _check_fresh(plan: Plan, output: Path) -> None:
    if plan.stale:
        raise InputError(
            f"{output} holds {described_stale(plan.stale)}, which must not be mixed with new ones: choose another "
            "output folder, or replace them with --redo (redo=True)"
        )


def _carry_out(
    plan: Plan, methods: Sequence[MethodSpec], n_processes: int, cores: int, progress: RunProgress | None
) -> None:
    for path, record in plan.not_applicable:
        write_record(path, record)
    on_encoder = {method.name for method in methods if method.on_encoder}
    phases = (
        ([job for job in plan.jobs if job.method not in on_encoder], n_processes, 1),
        ([job for job in plan.jobs if job.method in on_encoder], 1, cores),
    )
    done = 0
    if progress and plan.jobs:
        progress(0, len(plan.jobs), "")
    for jobs, processes, threads in phases:
        if not jobs:
            continue
        with contextlib.closing(run_jobs(jobs, processes, threads)) as finished:
            for job, died in finished:
                _settle(job, died)
                done += 1
                if progress:
                    base = job.base
                    progress(done, len(plan.jobs), f"{base['dataset']} {base['method']} {base['shots']} shots")


def _settle(job: Job, died: str | None) -> None:
    """Record a run that could not record itself; remove what a finished training left to go on from."""
    if died:
        for path, base in _results_of(job):
            write_record(path, base | {"status": FAILED, "reason": died})
    elif job.checkpoint and read_record(Path(job.record))["status"] == DONE:
        checkpoint = Path(job.checkpoint)
        for path in checkpoint.parent.glob(f"{checkpoint.stem}.*"):
            path.unlink()


def _results_of(job: Job) -> list[tuple[Path, Record]]:
    own = [(Path(job.record), job.base)]
    return [*own, (Path(job.twin["record"]), job.twin["base"])] if job.twin else own


def _check_apart(output: Path, sources: Sequence[Any]) -> None:
    """Refuse an output folder among the photos, whose figures the next call would take for photos."""
    for source in sources:
        if isinstance(source, FeatureData) or not Path(source).is_dir():
            continue
        if output.resolve().is_relative_to(Path(source).resolve()):
            raise InputError(f"Expected an output folder outside the photos in {source}, got {output}: choose another")


@contextlib.contextmanager
def _locked(output: Path) -> Iterator[None]:
    """Let one benchmark at a time write to a folder, and delete what one that was killed was about to write."""
    with clear_errors(output):
        output.mkdir(parents=True, exist_ok=True)
    with locked(output, 0):
        sweep_leftovers(output)
        yield


@contextlib.contextmanager
def _photo_settings(
    encoder: str | None,
    precision: str,
    class_texts: StrPath | None,
    templates: str | Sequence[str] | None,
    views: int,
    data_root: StrPath | None,
    skip_bad: bool,
    store: FeatureStore | Literal["default"] | None,
    sources: Sequence[Any],
    no_text: bool,
) -> Iterator[PhotoSettings]:
    from tip_adapter.classifier import default_encoder
    from tip_adapter.encoders import load_encoder
    from tip_adapter.features.store import FeatureStore

    if no_text and (class_texts is not None or templates is not None):
        raise InputError("Expected class texts and templates, or no text, got both: leave one out")
    name = encoder or default_encoder()

    @cache
    def load() -> Encoder:
        return load_encoder(name, precision=precision)

    given = {"encoder": encoder, "class texts": class_texts, "templates": templates, "data root": data_root}
    if all(isinstance(source, FeatureData) or is_feature_file(source) for source in sources):
        useless = [key for key, value in given.items() if value is not None] + (["views"] if views != 1 else [])
        useless += ["precision"] if precision != "fp32" else []
        if useless:
            raise InputError(f"Expected photos to go with {', '.join(useless)}, got feature files, which are fixed")
        store = None
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(FeatureStore()) if store == "default" else store
        yield PhotoSettings(load, name, class_texts, templates, views, data_root, skip_bad, opened, no_text)


def _in_folder(data: BenchmarkData, output: Path) -> BenchmarkData:
    """Keep encoded features with the results, for the workers and for whoever wants to measure on them again."""
    if data.path is not None:
        return data
    path = output / "data" / f"{data.features.name}-{data.features.digest[:8]}.npz"
    save_feature_file(path, data.features)
    return replace(data, path=path.resolve())
