"""Protocols with support sets, or methods, of their own: as it comes, base to new, transductive."""

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.bench import FeatureData, Part, run, runner
from tip_adapter.bench.draws import Wanted, draw_all, draws_of_features, unequal_counts
from tip_adapter.bench.execution import execute, load_data
from tip_adapter.errors import InputError
from tip_adapter.methods import METHODS

NAMES = ("ant", "bee", "cow", "dog", "eel")


@pytest.fixture
def five():
    """Five classes of eight photos to learn from and four to test on."""

    def part(per_class, seed):
        labels = np.repeat(np.arange(5), per_class)
        noise = np.random.default_rng(seed).normal(size=(len(labels), 8))
        return Part(unit(np.eye(5, 8)[labels] + 0.4 * noise), labels)

    weights = unit(np.eye(5, 8) + 0.3 * np.random.default_rng(9).normal(size=(5, 8)))
    return FeatureData("five", NAMES, part(4, 1), weights, 20.0, train=part(8, 0))


@pytest.fixture
def compare(tmp_path, monkeypatch):
    """Compare in this process."""

    def in_this_process(jobs, n_processes, threads):
        for job in jobs:
            execute(job, load_data(job.data, job.base))
            yield job, None

    monkeypatch.setattr(runner, "run_jobs", in_this_process)

    def call(data, **options):
        return run([data], tmp_path / "out", **{"shots": [2], "n_seeds": 2, "figures": False} | options)

    return call


def wanted(protocol, **given):
    return Wanted([2, 4], 3, (protocol,), **given)


def test_class_frequencies_are_zipf_s_in_an_order_that_the_seed_draws(five):
    draws = draws_of_features(five, wanted("as-it-comes"))
    orders = set()
    for (shots, _), draw in draws.unequal.items():
        counts = np.bincount(draw.of(five).labels, minlength=5)
        assert counts.min() >= 1
        assert counts.max() > 1.5 * shots
        assert 4 * shots <= counts.sum() <= 5 * shots
        orders.add(tuple(np.argsort(-counts, kind="stable")))
    assert len(orders) > 1


def test_photos_of_a_class_are_those_of_an_equal_draw_first(five):
    draws = draws_of_features(five, wanted("as-it-comes"))
    for key, draw in draws.unequal.items():
        few = min(np.bincount(draw.of(five).labels, minlength=5))
        equal = draw_all(five.train.labels, Wanted([int(few)], 3), NAMES, "five").sets[int(few), key[1]]
        assert set(equal.rows) <= set(draw.rows)


def test_frequencies_may_be_given_or_those_of_the_training_photos():
    labels = np.repeat([0, 1, 2], [2, 8, 30])
    names = ("a", "b", "c")
    by_photos = draw_all(labels, Wanted([2], 1, ("as-it-comes",), "train"), names, "x").unequal[2, 0]
    assert np.bincount(labels[by_photos.rows]).tolist() == [1, 1, 4]
    given = {"c": 1, "a": 2, "b": 3}
    as_given = draw_all(labels, Wanted([2], 1, ("as-it-comes",), given), names, "x").unequal[2, 0]
    assert np.bincount(labels[as_given.rows]).tolist() == [2, 3, 1]
    with pytest.raises(InputError, match="frequency above 0 of the class 'b', got None"):
        draw_all(labels, Wanted([2], 1, ("as-it-comes",), {"a": 1}), names, "x")
    with pytest.raises(InputError, match="zipf, train or a JSON file, got 'pareto'"):
        draw_all(labels, Wanted([2], 1, ("as-it-comes",), "pareto"), names, "x")


def test_all_photos_there_are_cannot_be_unequal(five):
    draws = draws_of_features(five, Wanted([1, 4, 8], 1, ("as-it-comes",)))
    assert [shots for shots, _ in draws.unequal] == [4]
    assert "as-it-comes leaves out 1, 8 shots" in draws.notes[-1]


def test_counts_are_shared_out_within_bounds():
    rng = np.random.default_rng(0)
    for _ in range(30):
        available = rng.integers(1, 20, 6)
        total = int(rng.integers(6, available.sum() + 1))
        counts = unequal_counts(available, total, rng.exponential(size=6))
        assert (counts >= 1).all()
        assert (counts <= available).all()
        assert counts.sum() <= total


def test_half_of_the_classes_have_no_shots_and_are_told_apart_among_themselves(five, compare):
    result = compare(five, methods="gda,zero-shot,knn", protocol="fair,base-to-new")
    done = [record for record in result.records if record["status"] == "done" and record["protocol"] == "base-to-new"]
    (other,) = [record for record in result.records if record["status"] == "not applicable"]
    assert (other["method"], other["protocol"]) == ("knn", "base-to-new")
    record = next(one for one in done if one["method"] == "gda" and one["seed"] == 1)
    draw = draws_of_features(five, Wanted([2], 2, ("base-to-new",))).base[2, 1]
    shots, labels = draw.of(five).features, draw.of(five).labels
    assert sorted(set(labels.tolist())) == [0, 1, 2]
    method = METHODS["gda"](five.zero_shot_weights, class_names=list(NAMES), logit_scale=20.0)
    logits, known = method.fit(shots, labels).logits(five.test.features), five.test.labels
    base = np.mean(logits[known < 3, :3].argmax(axis=1) == known[known < 3])
    new = np.mean(logits[known >= 3, 3:].argmax(axis=1) + 3 == known[known >= 3])
    assert (record["base_accuracy"], record["new_accuracy"]) == pytest.approx((base, new))
    assert record["accuracy"] == pytest.approx(2 * base * new / (base + new))
    table = (result.output / "table.md").read_text()
    assert f"({100 * base:.1f} / {100 * new:.1f})" in table or record["seed"] == 1
    assert "base_accuracy" in (result.output / "table.csv").read_text()


def test_transductive_methods_have_a_table_of_their_own(five, compare):
    result = compare(five, methods="transclip,tda,zero-shot", protocol="fair,transductive")
    settings = {(row.setting.protocol, row.method) for row in result.report.rows}
    assert settings == {("fair", "zero-shot"), ("transductive", "transclip"), ("transductive", "tda")}
    refused = {record["method"]: record["reason"] for record in result.records if record["status"] == "not applicable"}
    assert "its protocol is 'transductive'" in refused["tda"]
    assert "compare it under the other protocols" in refused["zero-shot"]


def test_unequal_shots_are_measured_as_any_others(five, compare, tmp_path):
    path = tmp_path / "often.json"
    path.write_text('{"ant": 9, "bee": 1, "cow": 1, "dog": 1, "eel": 1}')
    result = compare(five, methods="gda", protocol="as-it-comes", frequencies=path)
    assert not result.failed
    assert {record["tuning"] for record in result.records} == {"from the support set alone"}
    path.write_text("[1]")
    with pytest.raises(InputError, match="JSON object of class names to numbers"):
        compare(five, methods="gda", protocol="as-it-comes", frequencies=path)
