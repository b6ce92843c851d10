import json
import shutil

import pytest

from tip_adapter.encoders import load_encoder
from tip_adapter.errors import EncoderError


@pytest.fixture
def folder(tiny_clip, tmp_path):
    return shutil.copytree(tiny_clip, tmp_path / "model")


def change_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_loading_prints_nothing(folder, capfd):
    encoder = load_encoder(f"huggingface:{folder}")
    assert (encoder.dim, encoder.name) == (16, f"huggingface:{folder}")
    assert capfd.readouterr() == ("", "")


def test_identity_depends_on_the_weights(folder):
    from safetensors.numpy import load_file, save_file

    before = load_encoder(f"huggingface:{folder}").image_id
    assert load_encoder(f"huggingface:{folder}").image_id == before
    weights = load_file(folder / "model.safetensors")
    weights["visual_projection.weight"][0, 0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_encoder(f"huggingface:{folder}").image_id != before


def test_incomplete_weights_are_refused_instead_of_made_up(folder):
    from safetensors.numpy import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    del weights["visual_projection.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(EncoderError, match=r"visual_projection.weight … are missing"):
        load_encoder(f"huggingface:{folder}")


def test_damaged_weights_are_one_line(folder):
    (folder / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(EncoderError, match="Could not load huggingface:") as caught:
        load_encoder(f"huggingface:{folder}")
    assert "\n" not in str(caught.value)


def test_another_kind_of_model_is_refused(folder):
    change_config(folder, model_type="bert")
    with pytest.raises(EncoderError, match="of type clip, siglip, or one of photos alone, got 'bert'"):
        load_encoder(f"huggingface:{folder}")


def test_a_folder_that_is_not_there_is_not_looked_for_on_the_hub(tmp_path):
    with pytest.raises(EncoderError, match=r"a folder with a model at .*nowhere"):
        load_encoder(f"huggingface:{tmp_path}/nowhere")


def test_a_given_logit_scale_comes_first(folder):
    assert load_encoder(f"huggingface:{folder}", logit_scale=5).logit_scale == 5


def test_a_repository_without_tokenizer_json_is_read_from_its_vocabulary(folder, tiny_clip):
    content = json.loads((folder / "tokenizer.json").read_text())["model"]
    (folder / "vocab.json").write_text(json.dumps(content["vocab"]))
    merges = "\n".join(" ".join(merge) for merge in content["merges"])
    (folder / "merges.txt").write_text(f"#version: 0.2\n{merges}\n")
    (folder / "tokenizer.json").unlink()
    texts = ["a hat", "It's a hat!"]
    expected, _ = load_encoder(f"huggingface:{tiny_clip}").tokenizer(texts)
    assert (load_encoder(f"huggingface:{folder}").tokenizer(texts)[0] == expected).all()


def test_of_a_repository_safetensors_are_wanted_first_and_bin_files_only_without_them(folder, monkeypatch):
    wanted = []

    def snapshot(repository, *, allow_patterns, local_files_only=False):
        if not local_files_only:
            wanted.append([pattern for pattern in allow_patterns if "model" in pattern and "*" in pattern])
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    load_encoder("huggingface:a/b")
    assert wanted == []
    (folder / "model.safetensors").unlink()
    with pytest.raises(EncoderError, match="to have weights for torch"):
        load_encoder("huggingface:a/b")
    assert ["pytorch_model*.bin" in patterns for patterns in wanted] == [False, True]
