"""Nothing is lost: many editors, killed commands, readers beside a writer, and photos that have to be forgotten.

Usage: python benchmarks/durability.py [--edits 5] [--seconds 20] [--only editors,kills,readers,forgetting]
       python benchmarks/durability.py --strace

editors     processes × threads × cache folders × kills: edits acknowledged, and how many of them are there at the end
kills       each writing command is killed at its first, second, … call that renames, links, makes or deletes something
            (`--strace`: at the system calls themselves, those of SQLite among them, in a new process each time): what
            is there must be the state before or after, whole; the next command must work and leave nothing of the dead
readers     loads beside a writer that never pauses
forgetting  `remove --forget` and `purge`, killed and repeated: bytes of the photo that are left anywhere
saves       how long a saved edit takes, at 10,000 shots

Exits with 1 when a figure is not as promised. `--strace` kills and forgets alone, and has a result of its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

CALLS = frozenset({"os.rename", "os.remove", "os.link", "os.symlink", "os.mkdir", "os.rmdir"})
"""What Python calls the system calls that change names."""

SYSTEM_CALLS = ("rename", "renameat", "renameat2", "link", "linkat", "unlink", "unlinkat", "mkdir", "mkdirat", "rmdir")

PARTS = ("editors", "kills", "readers", "forgetting", "saves")

CLASSES = ("hat", "shoe", "scarf")


# ---------------------------------------------------------------- material


def photo(seed: int) -> Image.Image:
    """A picture that no other seed gives."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (48, 48, 3), dtype=np.uint8))


def make_photos(folder: Path) -> Path:
    """Class folders for training and testing, and a few photos to add."""
    seeds = itertools.count()
    for split, count in (("train", 3), ("test", 4), ("new", 2)):
        for name in CLASSES:
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                photo(next(seeds)).save(folder / split / name / f"{split}-{name}-{number}.png")
    return folder


def fitted(photos: Path, path: Path) -> Path:
    """A saved classifier whose features are in the store."""
    from tip_adapter import ImageClassifier

    ImageClassifier("fake", "tip-adapter").fit(photos / "train").save(path)
    return path


# ---------------------------------------------------------------- editors


def edit_many(path: str, first: int, threads: int, edits: int, acknowledge: Callable[[str], None]) -> None:
    """Add photos from several threads, each with an editing block of its own; tell of each edit once it is saved."""
    from tip_adapter import ImageClassifier

    def add(number: int) -> None:
        with ImageClassifier.editing(path, wait_s=300) as classifier:
            (shot,) = classifier.add_shots([photo(10_000 + first + number)], [CLASSES[number % 3]]).ids
        acknowledge(shot)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(add, range(threads * edits)))


def work(path: str, first: str, threads: str, edits: str) -> None:
    """Be an editor in a process of its own, which acknowledges on its standard output."""
    edit_many(path, int(first), int(threads), int(edits), lambda shot: os.write(1, f"{shot}\n".encode()) and None)


