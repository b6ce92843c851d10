import subprocess
import sys

import pytest

from tip_adapter.encoders import ENCODER_PREFIXES, ENCODERS, export_encoder, load_encoder
from tip_adapter.encoders import hub as hub_module
from tip_adapter.encoders.hub import HUB_ALIASES
from tip_adapter.errors import EncoderError, MissingExtraError


def test_an_unknown_name_lists_the_valid_ones():
    with pytest.raises(EncoderError, match="Unknown encoder 'clip'") as caught:
        load_encoder("clip")
    for name in (*ENCODERS, *ENCODER_PREFIXES):
        assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_table_names_what_aliases_stand_for():
    assert ENCODERS["clip-vit-b-32"] == "hub:Xenova/clip-vit-base-patch32"
    assert {"lite", "fake", "clip-vit-b-16", "clip-vit-l-14", "siglip2-b-16"} <= set(ENCODERS)


def test_importing_the_table_loads_nothing_heavy():
    code = (
        "import sys, tip_adapter.encoders\n"
        "heavy = {'torch', 'transformers', 'onnxruntime', 'tokenizers', 'huggingface_hub', 'rich', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ["fake", "huggingface:x/y", "open-clip:x/y", "hub:x/y", "clip-vit-b-32"])
def test_an_unknown_precision_is_refused(name):
    with pytest.raises(EncoderError, match="precision 'int7'"):
        load_encoder(name, precision="int7")


def test_a_torch_model_folder_is_told_apart(tiny_clip):
    with pytest.raises(EncoderError, match="use huggingface:"):
        load_encoder(tiny_clip)


def test_fake_has_nothing_to_export(tmp_path):
    with pytest.raises(EncoderError, match="no towers"):
        export_encoder("fake", tmp_path / "out")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["clip-vit-b-32", "hub:someone/something", "huggingface:someone/something"])
def test_offline_the_error_names_the_local_alternatives(name, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=r"go online for the first use, or choose the encoder lite") as caught:
        load_encoder(name)
    assert "\n" not in str(caught.value)


def test_a_repository_needs_an_owner_and_a_name():
    with pytest.raises(EncoderError, match="owner/name"):
        load_encoder("hub:a/b/c")


def test_the_local_cache_comes_first(clip_onnx, monkeypatch):
    calls = []

    def snapshot(repository, *, allow_patterns, local_files_only=False):
        calls.append((repository, local_files_only))
        return str(clip_onnx)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    encoder = load_encoder("clip-vit-b-16")
    assert calls == [("Xenova/clip-vit-base-patch16", True)]
    assert (encoder.name, encoder.logit_scale) == ("clip-vit-b-16", 100.0)
    assert load_encoder("hub:Xenova/siglip-base-patch16-224").logit_scale == HUB_ALIASES["siglip-b-16"].logit_scale
    assert load_encoder("clip-vit-b-16", logit_scale=7).logit_scale == 7


@pytest.mark.parametrize("name", ["hub:a/b", "huggingface:a/b", "open-clip:ViT-B-16/openai", "clip-vit-b-32"])
def test_without_leave_nothing_is_fetched(name, monkeypatch):
    from huggingface_hub.errors import LocalEntryNotFoundError

    def snapshot(repository, *, allow_patterns, local_files_only=False):
        assert local_files_only
        raise LocalEntryNotFoundError("nothing here")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(EncoderError, match=r"is not on this machine.* name it yourself with --encoder"):
        load_encoder(name, download=False)


@pytest.mark.parametrize(("name", "module"), [("open-clip:ViT-B-16/openai", "open_clip"), ("huggingface:a/b", "torch")])
def test_a_missing_extra_is_one_line_with_its_command(name, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"pip install '\.\[(open-clip|torch)\]'"):
        load_encoder(name)


def test_hub_module_lists_unique_repositories():
    assert len({model.repository for model in hub_module.HUB_ALIASES.values()}) == len(HUB_ALIASES)
