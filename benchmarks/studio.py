"""The studio in a browser: how long a person waits, and what a big project takes.

Usage: python benchmarks/studio.py PART ../shared/data/clothing [--shots 16] [--photos 10000] [--classes 100]

speed  a classifier of --shots photos a class with the encoder lite; 50 test photos lie in the page. Measured
       from the gesture until the new answers are painted: a photo dropped on a class, a photo moved to another
       class, a new test photo; ten times each
big    --photos seeded crops of the photos in --classes classes (features of the photos they were cut from, with noise:
       the page does not look at features); the page is opened, scrolled to its end and back, with its long tasks and
       memory; then an edit, SIGKILL, a new start: everything has to be there
pictures  a walk through the studio for the documentation: docs/_static/studio-*.png

Needs Playwright (pip install playwright) and Chromium.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from provenance import write_result
from tip_adapter import ImageClassifier
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.model.edits import started
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.fitting import fit_method, make_estimator
from tip_adapter.model.picture_archive import Thumbnails
from tip_adapter.model.shots import Shots, shot_ids

DOCS = Path(__file__).parents[1] / "docs" / "_static"
PAINTED = "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
WATCH = """
window.longTasks = [];
new PerformanceObserver(list => longTasks.push(...list.getEntries().map(one => one.duration)))
  .observe({ type: "longtask", buffered: true });
"""
SCROLL = """async () => {
  const end = document.documentElement.scrollHeight, started = performance.now();
  longTasks.length = 0;
  for (const goal of [end, 0]) {
    while (Math.abs(scrollY - goal) > innerHeight + 1) {
      scrollBy(0, Math.sign(goal - scrollY) * 400);
      await new Promise(done => requestAnimationFrame(done));
    }
  }
  return { pixels: end, seconds: (performance.now() - started) / 1000, longTasks };
}"""


@contextmanager
def studio(model: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    command = [sys.executable, "-m", "tip_adapter", "studio", str(model), "-e", "lite", "--port", "0", "--no-browser"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        found = re.search(r"at (http://[\d.:]+);", process.stdout.readline())
        assert found, "the studio did not start"
        try:
            yield process, found[1]
        finally:
            process.terminate()


@contextmanager
def browser() -> Iterator[Any]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as engine:
        chromium = engine.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = chromium.new_page(viewport={"width": 1280, "height": 900})
        page.add_init_script(WATCH)
        yield page
        chromium.close()


def test_photos(data: Path, count: int) -> list[Path]:
    paths = sorted((data / "test").glob("*/*.jpg"))
    return [paths[place] for place in np.linspace(0, len(paths) - 1, count).astype(int)]


def summary(seconds: list[float]) -> dict[str, float]:
    return {"median_s": float(np.median(seconds)), "max_s": max(seconds)}


def speed(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Seconds from a gesture to the answers on the screen."""
    model = folder / "clothes.tip"
    ImageClassifier("lite").fit(arguments.data / "train", shots=arguments.shots).save(model)
    asked, taught = test_photos(arguments.data, 50), sorted((arguments.data / "validation").glob("*/*.jpg"))
    found: dict[str, list[float]] = {"drop_a_shot": [], "correct": [], "try_a_photo": []}
    with studio(model) as (_, address), browser() as page:
        page.goto(address)
        page.set_input_files("#try-files", asked)
        page.locator(".answer-card").nth(49).wait_for(timeout=60_000)
        columns = page.locator(".class").evaluate_all("all => all.map(one => one.dataset.name)")

        def timed(kind: str, gesture: Callable[[], None]) -> None:
            start = time.perf_counter()
            with page.expect_response(lambda one: "/v1/predict/features" in one.url, timeout=60_000):
                gesture()
            page.evaluate(PAINTED)
            found[kind].append(time.perf_counter() - start)
            time.sleep(arguments.pause)

        for number, shot in enumerate(taught[:310:31]):
            name, other = shot.parent.name, str(1 + (columns.index(shot.parent.name) + 1) % 9)
            drop, attempt = f'[aria-label="Photos of {name}"]', taught[31 * number + 7]
            timed("drop_a_shot", partial(page.set_input_files, drop, shot))
            page.locator(f'[aria-label="Class {name}"] .shot').nth(number % 5).click()
            timed("correct", partial(page.keyboard.press, other))
            timed("try_a_photo", partial(page.set_input_files, "#try-files", attempt))
    return {kind: summary(seconds) for kind, seconds in found.items()}


