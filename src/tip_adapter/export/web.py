"""Write the static web page, with the runtime of the npm package onnxruntime-web."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from tip_adapter.errors import InputError

PAGE_FILES = ("index.html", "style.css", "app.js", "classifier.js", "deep-png.js", "metadata.js", "resample.js")
ORT_WEB_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
"""Of the package's folder `dist`: its part for the processor, without WebGPU and WebNN."""


def web_files(ort_web: Path) -> dict[str, bytes]:
    """Collect the page and the runtime it needs; nothing is fetched, and the page fetches nothing from elsewhere.

    Examples
    --------
    >>> from tip_adapter.export.web import PAGE_FILES
    >>> PAGE_FILES[0]
    'index.html'
    """
    folder = ort_web / "dist" if (ort_web / "dist").is_dir() else ort_web
    missing = [name for name in ORT_WEB_FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"Expected the npm package onnxruntime-web in {ort_web}, found no {missing[0]}: run `npm install "
            "onnxruntime-web`, then give node_modules/onnxruntime-web"
        )
    page = files("tip_adapter.export").joinpath("static", "web")
    ours = {name: page.joinpath(name).read_bytes() for name in PAGE_FILES}
    palette = files("tip_adapter.report").joinpath("templates", "palette.css").read_bytes()
    ours["style.css"] = palette + ours["style.css"]
    return ours | {f"ort/{name}": (folder / name).read_bytes() for name in ORT_WEB_FILES}


def with_size(page: dict[str, bytes], graph: bytes) -> dict[str, bytes]:
    """Say on the page how much it downloads, its classifier included.

    Examples
    --------
    >>> from tip_adapter.export.web import with_size
    >>> with_size({"index.html": b"MEGABYTES MB"}, bytes(3_200_000))
    {'index.html': b'3.2 MB'}
    """
    if not page:
        return page
    size = (sum(map(len, page.values())) + len(graph)) / 1e6
    return page | {"index.html": page["index.html"].replace(b"MEGABYTES", f"{size:.{size < 10:d}f}".encode())}
