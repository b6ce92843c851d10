"""The methods trained on features: their losses against loops over float64 numbers, and how a training may end."""

import math
import subprocess
import sys

import numpy as np
import pytest

from tiny_features import unit
from tip_adapter.errors import FeatureError, InputError, MissingExtraError, TrainingError, TrainingWarning
from tip_adapter.methods import CLAP, METHODS, CLIPAdapter, LPPlusPlus, TaskRes, TipAdapter, TipAdapterF
from tip_adapter.methods.left_out import left_out_logits
from tip_adapter.methods.trained.lp_plus_plus import probe_gradients, step_sizes

TRAINED = (TipAdapterF, CLIPAdapter, TaskRes, LPPlusPlus, CLAP)
CLASSES, DIM, SCALE = 3, 8, 10.0


@pytest.fixture(params=[(4, 4, 4), (2, 5, 3)], ids=["equal", "unequal"])
def data(request):
    """Texts, shots near their class's own direction (which is not its text), labels and queries."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(CLASSES), request.param)
    centres = rng.normal(size=(CLASSES, DIM))
    texts = unit(centres + 1.5 * rng.normal(size=centres.shape))
    shots = unit(centres[labels] + 0.5 * rng.normal(size=(len(labels), DIM)))
    return texts, shots, labels, unit(rng.normal(size=(5, DIM)))


def few(cls):
    """A short training of a method."""
    return {"iterations": 8} if cls is LPPlusPlus else {"epochs": 8}


def nothing_chosen(cls):
    """Parameters that leave nothing to choose."""
    return {CLIPAdapter: {"residual_ratio": 0.2}, TipAdapterF: {"alpha": 1.0, "beta": 1.0}}.get(cls, {})


def cross_entropy(logits, labels):
    losses = (math.log(math.fsum(map(math.exp, row))) - row[c] for row, c in zip(logits, labels, strict=True))
    return math.fsum(losses) / len(labels)


def numeric_gradient(loss, point, step=1e-6):
    gradient = np.zeros_like(point)
    for index in np.ndindex(point.shape):
        ahead, behind = point.copy(), point.copy()
        ahead[index] += step
        behind[index] -= step
        gradient[index] = (loss(ahead) - loss(behind)) / (2 * step)
    return gradient


def cosine(epochs, rate, *, warmup=False):
    """Learning rates of full-batch steps: perhaps one at 1e-5, then a cosine to 0."""
    steps = epochs - warmup
    return [1e-5] * warmup + [rate * 0.5 * (1 + math.cos(math.pi * step / steps)) for step in range(steps)]


def adamw(loss, start, rates, *, decay, epsilon):
    """Full-batch AdamW, from its paper."""
    point, first, second = start.astype(float), np.zeros(start.shape), np.zeros(start.shape)
    for step, rate in enumerate(rates, start=1):
        gradient = numeric_gradient(loss, point)
        point = point * (1 - rate * decay)
        first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
        m, v = first / (1 - 0.9**step), second / (1 - 0.999**step)
        point = point - rate * m / (np.sqrt(v) + epsilon)
    return point


def test_tip_adapter_f_trains_its_keys_as_the_paper_says(data):
    texts, shots, labels, queries = data
    alpha, beta = 1.5, 2.0

    def logits(features, keys, sharpness):
        rows = []
        for f in features.astype(float):
            row = [SCALE * math.fsum(f * w) for w in texts.astype(float)]
            for key, c in zip(keys.astype(float), labels, strict=True):
                value = len(labels) / CLASSES / int(np.sum(labels == c))
                row[c] += alpha * value * math.exp(-sharpness * (1 - math.fsum(f * key)))
            rows.append(row)
        return np.array(rows)

    def loss(keys):
        return cross_entropy(logits(shots, keys, 1.0), labels)

    keys = adamw(loss, shots, cosine(6, 1e-2), decay=0.01, epsilon=1e-4)
    method = TipAdapterF(texts, alpha=alpha, beta=beta, logit_scale=SCALE, epochs=6, learning_rate=1e-2)
    method.fit(shots, labels)
    np.testing.assert_allclose(method.head_.keys, keys, atol=2e-5)
    np.testing.assert_allclose(method.logits(queries), logits(queries, keys, beta), rtol=1e-4, atol=1e-3)
    assert method.trainable_parameters_ == shots.size


def test_clip_adapter_answers_as_the_paper_says(data):
    texts, shots, labels, queries = data
    method = CLIPAdapter(texts, residual_ratio=0.4, logit_scale=SCALE, epochs=8).fit(shots, labels)
    down, up = method.head_.down.astype(float), method.head_.up.astype(float)
    expected = []
    for f in queries.astype(float):
        hidden = [max(0.0, math.fsum(row * f)) for row in down]
        adapted = np.array([0.4 * max(0.0, math.fsum(row * hidden)) for row in up]) + 0.6 * f
        adapted /= math.sqrt(math.fsum(adapted**2))
        expected.append([SCALE * math.fsum(adapted * w) for w in texts.astype(float)])
    np.testing.assert_allclose(method.logits(queries), expected, rtol=1e-4, atol=1e-4)
    assert method.trainable_parameters_ == down.size + up.size == 2 * DIM * (DIM // 4)


def test_clip_adapter_lowers_its_loss(data):
    texts, shots, labels, _ = data
    losses = CLIPAdapter(texts, residual_ratio=0.5, logit_scale=SCALE).fit(shots, labels).training_.losses
    assert losses[-1] < losses[0]
    assert len(losses) == 50


def test_task_res_moves_the_texts_as_the_paper_says(data):
    texts, shots, labels, queries = data

    def logits(features, residuals):
        moved = texts.astype(float) + 0.5 / 10 * residuals
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        return SCALE * features.astype(float) @ moved.T

    def loss(residuals):
        return cross_entropy(logits(shots, residuals), labels)

    # Adam is AdamW without decay.
    residuals = adamw(loss, np.zeros(texts.shape), cosine(7, 0.1, warmup=True), decay=0.0, epsilon=1e-8)
    method = TaskRes(texts, logit_scale=SCALE, epochs=7, learning_rate=0.1).fit(shots, labels)
    np.testing.assert_allclose(method.logits(queries), logits(queries, residuals), atol=1e-3)
    zero_shot = SCALE * queries @ texts.T
    assert np.abs(method.logits(queries) - zero_shot).max() > 0.05, "what was compared is more than the start"


def test_lp_plus_plus_descends_as_the_paper_says(data):
    texts, shots, labels, queries = data
    F, T = shots.astype(float), texts.astype(float)

    def loss(w, a):
        return cross_entropy(F @ w.T + a * (F @ T.T), labels)

    support = LPPlusPlus(texts, logit_scale=SCALE)._support_set(shots, labels)
    rng = np.random.default_rng(1)
    w, a = rng.normal(size=texts.shape), rng.normal(size=CLASSES)
    found = probe_gradients(support, shots @ texts.T, w.astype(np.float32), a.astype(np.float32))
    assert found[0] == pytest.approx(loss(w, a), rel=1e-5)
    np.testing.assert_allclose(found[1], numeric_gradient(lambda x: loss(x, a), w), atol=1e-5)
    np.testing.assert_allclose(found[2], numeric_gradient(lambda x: loss(w, x), a), atol=1e-5)
    steps = step_sizes(shots, shots @ texts.T)
    assert steps[0] == pytest.approx(4 * len(F) / np.linalg.eigvalsh(F.T @ F).max(), rel=1e-4)
    assert steps[1] == pytest.approx(len(F) / (4 * ((F @ T.T) ** 2).sum(axis=0).max()), rel=1e-4)
    means, velocity = np.stack([F[labels == c].mean(axis=0) for c in range(CLASSES)]), np.zeros(texts.shape)
    w = len(F) / CLASSES * means
    a = np.full(CLASSES, 2.5 * SCALE * np.mean([(F[labels == c] @ T[c]).mean() for c in range(CLASSES)]))
    a = np.maximum(a, 0)
    for iteration in range(1, 21):
        by_w, by_a = numeric_gradient(lambda x, a=a: loss(x, a), w), numeric_gradient(lambda x, w=w: loss(w, x), a)
        velocity = 0.9 * velocity + by_w
        w = w - float(steps[0]) * velocity
        a = a - float(steps[1]) * by_a if iteration % 10 == 0 else a
    method = LPPlusPlus(texts, logit_scale=SCALE, iterations=20).fit(shots, labels)
    np.testing.assert_allclose(method.alpha_, a, rtol=1e-3)
    np.testing.assert_allclose(method.logits(queries), queries @ w.T + a * (queries @ T.T), rtol=2e-3, atol=2e-2)


def test_clap_keeps_known_classes_near_their_texts(data):
    texts, shots, labels, queries = data
    method = CLAP(texts, logit_scale=SCALE, epochs=13, learning_rate=0.05).fit(shots, labels)
    logits = SCALE * shots.astype(float) @ texts.T.astype(float)
    own = np.exp(logits - logits.max(axis=1, keepdims=True))
    own = (own / own.sum(axis=1, keepdims=True))[np.arange(len(labels)), labels]
    weights = np.array([own[labels == c].mean() for c in range(CLASSES)])
    np.testing.assert_allclose(method.constraints_, weights, rtol=1e-5)

    def answers(features, moves):
        moved = 10 * texts.astype(float) + moves
        moved /= np.linalg.norm(moved, axis=1, keepdims=True)
        return SCALE * features.astype(float) @ moved.T

    def loss(moves):
        return cross_entropy(answers(shots, moves), labels) + np.mean(weights * (moves**2).sum(axis=1))

    moves, velocity = np.zeros(texts.shape), np.zeros(texts.shape)
    for rate in cosine(13, 0.05, warmup=True):
        velocity = 0.9 * velocity + numeric_gradient(loss, moves)
        moves = moves - rate * velocity
    np.testing.assert_allclose(method.logits(queries), answers(queries, moves), atol=2e-3)
    assert np.abs(moves).max() > 0.01, "what was compared is more than the start"


@pytest.mark.parametrize("cls", TRAINED)
def test_the_same_seed_trains_the_same(cls, data):
    texts, shots, labels, queries = data

    def answers(seed):
        seeded = {} if cls is LPPlusPlus else {"random_state": seed, "batch_size": 4}
        method = cls(texts, logit_scale=SCALE, **few(cls), **nothing_chosen(cls), **seeded)
        return method.fit(shots, labels).logits(queries)

    first, second, other = (answers(seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, second)
    assert cls is LPPlusPlus or np.abs(first - other).max() > 0


@pytest.mark.parametrize("cls", TRAINED)
def test_training_beats_zero_shot_on_its_shots(cls, data):
    texts, shots, labels, _ = data
    method = cls(texts, logit_scale=SCALE).fit(shots, labels)
    zero_shot = METHODS["zero-shot"](texts, logit_scale=SCALE).fit(shots, labels)
    assert method.score(shots, labels) >= zero_shot.score(shots, labels)
    assert method.training_.interrupted is False
    assert all("torch" not in type(value).__module__ for value in vars(method.head_).values())


@pytest.mark.parametrize("cls", TRAINED)
def test_an_interruption_keeps_the_last_finished_epoch(cls, data):
    texts, shots, labels, queries = data

    def stop(done, total, loss):
        if done == 4:
            raise KeyboardInterrupt

    method = cls(texts, logit_scale=SCALE, **few(cls), **nothing_chosen(cls))
    with pytest.warns(TrainingWarning, match=r"what [34] of 8 (epochs|iterations) reached is kept"):
        method.fit(shots, labels, progress=stop)
    assert method.training_.interrupted
    assert np.isfinite(method.logits(queries)).all()


@pytest.mark.parametrize("cls", [TipAdapterF, CLIPAdapter, CLAP])
def test_a_diverging_training_is_reported_and_nothing_is_kept(cls, data):
    texts, shots, labels, _ = data
    method = cls(texts, logit_scale=SCALE, learning_rate=1e30, epochs=30, **nothing_chosen(cls))
    with pytest.raises(TrainingError, match=r"diverged: .* nothing was kept: choose a learning_rate below"):
        method.fit(shots, labels)
    assert not hasattr(method, "head_")


@pytest.mark.parametrize("cls", TRAINED)
def test_one_shot_per_class(cls, data):
    texts, shots, labels, queries = data
    first = np.unique(labels, return_index=True)[1]
    method = cls(texts, logit_scale=SCALE, **few(cls)).fit(shots[first], labels[first])
    assert np.isfinite(method.logits(queries)).all()
    if cls is TipAdapterF:
        assert (method.search_, method.beta_, method.alpha_) == (None, 1.0, method.initial_alpha_)
    if cls is CLIPAdapter:
        assert (method.ratio_scores_, method.residual_ratio_) == ({}, 0.2)


@pytest.mark.parametrize("cls", [CLIPAdapter, TaskRes, LPPlusPlus, CLAP])
def test_methods_on_texts_say_that_they_need_them(cls, data):
    _, shots, labels, _ = data
    with pytest.raises(InputError, match="needs the classes' texts: give zero_shot_weights"):
        cls().fit(shots, labels)


def test_tip_adapter_f_without_text(data):
    _, shots, labels, _ = data
    assert TipAdapterF().fit(shots, labels).score(shots, labels) == 1.0


def test_lp_plus_plus_needs_a_text_for_every_class(data):
    texts, shots, labels, _ = data
    texts[1] = np.nan
    with pytest.raises(InputError, match=r"LP\+\+ needs texts for every class"):
        LPPlusPlus(texts).fit(shots, labels)


@pytest.mark.parametrize("cls", [TipAdapterF, CLIPAdapter, TaskRes, CLAP])
def test_a_class_may_lack_text_or_shots(cls, data):
    texts, shots, labels, queries = data
    texts[1] = np.nan
    kept = labels != 2
    method = cls(texts, logit_scale=SCALE, **few(cls)).fit(shots[kept], labels[kept])
    assert np.isfinite(method.logits(queries)).all()
    assert method.logits(queries).shape == (5, CLASSES)


def test_views_are_trained_on_one_at_a_time(data):
    texts, shots, labels, queries = data
    rng = np.random.default_rng(3)
    several = unit(shots[:, None] + 0.3 * rng.normal(size=(len(shots), 4, DIM)))

    def answers(views):
        return TaskRes(texts, logit_scale=SCALE, epochs=8).fit(shots, labels, views=views).logits(queries)

    assert np.abs(answers(several) - answers(None)).max() > 1e-4
    np.testing.assert_array_equal(answers(shots[:, None]), answers(None))


@pytest.mark.parametrize(
    ("views", "message"),
    [(np.ones((2, 3, DIM)), "Expected views of shape"), (np.full((12, 2, DIM), np.nan), "Expected finite views")],
)
def test_views_that_do_not_fit(views, message):
    rng = np.random.default_rng(0)
    texts, shots = unit(rng.normal(size=(3, DIM))), unit(rng.normal(size=(12, DIM)))
    with pytest.raises(FeatureError, match=message):
        TaskRes(texts).fit(shots, np.repeat(range(3), 4), views=views)


@pytest.mark.parametrize("cls", [TipAdapterF, CLIPAdapter])
def test_validation_images_decide_where_there_are_any(cls, data):
    texts, shots, labels, _ = data
    method = cls(texts, logit_scale=SCALE, **few(cls)).fit(shots, labels, validation=(shots, labels))
    if cls is TipAdapterF:
        assert method.search_.rule == "validation"
    else:
        assert set(method.ratio_scores_) == {0.2, 0.4, 0.6, 0.8}


def test_left_out_shots_decide_where_there_are_no_validation_images(data):
    texts, shots, labels, _ = data
    method = TipAdapterF(texts, logit_scale=SCALE).fit(shots, labels)
    assert (method.search_.rule, method.search_.criterion) == ("cross-validation", "likelihood")
    assert method.search_.n_scored == len(labels)


def test_without_torch_the_error_names_the_extra(monkeypatch, data):
    texts, shots, labels, _ = data
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"pip install .*torch"):
        TaskRes(texts).fit(shots, labels)
    LPPlusPlus(texts, iterations=3).fit(shots, labels)  # needs NumPy alone


def test_trained_keys_beat_the_untrained_on_real_features(shared_data):
    file = np.load(shared_data / "clip-vit-b32" / "stanford_cars.npz", allow_pickle=False)
    shots, labels = file["support_8_features"].astype(np.float32), file["support_8_labels"].astype(int)
    some, test = labels < 40, file["test_labels"] < 40
    texts, queries = file["zero_shot_weights"][:40], file["test_features"][test].astype(np.float32)

    def score(cls):
        return cls(texts).fit(shots[some], labels[some]).score(queries, file["test_labels"][test])

    assert score(TipAdapterF) > score(TipAdapter) + 0.01


@pytest.mark.parametrize("cls", TRAINED)
def test_a_fit_to_a_part_of_the_shots_is_whole_and_silent(cls, data):
    texts, shots, labels, _ = data
    steps = []
    method = cls(texts, logit_scale=SCALE, **few(cls), **nothing_chosen(cls))
    method.fit(shots, labels, progress=lambda *step: steps.append(step))
    told = len(steps)
    left_out_logits(method, shots, labels)
    assert 0 < told == len(steps)


def test_an_interruption_of_a_fit_to_a_part_of_the_shots_ends_it(data, monkeypatch):
    texts, shots, labels, _ = data
    method, calls = LPPlusPlus(texts, logit_scale=SCALE, iterations=8).fit(shots, labels), []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return probe_gradients(*args)

    monkeypatch.setattr("tip_adapter.methods.trained.lp_plus_plus.probe_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        left_out_logits(method, shots, labels)


def test_an_interruption_while_torch_is_loaded_leaves_no_half_of_it():
    """The first optimizer imports more of torch: a choice that outlives Ctrl-C must not go on with a part of that."""
    code = """
import importlib.abc, sys, warnings
import numpy as np
from tip_adapter.methods import CLIPAdapter

class Interrupting(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "torch._dynamo.decorators":
            sys.meta_path.remove(self)
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupting())
warnings.simplefilter("ignore")
rows, labels = np.eye(4, dtype=np.float32), np.array([0, 0, 1, 1])
try:
    CLIPAdapter(rows[[0, 2]], epochs=2).fit(rows, labels)
    print("went on")
except KeyboardInterrupt:
    print("ended")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr
