"""One run: the same figures as the method by hand, and a reason where there are none."""

import json

import numpy as np
import pytest

from tip_adapter.bench import save_feature_file
from tip_adapter.bench.execution import Job, execute, load_data
from tip_adapter.errors import InputError, MissingExtraError, TipAdapterError
from tip_adapter.methods import GDA, FewShotMethod, TipAdapter
from tip_adapter.methods.heads import LinearHead, softmax


@pytest.fixture
def job_of(tiny, tiny_file, tmp_path):
    def make(method, protocol="fair", **changes):
        base = {"dataset": "tiny", "protocol": protocol, "seed": 3, "digests": {"test": tiny.digest}, "shots": 2}
        values = {
            "data": str(tiny_file),
            "part": "train",
            "rows": [0, 1, 6, 7, 12, 13],
            "base": base,
            "method": method,
            "parameters": {},
            "record": str(tmp_path / "result.json"),
            "logits": None,
            "checkpoint": None,
            "encoder": None,
            "class_texts": [],
            "templates": [],
            "photos": {},
            "threads": 1,
        }
        return Job(**values | changes)

    return make


def result_of(job, data):
    status = execute(job, data)
    with open(job.record, encoding="utf-8") as file:
        record = json.load(file)
    assert record["status"] == status
    return record


@pytest.mark.parametrize(
    ("name", "cls", "protocol"), [("gda", GDA, "fair"), ("gda", GDA, "paper"), ("tip-adapter", TipAdapter, "fair")]
)
def test_figures_are_those_of_the_method(tiny, job_of, name, cls, protocol):
    record = result_of(job_of(name, protocol), tiny)
    rows = [0, 1, 6, 7, 12, 13]
    options = {"validation": (tiny.validation.features, tiny.validation.labels)} if protocol == "paper" else {}
    method = cls(tiny.zero_shot_weights, class_names=tiny.class_names, logit_scale=20.0)
    method.fit(tiny.train.features[rows], tiny.train.labels[rows], **options)
    probabilities = softmax(method.logits(tiny.test.features))
    assert record["accuracy"] == np.mean(probabilities.argmax(axis=1) == tiny.test.labels)
    assert record["nll"] == pytest.approx(-np.log(probabilities[np.arange(15), tiny.test.labels]).mean())
    assert record["chosen"]["alpha"] == pytest.approx(method.alpha_)
    assert record["fit_seconds"] > 0
    assert record["predict_seconds"] > 0
    assert (record["trainable_parameters"], record["threads"]) == (0, 1)


def test_logits_on_request(tiny, job_of, tmp_path):
    record = result_of(job_of("zero-shot", logits=str(tmp_path / "logits" / "a.npz")), tiny)
    with np.load(tmp_path / "logits" / "a.npz", allow_pickle=False) as file:
        np.testing.assert_allclose(file["logits"], 20 * tiny.test.features @ tiny.zero_shot_weights.T, rtol=1e-5)
        np.testing.assert_array_equal(file["labels"], tiny.test.labels)
    assert record["logits"] == "a.npz"


class Odd(FewShotMethod):
    """A method that does what its class attribute says."""

    fault = None

    def _fit_head(self, support):
        if self.fault is not None:
            raise self.fault
        return LinearHead(support.n_classes, support.zero_shot_weights, float("nan"))


@pytest.mark.parametrize(
    ("fault", "status", "reason"),
    [
        (None, "failed", "finite logits"),
        (TipAdapterError("Training diverged: the loss was nan"), "failed", "Training diverged"),
        (np.linalg.LinAlgError("Singular matrix"), "failed", "LinAlgError: Singular matrix"),
        (MemoryError(), "failed", "MemoryError: no message"),
        (InputError("Expected 2 shots, got 1"), "not applicable", "Expected 2 shots, got 1"),
        (MissingExtraError("torch is needed"), "not applicable", "torch is needed"),
    ],
)
def test_a_run_without_figures_has_a_reason(monkeypatch, tiny, job_of, fault, status, reason, add_method):
    add_method("odd", Odd)
    monkeypatch.setattr(Odd, "fault", fault)
    record = result_of(job_of("odd"), tiny)
    assert (record["status"], record.get("accuracy")) == (status, None)
    assert reason in record["reason"]


@pytest.mark.parametrize("parameters", [{}, {"beta": 5.5}])
def test_a_method_that_needs_text_without_text(tiny, job_of, parameters):
    from dataclasses import replace

    record = result_of(job_of("ape", parameters=parameters), replace(tiny, zero_shot_weights=None))
    assert record["status"] == "not applicable"
    assert "needs the classes' texts" in record["reason"]


@pytest.mark.parametrize(("method", "parameters"), [("gda", {"alpha": -1}), ("ape", {"channels": 10_000})])
def test_parameters_out_of_range_are_a_failure(tiny, job_of, method, parameters):
    record = result_of(job_of(method, parameters=parameters), tiny)
    assert record["status"] == "failed"
    assert f"Expected {next(iter(parameters))}" in record["reason"]


def test_data_that_changed_is_refused(tiny, tiny_file, job_of):
    from dataclasses import replace

    job = job_of("gda")
    assert load_data(job.data, job.base).digest == tiny.digest
    save_feature_file(tiny_file, replace(tiny, logit_scale=7.0))
    with pytest.raises(InputError, match="as it was when the benchmark began"):
        load_data(job.data, job.base)


def test_with_views_trained_methods_get_them(add_method, tiny, job_of):
    from dataclasses import replace

    from tip_adapter.bench import Part

    seen = {}

    class Viewed(Odd):
        takes_views = True

        def fit(self, X, y, *, validation=None, views=None):
            seen["views"], seen["validation"] = views, validation
            raise InputError("enough")

    add_method("viewed", Viewed)
    views = np.stack([tiny.train.features, tiny.train.features], axis=1)
    data = replace(tiny, train=Part(tiny.train.features, tiny.train.labels, views))
    result_of(job_of("viewed"), data)
    assert (seen["views"].shape, seen["validation"]) == ((6, 2, 8), None)
    result_of(job_of("viewed", "paper"), data)
    np.testing.assert_array_equal(seen["validation"][0], tiny.validation.features)
