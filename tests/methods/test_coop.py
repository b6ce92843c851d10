"""Prompt tuning on a tiny CLIP with random weights: its formulas, and what it owes its users."""

import pickle
import warnings

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV

from tip_adapter.encoders import load_encoder
from tip_adapter.errors import EncoderError, FeatureError, InputError, TrainingError, TrainingWarning
from tip_adapter.methods import CoOp
from tip_adapter.methods.heads import head_from_state, head_state
from tip_adapter.methods.left_out import left_out_logits

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

from tip_adapter.encoders.trainable import load_trainable_encoder  # noqa: E402
from tip_adapter.methods.on_encoder import learned_prompts  # noqa: E402
from tip_adapter.methods.on_encoder.learned_prompts import LearnedPrompts, content_tokens  # noqa: E402

SCALE = 20.0
NAMES = ["red hat", "cap", "tie"]


@pytest.fixture(scope="module")
def encoder(tiny_clip):
    return load_trainable_encoder(f"huggingface:{tiny_clip}")


@pytest.fixture(scope="module")
def shots(encoder):
    """Features of noisy photos of three colours, and their labels."""
    rng = np.random.default_rng(0)
    colors = np.array([[200, 40, 40], [40, 200, 40], [40, 40, 200]])
    labels = np.repeat(np.arange(3), 4)
    noise = rng.integers(-40, 40, (12, 32, 32, 3))
    pixels = np.clip(colors[labels][:, None, None] + noise, 0, 255).astype(np.uint8)
    with torch.no_grad():
        raw = encoder.encode_pixels(torch.from_numpy(pixels)).numpy()
    return raw / np.linalg.norm(raw, axis=1, keepdims=True), labels


def fitted(encoder, shots, **settings):
    settings = {"class_names": NAMES, "epochs": 3, "n_context": 4, "logit_scale": SCALE, **settings}
    features, labels = shots
    call = {name: settings.pop(name) for name in ("class_texts", "checkpoint", "progress") if name in settings}
    return CoOp(**settings).fit(features, labels, encoder=encoder, **call)


class NaiveClip:
    """The text half of CLIP in float64, operation by operation."""

    def __init__(self, folder):
        from transformers import CLIPModel

        model = CLIPModel.from_pretrained(folder).double()
        self.text, self.projection = model.text_model, model.text_projection
        self.tokens = self.text.embeddings.token_embedding.weight
        self.n_heads = model.config.text_config.num_attention_heads

    def feature(self, vectors):
        """Unit feature at the last of the input vectors (L, E), which is the end token's."""
        length = len(vectors)
        hidden = vectors + self.text.embeddings.position_embedding.weight[:length]
        for layer in self.text.encoder.layers:
            hidden = hidden + self.attention(layer.self_attn, layer.layer_norm1(hidden))
            inner = layer.mlp.fc1(layer.layer_norm2(hidden))
            hidden = hidden + layer.mlp.fc2(inner * torch.sigmoid(1.702 * inner))
        feature = self.projection(self.text.final_layer_norm(hidden[-1]))
        return feature / feature.norm()

    def attention(self, weights, hidden):
        width = hidden.shape[1] // self.n_heads
        rows = []
        for i in range(len(hidden)):
            parts = []
            for head in range(self.n_heads):
                part = slice(head * width, (head + 1) * width)
                query = weights.q_proj(hidden[i])[part]
                scores = [query @ weights.k_proj(hidden[j])[part] / width**0.5 for j in range(i + 1)]
                shares = torch.softmax(torch.stack(scores), dim=0)
                parts.append(sum(shares[j] * weights.v_proj(hidden[j])[part] for j in range(i + 1)))
            rows.append(weights.out_proj(torch.cat(parts)))
        return torch.stack(rows)


def naive_class_weights(folder, encoder, context):
    """Start, context, class text, full stop, end; written out for each class."""
    clip = NaiveClip(folder)
    start, end = (int(token) for token in encoder.tokenizer([""])[0][0])
    with torch.no_grad():
        rows = []
        for tokens in content_tokens(encoder, [f"{name}." for name in NAMES]):
            vectors = [clip.tokens[start], *context, *(clip.tokens[token] for token in tokens), clip.tokens[end]]
            rows.append(clip.feature(torch.stack(vectors)))
    return torch.stack(rows).numpy()


