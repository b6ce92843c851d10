"""Tamper with every array and every value of saved classifiers, checksums recomputed, and with encoder folders.

Usage: python benchmarks/tampering.py [--share 0.1] [--seed 0] [--show]

There are tens of thousands of cases; --share tries a part of them, drawn with --seed. Each must end in one line, or
predict, explain, evaluate, undo and save with sane output. The cases of one classifier run in a process of its own,
whose memory is bounded.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import json
import multiprocessing
import random
import resource
import shutil
import signal
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import tampered_encoders
import tampered_files
from provenance import write_result
from tampered_values import changed_places, tampered_arrays, text_of
from tip_adapter import ImageClassifier
from tip_adapter.errors import TipAdapterError
from tip_adapter.model.card import card_of
from tip_adapter.storage.arrays import arrays_to_bytes
from tip_adapter.storage.bundle_files import CONFIG_FILE, config_digest, data_path
from tip_adapter.storage.bundles import load_bundle

METHODS = ("zero-shot", "tip-adapter", "tip-x", "ape", "gda", "proker", "prototype", "knn", "linear-probe", "auto")
EPOCHS = {"epochs": 2}
TRAINED = {
    "tip-adapter-f": EPOCHS,
    "clip-adapter": EPOCHS,
    "task-res": EPOCHS,
    "lp-plus-plus": {},
    "clap": EPOCHS,
}
MEMORY = 3 * 2**30  # bytes above what the process has before
SECONDS = 30

Case = tuple[str, Callable[[Path], None]]


def photos_of(classes: int, each: int, seed: int) -> tuple[list[np.ndarray], list[str]]:
    """Noise around a colour of each class."""
    rng = np.random.default_rng(seed)
    labels = [label for label in range(classes) for _ in range(each)]
    colours = np.random.default_rng(0).integers(0, 200, (classes, 3))
    photos = [(colours[label] + rng.integers(0, 56, (36, 32, 3))).astype(np.uint8) for label in labels]
    return photos, [f"class {label}" for label in labels]


def saved_classifiers(folder: Path, only: str | None) -> dict[str, Path]:
    """Classifiers of every kind of head; one with several views, and one with edits of every kind to undo."""
    photos, labels = photos_of(4, 6, seed=1)
    made = {}
    kinds = {method: (method, TRAINED.get(method, {}), 1) for method in (*METHODS, *TRAINED)}
    kinds |= {"views": ("clap", EPOCHS, 2), "edits": ("tip-adapter", {}, 1)}
    for name, (method, parameters, views) in kinds.items():
        if only not in (None, name):
            continue
        classifier = ImageClassifier("fake", method, method_parameters=parameters, views=views, store=None)
        classifier.fit(photos, labels, shots=4)
        if name == "edits":
            edit(classifier, photos[5:6])
        made[name] = folder / f"{name}.tip"
        classifier.save(made[name])
    return made


def edit(classifier: ImageClassifier, photos: list[np.ndarray]) -> None:
    """Edits of every kind, each with something to undo."""
    ids = classifier.model_.shots.ids
    classifier.add_shots(photos, ["class 1"])
    classifier.remove_shots(ids[:1])
    classifier.relabel(ids[2:3], "class 3")
    classifier.add_class("another", "a word")
    classifier.rename_class("another", "one more")
    classifier.remove_class("class 2")
    classifier.refit()


def write_folder(folder: Path, arrays: dict[str, np.ndarray], config: dict[str, Any], thumbnails: bytes) -> None:
    """Write a saved classifier whose checksums are right, whatever is in it."""
    folder.mkdir()
    contents = {"arrays.safetensors": arrays_to_bytes(arrays), "thumbnails.zip": thumbnails}
    checksums = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    for name, data in contents.items():
        data_path(folder, name, checksums[name]).write_bytes(data)
    whole = {"format": "tip-adapter", "format_version": 3, **config, "cards": [], "checksums": checksums}
    with contextlib.suppress(ValueError):  # of numbers that are too long, which nobody can read either
        checksums[CONFIG_FILE] = config_digest(whole)
    (folder / CONFIG_FILE).write_text(text_of(whole))


def cases_of(path: Path) -> Iterator[Case]:
    """Everything that is done to one saved classifier; nothing at first."""
    bundle = load_bundle(path)
    arrays, config, thumbnails = bundle.arrays, bundle.config, bundle.read_thumbnails()[0]
    yield "as it was", lambda folder: write_folder(folder, arrays, config, thumbnails)
    for name, array in arrays.items():
        for what, other in tampered_arrays(array):
            rest = {key: value for key, value in arrays.items() if key != name}
            changed = rest if other is None else rest | {name: np.ascontiguousarray(other)}
            yield f"{name}: {what}", partial(write_folder, arrays=changed, config=config, thumbnails=thumbnails)
    for what, new in changed_places(config):
        yield what, partial(write_folder, arrays=arrays, config=new, thumbnails=thumbnails)
    for what, data in tampered_thumbnails(thumbnails):
        yield f"thumbnails: {what}", partial(write_folder, arrays=arrays, config=config, thumbnails=data)


def tampered_thumbnails(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """Archives with odd flags, lying sizes, and other content."""
    yield "nothing", b""
    yield "text", b"no archive"
    yield "half", archive[: len(archive) // 2]
    central = archive.find(b"PK\x01\x02")
    for what, offset, new in (
        ("encrypted", 8, b"\x01\x00"),
        ("compressed", 10, b"\x08\x00"),
        ("unknown compression", 10, b"\x63\x00"),
        ("larger", 24, b"\xff\xff\xff\x7f"),
        ("zip64", 24, b"\xff\xff\xff\xff"),
        ("another checksum", 16, b"\x00\x00\x00\x00"),
        ("another place", 42, b"\xff\xff\xff\x7f"),
        ("newer version", 6, b"\xff\x00"),
    ):
        changed = bytearray(archive)
        if central >= 0:
            changed[central + offset : central + offset + len(new)] = new
        yield what, bytes(changed)
    yield "bits flipped", bytes(byte ^ 255 if index % 97 == 0 else byte for index, byte in enumerate(archive))


def use(path: Path) -> None:
    """Do with a saved classifier what people do; raises where the output is not sane."""
    photos, labels = photos_of(4, 1, seed=2)
    classifier = ImageClassifier.load(path, store=None)
    probabilities = classifier.predict_proba(photos)
    if not (np.isfinite(probabilities).all() and np.allclose(probabilities.sum(axis=1), 1)):
        raise AssertionError("probabilities that are none")
    for explanation in classifier.explain(photos[:1]):
        json.dumps(explanation.to_dict(), allow_nan=False)
    known = classifier.class_names
    classifier.evaluate(photos, [label if label in known else known[0] for label in labels])
    card_of(classifier.model_)
    if classifier.model_.journal and classifier.model_.journal[-1].undo is not None:
        classifier.undo()
    with tempfile.TemporaryDirectory() as folder:
        classifier.save(Path(folder) / "again.tip")


def outcome(task: Callable[[], None]) -> tuple[str, str]:
    """How a task ends: "refused" in one line, "harmless", or another way."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", RuntimeWarning)
            task()
        return "harmless", ""
    except TipAdapterError as error:
        message = str(error)
        one_line = "\n" not in message and len(message) < 600
        return ("refused", message) if one_line and message.isprintable() else ("long message", message[:200])
    except BaseException as error:
        return type(error).__name__, str(error)[:200]
    finally:
        signal.alarm(0)


