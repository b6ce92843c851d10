"""Photos to features: this package's pipeline against the loop one would write with torch, and against its own parts.

Usage: python benchmarks/encode.py ../shared/data/clothing [--photos 96] [--large 16] [--repeats 5]

ViT-B/32 with random weights, which are as fast as trained ones; real photos, about 400 × 533, and the same enlarged to
12 megapixels. All variants take turns, so that whatever else the machine does meets each of them; medians are compared.
`lite-int8` is `lite` in int8, as `tip-adapter export-encoder --int8-photos` writes it.
"""

from __future__ import annotations

import argparse
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from provenance import write_result
from random_clip import MEAN, STD, random_clip
from tip_adapter.data import load_dataset
from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.base import BaseEncoder
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.pipeline import ImageReader, prepared_in_order
from tip_adapter.libraries import import_library
from tip_adapter.storage.cache_folder import cache_dir
from tip_adapter.trust.eight_bit_export import export_eight_bit

BATCH = 32
LARGE = (3000, 4000)
LATENCY_PHOTOS = 12
TARGETS = {
    "int8_over_torch": 2.5,
    "fp32_over_torch": 1.0,
    "lite_over_torch": 3.0,
    "lite-int8_over_torch": 3.0,
    "lite-fast_over_torch": 3.0,
    "int8_over_torch_large": 3.0,
    "int8_over_torch_one_photo": 4.0,
    "int8_pipeline_share": 0.9,
    "fp32_pipeline_share": 0.9,
    "lite_pipeline_share": 0.9,
    "lite-int8_pipeline_share": 0.9,
    "lite-fast_pipeline_share": 0.9,
}


class TorchLoop:
    """The loop of today: Pillow in one thread, batches of 32, transformers' CLIP on torch."""

    def __init__(self, folder: Path) -> None:
        transformers = import_library("transformers")
        transformers.utils.logging.disable_progress_bar()
        self.model = transformers.CLIPModel.from_pretrained(folder).eval()

    def view(self, photo: bytes) -> Any:
        """Decode, resize, crop and normalise one photo."""
        import torch

        image = Image.open(io.BytesIO(photo)).convert("RGB")
        width, height = (round(224 * side / min(image.size)) for side in image.size)
        image = image.resize((width, height), Image.Resampling.BICUBIC)
        left, top = (width - 224) // 2, (height - 224) // 2
        pixels = np.asarray(image.crop((left, top, left + 224, top + 224)), dtype=np.float32) / 255
        return torch.from_numpy((pixels - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1)

    def __call__(self, photos: Sequence[bytes]) -> None:
        """Encode photos."""
        import torch

        with torch.inference_mode():
            for start in range(0, len(photos), BATCH):
                pixels = torch.stack([self.view(photo) for photo in photos[start : start + BATCH]])
                self.model.get_image_features(pixel_values=pixels)


def decode(encoder: BaseEncoder, photos: Sequence[bytes]) -> np.ndarray:
    reader = ImageReader(encoder, photos, 1, 0, None)
    return np.stack([photo.pixels[0] for photo in prepared_in_order(reader, 2 * BATCH)])


def encode(encoder: BaseEncoder, pixels: np.ndarray) -> None:
    for start in range(0, len(pixels), BATCH):
        encoder.encode_pixels(pixels[start : start + BATCH])


def one_by_one(work: Callable[[Sequence[bytes]], Any], photos: Sequence[bytes]) -> None:
    for photo in photos:
        work([photo])


def enlarged(photo: bytes) -> bytes:
    image = Image.open(io.BytesIO(photo)).convert("RGB")
    size = LARGE if image.height >= image.width else LARGE[::-1]
    buffer = io.BytesIO()
    image.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


Variants = dict[str, tuple[int, Callable[[], Any]]]


def variants(photos: list[bytes], large: list[bytes], towers: Path, lite_int8: str, torch_loop: TorchLoop) -> Variants:
    """By name, how many photos a variant takes, and the work."""
    encoders = {
        "fp32": load_encoder(towers),
        "int8": load_encoder(towers, precision="int8"),
        "lite": load_encoder("lite"),
        "lite-int8": load_encoder(lite_int8),
        "lite-fast": load_encoder("lite-fast"),
    }
    few = photos[:LATENCY_PHOTOS]
    found: Variants = {
        "torch": (len(photos), lambda: torch_loop(photos)),
        "torch_large": (len(large), lambda: torch_loop(large)),
        "torch_one_photo": (len(few), lambda: one_by_one(torch_loop, few)),
    }
    for name, encoder in encoders.items():

        def pipeline(sources: Sequence[bytes], encoder: BaseEncoder = encoder) -> None:
            extract_features(encoder, sources)

        pixels = decode(encoder, photos)
        found |= {
            name: (len(photos), lambda run=pipeline: run(photos)),
            f"{name}_large": (len(large), lambda run=pipeline: run(large)),
            f"{name}_one_photo": (len(few), lambda run=pipeline: one_by_one(run, few)),
            f"{name}_decode": (len(photos), lambda encoder=encoder: decode(encoder, photos)),
            f"{name}_encode": (len(photos), lambda encoder=encoder, pixels=pixels: encode(encoder, pixels)),
        }
    return found


def measure(work: Variants, repeats: int) -> dict[str, list[float]]:
    """Images per second of each variant and round; a first round warms up and does not count."""
    rates: dict[str, list[float]] = {name: [] for name in work}
    for repeat in range(repeats + 1):
        for name, (count, run) in work.items():
            start = time.perf_counter()
            run()
            if repeat:
                rates[name].append(count / (time.perf_counter() - start))
    return rates


def ratios(rates: dict[str, list[float]]) -> dict[str, float]:
    """Medians of the ratios within a round, whose parts ran close to each other."""
    rate = {name: np.array(values) for name, values in rates.items()}
    found = {}
    for name in ("int8", "fp32", "lite", "lite-int8", "lite-fast"):
        ideal = 1 / (1 / rate[f"{name}_decode"] + 1 / rate[f"{name}_encode"])
        found[f"{name}_over_torch"] = rate[name] / rate["torch"]
        found[f"{name}_over_torch_large"] = rate[f"{name}_large"] / rate["torch_large"]
        found[f"{name}_over_torch_one_photo"] = rate[f"{name}_one_photo"] / rate["torch_one_photo"]
        found[f"{name}_pipeline_share"] = rate[name] / ideal
    return {name: float(np.median(values)) for name, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--large", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    files = sorted((arguments.folder / "test").rglob("*.jpg"))
    chosen = np.linspace(0, len(files) - 1, arguments.photos).astype(int)
    photos = [files[index].read_bytes() for index in chosen]
    large = [enlarged(photo) for photo in photos[: arguments.large]]
    model, towers = random_clip(cache_dir() / "benchmarks" / "random-clip-vit-b-32")
    with tempfile.TemporaryDirectory() as folder:
        lite_int8 = export_eight_bit("lite", Path(folder) / "int8", load_dataset(arguments.folder / "train")).encoder
        rates = measure(variants(photos, large, towers, lite_int8, TorchLoop(model)), arguments.repeats)
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    found = ratios(rates)
    for name, value in medians.items():
        print(f"{name}: {value:.1f} images/s")
    for name, value in found.items():
        target = f" (target {TARGETS[name]})" if name in TARGETS else ""
        print(f"{name}: {value:.2f}{target}")
    figures = {"images_per_second": medians, "ratios": found, "targets": TARGETS, "rounds": rates}
    write_result("encode", figures)


if __name__ == "__main__":
    main()
