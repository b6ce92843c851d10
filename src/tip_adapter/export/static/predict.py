"""Classify photos. Needs onnxruntime, numpy and pillow; pillow-heif for HEIC files."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from tip_adapter.data.pixels import EncodedImage, UnreadableImageError, center_view, read_file
from tip_adapter.storage.escaping import for_terminal

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import, or a host of its maker is looked up
import onnxruntime


def views(photo: str, settings: dict[str, dict[str, Any]]) -> dict[str, np.ndarray[Any, Any]]:
    """Decode a photo; for each input of the classifier resize the shortest side and crop the middle, as it was made."""
    sides = [(one["resize"] or one["size"]) if one["draft"] else None for one in settings.values()]
    image = EncodedImage(read_file(photo), None if None in sides else max(filter(None, sides))).decode()
    return {
        name: center_view(image, size=one["size"], resize=one["resize"], interpolation=one["interpolation"])
        for name, one in settings.items()
    }


def main() -> int:
    """Print the three most probable classes of each photo, and go on after one that cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("photos", metavar="PHOTO", nargs="+")
    photos, status = parser.parse_args().photos, 0
    session = onnxruntime.InferenceSession(Path(__file__).with_name("classifier.onnx"))
    about = session.get_modelmeta().custom_metadata_map
    classes, settings = json.loads(about["classes"]), json.loads(about["preprocessing"])
    for photo in photos:
        try:
            pixels = views(photo, settings)
        except UnreadableImageError as error:
            print(for_terminal(f"Expected {photo} to {error}"), file=sys.stderr)
            status = 1
            continue
        (probabilities,) = session.run(["probabilities"], {name: view[None] for name, view in pixels.items()})[0]
        best = probabilities.argsort()[::-1][:3]
        found = ", ".join(f"{classes[index]} {100 * probabilities[index]:.1f} %" for index in best)
        print(for_terminal(f"{photo}: {found}"))
    return status


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # as of `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    sys.exit(status)
