"""Photos go in, their most probable classes come out: python predict.py PHOTO… (needs onnxruntime, numpy, pillow)."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import, or a host of its maker is looked up
import onnxruntime


def view(photo: str, settings: dict[str, Any]) -> np.ndarray[Any, Any]:
    """Resize the shortest side and crop the middle, as the classifier was made."""
    size, shortest = settings["size"], settings["resize"]
    with Image.open(photo) as file:
        if settings["draft"]:  # decode large JPEG files at a reduced size, still twice what is needed
            file.draft(None, (2 * (shortest or size),) * 2)
        image = ImageOps.exif_transpose(file).convert("RGBA")
    image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    width, height = (int(shortest * side / min(image.size)) if shortest else size for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), Image.Resampling[settings["interpolation"].upper()])
    return np.asarray(image.crop((left, top, left + size, top + size)))


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    session = onnxruntime.InferenceSession(Path(__file__).with_name("classifier.onnx"))
    about = session.get_modelmeta().custom_metadata_map
    classes, settings = json.loads(about["classes"]), json.loads(about["preprocessing"])
    for photo in sys.argv[1:]:
        (probabilities,) = session.run(["probabilities"], {"pixels": view(photo, settings)[None]})[0]
        best = probabilities.argsort()[::-1][:3]
        print(f"{photo}: " + ", ".join(f"{classes[index]} {100 * probabilities[index]:.1f} %" for index in best))
