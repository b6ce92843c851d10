"""Ask `tip-adapter serve` for the classes of photos, with nothing but Python's own library.

python ask.py http://127.0.0.1:8000 a.jpg b.jpg
"""

import json
import sys
import urllib.request
from pathlib import Path

address, *photos = sys.argv[1:]
for photo in photos:
    request = urllib.request.Request(  # noqa: S310
        f"{address}/v1/predict?top_k=3", Path(photo).read_bytes(), {"Content-Type": "application/octet-stream"}
    )
    with urllib.request.urlopen(request) as answer:  # noqa: S310
        (found,) = json.load(answer)["predictions"]
    print(f"{photo}: {found['class']} {found['probability']:.3f}")
