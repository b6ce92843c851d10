"""A process that was forked after a prediction predicts, too, and ends."""

import os
import subprocess
import sys

import pytest

from tiny_onnx import write_encoder

PROGRAM = """
import os, sys
import numpy as np
from tip_adapter import ImageClassifier

photos = [np.full((9, 9, 3), shade, dtype=np.uint8) for shade in range(0, 240, 30)]
classifier = ImageClassifier(sys.argv[1], "tip-adapter", store=None).fit(photos, ["red", "blue"] * 4)
before = classifier.predict_proba(photos)

def again():
    assert np.array_equal(classifier.predict_proba(photos), before)
    classifier.encoder.encode_texts(["red", "green photo"])

for depth in range(2):
    child = os.fork()
    if child:
        _, ended = os.waitpid(child, 0)
        again()
        sys.exit(ended != 0)
    again()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks on this system")
def test_children_and_their_children_predict(tmp_path):
    encoder = write_encoder(tmp_path / "encoder")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PROGRAM, str(encoder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