def run_cases(
    cases: Callable[[], Iterator[Case]], use: Callable[[Path], None], share: float, seed: int, answers: Any
) -> None:
    """Try a share of the cases in this process, the first among them, and send how each ended."""
    dice = random.Random(seed)
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY + 4 * 2**30,) * 2)
    for number, (name, write) in enumerate(cases()):
        if dice.random() >= share and number:
            continue
        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "x.tip"
            write(target)
            answers.send((name, *outcome(lambda target=target: use(target))))
    answers.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def in_a_process(work: Callable[..., None], *arguments: Any) -> tuple[list[tuple[str, str, str]], int]:
    """Run cases in a process; one that dies is an outcome, too."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=work, args=(*arguments, sender))
    process.start()
    sender.close()
    found: list[tuple[str, str, str]] = []
    peak = 0
    with contextlib.suppress(EOFError):
        while True:
            answer = receiver.recv()
            if isinstance(answer, int):
                peak = answer
            else:
                found.append(answer)
    process.join()
    if process.exitcode:
        found.append(("the process", "died", f"exit code {process.exitcode}"))
    return found, peak


def subjects(folder: Path, only: str | None) -> dict[str, tuple[Callable[[], Iterator[Case]], Callable[[Path], None]]]:
    """What is tampered with: its cases, and what people do with it."""
    made = {name: (partial(cases_of, path), use) for name, path in saved_classifiers(folder, only).items()}
    if only in (None, "encoder"):
        source = tampered_encoders.sound_encoder(folder / "encoder")
        made["encoder"] = (partial(tampered_encoders.cases_of, source), tampered_encoders.use)
    files = tampered_files.subjects(folder / "files", photos_of(3, 4, seed=1)[0])
    return made | {name: subject for name, subject in files.items() if only in (None, name)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=1.0, help="of the cases, between 0 and 1")
    parser.add_argument("--seed", type=int, default=0, help="draws the share")
    parser.add_argument("--only", help="one of the saved classifiers")
    parser.add_argument("--show", action="store_true", help="list every case that ends in another way")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp())
    figures: dict[str, Any] = {}
    try:
        for name, (cases, use) in subjects(folder, arguments.only).items():
            found, peak = in_a_process(run_cases, cases, use, arguments.share, arguments.seed)
            counts = Counter(how for _, how, _ in found)
            if found[0][1] != "harmless":
                raise SystemExit(f"{name} as it was: {found[0]}")
            figures[name] = {"cases": len(found), **dict(counts.most_common()), "peak_memory_mb": peak // 2**20}
            print(name, figures[name], flush=True)
            for case, how, message in found:
                if arguments.show and how not in ("refused", "harmless"):
                    print(f"  {case} → {how}: {message!r:.150}")
    finally:
        shutil.rmtree(folder)
    total: Counter[str] = Counter()
    for counts in figures.values():
        total.update({key: value for key, value in counts.items() if key != "peak_memory_mb"})
    print(dict(total))
    if arguments.only is None:
        write_result("tampering", figures | {"all": dict(total)})


if __name__ == "__main__":
    main()
