import dataclasses

import numpy as np
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tiny_features import random_units
from tip_adapter.errors import InputError, TipAdapterError
from tip_adapter.export import head_model
from tip_adapter.export.graph import GraphBuilder
from tip_adapter.export.heads import HEAD_GRAPHS, head_graph
from tip_adapter.export.models import serialized
from tip_adapter.export.parity import check_head
from tip_adapter.methods import heads

N, D, C = 11, 16, 4


def example(kind, rng, *, silent=False, text=True, dim=D):
    """A head of a class of heads.HEADS with arrays of its own; labels leave class 2 without a key."""
    weights = random_units(rng, C, dim)
    if silent:
        weights[1] = np.nan
    shared = {"n_classes": C, "zero_shot_weights": weights if text else None, "logit_scale": 100.0}
    cache = {"keys": random_units(rng, N, dim), "labels": rng.permutation([0, 0, 0, 1, 1, 1, 3, 3, 3, 3, 3])}
    linear = {"weights": rng.normal(size=(C, dim)).astype(np.float32), "bias": rng.normal(size=C).astype(np.float32)}
    channels = np.sort(rng.choice(dim, 5, replace=False))
    fields = {
        heads.LinearHead: shared | linear,
        heads.CacheHead: shared | cache | {"alpha": 7.0, "beta": 5.5},
        heads.KernelHead: shared
        | linear
        | {"keys": cache["keys"], "coefficients": random_units(rng, N, C), "beta": 3.0},
        heads.TipXHead: shared | cache | {"alpha": 1.5, "beta": 4.0, "gamma": 2.0, "slope": 0.5, "offset": 0.3},
        heads.ChannelCacheHead: shared
        | cache
        | {"keys": random_units(rng, N, 5), "channels": channels, "key_weights": rng.random(N).astype(np.float32)}
        | {"alpha": 2.0, "beta": 5.0},
        heads.TopKCacheHead: shared | cache | {"neighbours": 4, "alpha": 7.0, "beta": 5.5},
        heads.NeighbourHead: {"n_classes": C, **cache, "neighbours": 5},
    }
    if kind in fields:
        return kind(**fields[kind])
    adapter = {"down": rng.normal(size=(3, dim)).astype(np.float32), "up": rng.normal(size=(dim, 3)).astype(np.float32)}
    return kind(**shared, **adapter, ratio=0.3)


def run(model, features):
    return onnxruntime.InferenceSession(serialized(model)).run(["logits", "probabilities"], {"features": features})


@pytest.mark.parametrize("kind", heads.HEADS.values())
def test_every_head_has_a_graph(kind):
    assert kind.__name__ in HEAD_GRAPHS


@pytest.mark.parametrize("silent", [False, True])
@pytest.mark.parametrize("kind", heads.HEADS.values())
def test_graphs_are_the_heads_formula(kind, silent):
    rng = np.random.default_rng(3)
    head = example(kind, rng, silent=silent)
    features = random_units(rng, 9, D)
    logits, probabilities = run(head_model(head, D, temperature=2.5), 3.7 * features)
    np.testing.assert_allclose(logits, head.logits(features), atol=1e-4)
    np.testing.assert_allclose(probabilities, heads.softmax(head.logits(features) / 2.5), atol=1e-5)
    one, _ = run(head_model(head, D), features[:1])
    np.testing.assert_allclose(one, logits[:1], atol=1e-4)


@pytest.mark.parametrize("kind", [heads.LinearHead, heads.CacheHead, heads.KernelHead])
def test_heads_without_any_text(kind):
    rng = np.random.default_rng(4)
    head = example(kind, rng, text=False)
    features = random_units(rng, 3, D)
    np.testing.assert_allclose(run(head_model(head, D), features)[0], head.logits(features), atol=1e-4)


def test_a_cache_that_does_not_count_is_left_out():
    rng = np.random.default_rng(5)
    head = dataclasses.replace(example(heads.CacheHead, rng), alpha=0.0)
    model = head_model(head, D)
    assert "Exp" not in {node.op_type for node in model.graph.node}
    features = random_units(rng, 3, D)
    np.testing.assert_allclose(run(model, features)[0], head.logits(features), atol=1e-4)


