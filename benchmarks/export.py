"""Exported classifiers against the Python one on every test photo, and the web page against it in a real browser.

Usage: python benchmarks/export.py ../shared/data/clothing --ort-web node_modules/onnxruntime-web [--browser-photos 50]

Needs the packages of the extra dev, playwright, and Chromium (--chromium says where). Nothing is asked of the network:
the page is served from this machine, and whatever else it asks for is counted.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import http.server
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from provenance import write_result
from tip_adapter import ImageClassifier
from tip_adapter.data import ImageDataset, load_dataset
from tip_adapter.export import export_classifier
from tip_adapter.export.inputs import feeds_of
from tip_adapter.export.parity import views_of
from tip_adapter.features.prompts import load_class_texts
from tip_adapter.libraries import import_library


def compare_files(classifier: ImageClassifier, out: Path, test: ImageDataset) -> dict[str, Any]:
    """Logits of classifier.onnx and answers of predict.py against the classifier's, on every photo."""
    model, encoder = classifier.model_, classifier.encoder
    pixels = views_of(encoder, test.paths)
    features = encoder.encode_pixels(pixels)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    expected = model.head.logits(features)
    onnxruntime = import_library("onnxruntime")
    session = onnxruntime.InferenceSession(out / "classifier.onnx")
    batches = [pixels[start : start + 16] for start in range(0, len(pixels), 16)]
    logits = np.concatenate([session.run(["logits"], feeds_of(encoder.preprocessing, batch))[0] for batch in batches])
    head = onnxruntime.InferenceSession(out / "head.onnx")
    (alone,) = head.run(["logits"], {"features": features})
    return {
        "photos": len(pixels),
        "largest_logit": float(np.abs(expected).max()),
        "max_logit_difference": float(np.abs(logits - expected).max()),
        "same_top_class": int((logits.argmax(axis=1) == expected.argmax(axis=1)).sum()),
        "head_max_logit_difference": float(np.abs(alone - expected).max()),
    }


def compare_script(out: Path, photos: list[Path], named: list[str]) -> int:
    done = subprocess.run(
        [sys.executable, str(out / "predict.py"), *map(str, photos)], check=True, capture_output=True, text=True
    )
    lines = done.stdout.splitlines()
    return sum(f"{photo}: {name} " in line for photo, name, line in zip(photos, named, lines, strict=True))


def of_twelve_bits(photos: list[Path], folder: Path) -> list[Path]:
    """Grey copies with 12 bits in samples of 16, as microscopes and X-ray detectors write them."""
    written = []
    for photo in photos:
        grey = np.asarray(Image.open(photo).convert("L")).astype(np.uint16)
        Image.fromarray(16 * grey).save(folder / f"{photo.stem}.png")
        written.append(folder / f"{photo.stem}.png")
    return written


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and says nothing."""

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()


def compare_page(
    out: Path, photos: list[Path], named: list[str], chromium: str, screenshot: Path | None
) -> dict[str, Any]:
    from playwright.sync_api import sync_playwright

    requests: list[str] = []
    errors: list[str] = []
    sent = 0
    with served(out) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = browser.new_page(viewport={"width": 1100, "height": 900})
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.goto(address)
        page.wait_for_selector("html[data-ready=true]", timeout=120_000)
        loaded = {url.removeprefix(address) or "index.html" for url in requests if url.startswith(address)}
        sent = sum((out / name).stat().st_size for name in loaded)
        page.set_input_files("#photos", [str(photo) for photo in photos])
        page.wait_for_selector("html[data-waiting='0']", timeout=600_000)
        # The newest card comes first; photos are done in order.
        answers = page.eval_on_selector_all("#results > li", "cards => cards.map(card => card.dataset.top)")[::-1]
        milliseconds = page.eval_on_selector_all("#results > li", "cards => cards.map(card => +card.dataset.ms)")
        if screenshot:
            page.screenshot(path=screenshot)
        browser.close()
    outside = [url for url in requests if not url.startswith((address, "blob:", "data:"))]
    return {
        "photos": len(photos),
        "same_top_class": sum(answer == name for answer, name in zip(answers, named, strict=True)),
        "requests": len([url for url in requests if url.startswith(address)]),
        "outside_requests": outside,
        "errors": errors,
        "median_ms_per_photo": float(np.median(milliseconds)),
        "megabytes": sent / 1e6,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--ort-web", type=Path, default=Path("node_modules/onnxruntime-web"))
    parser.add_argument("--methods", default="zero-shot,tip-adapter,tip-x,ape,gda,proker,knn,linear-probe")
    parser.add_argument("--browser-photos", type=int, default=50)
    parser.add_argument("--chromium", default="/usr/bin/chromium")
    parser.add_argument("--screenshot", type=Path)
    arguments = parser.parse_args()
    test = load_dataset(arguments.folder / "test")
    texts = load_class_texts(arguments.folder / "class_names.json")
    chosen = np.linspace(0, len(test.paths) - 1, arguments.browser_photos).astype(int)
    photos = [Path(test.paths[index]) for index in chosen]
    figures: dict[str, Any] = {"methods": {}}
    with tempfile.TemporaryDirectory() as name:
        for method in arguments.methods.split(","):
            classifier = ImageClassifier("lite", method, class_texts=texts)
            classifier.fit(arguments.folder / "train", shots=16)
            out = Path(name) / method
            export_classifier(classifier, out, ort_web=arguments.ort_web if method == "tip-adapter" else None)
            row = figures["methods"][method] = compare_files(classifier, out, test)
            if method == "tip-adapter":
                photos += of_twelve_bits(photos[:10], Path(name))
                named = classifier.predict(photos)
                figures["script"] = {"photos": len(photos), "same_top_class": compare_script(out, photos, named)}
                figures["page"] = compare_page(out, photos, named, arguments.chromium, arguments.screenshot)
            print(method, json.dumps(row))
    print("predict.py", json.dumps(figures["script"]))
    print("page", json.dumps(figures["page"]))
    write_result("export", figures)


if __name__ == "__main__":
    main()
