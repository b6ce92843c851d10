"""Examples run as they are, with an encoder that needs no preparation."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(photos):
    """Run an example in the folder of the photos; what it prints."""

    def call(name, *arguments, program=sys.executable, **variables):
        command = [program, EXAMPLES / name, *map(str, arguments)]
        environment = os.environ | variables
        process = subprocess.run(command, cwd=photos, env=environment, capture_output=True, text=True, timeout=300)
        assert process.returncode == 0, process.stderr
        return process.stdout

    return call
