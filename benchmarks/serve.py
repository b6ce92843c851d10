"""Throughput, latency, memory, overload and durability of `tip-adapter serve`.

Usage: python benchmarks/serve.py PART ../shared/data/clothing [--encoder lite] [--seconds 60] [--clients 32]

throughput  --clients clients send one photo a request, for --seconds in four rounds; in every round also the encoder
            alone (the same files, batches of 32), and two plain FastAPI applications around `predict`: one whose
            function is `async def` (one photo after the other), one with `def` (a thread for each request)
memory      resident memory of the service after every thousand of --requests requests, as many as --limit seconds allow
overload    four times as many clients as the queue holds: answers are 200 or 503, and right
kills       SIGKILL at a random moment of a series of edits, --kills times: every edit that was acknowledged has to be
            there, and nothing but the one that was under way besides
schema      schemathesis (pip install schemathesis) makes requests up from the OpenAPI: none is answered by 5xx
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from provenance import write_result
from tip_adapter import ImageClassifier, load_encoder
from tip_adapter.encoders import Encoder
from tip_adapter.features.extraction import extract_features
from tip_adapter.model.description import listed_shots

ID_DIGITS = 12

PLAIN = """
import sys, uvicorn
from fastapi import FastAPI, UploadFile
from tip_adapter import ImageClassifier
classifier = ImageClassifier.load(sys.argv[1], store=None)
app = FastAPI()
@app.post("/v1/predict")
%s predict(files: UploadFile):
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


def plain(model: Path, kind: str, port: int) -> tuple[subprocess.Popen[str], int]:
    process = subprocess.Popen([sys.executable, "-c", PLAIN % kind, str(model), str(port)], text=True)
    while True:
        try:
            http.client.HTTPConnection("127.0.0.1", port, timeout=5).connect()
            return process, port
        except OSError:
            time.sleep(0.1)


@dataclass
class Load:
    """What clients saw."""

    statuses: Counter[int] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0
    processor_s: float = 0.0
    wrong: int = 0

    @property
    def photos_per_second(self) -> float:
        """Answers a second."""
        return self.statuses[200] / self.seconds

    def to_dict(self) -> dict[str, object]:
        """Figures for the results."""
        p50, p95, p99 = (1000 * float(np.percentile(self.latencies, q)) for q in (50, 95, 99))
        return {
            "photos_per_second": self.photos_per_second,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "wrong": self.wrong,
            "processor_s_per_photo": self.processor_s / max(1, self.statuses[200]),
            "p50_ms": p50,
            "p95_ms": p95,
            "p99_ms": p99,
        }


def load(
    seen: Load,
    port: int,
    photos: list[bytes],
    clients: int,
    seconds: float,
    requests: int = 10**9,
    right: tuple[str, ...] = (),
) -> None:
    """Send photos from many clients at once, for some time or some requests."""
    bodies = [multipart(photo) for photo in photos]
    start, lock = time.perf_counter(), threading.Lock()
    sent = iter(range(requests))

    def client() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        while time.perf_counter() < start + seconds:
            with lock:
                number = next(sent, None)
            if number is None:
                return
            body, headers = bodies[number % len(bodies)]
            asked = time.perf_counter()
            connection.request("POST", "/v1/predict", body, headers)
            answer = connection.getresponse()
            content = answer.read()
            took = time.perf_counter() - asked
            wrong = bool(right) and answer.status == 200 and _class_in(content) != right[number % len(right)]
            with lock:
                seen.latencies.append(took)
                seen.statuses[answer.status] += 1
                seen.wrong += wrong

    threads = [threading.Thread(target=client) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.seconds += time.perf_counter() - start


def _class_in(content: bytes) -> object:
    return json.loads(content)["predictions"][0]["class"]


def resident_mb(process: subprocess.Popen[str]) -> float:
    return int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) / 1024


def processor_s(process: subprocess.Popen[str]) -> float:
    user, system = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


def bare(encoder: Encoder, photos: list[bytes], seconds: float) -> tuple[float, float]:
    """Photos a second of the encoder alone, decoding included, in batches of 32, and processor seconds a photo."""
    done, start, used = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        batch = [photos[(done + index) % len(photos)] for index in range(32)]
        extract_features(encoder, batch, batch_size=32)
        done += 32
    return done / (time.perf_counter() - start), (time.process_time() - used) / done


def throughput(model: Path, photos: list[bytes], options: argparse.Namespace) -> dict[str, object]:
    """All in turn, in four rounds: what else the machine does meanwhile hits all alike."""
    encoder, part = load_encoder(options.encoder), options.seconds / 4
    started = [service(model), plain(model, "async def", 8765), plain(model, "def", 8766)]
    named = dict(zip(("service", "plain_loop", "plain_threads"), started, strict=True))
    loads = {name: Load() for name in named}
    for _, port in started:
        load(Load(), port, photos, options.clients, 2)
    alone = []
    for _ in range(4):
        alone.append(bare(encoder, photos, part / 2))
        for name, (process, port) in named.items():
            loads[name].processor_s -= processor_s(process)
            load(loads[name], port, photos, options.clients, part if name == "service" else part / 2)
            loads[name].processor_s += processor_s(process)
    memory_mb = resident_mb(started[0][0])
    for process, _ in started:
        process.terminate()
        process.wait()
    rate, used = (float(value) for value in np.mean(alone, axis=0))
    rates = {name: seen.photos_per_second for name, seen in loads.items()}
    return {
        "bare_encoder": {"photos_per_second": rate, "processor_s_per_photo": used},
        **{name: seen.to_dict() for name, seen in loads.items()},
        "of_the_bare_encoder": rates["service"] / rate,
        "over_the_plain_loop": rates["service"] / rates["plain_loop"],
        "over_plain_threads": rates["service"] / rates["plain_threads"],
        "resident_mb": memory_mb,
    }


