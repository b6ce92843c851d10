"""The wheel, installed in an environment that has nothing of this repository, learns and predicts."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

import tip_adapter

ROOT = Path(__file__).parents[1]
GIVEN = os.environ.get("TIP_ADAPTER_WHEEL")
"""A wheel that `make wheel` built; it is installed with everything it asks for, instead of borrowing it from here."""


def run(*command, **options):
    found = subprocess.run([str(word) for word in command], capture_output=True, text=True, **options)
    assert found.returncode == 0, found.stdout + found.stderr
    return found.stdout


def pip(*words):
    return run(sys.executable, "-m", "pip", "--disable-pip-version-check", *words)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    if GIVEN:
        return Path(GIVEN)
    pytest.importorskip("hatchling", reason="hatchling builds the wheel")
    folder = tmp_path_factory.mktemp("wheel")
    pip("wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, ROOT)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def scripts(wheel, tmp_path_factory):
    """The programs of an environment that has the wheel."""
    folder = tmp_path_factory.mktemp("environment") / "empty"
    run(sys.executable, "-m", "venv", "--without-pip", folder)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    paths = {"base": str(folder), "platbase": str(folder)}
    options = ("--constraint", ROOT / "constraints.txt") if GIVEN else ("--no-deps",)
    pip("--python", scripts / "python", "install", "--quiet", *options, wheel)
    if not GIVEN:
        packages = Path(sysconfig.get_path("purelib", vars=paths))
        # As plain folders, so that the editable installation of this repository does not come along.
        (packages / "borrowed.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    return scripts


@pytest.mark.slow
def test_the_wheel_learns_and_predicts_in_an_empty_environment(scripts, photos, tmp_path):
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    where = run(scripts / "python", "-c", "import tip_adapter; print(tip_adapter.__file__)", cwd=tmp_path, env=clean)
    assert Path(where.strip()).is_relative_to(scripts.parent)
    program = scripts / "tip-adapter"
    assert run(program, "--version", cwd=tmp_path, env=clean).strip() == tip_adapter.__version__
    run(program, "fit", photos / "train", "-e", "fake", "-o", "colours.tip", cwd=tmp_path, env=clean)
    photo = photos / "test" / "sky blue" / "photo 0é.png"
    assert "sky blue" in run(program, "predict", "colours.tip", photo, cwd=tmp_path, env=clean)


@pytest.mark.slow
def test_the_wheel_holds_the_package_and_nothing_beside_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "tip_adapter/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"tip_adapter", f"tip_adapter-{tip_adapter.__version__}.dist-info"}
