"""A job over many photos by threads, on Ray, and on a Ray cluster of two nodes of which one is taken away.

Usage: python benchmarks/engines.py [--photos 2000] [--encoder fake] [--source FOLDER]
       [--engines threads ray nodes] [--sound]

Every job is of at least twenty shards, and of shards of 1,024 photos as `embed` writes them where that is more.

Photos are crops, drawn with a seed, of those in --source, or noise of their own without it. Of every thousand one is
cut short, one is empty, one claims 65,000 × 65,000 pixels, and one never ends: it is a pipe that nobody writes to.
Every engine has to finish the others, each once, and to have just these four in its table of errors; a photo may take
two seconds. "bare" is the encoder alone, with views that are decoded already, and "bare_decoding" the encoder with
reading, decoding and resizing one photo after the other: photos in a second of a processor's time, while both are busy.
Three rates of an engine are compared with them: those of each of the two processors over the whole job and once it runs
(from the first finished shard on), and photos in a second of processor's time, starting and importing included.
Processor's time and memory are those of all processes of an engine, what they share counted once. Ray has two workers
of one processor each, on one machine or on the two nodes of a cluster (Ray's own utility makes it here), of which one
is taken away once a third is done.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from provenance import write_result
from tip_adapter.data.records import list_records
from tip_adapter.encoders import load_encoder
from tip_adapter.features.batch_encoder import BatchEncoder
from tip_adapter.features.jobs import Cluster, Worker, run_job
from tip_adapter.features.shards import ShardFolder

BAD = ("cut", "empty", "bomb", "hangs")
ENGINES = ("threads", "ray", "nodes")
WORKERS, SIZE = 2, 224
NODES: list[Any] = []


def photos_of(folder: Path, count: int, source: Path | None, *, sound: bool) -> None:
    """Write the photos, bad ones among them."""
    rng, kinds = np.random.default_rng(0), {} if sound else dict(zip(range(300, 304), BAD, strict=True))
    originals = sorted(path for path in source.rglob("*") if path.suffix == ".jpg") if source else []
    for number in range(count):
        kind = kinds.get(number % 1000, "photo")
        path = folder / ("red", "blue")[number % 2] / f"{number:06d} {kind}.jpg"
        path.parent.mkdir(exist_ok=True)
        if kind == "hangs":
            os.mkfifo(path)
        else:
            path.write_bytes(photo(rng, originals) if kind == "photo" else bad(kind, rng))


def photo(rng: np.random.Generator, originals: list[Path]) -> bytes:
    if not originals:
        return encoded(Image.fromarray(rng.integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)))
    with Image.open(originals[rng.integers(len(originals))]) as opened:
        image = opened.convert("RGB")
    side = int(min(image.size) * rng.uniform(0.6, 1))
    left, top = (int(rng.integers(0, whole - side + 1)) for whole in image.size)
    return encoded(image.crop((left, top, left + side, top + side)).resize((SIZE, SIZE)))


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    return buffer.getvalue()


def bad(kind: str, rng: np.random.Generator) -> bytes:
    if kind != "bomb":
        return b"" if kind == "empty" else photo(rng, [])[:2000]
    header = struct.pack(">IIBBBBB", 65_000, 65_000, 8, 2, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(bytes(2**20))), (b"IEND", b""))
    chunks = (
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def load_worker(encoder: str) -> Worker:
    return BatchEncoder(load_encoder(encoder), seconds_per_image=2.0)


def bare(encoder: str, folder: Path) -> dict[str, float]:
    """Photos in a second of a processor's time: the encoder alone, and with reading and decoding before it."""
    loaded = load_encoder(encoder)
    records = list_records([str(path) for path in sorted(folder.rglob("*photo.jpg"))[:1024]])
    prepare = BatchEncoder(loaded).prepared
    views = np.stack([prepare(record)[1] for record in records])
    loaded.encode_pixels(views[:32])
    times = [time.process_time()]
    for begin in range(0, len(views), 32):
        loaded.encode_pixels(views[begin : begin + 32])
    times.append(time.process_time())
    with ThreadPoolExecutor(WORKERS) as pool:
        list(pool.map(prepare, records))
    encoding, decoding = np.diff([*times, time.process_time()]) / len(records)
    return {"bare_photos_s": 1 / encoding, "bare_decoding_photos_s": 1 / (encoding + decoding)}


