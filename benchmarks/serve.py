"""Throughput, latency, memory and durability of `tip-adapter serve`, beside the bare encoder and a plain loop.

Usage: python benchmarks/serve.py ../shared/data/clothing [--encoder lite] [--seconds 60] [--clients 32] [--kills 20]

throughput  as many clients as --clients send one photo a request, for --seconds; beside it the encoder alone on the
            same files in batches of 32, and a plain FastAPI application that calls `predict` in each request
memory      resident memory of the service after every thousand of --requests requests
overload    four times as many clients as the queue holds: answers are 200 or 503, and right
kills       SIGKILL at a random moment of 10 edits a time: every edit that was acknowledged has to be there
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np

from provenance import write_result
from tip_adapter import ImageClassifier, load_encoder
from tip_adapter.features.extraction import extract_features

PLAIN = """
import sys, uvicorn
from fastapi import FastAPI, UploadFile
from tip_adapter import ImageClassifier
classifier = ImageClassifier.load(sys.argv[1], store=None)
app = FastAPI()
@app.post("/v1/predict")
def predict(files: UploadFile):
    return {"class": classifier.predict(files.file.read())}
uvicorn.run(app, port=int(sys.argv[2]), log_level="warning")
"""


def multipart(data: bytes) -> tuple[bytes, dict[str, str]]:
    head = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return head + data + b"\r\n--x--\r\n", {"Content-Type": "multipart/form-data; boundary=x"}


def service(model: Path, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    command = [sys.executable, "-m", "tip_adapter", "serve", str(model), "--port", "0", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    found = re.search(r":(\d+);", process.stdout.readline())
    assert found, "the service did not start"
    return process, int(found[1])


def plain(model: Path) -> tuple[subprocess.Popen[str], int]:
    port = 8765
    process = subprocess.Popen([sys.executable, "-c", PLAIN, str(model), str(port)], text=True)
    while True:
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()
            return process, port
        except OSError:
            time.sleep(0.1)


def load(port: int, photos: list[bytes], clients: int, seconds: float, requests: int = 10**9) -> dict[str, object]:
    """Send photos from many clients at once; statuses, latencies, answers a second."""
    bodies = [multipart(photo) for photo in photos]
    end, lock = time.perf_counter() + seconds, threading.Lock()
    statuses: dict[int, int] = {}
    latencies: list[float] = []
    sent = iter(range(requests))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < end:
            with lock:
                number = next(sent, None)
            if number is None:
                return
            body, headers = bodies[number % len(bodies)]
            start = time.perf_counter()
            connection.request("POST", "/v1/predict", body, headers)
            answer = connection.getresponse()
            answer.read()
            with lock:
                latencies.append(time.perf_counter() - start)
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

    start = time.perf_counter()
    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - start
    p50, p95, p99 = (1000 * float(np.percentile(latencies, q)) for q in (50, 95, 99))
    return {
        "photos_per_second": statuses.get(200, 0) / wall,
        "statuses": {str(status): count for status, count in sorted(statuses.items())},
        "p50_ms": p50,
        "p95_ms": p95,
        "p99_ms": p99,
    }


def resident_mb(process: subprocess.Popen[str]) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


def bare(encoder: str, photos: list[bytes], seconds: float) -> float:
    """Photos a second of the encoder alone, decoding included, in batches of 32."""
    loaded, done, start = load_encoder(encoder), 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        batch = [photos[(done + index) % len(photos)] for index in range(32)]
        extract_features(loaded, batch, batch_size=32)
        done += 32
    return done / (time.perf_counter() - start)


def throughput(model: Path, photos: list[bytes], options: argparse.Namespace) -> dict[str, object]:
    alone = bare(options.encoder, photos, options.seconds / 3)
    process, port = service(model)
    load(port, photos, options.clients, 3)
    served = load(port, photos, options.clients, options.seconds)
    process.terminate()
    process.wait()
    process, port = plain(model)
    load(port, photos, options.clients, 3)
    loop = load(port, photos, options.clients, options.seconds / 2)
    process.kill()
    process.wait()
    again = bare(options.encoder, photos, options.seconds / 3)
    alone = (alone + again) / 2
    return {
        "bare_encoder_per_second": alone,
        "service": served,
        "plain_loop": loop,
        "of_the_bare_encoder": served["photos_per_second"] / alone,
        "over_the_plain_loop": served["photos_per_second"] / loop["photos_per_second"],
    }


def memory(model: Path, photos: list[bytes], options: argparse.Namespace) -> dict[str, object]:
    process, port = service(model)
    seen = []
    for _ in range(max(1, options.requests // 1000)):
        load(port, photos, options.clients, 600, requests=1000)
        seen.append(round(resident_mb(process), 1))
    process.terminate()
    process.wait()
    return {"resident_mb": seen, "largest_mb": max(seen)}


def overload(model: Path, photos: list[bytes]) -> dict[str, object]:
    process, port = service(model, "--queue", "16")
    found = load(port, photos, 64, 10)
    assert process.poll() is None
    process.terminate()
    process.wait()
    return found


def kills(model: Path, photos: list[bytes], times: int, seed: int = 0) -> dict[str, int]:
    """Acknowledged edits, and how many of them are missing afterwards."""
    rng, acknowledged, missing = np.random.default_rng(seed), 0, 0
    for _ in range(times):
        process, port = service(model)
        threading.Timer(float(rng.uniform(0.05, 1.5)), process.kill).start()
        ids = []
        for number in rng.permutation(len(photos))[:10]:
            body, headers = multipart(photos[number] + rng.bytes(8))  # bytes behind a picture make another file of it
            try:
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
                connection.request("POST", "/v1/shots?class=hat", body, headers)
                answer = connection.getresponse()
                ids += json.loads(answer.read())["ids"] if answer.status == 200 else []
            except (OSError, http.client.HTTPException):
                break
        process.wait()
        there = set(ImageClassifier.load(model, store=None).model_.shots.ids)
        acknowledged, missing = acknowledged + len(ids), missing + len(set(ids) - there)
    return {"kills": times, "acknowledged": acknowledged, "missing": missing}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="lite")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=20)
    options = parser.parse_args()
    photos = [path.read_bytes() for path in sorted((options.folder / "test").rglob("*.jpg"))[:200]]
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["TIP_ADAPTER_CACHE"] = str(Path(temporary) / "cache")
        model = Path(temporary) / "clothes.tip"
        ImageClassifier(options.encoder, store=None).fit(options.folder / "train", shots=16).save(model)
        figures: dict[str, object] = {"encoder": options.encoder, "clients": options.clients}
        for name, found in (
            ("throughput", lambda: throughput(model, photos, options)),
            ("memory", lambda: memory(model, photos, options)),
            ("overload", lambda: overload(model, photos)),
            ("kills", lambda: kills(model, photos, options.kills)),
        ):
            figures[name] = found()
            print(name, json.dumps(figures[name], indent=1), flush=True)
    write_result("serve", figures)


if __name__ == "__main__":
    main()
