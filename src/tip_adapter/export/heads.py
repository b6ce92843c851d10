"""Write the formula of a fitted head as ONNX operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tip_adapter.errors import InputError
from tip_adapter.export.graph import GraphBuilder
from tip_adapter.methods.heads import (
    CacheHead,
    ChannelCacheHead,
    KernelHead,
    LinearHead,
    NeighbourHead,
    TipXHead,
    TopKCacheHead,
)
from tip_adapter.methods.heads.affinity import Cache
from tip_adapter.methods.heads.base import same_texts, without_text
from tip_adapter.methods.heads.cache import TEXT_TEMPERATURE, TIE
from tip_adapter.typing import Float32Array, FloatArray


def head_graph(graph: GraphBuilder, head: Any, features: str) -> str:
    """Append the formula of a head."""
    build = HEAD_GRAPHS.get(type(head).__name__)
    if build is None:
        known = ", ".join(HEAD_GRAPHS)
        raise InputError(
            f"Expected a head with an ONNX form ({known}), got {type(head).__name__}: "
            "this part of the classifier cannot be exported, fit with another method"
        )
    return build(graph, head, features)


def _linear(graph: GraphBuilder, head: LinearHead | KernelHead, features: str) -> str:
    logits = _zero_shot(graph, head, features)
    if head.weights is not None:
        logits = graph.add("Add", logits, graph.add("MatMul", features, graph.constant(head.weights.T)))
    return logits if head.bias is None else graph.add("Add", logits, graph.constant(head.bias))


def _kernel(graph: GraphBuilder, head: KernelHead, features: str) -> str:
    kernels = _affinity(graph, features, head.keys, head.beta)
    mass = graph.add("MatMul", kernels, graph.constant(head.coefficients))
    return graph.add("Add", _linear(graph, head, features), mass)


def _cache(graph: GraphBuilder, head: CacheHead, features: str) -> str:
    text = _zero_shot(graph, head, features)
    if head.alpha == 0:
        return text
    values = _affinity(graph, features, head.cache.keys, head.beta)
    return graph.add("Add", text, _class_mass(graph, values, head.cache, head.alpha))


def _tip_x(graph: GraphBuilder, head: TipXHead, features: str) -> str:
    known = head.zero_shot_weights[~without_text(head.zero_shot_weights)]
    scaled = graph.add("MatMul", features, graph.constant(known.T / np.float32(TEXT_TEMPERATURE)))
    # In float64, as the head has it.
    texts = graph.add("LogSoftmax", graph.cast(scaled, np.float64), axis=-1)
    powers = graph.add("Exp", texts)
    entropy = graph.reduce("ReduceSum", graph.add("Mul", powers, texts))
    negative_divergence = graph.add(
        "Sub", graph.add("MatMul", powers, graph.constant(head.key_texts.T)), entropy
    )  # -KL(query ‖ key)
    similarity = graph.add(
        "Add",
        graph.add("Mul", negative_divergence, graph.constant(np.float64(head.gamma * head.slope))),
        graph.constant(np.float64(head.gamma * head.offset)),
    )
    similarity = graph.cast(similarity, np.float32)
    affinity = _affinity(graph, features, head.cache.keys, head.beta)
    values = graph.add("Add", graph.add("Mul", affinity, graph.constant(np.float32(head.alpha))), similarity)
    return graph.add("Add", _zero_shot(graph, head, features), _class_mass(graph, values, head.cache, 1.0))


def _channel_cache(graph: GraphBuilder, head: ChannelCacheHead, features: str) -> str:
    channels = graph.constant(head.channels.astype(np.int64))
    queries = graph.unit_rows(graph.add("Gather", features, channels, axis=1))
    values = _affinity(graph, queries, head.cache.keys, head.beta)
    mass = _class_mass(graph, values, head.cache, head.alpha, head.key_weights[head.cache.order])
    return graph.add("Add", _zero_shot(graph, head, features), mass)


def _neighbour(graph: GraphBuilder, head: NeighbourHead, features: str) -> str:
    cosines = graph.add("MatMul", features, graph.constant(head.keys.T))
    similar, rows = graph.top(cosines, head.neighbours)
    owners = graph.add("Gather", graph.constant(head.labels.astype(np.int64)), rows)
    classes = _one_hot(graph, owners, head.n_classes)  # (B, k, C)
    weight = graph.add("Mul", similar, graph.constant(np.float32(TIE)))
    weight = graph.add("Add", weight, graph.constant(np.float32(1)))
    weight = graph.add("Unsqueeze", weight, graph.constant(np.array([1], dtype=np.int64)))  # (B, 1, k)
    votes = graph.add("MatMul", weight, classes)
    votes = graph.add("Squeeze", votes, graph.constant(np.array([1], dtype=np.int64)))
    smoothed = graph.add("Add", votes, graph.constant(np.float32(1 / head.n_classes)))
    return graph.add("Log", graph.add("Div", smoothed, graph.constant(np.float32(head.neighbours + 1))))


def _top_k(graph: GraphBuilder, head: TopKCacheHead, features: str) -> str:
    """The nearest of all keys, whatever the head finds them by."""
    text, cache = _zero_shot(graph, head, features), head.cache
    if head.alpha == 0 or not len(head.keys):
        return text
    cosines = graph.add("MatMul", features, graph.constant(cache.keys.T))
    nearest, rows = graph.top(cosines, min(head.neighbours, len(head.keys)))
    beta = graph.constant(np.float32(head.beta))
    values = graph.add("Exp", graph.add("Sub", graph.add("Mul", nearest, beta), beta))
    weights = (head.alpha * cache.key_weights).astype(np.float32)
    values = graph.add("Mul", values, graph.add("Gather", graph.constant(weights), rows))
    owners = graph.add("Gather", graph.constant(cache.labels.astype(np.int64)), rows)
    one = graph.constant(np.array([1], dtype=np.int64))
    by_class = graph.add("MatMul", graph.add("Unsqueeze", values, one), _one_hot(graph, owners, head.n_classes))
    return graph.add("Add", text, _lent(graph, graph.add("Squeeze", by_class, one), cache))


def _adapter(graph: GraphBuilder, head: Any, features: str) -> str:
    hidden = graph.add("Relu", graph.add("MatMul", features, graph.constant(head.down.T)))
    new = graph.add("Relu", graph.add("MatMul", hidden, graph.constant(np.float32(head.ratio) * head.up.T)))
    old = graph.add("Mul", features, graph.constant(np.float32(1 - head.ratio)))
    return _zero_shot(graph, head, graph.unit_rows(graph.add("Add", new, old)))


def _zero_shot(graph: GraphBuilder, head: Any, features: str) -> str:
    """`zero_shot_logits` of the heads; a class without text gets the average probability of those with text."""
    weights: Float32Array | None = head.zero_shot_weights
    if weights is None or same_texts(weights):
        # Zeros of shape (B, C): the features know B.
        first = graph.add("Gather", features, graph.constant(np.array([0], dtype=np.int64)), axis=1)
        return graph.add("Mul", first, graph.constant(np.zeros(head.n_classes, dtype=np.float32)))
    scaled = np.nan_to_num(np.float32(head.logit_scale) * weights)
    logits = graph.add("MatMul", features, graph.constant(scaled.T))
    missing = without_text(weights)
    if not missing.any():
        return logits
    known = graph.add("Gather", logits, graph.constant(np.flatnonzero(~missing).astype(np.int64)), axis=1)
    count = graph.constant(np.float32(np.log((~missing).sum())))
    prior = graph.add("Sub", graph.reduce("ReduceLogSumExp", known), count)
    return graph.add("Where", graph.constant(missing), prior, logits)


def _affinity(graph: GraphBuilder, queries: str, keys: Float32Array, beta: float) -> str:
    """``exp(β·cosine - β)`` of shape (B, N), scaled as in `tip_adapter.methods.heads.affinity.affinity`."""
    scaled = graph.add("MatMul", queries, graph.constant((keys * np.float32(beta)).T))
    return graph.add("Exp", graph.add("Sub", scaled, graph.constant(np.float32(beta))))


def _class_mass(
    graph: GraphBuilder, values: str, cache: Cache, scale: float, key_weights: Float32Array | None = None
) -> str:
    """Sum the values (B, N) of the keys by class, weighed: ``scale·A·diag(v)·Y``.

    Y is written as labels, which ONNX Runtime unfolds once when it loads the graph; as a table it could be larger than
    the encoder.
    """
    weights: FloatArray = scale * cache.key_weights
    if key_weights is not None:
        weights = weights * key_weights
    weighed = graph.add("Mul", values, graph.constant(weights.astype(np.float32)))
    labels = graph.constant(cache.labels.astype(np.int64))
    return _lent(graph, graph.add("MatMul", weighed, _one_hot(graph, labels, cache.n_classes)), cache)


def _lent(graph: GraphBuilder, mass: str, cache: Cache) -> str:
    """Lend classes with text and without keys the logit of the runner-up."""
    if not len(cache.lent) or not len(cache.classes):
        return mass
    present = graph.add("Gather", mass, graph.constant(cache.classes.astype(np.int64)), axis=1)
    largest, _ = graph.top(present, min(2, len(cache.classes)))
    second = graph.add("Gather", largest, graph.constant(np.array([-1], dtype=np.int64)), axis=1)
    lent = np.zeros(cache.n_classes, dtype=np.bool_)
    lent[cache.lent] = True
    return graph.add("Where", graph.constant(lent), second, mass)


def _one_hot(graph: GraphBuilder, labels: str, n_classes: int) -> str:
    depth = graph.constant(np.array([n_classes], dtype=np.int64))
    return graph.add("OneHot", labels, depth, graph.constant(np.array([0, 1], dtype=np.float32)))


HEAD_GRAPHS: dict[str, Callable[[GraphBuilder, Any, str], str]] = {
    "LinearHead": _linear,
    "CacheHead": _cache,
    "KernelHead": _kernel,
    "TipXHead": _tip_x,
    "ChannelCacheHead": _channel_cache,
    "NeighbourHead": _neighbour,
    "AdapterHead": _adapter,
    "TopKCacheHead": _top_k,
}
"""How to write each class of `tip_adapter.methods.heads.HEADS` with ONNX operators."""