def big_model(arguments: argparse.Namespace) -> FewShotModel:
    """Crops of the photos as shots, in many classes; fitted with a method that takes a second."""
    rng = np.random.default_rng(0)
    small = ImageClassifier("lite").fit(arguments.data / "train", shots=16).model_
    paths = sorted((arguments.data / "train").glob("*/*.jpg"))
    names, count = tuple(f"class {number:03}" for number in range(arguments.classes)), arguments.photos
    labels = np.sort(np.arange(count) % len(names))
    pictures, digests = {}, [f"{number:064x}" for number in rng.permutation(count)]
    ids = shot_ids([digest[-12:] + digest for digest in digests])
    for number, path in enumerate(paths):
        with Image.open(path) as opened:
            photo = opened.convert("RGB").resize((200, 200))
        for row in range(number, count, len(paths)):
            left, top = rng.integers(0, 88, 2)
            data = io.BytesIO()
            photo.crop((left, top, left + 112, top + 112)).save(data, "JPEG", quality=80)
            pictures[ids[row]] = data.getvalue()
    raw = small.shots.features.unit[rng.integers(0, len(small.shots), count)]
    raw = (raw + 0.01 * rng.standard_normal(raw.shape)).astype(np.float32)
    features = FeatureSet(raw[:, None], small.encoder.image_id, tuple(digests), tuple(f"{one}.jpg" for one in ids))
    weights = rng.standard_normal((len(names), raw.shape[1])).astype(np.float32)
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    estimator = make_estimator("tip-adapter", {"alpha": 1.0, "beta": 5.5})
    head, record = fit_method(estimator, features.unit, labels, weights, 100.0, class_names=names)
    model = replace(
        small,
        class_names=names,
        class_texts=tuple((name,) for name in names),
        zero_shot_weights=weights,
        shots=Shots(features, labels, ids, Thumbnails(pictures)),
        head=head,
        method=record,
        calibration=None,
        stale=(),
    )
    return started(model)


def memory_mb(page: Any) -> dict[str, float]:
    """Heap of the page's scripts, and the largest process of the browser that draws pages."""
    session = page.context.new_cdp_session(page)
    session.send("HeapProfiler.collectGarbage")
    heap = session.send("Runtime.getHeapUsage")["usedSize"] / 2**20
    sizes = [0.0]
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes()
            if b"--type=renderer" in command and b"chrom" in command:
                rollup = (folder / "smaps_rollup").read_text()
                sizes.append(int(re.search(r"Pss: +(\d+)", rollup)[1]) / 1024)
        except OSError:
            continue
    return {"script_heap_mb": heap, "tab_mb": max(sizes)}


