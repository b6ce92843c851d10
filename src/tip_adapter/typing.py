"""Array aliases and the letters of every shape in this package.

====== =============================================================
letter meaning
====== =============================================================
B      queries in a batch
N      shots, that is keys of the cache
C      classes
D      dimensions of a feature
K      shots per class
V      views (augmented crops) per image
====== =============================================================
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.floating[Any]]
Float32Array = NDArray[np.float32]
IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
UInt8Array = NDArray[np.uint8]
StrPath = str | os.PathLike[str]