def test_class_weights_are_features_of_the_prompts(encoder, shots, tiny_clip):
    method = fitted(encoder, shots)
    expected = naive_class_weights(tiny_clip, encoder, torch.from_numpy(method.context_).double())
    np.testing.assert_allclose(method.class_weights_, expected, atol=1e-5)
    np.testing.assert_allclose(method.logits(shots[0]), SCALE * shots[0] @ expected.T, atol=1e-3)


def test_a_step_goes_down_the_slope_of_the_cross_entropy(encoder, shots, tiny_clip):
    features, labels = shots
    rate, decay = 0.5, 5e-4
    start = torch.empty(4, 32).normal_(0, 0.02, generator=torch.Generator().manual_seed(0)).double()

    def loss(context):
        total, weights = 0.0, naive_class_weights(tiny_clip, encoder, context)
        for f, label in zip(features.astype(float), labels, strict=True):
            logits = [SCALE * float(f @ w) for w in weights]
            total += np.log(sum(np.exp(logit - logits[label]) for logit in logits)) / len(labels)
        return total

    method = fitted(encoder, shots, epochs=1, learning_rate=rate)
    for place in [(0, 3), (2, 17), (3, 31)]:
        step = torch.zeros_like(start)
        step[place] = 1e-4
        slope = (loss(start + step) - loss(start - step)) / 2e-4
        expected = float(start[place]) - rate * (slope + decay * float(start[place]))
        assert method.context_[place] == pytest.approx(expected, abs=1e-5)
        assert abs(rate * slope) > 1e-4  # or this would show nothing


def test_it_learns_contexts_and_says_how_many_numbers_it_trained(encoder):
    # Features around those of prompts with another context for each class: that context is there to be found.
    hidden = torch.randn(3, 4, 32, generator=torch.Generator().manual_seed(1))
    prompts = LearnedPrompts.build(encoder, [[name] for name in NAMES], 4)
    labels = np.repeat(np.arange(3), 4)
    features = prompts.class_features(hidden).numpy()[labels]
    features = features + 0.05 * np.random.default_rng(0).normal(size=features.shape)
    shots = (features / np.linalg.norm(features, axis=1, keepdims=True)).astype(np.float32), labels
    assert fitted(encoder, shots, epochs=1, learning_rate=1e-9, class_specific=True).score(*shots) < 0.7
    method = fitted(encoder, shots, epochs=150, learning_rate=0.05, class_specific=True)
    assert method.trainable_parameters_ == 3 * 4 * 32
    assert method.training_.losses[-1] < 0.5 * method.training_.losses[0]
    assert method.score(*shots) > 0.9
    again = head_from_state(*head_state(method.head_))
    np.testing.assert_array_equal(again.logits(shots[0]), method.logits(shots[0]))


@pytest.mark.parametrize(
    ("position", "layout"),
    [("end", "vvvvn."), ("middle", "vvnvv."), ("front", "nvvvv.")],
    ids=["end", "middle", "front"],
)
def test_the_class_text_stands_where_asked_for(encoder, position, layout):
    prompts = LearnedPrompts.build(encoder, [["hat"], ["a tie"]], 4, position)
    names = content_tokens(encoder, ["hat", "a tie"])
    (stop,) = content_tokens(encoder, ["."])
    for row, name in enumerate(names):
        length = int(prompts.mask[row].sum())
        ids, index = prompts.ids[row, 1 : length - 1].tolist(), prompts.context_index[row, 1 : length - 1].tolist()
        places = list(zip(ids, index, strict=True))
        found = "".join("v" if number >= 0 else "." if token == stop[0] else "n" for token, number in places)
        assert found == layout.replace("n", "n" * len(name))
        assert [number for number in index if number >= 0] == [0, 1, 2, 3]
        assert [token for token, number in places if number < 0] == [*name, *stop]


def test_words_can_be_the_first_context(encoder, shots):
    before = fitted(encoder, shots, context_init="my hat", epochs=1, learning_rate=1e-9)
    (tokens,) = content_tokens(encoder, ["my hat"])
    expected = encoder.prompt_tower.embed_tokens(torch.tensor([tokens]))[0].numpy()
    np.testing.assert_allclose(before.context_, expected, atol=1e-6)
    # Untrained, they are the text itself.
    texts = encoder.encode_texts([f"my hat {name}." for name in NAMES]).numpy()
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    np.testing.assert_allclose(before.class_weights_, texts, atol=1e-5)


def test_classes_may_have_a_context_of_their_own(encoder, shots):
    method = fitted(encoder, shots, class_specific=True, learning_rate=0.5)
    assert (method.context_.shape, method.trainable_parameters_) == ((3, 4, 32), 3 * 4 * 32)
    assert np.abs(method.context_[0] - method.context_[1]).max() > 0.01
    worded = fitted(encoder, shots, class_specific=True, context_init="a hat")
    assert worded.context_.shape[0] == 3


def test_several_texts_of_a_class_are_averaged(encoder, shots):
    rows = [["hat", "a cap"], ["cap"], ["tie"]]
    method = fitted(encoder, shots, class_texts=rows)
    each = [
        LearnedPrompts.build(encoder, [[text]], 4).class_features(torch.from_numpy(method.context_)).numpy()[0]
        for text in rows[0]
    ]
    mean = np.sum(each, axis=0)
    np.testing.assert_allclose(method.class_weights_[0], mean / np.linalg.norm(mean), atol=1e-5)


def test_many_texts_go_through_in_chunks_with_the_same_gradients(encoder, monkeypatch):
    texts = [["hat", "cap"], ["tie"], ["red", "green", "a blue tie"]]
    prompts = LearnedPrompts.build(encoder, texts, 4)
    results = []
    for size in (64, 2):
        monkeypatch.setattr(learned_prompts, "_TEXTS_PER_CHUNK", size)
        context = torch.full((4, 32), 0.1, requires_grad=True)
        features = prompts.class_features(context)
        (features * torch.arange(48.0).reshape(3, 16)).sum().backward()
        results.append((features.detach(), context.grad))
    torch.testing.assert_close(results[0], results[1], rtol=1e-4, atol=1e-4)


def test_names_in_any_order_give_the_same_classifier(encoder, shots):
    features, labels = shots
    order = [2, 0, 1]
    sorted_names, names = sorted(NAMES), [sorted(NAMES)[i] for i in order]
    y = np.array(sorted_names)[labels]
    one = fitted(encoder, (features, y), class_names=sorted_names)
    other = fitted(encoder, (features, y), class_names=names, class_texts=[[name] for name in names])
    assert one.classes_.tolist() == other.classes_.tolist() == sorted_names
    np.testing.assert_allclose(one.logits(features), other.logits(features), atol=1e-5)


def test_a_seed_gives_the_same_prompts_and_another_gives_others(encoder, shots):
    one, same, other = (fitted(encoder, shots, random_state=seed).context_ for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_views_are_trained_on(encoder, shots):
    features, labels = shots
    method = CoOp(class_names=NAMES, n_context=2, epochs=2)
    flipped = np.stack([features, features[::-1]], axis=1)
    before = method.fit(features, labels, encoder=encoder).context_
    assert np.abs(method.fit(features, labels, encoder=encoder, views=flipped).context_ - before).max() > 1e-6


def test_one_shot_per_class_and_a_class_without_shots(encoder, shots):
    features, labels = shots
    one = fitted(encoder, (features[[0, 4, 8]], labels[[0, 4, 8]]), epochs="paper")
    assert len(one.training_.losses) == 50
    two = fitted(encoder, (features[:8], labels[:8]))
    assert two.logits(features).shape == (12, 3)
    assert np.isfinite(two.logits(features)).all()


def test_it_answers_about_its_own_shots_as_if_it_had_not_seen_them(encoder, shots, tmp_path):
    features, labels = shots
    y = np.array(NAMES)[labels]
    method = fitted(encoder, (features, y), checkpoint=tmp_path / "coop.safetensors")
    answers = left_out_logits(method, features, y)
    assert answers.n_folds == 4
    for fold in range(4):
        kept = answers.folds != fold
        alone = fitted(encoder, (features[kept], y[kept])).logits(features[~kept])
        np.testing.assert_allclose(answers.logits[~kept], alone, rtol=1e-5, atol=1e-5)


def test_it_is_searched_and_pickled_with_an_encoder_that_fit_was_given(encoder, shots):
    features, labels = shots
    y = np.array(NAMES)[labels]
    search = GridSearchCV(CoOp(class_names=NAMES, n_context=2, logit_scale=SCALE), {"epochs": [1, 5]}, cv=2)
    search.fit(features, y, encoder=encoder, class_texts=[["hat"], ["a cap"], ["tie"]])
    best = search.best_estimator_
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(best)).logits(features), best.logits(features))