@settings(max_examples=15, deadline=None)
@given(opset=st.integers(13, 20), kind=st.sampled_from(list(heads.HEADS.values())))
def test_graphs_suit_the_opset_of_any_encoder(opset, kind):
    from onnx import TensorProto, checker, helper

    head = example(kind, np.random.default_rng(6), silent=True)
    builder = GraphBuilder(opset)
    builder.add("Identity", head_graph(builder, head, builder.unit_rows("x")), output="y")
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", size]) for name, size in (("x", D), ("y", C))
    ]
    graph = helper.make_graph(builder.nodes, "head", values[:1], values[1:], builder.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    checker.check_model(model, full_check=True)
    features = random_units(np.random.default_rng(7), 2, D)
    (logits,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": features})
    np.testing.assert_allclose(logits, head.logits(features), atol=1e-4)


def test_tip_x_is_exact_where_texts_see_photos_nearly_alike():
    # As on photos far from the texts: divergences of 1e-4 between distributions of entropy log(30), times 3,000.
    rng = np.random.default_rng(8)
    weights, base = random_units(rng, 30, D), random_units(rng, D)
    keys, queries = (base + 0.02 * rng.normal(size=(n, D)) for n in (40, 12))
    keys, queries = ((x / np.linalg.norm(x, axis=1, keepdims=True)).astype(np.float32) for x in (keys, queries))
    labels, numbers = np.repeat(np.arange(10), 4), {"alpha": 2.0, "beta": 5.0, "gamma": 2.0, "offset": 0.9}
    head = heads.TipXHead(30, weights, 20.0, keys=keys, labels=labels, slope=3000.0, **numbers)
    f, k, w = (x.astype(np.float64) for x in (queries, keys, weights))
    seen, shown = (np.exp(x @ w.T / 0.5) / np.exp(x @ w.T / 0.5).sum(axis=1, keepdims=True) for x in (f, k))
    divergences = (seen[:, None] * np.log(seen[:, None] / shown[None])).sum(axis=2)
    assert divergences.max() < 1e-2
    values = 2.0 * np.exp(5.0 * (f @ k.T - 1)) + 2.0 * (0.9 - 3000.0 * divergences)
    mass = values @ np.eye(30)[labels]
    mass[:, 10:] = np.sort(mass[:, :10], axis=1)[:, [-2]]
    expected = 20.0 * f @ w.T + mass
    np.testing.assert_allclose(head.logits(queries), expected, atol=1e-3)
    np.testing.assert_allclose(run(head_model(head, D), queries)[0], expected, atol=1e-3)


@pytest.mark.parametrize(("factor", "passes"), [(1 + 5e-6, True), (1 + 3e-5, False)])
def test_large_logits_may_differ_by_what_float32_cannot_hold(factor, passes):
    rng = np.random.default_rng(9)
    head = heads.LinearHead(C, None, 1.0, weights=1e3 * random_units(rng, C, D), bias=np.zeros(C, dtype=np.float32))
    other = dataclasses.replace(head, weights=(head.weights * factor).astype(np.float32))
    model, features = serialized(head_model(other, D, temperature=1e3)), random_units(rng, 9, D)
    if passes:
        assert check_head(model, head, temperature=1e3, features=features, source="noise").max_logit_difference > 1e-3
    else:
        with pytest.raises(TipAdapterError, match=r"logits of the Python classifier within 0\.0\d+ on noise"):
            check_head(model, head, temperature=1e3, features=features, source="noise")


def test_what_is_no_formula_is_named():
    class PromptHead:
        n_classes = 2

    with pytest.raises(InputError, match="PromptHead: this part of the classifier cannot be exported"):
        head_model(PromptHead(), D)


def test_real_features_and_many_classes(shared_data):
    with np.load(shared_data / "clip-vit-b32" / "stanford_cars.npz", allow_pickle=False) as data:
        weights, keys, labels = (
            data[name] for name in ("zero_shot_weights", "support_16_features", "support_16_labels")
        )
        queries = data["test_features"].astype(np.float32)
    keys = keys.astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    head = heads.CacheHead(len(weights), weights, 100.0, keys=keys, labels=labels, alpha=3.0, beta=5.5)
    model = head_model(head, 512)
    assert model.ByteSize() < 1.1 * (keys.nbytes + weights.nbytes)  # labels are no table
    logits, _ = run(model, queries)
    np.testing.assert_allclose(logits, head.logits(queries), atol=1e-3)
    np.testing.assert_array_equal(logits.argmax(axis=1), head.logits(queries).argmax(axis=1))


def test_one_text_for_all_classes_is_no_text_in_the_graph_too():
    rng = np.random.default_rng(0)
    head = dataclasses.replace(
        example(heads.CacheHead, rng), zero_shot_weights=np.tile(random_units(rng, 1, D), (C, 1))
    )
    features = random_units(rng, 5, D)
    np.testing.assert_allclose(run(head_model(head, D), features)[0], head.logits(features), atol=1e-4)
