"""Plan the runs of a comparison: those still to do, those already done, and those that are not possible."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from tip_adapter.bench.data import BenchmarkData
from tip_adapter.bench.draws import Draw
from tip_adapter.bench.execution import Job
from tip_adapter.bench.protocols import BASE_TO_NEW, FEW, PAPER, TRANSDUCTIVE, TUNED, tuning_of
from tip_adapter.bench.provenance import code_digest, machine, versions
from tip_adapter.bench.records import DONE, FOLDER, FORMAT, NOT_APPLICABLE, Record, read_record
from tip_adapter.errors import InputError
from tip_adapter.methods.spec import MethodSpec

UNAVERAGED = 1
"""The WiSE-FT weight that takes the end of the training as it is."""


TOGETHER = "answers the test photos together: its protocol is 'transductive'"
APART = "answers each photo for itself: compare it under the other protocols"
LEAST_CLASSES = 4


@dataclass
class Plan:
    """What a benchmark consists of."""

    jobs: list[Job] = field(default_factory=list)
    """Runs to make."""
    kept: list[Path] = field(default_factory=list)
    """Results that are there already."""
    stale: list[tuple[Path, str]] = field(default_factory=list)
    """Results in the way that are of other data or another version, and why."""
    not_applicable: list[tuple[Path, Record]] = field(default_factory=list)
    """What a method, or the data, does not allow."""
    notes: list[str] = field(default_factory=list)
    planned: set[Path] = field(default_factory=set)
    """Files of the runs, made and kept."""

    @property
    def paths(self) -> set[Path]:
        """Files of all results of the plan."""
        return self.planned | {path for path, _ in self.not_applicable}


def make_plan(
    data_sets: Sequence[BenchmarkData],
    methods: Sequence[MethodSpec],
    protocols: Sequence[str],
    output: Path,
    *,
    logits: bool = False,
    redo: bool = False,
    cores: int = 1,
) -> Plan:
    """Lay out all runs."""
    plan = Plan()
    for data in data_sets:
        layout = _Layout(data, output, logits, redo, cores)
        plan.notes += data.draws.notes
        for protocol in protocols:
            for method in methods:
                layout.add(plan, method, protocol)
    return plan


@dataclass(frozen=True)
class _Layout:
    """Runs of one data set."""

    data: BenchmarkData
    output: Path
    logits: bool
    redo: bool
    cores: int

    @cached_property
    def test_digest(self) -> str:
        return self.data.features.digest

    @cached_property
    def validation_parts(self) -> dict[tuple[str, int, int], tuple[str, int]]:
        """Digest and size of what is tuned on, by protocol, shots and seed."""
        features, found = self.data.features, {}
        split = None if features.validation is None else (features.validation.digest, len(features.validation))
        for shots, seed in self.data.draws.sets:
            if split is not None:
                found[PAPER, shots, seed] = split
            if (shots, seed) in self.data.draws.validation:
                part = self.data.draws.validation[shots, seed].of(features)
                found[FEW, shots, seed] = (part.digest, len(part))
        return found

    @cached_property
    def support_digests(self) -> dict[Draw, str]:
        draws = self.data.draws
        every = [draw for sets in (draws.sets, draws.unequal, draws.base) for draw in sets.values()]
        return {draw: draw.of(self.data.features).digest for draw in every}

    @property
    def folder(self) -> Path:
        return self.output / FOLDER / f"{_file_name(self.data.features.name)}-{self.test_digest[:8]}"

    def add(self, plan: Plan, method: MethodSpec, protocol: str) -> None:
        folder = self.folder / _file_name(method.label)
        obstacle = self._obstacle(method, protocol)
        if obstacle:
            record = self._base(method, protocol, None, None) | {"status": NOT_APPLICABLE, "reason": obstacle}
            plan.not_applicable.append((folder / f"{protocol}.json", record))
            return
        # Large support sets first: the longest runs should not be left to the end, when a process would wait.
        for (shots, seed), draw in sorted(self.data.draws.of(protocol).items(), reverse=True):
            if protocol in TUNED and (protocol, shots, seed) not in self.validation_parts:
                continue  # no photos are left beside so many shots, or beside a published set
            name = f"{protocol}-{shots}-shots-seed-{seed}.json"
            twin = _twin_of(method)
            results = {
                self.folder / _file_name(one.label) / name: self._base(one, protocol, shots, seed)
                for one in ([method, twin] if twin else [method])
            }
            if plan.planned & set(results):
                continue  # a data set named twice, or a method that another one's training covers
            plan.planned |= set(results)
            found = {path: None if self.redo else self._found(path, base) for path, base in results.items()}
            stale = [(path, why) for path, why in found.items() if why not in (DONE, None)]
            if all(why == DONE for why in found.values()):
                plan.kept += results
            elif stale:
                plan.stale += [(path, str(why)) for path, why in stale]
            else:
                plan.jobs.append(self._job(method, results, draw))

    def _obstacle(self, method: MethodSpec, protocol: str) -> str | None:
        if method.on_encoder and self.data.encoder is None:
            return "works on the encoder itself, not on saved features: run it on photos"
        if self.data.features.zero_shot_weights is None and _lives_on_text(method):
            return "needs the classes' texts, and there are none"
        if method.type.transductive != (protocol == TRANSDUCTIVE):
            return TOGETHER if method.type.transductive else APART
        if protocol == BASE_TO_NEW and (reason := self._no_halves(method)):
            return reason
        if protocol == PAPER and self.data.features.validation is None:
            return "the protocol 'paper' tunes on a validation split, and the data set has none"
        if protocol == FEW and not self.data.draws.validation:
            return "the protocol 'paper-few' tunes on training photos apart from the shots, and there are none left"
        return None

    def _no_halves(self, method: MethodSpec) -> str | None:
        """Why base-to-new cannot be."""
        if self.data.features.zero_shot_weights is None or not method.type.uses_text:
            return "nothing but a text names a class without shots, and it reads none"
        if len(self.data.features.class_names) < LEAST_CLASSES:
            return f"half of the classes are without shots, which takes {LEAST_CLASSES} classes"
        return None

    def _base(self, method: MethodSpec, protocol: str, shots: int | None, seed: int | None) -> Record:
        features = self.data.features
        digests = {"test": self.test_digest}
        if shots is not None and seed is not None:
            digests["support"] = self.support_digests[self.data.draws.of(protocol)[shots, seed]]
        tuned_on, n_validation = self.validation_parts.get((protocol, shots or 0, seed or 0), (None, 0))
        if tuned_on is not None:
            digests["validation"] = tuned_on
        described = features.description
        return {
            "format": FORMAT,
            "dataset": features.name,
            "dataset_id": self.test_digest[:8],
            "n_classes": len(features.class_names),
            "n_test": len(features.test),
            "n_validation": n_validation,
            "encoder": described.get("encoder", "saved features"),
            "encoder_ids": described.get("encoder_ids"),
            "templates": described.get("templates"),
            "views": described.get("views"),
            "origin": described.get("origin", "feature file"),
            "protocol": protocol,
            "tuning": tuning_of(method.name, protocol),
            "method": method.label,
            "parameters": dict(method.parameters),
            "shots": shots,
            "seed": seed,
            "one_support_set": shots in self.data.draws.single,
            "digests": digests,
            "versions": versions(),
            "code": code_digest(),
            "machine": machine(),
        }

    def _found(self, path: Path, base: Record) -> str | None:
        """DONE for a result that stands, why not for one that cannot be mixed with the others, else None."""
        if not path.exists():
            return None
        try:
            record = read_record(path)
        except InputError as error:
            return str(error)
        if record["status"] != DONE:
            return None
        for key, what in (("digests", "other data"), ("parameters", "other parameters")):
            if record.get(key) != base[key]:
                return f"was measured with {what}"
        if self.logits and not record.get("logits"):
            return None
        return DONE

    def _job(self, method: MethodSpec, results: dict[Path, Record], draw: Draw) -> Job:
        (path, base), *others = results.items()
        name = path.relative_to(self.output / FOLDER).with_suffix("")
        twin = None
        for other, its_base in others:
            twin = {"wise_weight": UNAVERAGED, "record": str(other), "logits": self._logits(other), "base": its_base}
        rows = None if draw.rows is None else draw.rows.tolist()
        checkpoint = self.output / "checkpoints" / name.with_name(f"{name.name}.safetensors")
        encoded, few = method.on_encoder, base["protocol"] == FEW
        validation = self.data.draws.validation[base["shots"], base["seed"]] if few else None
        return Job(
            data=str(self.data.path),
            part=draw.part,
            rows=rows,
            base=base,
            method=method.name,
            parameters=dict(method.parameters),
            record=str(path),
            logits=self._logits(path),
            checkpoint=str(checkpoint) if encoded else None,
            encoder=self.data.encoder if encoded else None,
            class_texts=[list(texts) for texts in self.data.class_texts] if encoded else [],
            templates=list(self.data.templates) if encoded else [],
            photos=self._photos(rows, validation) if method.takes_images else {},
            threads=self.cores if encoded else 1,
            twin=twin,
            validation_part="validation" if validation is None else validation.part,
            validation_rows=None if validation is None or validation.rows is None else validation.rows.tolist(),
        )

    def _logits(self, path: Path) -> str | None:
        place = self.output / "logits" / path.relative_to(self.output / FOLDER).with_suffix(".npz")
        return str(place) if self.logits else None

    def _photos(self, rows: list[int] | None, validation: Draw | None) -> dict[str, list[str]]:
        train = self.data.photos["train"]
        chosen = {"support": [train[row] for row in rows or []]}
        chosen |= {part: list(self.data.photos[part]) for part in ("test", "validation") if part in self.data.photos}
        if validation is not None and validation.rows is not None:
            chosen["validation"] = [train[row] for row in validation.rows]
        return {part: [str(path.resolve()) for path in paths] for part, paths in chosen.items()}


def _lives_on_text(method: MethodSpec) -> bool:
    """Whether nothing is left of a method without texts; tuning the encoder begins from them."""
    return method.type.needs_text or method.on_encoder or method.name == "zero-shot"


def _twin_of(method: MethodSpec) -> MethodSpec | None:
    """The method without the averaging of weights that it would do by default: a second result of one training."""
    if not hasattr(method.type, "at_wise_weight") or "wise_weight" in method.parameters:
        return None
    return MethodSpec(method.name, dict(method.parameters) | {"wise_weight": UNAVERAGED})


def _file_name(text: str) -> str:
    """Keep what every file system takes."""
    return re.sub(r"[^\w.=+-]+", "_", text).strip("._") or "data"


def described_stale(stale: Sequence[tuple[Any, str]]) -> str:
    """Say in a few words which results are in the way."""
    reasons = sorted({reason for _, reason in stale})
    return f"{len(stale)} result{'s' * (len(stale) != 1)} ({'; '.join(reasons[:3])}; the first: {stale[0][0]})"