def interrupt_at(step):
    def progress(done, total, loss):
        if done == step:
            raise KeyboardInterrupt

    return progress


def test_ctrl_c_keeps_the_last_finished_epoch(encoder, shots):
    with pytest.warns(TrainingWarning, match="2 of 5 epochs"):
        stopped = fitted(encoder, shots, epochs=5, batch_size=6, progress=interrupt_at(5))
    assert stopped.training_.interrupted
    assert np.isfinite(stopped.logits(shots[0])).all()
    with pytest.raises(KeyboardInterrupt):
        fitted(encoder, shots, epochs=5, progress=interrupt_at(1))


def test_a_checkpoint_goes_on_to_the_same_result(encoder, shots, tmp_path):
    path = tmp_path / "coop.safetensors"
    whole = fitted(encoder, shots, epochs=5)
    with pytest.warns(TrainingWarning):
        fitted(encoder, shots, epochs=5, checkpoint=path, progress=interrupt_at(3))
    steps = []
    resumed = fitted(encoder, shots, epochs=5, checkpoint=path, progress=lambda *step: steps.append(step))
    assert len(steps) == 3
    np.testing.assert_array_equal(resumed.context_, whole.context_)
    with pytest.raises(TrainingError, match="checkpoint of this training"):
        fitted(encoder, shots, epochs=5, checkpoint=path, class_texts=["a", "b", "c"])


def test_divergence_is_an_error(encoder, shots):
    with pytest.raises(TrainingError, match=r"diverged: .* choose a learning_rate below 1e\+38"):
        fitted(encoder, shots, learning_rate=1e38)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": None}, "give fit the encoder that the features are of"),
        ({"class_names": None}, "Prompts need words for the classes"),
        ({"class_texts": ["hat"]}, "each of the 3 classes, got 1"),
        ({"class_texts": ["hat", "", "cap"]}, "a text or several for every class"),
        ({"class_position": "left"}, "choose one of end, middle, front"),
        ({"n_context": 0}, "n_context to be at least 1"),
        ({"n_context": 20}, "shorten it, or take a smaller n_context"),
        ({"context_init": " "}, "words that the context begins with"),
        ({"epochs": "many"}, "a number or 'paper'"),
        ({"epochs": 0}, "epochs to be at least 1"),
    ],
)
def test_bad_input_is_told(encoder, shots, settings, message):
    with pytest.raises(InputError, match=message):
        fitted(**{"encoder": encoder, **settings}, shots=shots)


def test_features_of_another_encoder_are_refused(encoder, shots):
    with pytest.raises(FeatureError, match=r"\(N, 16\), as of the encoder .*got 8 dimensions"):
        fitted(encoder, (np.eye(12, 8, dtype=np.float32)[[0, 1, 2]], np.arange(3)))


def test_an_encoder_without_gradients_is_refused(shots):
    with pytest.raises(EncoderError, match="gives no gradients"):
        fitted("fake", shots)


def test_it_is_fitted_saved_and_loaded_with_photos(tiny_clip, photos, tmp_path):
    from tip_adapter import ImageClassifier

    clf = ImageClassifier(
        f"huggingface:{tiny_clip}", "coop", method_parameters={"epochs": 2, "n_context": 3}, class_texts={"red": "hat"}
    )
    calls = []
    clf.fit(photos / "train", progress=lambda *call: calls.append(call))
    assert calls[-1] == (2, 2, 0)  # after the photos, the steps
    test = sorted((photos / "test").glob("*/*"))
    clf.save(tmp_path / "clothes.tip")
    again = ImageClassifier.load(tmp_path / "clothes.tip")
    np.testing.assert_array_equal(again.predict_proba(test), clf.predict_proba(test))
    assert again.model_.method.name == "coop"
    assert again.model_.method.parameters["n_context"] == 3
    # An encoder given as an object works as well as its name.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other = ImageClassifier(
            load_encoder(f"huggingface:{tiny_clip}"),
            "coop",
            method_parameters={"epochs": 2, "n_context": 3},
            class_texts={"red": "hat"},
        ).fit(photos / "train")
    np.testing.assert_allclose(other.predict_proba(test), clf.predict_proba(test), atol=1e-5)
