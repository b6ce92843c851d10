"""Real clients against `tip-adapter serve --protocol …`, and what the protocols cost over the service's own requests.

Usage: python benchmarks/clients.py [--photos ../shared/data/clothing] [--encoder lite] [--clients 32] [--seconds 10]

Every client's call is made and its answer compared; the table is written into docs/clients.md. With --photos also
photos a second and processor time of the protocols are compared with those of /v1/predict and /v1/embed, in turn.
`@huggingface/inference` is looked for in ./node_modules, or in $TIP_ADAPTER_NODE_MODULES.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from provenance import write_result
from serve import processor_s, service
from serve_files import photo
from tip_adapter import ImageClassifier

DOCUMENT = Path(__file__).parents[1] / "docs" / "clients.md"
MARKS = "<!-- clients: python benchmarks/clients.py -->", "<!-- end -->"
PROTOCOLS = ("huggingface", "openai", "open-inference")
NODE = """import {{ InferenceClient }} from {module};
const client = new InferenceClient("", {{ endpointUrl: {address} }});
const data = new Blob([new Uint8Array({photo})], {{ type: "image/png" }});
console.log((await client.imageClassification({{ data }}))[0].label);"""
Rows = Iterator[tuple[str, str, str, Callable[[], object], object]]


def uri(data: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(data).decode()


def calls(address: str, night: bytes) -> Rows:
    """Give client, version, what is called, the call, what it has to answer."""
    from huggingface_hub import InferenceClient  # noqa: TID251 - a client, as people import it
    from openai import OpenAI
    from tritonclient.http import InferenceServerClient, InferInput

    hub = InferenceClient(model=f"http://{address}/huggingface")
    row = "huggingface_hub", version("huggingface_hub")
    yield *row, "image_classification(photo)", lambda: hub.image_classification(night)[0].label, "night"
    best = lambda: [one.label for one in hub.image_classification(night, top_k=1)]  # noqa: E731
    yield *row, "image_classification(photo, top_k=1)", best, ["night"]
    modules = Path(os.environ.get("TIP_ADAPTER_NODE_MODULES", "node_modules")).resolve() / "@huggingface" / "inference"
    if shutil.which("node") and modules.is_dir():
        script = NODE.format(
            module=json.dumps(str(modules / "dist/esm/index.js")),
            address=json.dumps(f"http://{address}/huggingface"),
            photo=list(night),
        )
        command = ["node", "--input-type=module", "-e", script]
        number = json.loads((modules / "package.json").read_text())["version"]
        ask = lambda: subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()  # noqa: E731
        yield "@huggingface/inference", number, "imageClassification({ data })", ask, "night"
    client = OpenAI(base_url=f"http://{address}/openai/v1", api_key="none", max_retries=0)
    row = "openai", version("openai")
    yield *row, "models.list()", lambda: [one.id for one in client.models.list()], ["light"]
    for kind in ("float", "base64"):
        create = lambda kind=kind: client.embeddings.create(  # noqa: E731
            model="light", input=["a night", uri(night)], encoding_format=kind
        )
        yield *row, f"embeddings.create(text and photo, {kind})", lambda create=create: len(create().data), 2
    triton = InferenceServerClient(f"{address}/open-inference")
    given = InferInput("image", [1], "BYTES")
    given.set_data_from_numpy(np.array([night], dtype=object))
    row = "tritonclient[http]", version("tritonclient")
    yield (
        *row,
        "is_server_ready(), is_model_ready(name)",
        lambda: triton.is_server_ready() and triton.is_model_ready("light"),
        True,
    )
    yield *row, "get_model_metadata(name)", lambda: triton.get_model_metadata("light")["inputs"][0]["datatype"], "BYTES"
    yield *row, "infer(name, [photo])", lambda: triton.infer("light", [given]).as_numpy("label").tolist(), ["night"]


def table(folder: Path) -> list[dict[str, str]]:
    images = [np.full((32, 32, 3), shade, dtype=np.uint8) for shade in (30, 33, 220, 223)]
    ImageClassifier("fake", store=None).fit(images, ["night", "night", "day", "day"]).save(folder / "light.tip")
    process, port = service(folder / "light.tip", *(word for name in PROTOCOLS for word in ("--protocol", name)))
    rows = []
    try:
        for client, number, called, call, right in calls(f"127.0.0.1:{port}", photo(25)):
            try:
                found = call()
                result = "as expected" if found == right else f"got {found!r:.60}"
            except Exception as error:
                result = f"{type(error).__name__}: {error!s:.60}"
            rows.append({"client": client, "version": number, "called": called, "result": result})
            print(*rows[-1].values(), sep=" | ", flush=True)
    finally:
        process.terminate()
        process.wait()
    return rows


def written(rows: list[dict[str, str]]) -> None:
    """Put the table into the document."""
    lines = ["| client | version | called | result |", "|---|---|---|---|"]
    lines += [f"| `{row['client']}` | {row['version']} | `{row['called']}` | {row['result']} |" for row in rows]
    text, block = DOCUMENT.read_text(), "\n".join((MARKS[0], "", *lines, "", MARKS[1]))
    DOCUMENT.write_text(re.sub(f"{re.escape(MARKS[0])}.*{re.escape(MARKS[1])}", lambda _: block, text, flags=re.S))


def requests_of(data: bytes) -> dict[str, tuple[str, bytes, dict[str, str]]]:
    """Give path, body and headers of one photo in every way of asking."""
    kind = {"Content-Type": "application/json"}
    embedding = {"model": "clothes", "input": uri(data), "encoding_format": "base64"}
    return {
        "/v1/predict": ("/v1/predict?top_k=5", data, {"Content-Type": "image/jpeg"}),
        "huggingface": ("/huggingface", data, {"Content-Type": "image/jpeg"}),
        "/v1/embed": ("/v1/embed", data, {"Content-Type": "image/jpeg"}),
        "openai": ("/openai/v1/embeddings", json.dumps(embedding).encode(), kind),
    }


def answered(port: int, asked: list[tuple[str, bytes, dict[str, str]]], clients: int, seconds: float) -> float:
    """Photos a second of many clients."""
    counts, start = [0] * clients, time.perf_counter()

    def client(number: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < start + seconds:
            connection.request("POST", *asked[(number + counts[number] * clients) % len(asked)])
            answer = connection.getresponse()
            answer.read()
            assert answer.status == 200, answer.status
            counts[number] += 1

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - start)


def overhead(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Compare each protocol with the service's own request, round by round."""
    classifier = ImageClassifier(options.encoder, store=None)
    classifier.fit(options.photos / "train", shots=4).save(folder / "clothes.tip")
    process, port = service(folder / "clothes.tip", *(word for name in PROTOCOLS for word in ("--protocol", name)))
    photos = [path.read_bytes() for path in sorted((options.photos / "test").rglob("*.jpg"))[:200]]
    asked = {name: [requests_of(data)[name] for data in photos] for name in requests_of(b"")}
    rates: dict[str, list[float]] = {name: [] for name in asked}
    used: dict[str, list[float]] = {name: [] for name in asked}
    for turn in range(options.rounds + 1):
        for name in list(asked) if turn % 2 else list(asked)[::-1]:
            before, start = processor_s(process), time.perf_counter()
            rate = answered(port, asked[name], options.clients, options.seconds if turn else 2)
            if turn:  # the first round warms up
                rates[name].append(rate)
                used[name].append((processor_s(process) - before) / (rate * (time.perf_counter() - start)))
    process.terminate()
    process.wait()
    compared = {"huggingface_of_predict": ("huggingface", "/v1/predict"), "openai_of_embed": ("openai", "/v1/embed")}
    return {
        "photos_per_second": rates,
        "processor_s_per_photo": used,
        **{name: float(np.median(np.divide(rates[one], rates[other]))) for name, (one, other) in compared.items()},
        **{
            f"processor_{name}": float(np.median(np.divide(used[one], used[other])))
            for name, (one, other) in compared.items()
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=Path)
    parser.add_argument("--encoder", default="lite")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        rows = table(Path(temporary))
        written(rows)
        figures: dict[str, object] = {"table": rows}
        if options.photos:
            figures |= {"encoder": options.encoder, "clients": options.clients, **overhead(Path(temporary), options)}
    print(json.dumps(figures, indent=1))
    write_result("clients", figures)


if __name__ == "__main__":
    main()
