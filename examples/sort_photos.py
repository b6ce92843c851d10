"""Sort a folder of photos by a few labelled ones.

python examples/sort_photos.py photos/train new/ sorted/

Photos are copied into `sorted/CLASS/`; those of which the classifier is less sure than 80 %, into
`sorted/look at these/`.
On the command line: `tip-adapter watch clothes.tip new/ --once --copy-to sorted/`.
"""

import argparse
import shutil
from pathlib import Path

from tip_adapter import ImageClassifier
from tip_adapter.data import find_images
from tip_adapter.storage.escaping import for_path

parser = argparse.ArgumentParser(description="Sort a folder of photos by a few labelled ones.")
parser.add_argument("labelled", help="a folder with one folder of photos per class")
parser.add_argument("photos", help="the folder to sort; it stays as it is")
parser.add_argument("sorted", type=Path, help="a new folder for the copies")
parser.add_argument("--encoder", default="lite")
parser.add_argument("--sure", type=float, default=0.8, help="probability from which on a photo is not looked at")
given = parser.parse_args()

if given.sorted.exists():
    parser.error(f"{given.sorted} exists: name a new folder")
classifier = ImageClassifier(encoder=given.encoder).fit(given.labelled, shots=16)
found = classifier.predict_top(find_images(given.photos), skip_bad=True)
for number, prediction in enumerate(found):
    (class_name, probability), *_ = prediction.top
    folder = given.sorted / (for_path(class_name) if probability >= given.sure else "look at these")
    folder.mkdir(parents=True, exist_ok=True)
    source = Path(prediction.path)
    shutil.copy2(source, folder / f"{source.stem}-{number}{source.suffix}")  # names recur in other folders
for name, reason in found.skipped:
    print(f"left out: {name}: {reason}")
print(f"{len(found)} photos sorted into {given.sorted}")