def memory(model: Path, photos: list[bytes], options: argparse.Namespace) -> dict[str, object]:
    process, port = service(model)
    seen, loads, start = [], Load(), time.perf_counter()
    while len(seen) < max(1, options.requests // 1000) and time.perf_counter() - start < options.limit:
        load(loads, port, photos, options.clients, 600, requests=1000)
        seen.append(round(resident_mb(process), 1))
        print(len(seen), seen[-1], flush=True)
    process.terminate()
    process.wait()
    statuses = {str(status): count for status, count in loads.statuses.items()}
    return {"resident_mb": seen, "largest_mb": max(seen), "statuses": statuses}


def overload(model: Path, photos: list[bytes], options: argparse.Namespace) -> dict[str, object]:
    process, port = service(model, "--queue", "16")
    right, found = ImageClassifier.load(model, store=None).predict(photos), Load()
    load(found, port, photos, 2 * options.clients, options.seconds / 6, right=tuple(right))
    assert process.poll() is None
    process.terminate()
    process.wait()
    return found.to_dict()


def kills(model: Path, photos: list[bytes], options: argparse.Namespace) -> dict[str, object]:
    """Count acknowledged edits, and ends after which the disk holds neither these nor these and the one under way."""
    rng, acknowledged, wrong = np.random.default_rng(0), 0, 0
    for _ in range(options.kills):
        process, port = service(model)
        known = _shots(model)
        after, wait_s = int(rng.integers(1, 20)), float(rng.uniform(0, 0.1))
        for number in range(10**6):
            if number == after:
                threading.Timer(wait_s, process.kill).start()
            asked = {**known}
            try:
                answer = _edit(port, asked, photos, rng)
            except (OSError, http.client.HTTPException):
                break
            assert answer == 200, answer
            known, acknowledged = asked, acknowledged + 1
        process.wait()
        wrong += _shots(model) not in (known, asked)
    return {"kills": options.kills, "acknowledged": acknowledged, "wrong_states": wrong}


def _shots(model: Path) -> dict[str, str]:
    """Classes of the shots that are on the disk."""
    return {row["id"]: row["class"] for row in listed_shots(ImageClassifier.load(model, store=None).model_)}


def _edit(port: int, shots: dict[str, str], photos: list[bytes], rng: np.random.Generator) -> int:
    """Ask for a random edit, and note in `shots` what it makes of them."""
    connection, kind = http.client.HTTPConnection("127.0.0.1", port, timeout=60), rng.integers(3)
    shot = str(rng.choice(list(shots)))
    label = str(rng.choice(sorted({"hat", "shoes", "dress"} - {shots[shot]})))
    if kind == 0:
        photo = photos[rng.integers(len(photos))] + rng.bytes(8)  # bytes behind a picture make another file of it
        shots[hashlib.sha256(photo).hexdigest()[:ID_DIGITS]] = label
        connection.request("POST", f"/v1/shots?class={label}", *multipart(photo))
    elif kind == 1 or len(shots) < 40:
        shots[shot] = label
        body = json.dumps({"ids": [shot], "class": label})
        connection.request("PATCH", "/v1/shots", body, {"Content-Type": "application/json"})
    else:
        del shots[shot]
        connection.request("DELETE", f"/v1/shots?id={shot}")
    return connection.getresponse().status


def schema(model: Path, photos: list[bytes], options: argparse.Namespace) -> dict[str, object]:
    process, port = service(model)
    tool = str(Path(sys.executable).with_name("schemathesis"))
    given = ("--checks", "not_a_server_error", "--max-examples", str(options.examples), "--seed", "1", "--no-color")
    command = [tool, "run", f"http://127.0.0.1:{port}/openapi.json", *given]
    ended = subprocess.run(command, capture_output=True, text=True, cwd=model.parent)
    process.terminate()
    process.wait()
    found, failed = re.search(r"Test cases:\s+(\d+)", ended.stdout), re.search(r"Server error: (\d+)", ended.stdout)
    assert found, ended.stdout + ended.stderr
    return {"examples": options.examples, "cases": int(found[1]), "server_errors": int(failed[1]) if failed else 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", choices=("throughput", "memory", "overload", "kills", "schema"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--encoder", default="lite")
    parser.add_argument("--method", default="auto")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--limit", type=float, default=float("inf"), help="seconds for the part memory")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--examples", type=int, default=30)
    options = parser.parse_args()
    photos = [path.read_bytes() for path in sorted((options.folder / "test").rglob("*.jpg"))[:200]]
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["TIP_ADAPTER_CACHE"] = str(Path(temporary) / "cache")
        model = Path(temporary) / "clothes.tip"
        classifier = ImageClassifier(options.encoder, method=options.method, store=None)
        classifier.fit(options.folder / "train", shots=16).save(model)
        parts = {"throughput": throughput, "memory": memory, "overload": overload, "kills": kills, "schema": schema}
        figures = {"encoder": options.encoder, "method": options.method, "clients": options.clients}
        figures |= parts[options.part](model, photos, options)
    print(json.dumps(figures, indent=1))
    name = f"serve_{options.part}"
    write_result(f"{name}_{options.encoder}" if options.part == "memory" else name, figures)


if __name__ == "__main__":
    main()