def count_editors(
    folder: Path, processes: int, threads: int, edits: int, *, own_caches: bool, kills: bool
) -> dict[str, Any]:
    """Let many edit one classifier; count what they were told is saved, and what is."""
    from tip_adapter import ImageClassifier

    path, start = fitted(make_photos(folder / "photos"), folder / "c.tip"), time.perf_counter()
    firsts = itertools.count(step=1000)

    def editor() -> subprocess.Popen[bytes]:
        first = next(firsts)
        cache = folder / (f"cache-{first}" if own_caches else "cache")
        return subprocess.Popen(
            [sys.executable, __file__, "--work", str(path), str(first), str(threads), str(edits)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=os.environ | {"TIP_ADAPTER_CACHE": str(cache)},
        )

    running, killed = [editor() for _ in range(processes)], 0
    if kills:
        dice = random.Random(0)
        for _ in range(processes):
            time.sleep(dice.uniform(0.5, 3))
            victim = dice.choice(running)
            killed += victim.poll() is None
            victim.kill()
            running.append(editor())
    told = [one.communicate() for one in running]
    acknowledged = {shot for out, _ in told for shot in out.decode().split()}
    refused = [error.decode() for one, (_, error) in zip(running, told, strict=True) if one.returncode not in (0, -9)]
    model = ImageClassifier.load(path).model_
    kept = acknowledged & set(model.shots.ids)
    return {
        "processes": processes,
        "threads": threads,
        "caches": "own" if own_caches else "shared",
        "killed": killed,
        "acknowledged": len(acknowledged),
        "kept": len(kept),
        "refused": len(refused),
        "first refusals": [error.strip().splitlines()[-1:] for error in refused[:2]],
        "pictures": sum(map(bool, model.shots.thumbnails.values())) == len(model.shots),
        "left over": len(list(path.iterdir())) - 5,
        "seconds": round(time.perf_counter() - start, 1),
        "ok": kept == acknowledged and not refused and bool(acknowledged),
    }


def count_one_object(folder: Path, threads: int, edits: int) -> dict[str, Any]:
    """Let threads edit one classifier in memory."""
    from tip_adapter import ImageClassifier

    path = fitted(make_photos(folder / "photos"), folder / "c.tip")
    classifier, start = ImageClassifier.load(path), time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        told = list(
            pool.map(
                lambda number: classifier.add_shots([photo(10_000 + number)], [CLASSES[number % 3]]).ids,
                range(threads * edits),
            )
        )
    kept = {one for ids in told for one in ids} & set(classifier.model_.shots.ids)
    return {
        "processes": 1,
        "threads": f"{threads} on one object",
        "killed": 0,
        "acknowledged": len(told),
        "kept": len(kept),
        "seconds": round(time.perf_counter() - start, 1),
        "ok": len(kept) == len(told) == threads * edits,
    }


# ---------------------------------------------------------------- kills


def killed_at(call: int, arguments: list[str]) -> bool:
    """Run a command in a child process that is killed before its n-th call that changes a name; whether it was."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks beside threads, of which there are none
        child = os.fork()
    if child == 0:
        status = 70
        try:
            remaining = itertools.count(1)

            def watch(event: str, _: tuple[Any, ...]) -> None:
                if event in CALLS and next(remaining) == call:
                    os.kill(os.getpid(), signal.SIGKILL)

            quiet = os.open(os.devnull, os.O_RDWR)
            for descriptor in (0, 1, 2):
                os.dup2(quiet, descriptor)
            os.fsync = lambda _: None  # a kill, unlike a power cut, does not ask what is on the disk already
            sys.addaudithook(watch)
            status = run_command(arguments)
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    if os.WIFEXITED(ended) and os.WEXITSTATUS(ended):
        raise RuntimeError(f"tip-adapter {' '.join(arguments)} failed with {os.WEXITSTATUS(ended)}")
    return os.WIFSIGNALED(ended)


def killed_at_system_call(name: str, call: int, arguments: list[str]) -> bool:
    """Run a command under strace, which kills it at its n-th system call of a name; whether it did."""
    inject = f"--inject={name}:signal=KILL:when={call}"
    program = [sys.executable, __file__, "--command", *arguments]
    done = subprocess.run(
        ["strace", "-f", "-qq", "-o", os.devnull, f"--trace={name}", inject, *program], capture_output=True, check=False
    )
    if done.returncode > 0:
        raise RuntimeError(f"{arguments}: {done.stderr.decode()[-500:]}")
    return done.returncode < 0


def run_command(arguments: list[str]) -> int:
    """Run a command of tip-adapter here."""
    from tip_adapter.cli import main

    sys.argv = ["tip-adapter", *arguments]
    try:
        main()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


COMMANDS: dict[str, list[str]] = {
    "fit, new": ["fit", "{photos}/train", "-e", "fake", "-m", "tip-adapter", "-o", "{new}"],
    "fit, again": ["fit", "{photos}/train", "-e", "fake", "-m", "gda", "-o", "{tip}"],
    "add": ["add", "{tip}", "{photos}/new"],
    "remove": ["remove", "{tip}", "{shot}"],
    "remove --forget": ["remove", "{tip}", "{shot}", "--forget"],
    "relabel": ["relabel", "{tip}", "{shot}", "--class", "shoe"],
    "undo": ["undo", "{tip}"],
    "refit": ["refit", "{tip}"],
    "purge": ["purge", "{tip}"],
    "class add": ["class", "add", "{tip}", "glove"],
    "class rename": ["class", "rename", "{tip}", "hat", "cap"],
    "class remove": ["class", "remove", "{tip}", "scarf"],
    "calibrate": ["calibrate", "{tip}", "{photos}/test"],
    "export, new": ["export", "{tip}", "-o", "{new}", "--head-only"],
    "export, again": ["export", "{tip}", "-o", "{out}", "--head-only"],
    "predict --output": ["predict", "{tip}", "{photos}/test", "--output", "{table}"],
}
"""Every kind of writing command, on a classifier that had a shot removed."""


class Scene:
    """A folder with photos, a classifier, an export and a table, which every command finds anew.

    Parameters
    ----------
    folder : pathlib.Path
        Empty.
    """

    def __init__(self, folder: Path) -> None:
        from tip_adapter import ImageClassifier
        from tip_adapter.export import export_classifier

        self.folder, self.template = folder, folder / "template"
        self.photos = make_photos(folder / "photos")
        os.environ["TIP_ADAPTER_CACHE"] = str(folder / "place" / "cache")
        place = folder / "place"
        place.mkdir()
        fitted(self.photos, place / "c.tip")
        with ImageClassifier.editing(place / "c.tip") as classifier:
            classifier.remove_shots(classifier.model_.shots.ids[-1:])
        self.shot = classifier.model_.shots.ids[0]
        export_classifier(classifier, place / "out", head_only=True)
        (place / "table.csv").write_text("old\n")
        shutil.copytree(place, self.template, symlinks=True)

    def reset(self) -> None:
        """Put everything back as it was, but the photos."""
        shutil.rmtree(self.folder / "place")
        shutil.copytree(self.template, self.folder / "place", symlinks=True)

    def arguments(self, command: str) -> list[str]:
        """Words of a command, with its places."""
        place = self.folder / "place"
        places = {"tip": place / "c.tip", "new": place / "new", "out": place / "out", "table": place / "table.csv"}
        return [word.format(photos=self.photos, shot=self.shot, **places) for word in COMMANDS[command]]

    def state(self) -> dict[str, Any]:
        """What a reader finds; fails when that is not whole."""
        from tip_adapter.model.few_shot_model import FewShotModel

        place, found = self.folder / "place", dict[str, Any]()
        for name in ("c.tip", "new"):
            if (place / name / "config.json").exists():
                model = FewShotModel.load(place / name)
                assert set(model.shots.thumbnails.readable()) == set(model.shots.ids)
                features = model.shots.features
                logits = model.head.logits(features.unit).round(3).tobytes()
                found[name] = (model.class_names, model.shots.ids, features.raw.tobytes(), logits, len(model.journal))
        for name in ("out/head.onnx", "out/classifier.json", "new/head.onnx", "new/classifier.json", "table.csv"):
            if (place / name).exists():
                found[name] = (place / name).stat().st_size
                assert found[name] > 0
        return found

    def leftovers(self) -> list[str]:
        """Names of everything that a killed command left and no later one took away."""
        place = self.folder / "place"
        wanted = {"c.tip", "out", "table.csv", "cache", "new"}
        found = [path.name for path in place.iterdir() if path.name not in wanted]
        for name in ("c.tip", "new", "out"):
            if (place / name).is_dir():
                known = {"config.json", "README.md", ".lock", "head.onnx", "classifier.json"}
                inside = [path.name for path in (place / name).iterdir() if path.name not in known]
                data = [one for one in inside if one.startswith(("arrays-", "thumbnails-"))]
                found += [one for one in inside if one not in data] + data[2:]
        return found


def kills(scene: Scene, arguments: list[str], *, strace: bool) -> Iterator[str]:
    """Kill a command at each of its calls in turn, on a scene as it was; after each kill, say where it was."""
    for name in SYSTEM_CALLS if strace else ("call",):
        for call in itertools.count(1):
            scene.reset()
            if not (killed_at_system_call(name, call, arguments) if strace else killed_at(call, arguments)):
                break
            yield f"{name} {call}"


def count_kills(scene: Scene, command: str, *, strace: bool = False) -> dict[str, Any]:
    """Kill a command at each of its calls; look at what is there, and whether it works when it is run again."""
    arguments = scene.arguments(command)
    scene.reset()
    before = scene.state()
    assert not killed_at(0, arguments)
    after, faults, count = scene.state(), list[str](), 0
    for where in kills(scene, arguments, strace=strace):
        count += 1
        faults += check_after_kill(scene, command, before, after, where)
    return {"command": command, "kills": count, "faults": faults, "ok": count > 0 and not faults}


def check_after_kill(
    scene: Scene, command: str, before: dict[str, Any], after: dict[str, Any], where: str
) -> list[str]:
    """List what is wrong after a kill."""
    try:
        found = scene.state()
    except Exception as error:  # whatever a reader meets is what this is about
        return [f"{where}: {error}"]
    faults = [
        f"{where}: {name} is neither old nor new"
        for name in before.keys() | after.keys()
        if found.get(name) not in (before.get(name), after.get(name))
    ]
    if found.get("c.tip") == before.get("c.tip"):
        killed_at(0, scene.arguments(command))
        if scene.state().keys() != after.keys():
            faults.append(f"{where}: another one after it does not complete it")
    tip = str(scene.folder / "place" / "c.tip")
    killed_at(0, ["class", "add", tip, "mitten"])
    for name in ("export, new", "export, again", "predict --output"):
        if command == name and found.get("c.tip") != before.get("c.tip"):
            killed_at(0, scene.arguments(command))
    return faults + [f"{where}: {name} is left" for name in scene.leftovers()]


# ---------------------------------------------------------------- readers


def count_reads(folder: Path, seconds: float, readers: int = 2) -> dict[str, Any]:
    """Load a classifier again and again beside a writer that never pauses."""
    from tip_adapter import ImageClassifier
    from tip_adapter.model.few_shot_model import FewShotModel

    path = fitted(make_photos(folder / "photos"), folder / "c.tip")
    stop, failed, loads, longest = threading.Event(), list[str](), [0] * readers, [0.0] * readers

    def read(number: int) -> None:
        while not stop.is_set():
            start = time.perf_counter()
            try:
                model = FewShotModel.load(path)
                assert len(model.shots.thumbnails.readable()) == len(model.shots)
            except Exception as error:
                failed.append(str(error))
            loads[number] += 1
            longest[number] = max(longest[number], time.perf_counter() - start)

    threads = [threading.Thread(target=read, args=[number]) for number in range(readers)]
    writer = subprocess.Popen([sys.executable, __file__, "--write", str(path)], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    writer.terminate()
    writer.communicate()
    journal = len(ImageClassifier.load(path).journal)
    return {
        "saves": journal - 1,
        "loads": sum(loads),
        "failed": len(failed),
        "first failures": failed[:3],
        "longest load, s": round(max(longest), 3),
        "ok": not failed and journal > 5 and sum(loads) > 5,
    }


def write_on(path: str) -> None:
    """Edit and save without a pause."""
    from tip_adapter import ImageClassifier

    classifier = ImageClassifier.load(path)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    print("ready", flush=True)
    for number in itertools.count():
        classifier.add_shots([photo(20_000 + number)], [CLASSES[number % 3]])
        if number % 3:
            classifier.remove_shots(classifier.model_.shots.ids[:1])
        classifier.save(path)


# ---------------------------------------------------------------- forgetting


def count_traces(scene: Scene, command: str, *, strace: bool = False) -> dict[str, Any]:
    """Kill a command that forgets at each of its calls, repeat it, and look for the photo in every byte."""
    from tip_adapter.features.store import FeatureStore
    from tip_adapter.model.few_shot_model import FewShotModel

    arguments, place = scene.arguments(command), scene.folder / "place"
    scene.reset()
    model = FewShotModel.load(place / "c.tip")
    shots = model.shots if command != "purge" else model.journal[-1].undo.removed.shots  # type: ignore[union-attr]
    digest = shots.features.digests[0]
    with FeatureStore() as store:
        # Its middle view, and the random crops by which near-copies are told.
        rows = store._connection.execute("SELECT vector FROM features WHERE digest = ?", [digest]).fetchall()
    stored = [vector for (vector,) in rows]
    traces = [digest.encode(), Path(shots.features.names[0]).name.encode(), *stored, shots.thumbnails[shots.ids[0]]]
    left, count, refused = 0, 0, 0
    for _ in kills(scene, arguments, strace=strace):
        count += 1
        try:
            killed_at(0, arguments)
        except RuntimeError:
            refused += 1
        files = [path.read_bytes() for path in place.rglob("*") if path.is_file()]
        left += sum(trace in data for trace in traces for data in files)
    return {"command": command, "kills": count, "refused": refused, "traces left": left, "ok": count > 0 and not left}


# ---------------------------------------------------------------- saves


def time_saves(folder: Path, shots: int = 10_000, repeats: int = 5) -> dict[str, Any]:
    """How long an edit takes from the call until it is on the disk, and a load."""
    import edits
    from tip_adapter import ImageClassifier

    arguments = argparse.Namespace(shots=shots, classes=100, dim=512)
    classifier = edits.classifier_of(arguments)
    classifier.save(folder / "c.tip")
    encoder, times = classifier.encoder, []
    for number in range(repeats):
        start = time.perf_counter()
        with ImageClassifier.editing(folder / "c.tip", encoder=encoder, store=None) as opened:
            loaded = time.perf_counter()
            opened.remove_shots([opened.model_.shots.ids[number]])
        times.append((time.perf_counter() - start, loaded - start))
    megabytes = sum(path.stat().st_size for path in (folder / "c.tip").iterdir()) / 1e6
    whole, load = np.median(times, axis=0)
    return {
        "shots": shots,
        "edit_s": round(float(whole), 3),
        "load_s": round(float(load), 3),
        "MB": round(megabytes, 1),
    }


# ---------------------------------------------------------------- all


def show(rows: list[dict[str, Any]]) -> None:
    """Print rows as a table."""
    for row in rows:
        print("  ".join(f"{name} {value}" for name, value in row.items() if value not in ([], None)), flush=True)


def run(arguments: argparse.Namespace, wanted: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """Run what was asked for."""
    parts: dict[str, list[dict[str, Any]]] = {}

    def part(name: str, rows: Iterator[dict[str, Any]]) -> None:
        if name in wanted:
            print(f"--- {name}")
            parts[name] = []
            for row in rows:
                parts[name].append(row)
                show([row])

    def folders() -> Iterator[Path]:
        while True:
            with tempfile.TemporaryDirectory() as folder:
                os.environ["TIP_ADAPTER_CACHE"] = f"{folder}/cache"
                yield Path(folder)

    new = folders()
    combinations = list(itertools.product((1, 4, 8), (1, 8), (False, True), (False, True)))
    part(
        "editors",
        itertools.chain(
            (count_one_object(next(new), threads, arguments.edits) for threads in (2, 8)),
            (
                count_editors(next(new), processes, threads, arguments.edits, own_caches=own, kills=kills)
                for processes, threads, own, kills in combinations
            ),
        ),
    )
    if {"kills", "forgetting"} & set(wanted):
        scene = Scene(next(new))
        part("kills", (count_kills(scene, command, strace=arguments.strace) for command in COMMANDS))
        part(
            "forgetting",
            (count_traces(scene, command, strace=arguments.strace) for command in ("remove --forget", "purge")),
        )
    part("readers", (count_reads(next(new), arguments.seconds) for _ in range(1)))
    part("saves", (time_saves(next(new)) for _ in range(1)))
    return parts


def main() -> None:
    """Run the parts that were asked for, and write their figures."""
    if sys.argv[1:2] in (["--work"], ["--write"], ["--command"]):
        helper, *words = sys.argv[1:]
        if helper == "--command":
            sys.exit(run_command(words))
        (work if helper == "--work" else write_on)(*words)
        return
    from provenance import write_result

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--edits", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--only", help=f"some of {PARTS}, with commas between")
    parser.add_argument("--strace", action="store_true")
    arguments = parser.parse_args()
    wanted = ("kills", "forgetting") if arguments.strace else PARTS
    parts = run(arguments, arguments.only.split(",") if arguments.only else wanted)
    if parts.keys() == set(wanted):
        write_result("durability_strace" if arguments.strace else "durability", parts)
    failed = [row for rows in parts.values() for row in rows if not row.get("ok", True)]
    print(json.dumps({"failed": failed}) if failed else "all as promised")
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
