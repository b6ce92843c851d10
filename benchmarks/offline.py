"""Count the attempts to reach a network while photos become predictions, reports, exports and comparisons.

Usage: python benchmarks/offline.py ../shared/data/clothing [--wait 40]

Needs strace. ONNX Runtime alone, with its reports as they come, is traced beside it: the count must not be 0 there.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from provenance import write_result
from tip_adapter.libraries import NO_TELEMETRY

COMMANDS = """
fit {data}/train -e {encoder} -k 2 -o c.tip
predict c.tip {data}/test
explain c.tip {photo}
evaluate c.tip {data}/test --html report.html
calibrate c.tip {data}/test
doctor c.tip
info c.tip
embed {data}/test -e {encoder}
bench {data} -e {encoder} -m tip-adapter,gda --shots 1 --seeds 1 -o runs
"""
EXPORT = "export c.tip -o exported"
SCRIPT = "exported/predict.py"
RUN = """
import runpy, sys, time
from tip_adapter.cli import main
for line in {lines!r}:
    sys.argv = ["tip-adapter", *line.split()]
    try:
        main()
    except SystemExit as stop:
        if stop.code:
            raise
if {script!r}:
    sys.argv = ["predict.py", {photo!r}]
    sys.path.insert(0, "exported")
    runpy.run_path({script!r}, run_name="__main__")
time.sleep({wait})
"""
ALONE = """
import time, onnxruntime
from tip_adapter.encoders.lite import lite_directory
session = onnxruntime.InferenceSession(lite_directory(0) / "onnx" / "vision_model.onnx")
time.sleep({wait})
"""


def attempts(code: str, folder: Path) -> int:
    """Run Python code under a tracer, and count what it, or a child, says to an address that is not this machine's."""
    trace = folder / "trace"
    command = ["strace", "-f", "-qq", "-e", "trace=connect,sendto,sendmsg,sendmmsg", "-o", str(trace)]
    environment = {name: value for name, value in os.environ.items() if name not in NO_TELEMETRY}
    subprocess.run(
        [*command, sys.executable, "-c", code], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL
    )
    return sum("AF_INET" in line for line in trace.read_text().splitlines())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--wait", type=float, default=40.0, help="seconds after the last command")
    arguments = parser.parse_args()
    data = arguments.folder.resolve()
    photo = str(next((data / "test").rglob("*.jpg")))
    figures = {}
    for encoder in ("fake", "lite"):
        lines = COMMANDS.format(data=data, encoder=encoder, photo=photo).strip().splitlines()
        exports = encoder != "fake"  # which has no towers
        script = SCRIPT if exports else ""
        code = RUN.format(lines=lines + [EXPORT] * exports, script=script, photo=photo, wait=arguments.wait)
        with tempfile.TemporaryDirectory() as folder:
            figures[f"{encoder}: {len(lines) + 2 * exports} commands"] = attempts(code, Path(folder))
    with tempfile.TemporaryDirectory() as folder:
        figures["ONNX Runtime alone"] = attempts(ALONE.format(wait=arguments.wait), Path(folder))
    for name, count in figures.items():
        print(f"{name}: {count} attempts to reach a network")
    write_result("offline", figures)


if __name__ == "__main__":
    main()
