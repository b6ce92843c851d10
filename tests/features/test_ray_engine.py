"""Jobs on Ray: the same features as with threads, and every image once, whoever is killed."""

import os
import socket
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from tip_adapter.data.records import list_records
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import TipAdapterError
from tip_adapter.features.batch_encoder import BatchEncoder
from tip_adapter.features.jobs import Cluster, run_job
from tip_adapter.features.shards import ShardFolder

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("ray"), reason="the extra ray is not installed"),
]

PROGRAM = """
import os, signal, sys
from importlib.util import find_spec
from pathlib import Path
from tip_adapter.data.records import list_records
from tip_adapter.encoders import load_encoder
from tip_adapter.features.batch_encoder import BatchEncoder
from tip_adapter.features.jobs import Cluster, run_job
from tip_adapter.features.shards import ShardFolder
from tip_adapter.processors import usable_processors

photos, out, driver_dies = sys.argv[1], sys.argv[2], sys.argv[3] == "dies"
killed = Path(out + ".killed")

def load_worker():
    Path(out + ".processors").write_text(str(usable_processors()))
    worker = BatchEncoder(load_encoder("fake"))
    def work(batch):
        if any(name.endswith("/7.png") for name in batch["id"]) and not killed.exists():
            killed.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return worker(batch)
    return work

def progress(done, total, cached):
    if driver_dies and done:
        os.kill(os.getpid(), signal.SIGKILL)

print(run_job(list_records([photos]), load_worker, ShardFolder(out, {}), cluster=Cluster("ray", workers=2),
      rows_per_shard=3, progress=progress))
"""

NODES = """
import fcntl, os, sys, threading
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
import ray
from ray.cluster_utils import Cluster as Nodes
from tip_adapter.data.records import list_records
from tip_adapter.encoders import load_encoder
from tip_adapter.features.batch_encoder import BatchEncoder
from tip_adapter.features.jobs import Cluster, run_job
from tip_adapter.features.shards import ShardFolder

photos, out = sys.argv[1:]
os.mkfifo(out + ".pipe")
held = open(out + ".lock", "w")
fcntl.flock(held, fcntl.LOCK_EX)
nodes = Nodes(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
both = [nodes.add_node(num_cpus=1) for _ in range(2)]
ray.init(address=nodes.address, log_to_driver=False, logging_level="ERROR")

def load_worker():
    worker = BatchEncoder(load_encoder("fake"))
    def work(batch):
        if any(name.endswith("/8.png") for name in batch["id"]) and not os.path.exists(out + ".told"):
            open(out + ".told", "w").close()
            with open(out + ".pipe", "w") as pipe:
                pipe.write(ray.get_runtime_context().get_node_id())
            with open(out + ".lock") as file:
                fcntl.flock(file, fcntl.LOCK_SH)  # until this node is gone
        return worker(batch)
    return work

def take_away():
    with open(out + ".pipe") as pipe:
        name = pipe.read()
    nodes.remove_node(next(node for node in both if node.node_id == name))
    held.close()

taking = threading.Thread(target=take_away, daemon=True)
taking.start()
counts = run_job(list_records([photos]), load_worker, ShardFolder(out, {}), cluster=Cluster("ray", workers=2),
                 rows_per_shard=3)
taking.join()
print(counts, len([node for node in ray.nodes() if node["Alive"]]))
ray.shutdown()
nodes.shutdown()
"""


def on_ray(photos, out, *, driver_dies=False):
    words = [sys.executable, "-c", PROGRAM, str(photos), str(out), "dies" if driver_dies else "lives"]
    return subprocess.run(words, capture_output=True, text=True, timeout=300)


@pytest.fixture
def folder(tmp_path):
    for index in range(24):
        path = tmp_path / "photos" / ("red", "blue")[index % 2] / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 30), (index * 10, 7, 9)).save(path)
    (tmp_path / "photos" / "red" / "bad.png").write_bytes(b"")
    return tmp_path / "photos"


def test_a_cluster_that_nobody_answers_for(folder, tmp_path):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # and listens to nobody
        cluster = Cluster("ray", address=f"127.0.0.1:{bound.getsockname()[1]}")
        with pytest.raises(TipAdapterError, match="There is no Ray cluster at 127"):
            run_job(list_records([str(folder)]), list, ShardFolder(str(tmp_path / "out"), {}), cluster=cluster)


def test_killed_workers_and_drivers_lose_and_double_nothing(folder, tmp_path):
    threads = ShardFolder(str(tmp_path / "threads"), {})
    records = list_records([str(folder)])
    run_job(records, lambda: BatchEncoder(load_encoder("fake")), threads, rows_per_shard=3)
    stopped = on_ray(folder, tmp_path / "ray", driver_dies=True)
    assert stopped.returncode == -9, stopped.stderr
    shards = ShardFolder(str(tmp_path / "ray"), {})
    assert 0 < len(shards.finished()) < len(records)
    finished = on_ray(folder, tmp_path / "ray")
    assert finished.stdout == "{'rows': 24, 'errors': 1}\n", finished.stderr
    assert Path(f"{tmp_path / 'ray'}.killed").exists()
    assert Path(f"{tmp_path / 'ray'}.processors").read_text() == "1"
    assert shards.table().sort_by("id").equals(threads.table().sort_by("id"))


@pytest.mark.skipif(not os.environ.get("TIP_ADAPTER_CLUSTER"), reason="starting two nodes takes long: make cluster")
def test_a_node_that_is_taken_away_loses_and_doubles_nothing(folder, tmp_path):
    words = [sys.executable, "-c", NODES, str(folder), str(tmp_path / "nodes")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.stdout == "{'rows': 24, 'errors': 1} 2\n", done.stderr
    shards, ids = ShardFolder(str(tmp_path / "nodes"), {}), {record.id for record in list_records([str(folder)])}
    found = [*shards.table(["id"])["id"].to_pylist(), *(name for name in shards.finished() if "bad.png" in name)]
    assert sorted(found) == sorted(ids)