def job(engine: str, folder: Path, output: Path, encoder: str) -> dict[str, Any]:
    """Run one job in this process, and look at what it wrote."""
    records, start = list_records([str(folder)]), time.perf_counter()
    reached = list[tuple[int, float]]()
    cluster, lose = Cluster(engine="threads"), None
    if engine == "ray":
        cluster = Cluster("ray", workers=WORKERS)
    elif engine == "nodes":
        lose = two_nodes()
        cluster = Cluster("ray", workers=WORKERS)

    def progress(done: int, total: int, _: int) -> None:
        reached.append((done, time.perf_counter()))
        if lose is not None and not lost.is_set() and done > total / 3:
            lost.set()
            threading.Thread(target=lose).start()

    lost, shards = threading.Event(), ShardFolder(str(output), {"encoder": encoder})
    load = functools.partial(load_worker, encoder)
    rows_per_shard = min(1024, len(records) // 20)
    counts = run_job(records, load, shards, cluster=cluster, rows_per_shard=rows_per_shard, progress=progress)
    seconds = time.perf_counter() - start
    (first, since), (last, until) = reached[0], reached[-1]
    ids = shards.table(["id"])["id"].to_pylist()
    wrong = sorted(name for name in shards.finished() if name not in set(ids))
    return {
        **counts,
        "seconds": seconds,
        "photos_s": len(records) / seconds,
        "running_photos_s": (last - first) / (until - since),
        "a_node_was_taken": lost.is_set(),
        "each_once": sorted([*ids, *wrong]) == sorted(record.id for record in records),
        "errors_as_made": dict(Counter(Path(name).stem.split()[1] for name in wrong)),
    }


class Watch:
    """Memory and processor's time of a process and all that it started."""

    def __init__(self, process: int) -> None:
        self.process, self.peak_mb, self.seconds, self.ended = process, 0.0, dict[int, float](), threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(1):  # a look holds up each process for some milliseconds
            self.look()

    def look(self) -> None:
        """Look at every process once."""
        parents = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdigit():
                with contextlib.suppress(OSError):
                    fields = (folder / "stat").read_text().rpartition(")")[2].split()
                    parents[int(folder.name)] = int(fields[1]), (int(fields[11]) + int(fields[12])) / 100
        family, memory = {self.process}, 0
        while grown := {one for one, (parent, _) in parents.items() if parent in family} - family:
            family |= grown
        for one in family & set(parents):
            self.seconds[one] = parents[one][1]
            with contextlib.suppress(OSError, IndexError):
                memory += int(Path(f"/proc/{one}/smaps_rollup").read_text().partition("\nPss:")[2].split()[0])
        self.peak_mb = max(self.peak_mb, memory / 1024)

    def end(self) -> dict[str, float]:
        """Say what it took."""
        self.ended.set()
        self.thread.join()
        return {"peak_mb": self.peak_mb, "processor_s": sum(self.seconds.values())}


def two_nodes() -> Any:
    """Start a cluster of a head without processors and two nodes of one; return what takes a node away."""
    import ray
    from ray.cluster_utils import Cluster as Nodes

    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    NODES.append(nodes)
    nodes.add_node(num_cpus=1)
    second = nodes.add_node(num_cpus=1)
    ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")
    return functools.partial(nodes.remove_node, second)


def same(one: Path, other: Path) -> bool:
    """Whether two jobs wrote the same rows, bit by bit."""
    first, second = (ShardFolder(str(path), {}).table().sort_by("id") for path in (one, other))
    return bool(first.equals(second))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--photos", type=int, default=2000)
    parser.add_argument("--encoder", default="fake")
    parser.add_argument("--source", type=Path)
    parser.add_argument("--sound", action="store_true", help="without bad photos: each pipe takes two seconds")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=ENGINES)
    parser.add_argument("--job", nargs=3, metavar=("ENGINE", "FOLDER", "OUTPUT"), help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.job:
        engine, folder, output = chosen.job
        print(json.dumps(job(engine, Path(folder), Path(output), chosen.encoder)), flush=True)
        for nodes in NODES:
            import ray

            ray.shutdown()
            nodes.shutdown()
        os._exit(0)  # threads that wait for a pipe never end
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "photos"
        folder.mkdir()
        photos_of(folder, chosen.photos, chosen.source, sound=chosen.sound)
        figures: dict[str, Any] = {"photos": chosen.photos, "encoder": chosen.encoder}
        figures |= bare(chosen.encoder, folder)
        for engine in chosen.engines:
            words = [
                sys.executable,
                __file__,
                "--encoder",
                chosen.encoder,
                "--job",
                engine,
                folder,
                Path(name) / engine,
            ]
            with subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True) as running:
                watch = Watch(running.pid)
                printed, _ = running.communicate()
            if running.returncode:
                sys.exit(running.returncode)
            found = figures[engine] = (
                json.loads(next(line for line in printed.splitlines() if line.startswith("{"))) | watch.end()
            )
            found["same_as_the_first"] = same(Path(name) / chosen.engines[0], Path(name) / engine)
            rates = {
                "whole": found["photos_s"] / WORKERS,
                "running": found["running_photos_s"] / WORKERS,
                "processor_s": chosen.photos / found["processor_s"],
            }
            for bare_rate in ("bare", "bare_decoding"):
                of_bare = {rate: value / figures[f"{bare_rate}_photos_s"] for rate, value in rates.items()}
                found[f"of_{bare_rate}"] = of_bare
            print(engine, figures[engine], flush=True)
    write_result(f"engines_{chosen.encoder}", figures)


if __name__ == "__main__":
    main()
