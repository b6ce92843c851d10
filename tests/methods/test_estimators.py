"""Every method is a scikit-learn classifier."""

import copy
import dataclasses
import inspect
import pickle
import threading

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import parametrize_with_checks

from tip_adapter.methods import METHODS, FewShotMethod
from tip_adapter.methods.heads import LinearHead

ON_ENCODERS = {"coop", "clip-lora", "full-fine-tuning"}
"""Exempt from scikit-learn's checks, which feed random features: these need an encoder, or photos. Their own tests look
at the same things on a tiny CLIP."""

QUICK = {
    "tip-adapter-f": {"epochs": 2, "max_folds": 2},
    "clip-adapter": {"epochs": 5, "residual_ratio": 0.2},
    "task-res": {"epochs": 3},
    "clap": {"epochs": 3},
    "lp-plus-plus": {"iterations": 20},
}
"""The checks look at behaviour: short trainings show it."""


class WithTexts:
    """Takes the class means for texts, since scikit-learn knows of none."""

    needs_text = False

    def _support_set(self, X, y, validation=None, groups=None, queries=None):
        support = super()._support_set(X, y, validation, groups, queries)
        texts = np.zeros((support.n_classes, support.features.shape[1]), dtype=np.float32)
        np.add.at(texts, support.labels, support.features)
        texts /= np.linalg.norm(texts, axis=1, keepdims=True)
        return dataclasses.replace(support, zero_shot_weights=texts)


# By name in this module, since the checks pickle.
TEXTED = {
    name: type(f"{cls.__name__}WithTexts", (WithTexts, cls), {"__module__": __name__})
    for name, cls in METHODS.items()
    if cls.needs_text
}
globals().update({cls.__name__: cls for cls in TEXTED.values()})


def checked(name):
    return TEXTED.get(name, METHODS[name])(**QUICK.get(name, {}))


TOGETHER = {"transclip", "tda"}
"""Exempt, too: one image alone gets another answer from them than among others, which the checks forbid."""


def test_only_methods_on_encoders_and_transductive_ones_are_exempt():
    assert {name for name, cls in METHODS.items() if cls.needs_encoder or cls.takes_images} == ON_ENCODERS
    assert {name for name, cls in METHODS.items() if cls.transductive} == TOGETHER


def batch_size_does_not_matter(estimator):
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(30, 5)), np.arange(30) % 3
    whole = estimator.fit(X, y).predict_proba(X)
    one_by_one = np.concatenate([estimator.predict_proba(X[[row]]) for row in range(30)])
    np.testing.assert_allclose(whole, one_by_one, rtol=1e-5, atol=1e-6)


@parametrize_with_checks([checked(name) for name in METHODS if name not in ON_ENCODERS | TOGETHER])
@pytest.mark.filterwarnings("ignore::tip_adapter.errors.FeatureWarning")
def test_estimator_check(estimator, check):
    if check.func.__name__ == "check_methods_subset_invariance":
        # It asks for 1e-7; logits are float32, and their last digit depends on how products are blocked.
        batch_size_does_not_matter(estimator)
    else:
        check(estimator)


class Short(FewShotMethod):
    """Declares its parameter."""

    scale: float = 1.0

    def _fit_head(self, support):
        return LinearHead(support.n_classes, None, self.scale, support.features)


class Scaled(Short):
    """Declares one more."""

    offset: float = 0.0


class Written(FewShotMethod):
    """Writes its constructor."""

    def __init__(self, zero_shot_weights=None, class_names=None, logit_scale=1.0, power=2):
        self.zero_shot_weights, self.class_names = zero_shot_weights, class_names
        self.logit_scale, self.power = logit_scale, power

    _fit_head = Short._fit_head


def test_a_methods_constructor_comes_of_its_fields_and_one_that_is_written_is_kept():
    shared = ["zero_shot_weights", "class_names", "logit_scale"]
    for cls, own in ((Short, ["scale"]), (Scaled, ["scale", "offset"]), (Written, ["power"])):
        assert list(inspect.signature(cls).parameters) == shared + own
        texts = np.eye(2)
        method = cls(texts, **{own[-1]: 3.0})
        for one in (method, clone(method), pickle.loads(pickle.dumps(method)), cls().set_params(**method.get_params())):
            np.testing.assert_array_equal(one.zero_shot_weights, texts)
            assert getattr(one, own[-1]) == 3.0
        assert repr(cls(**{own[-1]: 3.0})) == f"{cls.__name__}({own[-1]}=3.0)"
        assert method != clone(method)
        assert len({method, clone(method)}) == 2
    with pytest.raises(TypeError, match="positional"):
        Short(None, ["a", "b"])
    with pytest.raises(ValueError, match="mutable default"):
        type("Shared", (FewShotMethod,), {"__annotations__": {"rates": list}, "rates": []})


class Bar:
    """What a progress bar is: it counts on itself, and holds a lock, which cannot be copied."""

    def __init__(self):
        self.lock, self.steps = threading.Lock(), []

    def advance(self, done, total, loss):
        self.steps.append((done, total))


@pytest.mark.parametrize("name", [name for name, cls in METHODS.items() if not (cls.needs_encoder or cls.transductive)])
def test_nothing_of_a_call_stays_on_the_method(name):
    bar = Bar()
    eye = np.eye(3, dtype=np.float32)
    method = METHODS[name](eye, logit_scale=7.0).fit(eye[[0, 0, 1, 1, 2, 2]], [0, 0, 1, 1, 2, 2], progress=bar.advance)
    assert bool(bar.steps) == (method.trains and name != "linear-probe")
    assert all(done <= total for done, total in bar.steps)
    for copied in (pickle.loads(pickle.dumps(method)), copy.deepcopy(method)):
        np.testing.assert_array_equal(copied.logits(eye), method.logits(eye))


@pytest.mark.parametrize("given", ["progress", "encoder", "class_texts", "checkpoint"])
def test_constructors_take_nothing_that_belongs_to_a_call(given):
    for cls in METHODS.values():
        with pytest.raises(TypeError, match="unexpected keyword"):
            cls(**{given: None})
