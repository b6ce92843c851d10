"""Triage photos of a camera trap: what is known, what a person should look at, and what is none of the known.

python examples/camera_trap.py labelled/ card/ triage.csv

`labelled/` has a folder per species and one of empty frames. In the table, the photos to look at come first: those that
are none of the classes, as a new species is, then those whose set of classes holds more than one.
"""

import argparse
import csv

from tip_adapter import ImageClassifier
from tip_adapter.data import find_images

parser = argparse.ArgumentParser(description="Triage photos of a camera trap.")
parser.add_argument("labelled", help="a folder with one folder of photos per species, and one of empty frames")
parser.add_argument("card", help="the photos of the camera")
parser.add_argument("table", help="the CSV file to write")
parser.add_argument("--encoder", default="lite")
parser.add_argument("--miss", type=float, default=0.05, help="share of known animals that may be called unknown")
parser.add_argument("--coverage", type=float, default=0.95, help="how often a set holds the true class")
given = parser.parse_args()

classifier = ImageClassifier(encoder=given.encoder).fit(given.labelled)
photos = find_images(given.card)
named = classifier.predict_top(photos, none_of_these=given.miss, skip_bad=True)
sets = classifier.predict_set(photos, given.coverage, skip_bad=True).sets

rows = []
for prediction, possible in zip(named, sets, strict=True):
    names = [name for name, _ in possible.classes]
    heap = "2 look" if len(names) > 1 else "3 known"
    if prediction.class_name is None:
        heap = "1 none of these"
    rows.append([heap, prediction.path, prediction.class_name or "", f"{prediction.top[0][1]:.3f}", "; ".join(names)])
rows += [["1 unreadable", name, "", "", reason] for name, reason in named.skipped]

with open(given.table, "w", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    table.writerow(["heap", "photo", "class", "probability", "possible"])
    table.writerows(sorted(rows))
for heap in sorted({row[0] for row in rows}):
    print(f"{heap[2:]}: {sum(row[0] == heap for row in rows)} photos")
