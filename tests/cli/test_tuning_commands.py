"""Methods on encoders as a user runs them, with a tiny CLIP."""

import json

import pytest

pytest.importorskip("torch", reason="the extra torch is not installed")


def test_prompt_tuning(run, photos, tiny_clip, tmp_path):
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"red": "on", "green": "up", "sky blue": "hat"}))
    arguments = ("fit", photos, "-e", f"huggingface:{tiny_clip}", "-m", "coop", "-k", 1, "-o", tmp_path / "m.tip")
    code, out, err = run(*arguments, "--class-texts", names)
    assert (code, err) == (0, "")
    assert "3 shots of 3 classes, coop" in out
    code, out, _ = run("evaluate", tmp_path / "m.tip", photos, "--json")
    assert (code, json.loads(out)["n"]) == (0, 9)
    assert run("predict", tmp_path / "m.tip", photos / "test" / "red")[0] == 0
    # The tiny model's context is short, and spells most words letter by letter.
    code, _, err = run(*arguments)
    assert code == 3
    assert "take a smaller n_context" in err


def test_fine_tuning_gives_an_encoder(run, fails, photos, tiny_clip, tmp_path, monkeypatch):
    monkeypatch.setattr("tip_adapter.methods.on_encoder.contrastive_tuning.CHECKPOINT_EVERY_S", 0)
    names = tmp_path / "names.json"
    names.write_text(json.dumps({"sky blue": "hat"}))
    tuned = tmp_path / "tuned"
    arguments = ("fine-tune", photos, "-e", f"huggingface:{tiny_clip}", "--class-texts", names, "--epochs", 2)
    code, out, err = run(*arguments, "-k", 2, "-o", tuned, "--checkpoint", tmp_path / "run.safetensors")
    assert (code, err) == (0, "")
    assert "6 shots of 3 classes" in out
    assert "held-out shots" in out
    assert f"saved: {tuned}" in out
    assert run("fit", photos, "-e", tuned, "-m", "zero-shot", "-o", tmp_path / "m.tip")[0] == 0
    assert run("predict", tmp_path / "m.tip", photos / "test" / "red")[0] == 0
    fails(5, "not to exist yet", *arguments, "-o", tuned)
    fails(
        7,
        "a checkpoint of this training",
        *arguments,
        "-k",
        1,
        "-o",
        tmp_path / "b",
        "--checkpoint",
        tmp_path / "run.safetensors",
    )
    code, out, _ = run(*arguments, "-k", 1, "-o", tmp_path / "c", "--json")
    facts = json.loads(out)
    assert (code, facts["learning_rate"], facts["epochs"], facts["interrupted"]) == (0, 1e-5, 2, False)


def test_changes_of_low_rank_give_an_encoder_too(run, fails, photos, tiny_clip, tmp_path):
    arguments = ("fine-tune", photos, "-e", f"huggingface:{tiny_clip}", "-k", 1, "--rank", 1, "-o", tmp_path / "tuned")
    code, out, err = run(*arguments, "--epochs", 2)
    assert (code, err) == (0, "")
    assert "changes of rank 1, learning rate 0.0002" in out
    assert "tuned in 2 epochs" in out
    assert run("fit", photos, "-e", tmp_path / "tuned", "-m", "zero-shot", "-o", tmp_path / "m.tip")[0] == 0
    fails(3, "leave one out", *arguments[:-1], tmp_path / "other", "--wise-weight", 0.5)


def test_encoders_and_methods_that_do_not_go_together(fails, photos, tiny_clip, tmp_path):
    fails(5, "gives no gradients", "fit", photos, "-e", "fake", "-m", "coop", "-o", tmp_path / "m.tip")
    fails(5, "gives no gradients", "fine-tune", photos, "-e", "fake", "-o", tmp_path / "tuned")
    clip = f"huggingface:{tiny_clip}"
    fails(
        3, "run `tip-adapter fine-tune`", "fit", photos, "-e", clip, "-m", "full-fine-tuning", "-o", tmp_path / "m.tip"
    )
    broken = photos / "train" / "red" / "broken.jpg"
    broken.write_bytes(b"no picture")
    fails(3, "broken.jpg", "fine-tune", photos, "-e", clip, "-o", tmp_path / "tuned")
    assert not (tmp_path / "tuned").exists()
