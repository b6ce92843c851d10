import subprocess
import sys

import numpy as np
import pytest

from tip_adapter.encoders import load_encoder
from tip_adapter.encoders.trainable import load_trainable_encoder
from tip_adapter.errors import EncoderError

torch = pytest.importorskip("torch", reason="the extra torch is not installed")

TEXTS = ["a hat", "It's 3 hats!", "so many words " * 30]


@pytest.fixture(scope="module")
def lite(prepared_lite):
    return load_trainable_encoder("lite-fast")


@pytest.fixture(scope="module")
def clip(tiny_clip):
    return load_trainable_encoder(f"huggingface:{tiny_clip}")


def pixels_for(encoder, count):
    size = encoder.preprocessing.size
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def cosines(ours, theirs):
    ours, theirs = (rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (ours, theirs))
    return (ours * theirs).sum(axis=1)


def assert_same_features(trainable, encoder):
    pixels = pixels_for(encoder, 3)
    with torch.no_grad():
        images, texts = trainable.encode_pixels(torch.from_numpy(pixels)), trainable.encode_texts(TEXTS)
    assert cosines(images.numpy(), encoder.encode_pixels(pixels)).min() >= 0.9999
    assert cosines(texts.numpy(), encoder.encode_texts(TEXTS)).min() >= 0.9999
    assert (trainable.dim, trainable.logit_scale) == (encoder.dim, encoder.logit_scale)


def test_features_of_lite_are_those_of_its_onnx_graphs(lite):
    assert_same_features(lite, load_encoder("lite-fast"))


def test_features_of_a_clip_are_those_of_the_regular_encoder(clip, tiny_clip):
    assert_same_features(clip, load_encoder(f"huggingface:{tiny_clip}"))


def test_an_encoder_stands_for_its_name(lite, tiny_clip):
    assert load_trainable_encoder(lite) is lite
    assert load_trainable_encoder(load_encoder("lite-fast")).image_id == lite.image_id
    regular = load_encoder(f"huggingface:{tiny_clip}")
    trainable = load_trainable_encoder(regular)
    assert (trainable.image_id, trainable.text_id) == (regular.image_id, regular.text_id)
    assert trainable.image_tower is not regular.image_tower
    assert all(parameter.requires_grad for parameter in regular.image_tower.parameters())


@pytest.mark.parametrize("fixture", ["lite", "clip", "siglip"])
def test_embeddings_of_the_tokens_give_the_features_of_the_text(fixture, request):
    encoder = (
        load_trainable_encoder(f"huggingface:{request.getfixturevalue('tiny_siglip')}")
        if fixture == "siglip"
        else request.getfixturevalue(fixture)
    )
    ids, mask = (torch.from_numpy(array) for array in encoder.tokenizer(TEXTS))
    tower = encoder.prompt_tower
    embeds = tower.embed_tokens(ids).detach().requires_grad_()
    features = tower.forward_embeddings(embeds, ids, mask)
    torch.testing.assert_close(features, encoder.encode_texts(TEXTS))
    features[:, 0].sum().backward()
    assert embeds.grad.abs().sum(dim=(1, 2)).min() > 0
    changed = tower.forward_embeddings(embeds.detach() + torch.randn_like(embeds), ids, mask)
    assert (changed - features).abs().max() > 1e-3
    # The towers are as before: what was looked up is replaced for one call only.
    torch.testing.assert_close(features.detach(), encoder.encode_texts(TEXTS))


@pytest.mark.parametrize("fixture", ["lite", "clip"])
def test_a_copy_is_trainable_and_the_encoder_itself_stays(fixture, request):
    encoder = request.getfixturevalue(fixture)
    assert encoder.trainable_parameters() == []
    before = encoder.encode_texts(TEXTS).clone()
    twin = encoder.tunable_copy()
    parameters = twin.trainable_parameters()
    for parameter in parameters:
        parameter.data.mul_(1.01)
    assert twin.as_encoder("tuned").image_id != encoder.image_id
    assert twin.as_encoder("tuned").text_id != encoder.text_id
    torch.testing.assert_close(encoder.encode_texts(TEXTS), before)
    assert (twin.encode_texts(TEXTS) - before).abs().max() > 1e-4


def test_parameters_that_features_do_not_depend_on_are_left_out(lite):
    twin = lite.tunable_copy()
    counted = {id(parameter) for parameter in twin.trainable_parameters()}
    unused = [
        name
        for tower in (twin.image_tower, twin.text_tower)
        for name, parameter in tower.named_parameters()
        if id(parameter) not in counted
    ]
    assert unused == ["network._fc.weight", "network._fc.bias"]
    assert "keys" not in dict(twin.text_tower.named_parameters())  # frozen: they are no parameters


@pytest.mark.parametrize("name", ["fake", "clip-vit-b-32", "open-clip:ViT-B-16/openai", "hub:a/b"])
def test_an_encoder_without_gradients_is_refused_with_what_works(name):
    with pytest.raises(EncoderError, match=r"gives no gradients, .*: choose lite-fast, huggingface:owner/name, or"):
        load_trainable_encoder(name)


def test_an_onnx_directory_is_refused(clip_onnx):
    with pytest.raises(EncoderError, match=r"gives no gradients"):
        load_trainable_encoder(clip_onnx)
    with pytest.raises(EncoderError, match=r"gives no gradients"):
        load_trainable_encoder(load_encoder(clip_onnx))


def test_torch_is_imported_only_when_an_encoder_is_loaded():
    code = "import sys, tip_adapter.encoders.trainable; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_folded_normalisation_changes_neither_features_nor_gradients(lite):
    from tip_adapter.encoders.lite.folded import folded_features

    network = lite.tunable_copy().image_tower.network.double()
    parameters = [value for name, value in network.named_parameters() if not name.startswith("_fc")]
    views = torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    direction = torch.randn(1280, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain, folded = network.extract_features(views), folded_features(network, views)
    torch.testing.assert_close(folded, plain, rtol=1e-8, atol=1e-8)
    expected, found = (torch.autograd.grad((x * direction).sum(), parameters) for x in (plain, folded))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6 * float(other.abs().max()))
