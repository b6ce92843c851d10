"""Nothing is looked up in a network, and no library prepares a report, while photos become predictions."""

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from PIL import Image

from tip_adapter.libraries import NO_TELEMETRY

TESTS = Path(__file__).parent
MAIN_JOB = """
import runpy, sys
from pathlib import Path
from tip_adapter import ImageClassifier
from tip_adapter.cli import main
from tip_adapter.export import export_classifier

encoder, photos = sys.argv[1:]
classifier = ImageClassifier(encoder, "tip-adapter").fit(Path(photos) / "train", shots=2)
classifier.save("c.tip")
photo = str(next(Path(photos, "test").rglob("*.png")))
ImageClassifier.load("c.tip").predict([photo])
classifier.evaluate(Path(photos) / "test")
export_classifier(classifier, "out")
sys.argv = ["predict.py", photo]
sys.path.insert(0, "out")
runpy.run_path("out/predict.py", run_name="__main__")
sys.argv = ["tip-adapter", "bench", photos, "-e", encoder, "-m", "tip-adapter", "--shots", "1", "-o", "b"]
main()
"""


def bare_environment(home: Path) -> dict[str, str]:
    """The environment of a user who has set nothing."""
    kept = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY and "CACHE" not in name}
    path = os.pathsep.join((str(TESTS.parent / "src"), str(TESTS)))
    return kept | {"HOME": str(home), "TIP_ADAPTER_CACHE": str(home / "ours"), "PYTHONPATH": path}


def test_the_main_job_asks_nobody_and_leaves_no_notes_of_others(tmp_path):
    pytest.importorskip("onnx", reason="the extra export is not installed")
    from tiny_onnx import some_photos, write_encoder

    (tmp_path / "home").mkdir()
    for index, pixels in enumerate(some_photos(18)):
        folder = tmp_path / "photos" / ("train" if index < 9 else "test") / ("red", "green", "blue")[index % 3]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / f"{index}.png")
    encoder = write_encoder(tmp_path / "encoder")
    command = [sys.executable, "-c", MAIN_JOB, str(encoder), str(tmp_path / "photos")]
    if strace := shutil.which("strace"):
        command = [strace, "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", "trace", *command]
    environment = bare_environment(tmp_path / "home")
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    # ONNX Runtime looks up its maker's host only after several seconds, but writes down an id of the device at once.
    written = {path.name for path in (tmp_path / "home").rglob("*")}
    assert "ours" in written
    assert not {"Microsoft", "deviceid", ".onnxruntime"} & written
    if strace:
        assert re.findall(r".*AF_INET.*", (tmp_path / "trace").read_text()) == []


@pytest.mark.parametrize("before", ["", "import huggingface_hub; "])
def test_a_download_asks_for_the_repository_alone(tmp_path, before):
    asked = []

    class Refuse(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(404)

        do_HEAD = do_POST = do_GET  # noqa: N815

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Refuse)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    code = f"{before}from tip_adapter import load_encoder; load_encoder('hub:somebody/something')"
    endpoint = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "NO_PROXY": "127.0.0.1"}
    try:
        environment = bare_environment(tmp_path) | endpoint
        done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    finally:
        server.shutdown()
        server.server_close()
    assert "OutOfReachError" in done.stderr
    assert asked
    assert all(f"{path}/".startswith("/api/models/somebody/something/") for path in asked), json.dumps(asked)