def big(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a project of many photos takes, and whether it outlives SIGKILL."""
    model = folder / "big.tip"
    big_model(arguments).save(model)
    figures: dict[str, Any] = {"photos": arguments.photos, "classes": arguments.classes}
    with browser() as page:
        with studio(model) as (process, address):
            start = time.perf_counter()
            page.goto(address)
            page.locator(".class").nth(arguments.classes - 1).wait_for(state="attached", timeout=60_000)
            page.locator("button.shot img").first.wait_for(timeout=60_000)
            figures["open_s"] = time.perf_counter() - start
            figures["long_tasks_while_opening_ms"] = page.evaluate("longTasks")
            time.sleep(2)
            figures["scroll"] = page.evaluate(SCROLL)
            figures |= memory_mb(page)
            figures["elements"] = page.evaluate("document.querySelectorAll('*').length")
            page.locator("button.shot").first.click()
            start = time.perf_counter()
            with page.expect_response(lambda one: one.request.method == "PATCH", timeout=120_000):
                page.keyboard.press("2")
            figures["move_s"] = time.perf_counter() - start
            os.kill(process.pid, signal.SIGKILL)
        with studio(model) as (_, address):
            page.goto(address)
            page.locator("#facts", has_text=f"{arguments.photos} photos").wait_for(timeout=60_000)
            counts = page.locator(".class small").all_inner_texts()
            figures["after_kill"] = {"photos": sum(int(text.split()[0]) for text in counts), "moved": counts[:2]}
    return figures


def shoot(seen: Any, name: str) -> dict[str, int]:
    """Take a picture of a page, or of a part of one, and tell its size."""
    time.sleep(1)
    file = DOCS / f"studio-{name}.png"
    seen.screenshot(path=file)
    with Image.open(file) as picture:
        picture.convert("RGB").quantize(200, dither=Image.Dither.NONE).save(file, optimize=True)
    return {file.name: file.stat().st_size}


def picture_of_the_queue(page: Any, photos: list[Path]) -> dict[str, int]:
    """Label some photos of a queue."""
    page.set_viewport_size({"width": 1100, "height": 680})
    page.set_input_files("#next-files", photos)
    page.locator("#next-status", has_text=f"{len(photos)} photos").wait_for(timeout=60_000)
    for number in (1, 2):
        page.locator("#next-photo").evaluate("one => one.decode()")
        page.keyboard.press("1")
        page.locator("#next-status", has_text=f"{len(photos) - number} photos").wait_for(timeout=60_000)
    page.mouse.move(0, 0)
    page.locator("#next img").evaluate_all("all => Promise.all(all.map(one => one.decode()))")
    return shoot(page.locator("#next"), "next")


def picture_of_weights(data: Path, folder: Path) -> dict[str, int]:
    """Hold a pair of α and β beside the one that the photos choose."""
    model = folder / "weights.tip"
    ImageClassifier("lite", "tip-adapter").fit(data / "train", shots=8).save(model)
    with studio(model) as (_, address), browser() as page:
        page.set_viewport_size({"width": 1100, "height": 680})
        page.goto(address)
        page.locator("#weights summary").click()
        page.locator("#weights-map svg").wait_for(timeout=60_000)
        for slider, key in (("#alpha", "ArrowLeft"), ("#beta", "ArrowRight")):
            page.locator(slider).press(key)
        page.click("text=Hold these")
        page.locator("#weights-told", has_text="now held").wait_for(timeout=60_000)
        for _ in range(2):
            page.locator("#beta").press("ArrowLeft")
        return shoot(page.locator("#weights"), "weights")


def pictures(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Take pictures of what a person sees: teaching, reasons, a correction; in the dark, and on a phone."""
    names = ["shirt", "longsleeve", "outwear", "dress"]
    photos = {name: sorted((arguments.data / "train" / name).glob("*.jpg")) for name in names}
    asked = [path for name in names for path in sorted((arguments.data / "validation" / name).glob("*.jpg"))[:4]]
    sizes: dict[str, Any] = {}
    with studio(folder / "clothes.tip") as (_, address), browser() as page:
        page.set_viewport_size({"width": 1100, "height": 680})
        page.goto(address)
        for name in names:
            page.fill("#new-name", name)
            page.click("text=Add class")
            page.set_input_files(f'[aria-label="Photos of {name}"]', photos[name][:8])
            page.locator(f'[aria-label="Class {name}"] .shot').nth(7).wait_for()
        page.locator("#facts", has_text="32 photos · left-out accuracy").wait_for(timeout=60_000)
        page.evaluate("scrollTo(0, 0)")
        sizes |= shoot(page, "teach")
        page.set_input_files("#try-files", asked)
        page.locator(".answer-card").nth(len(asked) - 1).wait_for()
        page.locator("text=Why?").first.click()
        page.locator(".reasons li").first.wait_for()
        page.locator("#try").evaluate("one => one.scrollTo(0, 150)")
        sizes |= shoot(page, "why")
        wrong = []
        for number, path in enumerate(asked):
            card = page.locator(".answer-card").nth(number)
            card.locator("select").select_option(path.parent.name)
            wrong += [card] * (card.locator("h3").inner_text() != path.parent.name)
        wrong[0].locator("text=Teach it").click()
        page.locator("#facts", has_text="33 photos · left-out accuracy").wait_for(timeout=60_000)
        page.locator("#try").evaluate("one => one.scrollTo(0, 0)")
        page.locator(".reasons").evaluate_all("all => all.forEach(one => one.remove())")
        wrong[0].scroll_into_view_if_needed()
        sizes |= shoot(page, "correct")
        page.emulate_media(color_scheme="dark")
        sizes |= shoot(page, "dark")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": 360, "height": 680})
        page.evaluate("scrollTo(0, 0)")
        sizes |= shoot(page, "phone")
        sizes |= picture_of_the_queue(page, [path for name in names for path in photos[name][8:14]])
    return sizes | picture_of_weights(arguments.data, folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=["speed", "big", "pictures"])
    parser.add_argument("data", type=Path)
    parser.add_argument("--shots", type=int, default=16)
    parser.add_argument("--photos", type=int, default=10_000)
    parser.add_argument("--classes", type=int, default=100)
    parser.add_argument("--pause", type=float, default=2.0, help="seconds between gestures, in which choices settle")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = {"speed": speed, "big": big, "pictures": pictures}[arguments.part](arguments, Path(folder))
    print(figures)
    if arguments.part != "pictures":
        write_result(f"studio_{arguments.part}", figures)


if __name__ == "__main__":
    main()
