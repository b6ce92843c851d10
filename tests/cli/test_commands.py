"""The program as a user runs it: what it prints, its exit codes, and one line for every error."""

import csv
import json
import re
import shlex
import subprocess
import sys

import pytest
from PIL import Image

from tip_adapter.cli import app


def width_of(path):
    with Image.open(path) as picture:
        return picture.width


def failed(result, code, *words):
    """The one line on stderr, once everything about it is as promised."""
    assert result[0] == code, result
    assert result[1] == ""
    lines = result[2].strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0]


def test_fit_evaluate_predict_info(run, photos, model, tmp_path):
    code, out, _ = run("evaluate", model, photos, "--json", "--plot", tmp_path / "confusion.png")
    facts = json.loads(out)
    assert code == 0
    assert {"accuracy", "accuracy_interval", "zero_shot_accuracy", "cache_accuracy", "n"} <= set(facts)
    assert (facts["n"], facts["accuracy"]) == (9, 1.0)
    assert width_of(tmp_path / "confusion.png") > 100
    assert "zero-shot" in run("evaluate", model, photos)[1]
    code, out, _ = run("predict", model, photos / "test", "--json", "--top-k", 2)
    predictions = json.loads(out)["predictions"]
    assert code == 0
    assert len(predictions) == 9
    assert all(row["class"] in row["path"] and len(row["top"]) == 2 for row in predictions)
    assert "sky blue" in run("predict", model, photos / "test" / "sky blue" / "photo 0é.png")[1]
    assert json.loads(run("info", model, "--json")[1])["shots"] == 12
    methods = json.loads(run("info", "--json")[1])["methods"]
    assert (methods["gda"]["trained"], methods["gda"]["text"]) == ("no", "uses text")
    assert methods["coop"] | {"description": ""} == {
        "description": "",
        "trained": "through the encoder",
        "text": "needs text",
        "needs_torch": True,
    }
    lines = run("info")[1].splitlines()
    assert sum(line.split()[:1] == [name] for line in lines[1:] for name in methods) == len(methods)


@pytest.mark.filterwarnings("always::tip_adapter.errors.ShotsWarning")
def test_fit_takes_what_there_is_of_a_small_class_and_says_so(run, photos, tmp_path):
    (photos / "train" / "red" / "photo 0é.png").unlink()
    code, out, err = run("fit", photos, "-e", "fake", "-k", 5, "-o", tmp_path / "c.tip", "-m", "prototype")
    assert code == 0
    assert out.startswith("14 shots of 3 classes")
    assert err == "warning: Fewer than 5 photos in 1 of 3 classes, all of theirs are taken: red (4)\n"


def test_fit_hints_at_names_that_are_no_words(run, photos, tmp_path):
    for split in ("train", "test"):
        for number, folder in enumerate(sorted((photos / split).iterdir())):
            folder.rename(folder.with_name(f"class_{number:02d}"))
    given = ("fit", photos, "-e", "fake", "-o", tmp_path / "c.tip")
    code, _, err = run(*given, "-m", "tip-adapter")
    assert (code, err.count("\n")) == (0, 1)
    assert re.match("hint: class_0[012](, class_0[12])* looks? like no word", err)
    assert "--class-texts FILE.json gives better ones" in err
    assert json.loads(run(*given, "-m", "gda", "--json")[1])["hint"] in err
    # A method that does not go by texts has no use for better ones.
    assert run(*given, "-m", "prototype")[2] == ""
    assert json.loads(run(*given, "-m", "knn", "--json")[1])["hint"] is None


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_predictions_as_a_table(run, photos, model, tmp_path, suffix):
    path = tmp_path / f"answers{suffix}"
    assert run("predict", model, str(photos / "test" / "*" / "*.png"), "-o", path)[0] == 0
    if suffix == ".csv":
        rows = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))
    elif suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    else:
        import pyarrow.parquet as pq

        rows = pq.read_table(path).to_pylist()
    assert len(rows) == 9
    assert all(row["class"] in row["path"] for row in rows)


def test_embed(run, photos, tmp_path):
    output = tmp_path / "features.npz"
    facts = json.loads(run("embed", photos / "train", "-e", "fake", "-o", output, "--json")[1])
    assert (facts["n"], facts["encoded"]) == (15, 15)
    assert json.loads(run("embed", photos / "train", "-e", "fake", "--json")[1])["encoded"] == 0
    assert output.exists()


def test_demo_on_own_photos(run, photos, tmp_path):
    code, out, _ = run("demo", photos, "-e", "fake", "-o", tmp_path / "demo")
    assert code == 0
    rows = [line.split()[0] for line in out.splitlines() if " % to " in line]
    assert rows == ["zero-shot", "shots", "Tip-Adapter", "auto"]
    assert "One prediction explained" in out
    assert "<h2" in (tmp_path / "demo" / "report.html").read_text(encoding="utf-8")
    # What to type next can be typed.
    for line in re.findall(r"^  \S.* (explain .*|doctor .*)$", out, re.MULTILINE):
        assert run(*shlex.split(line))[0] == 0, line
    facts = json.loads(run("demo", photos, "-e", "fake", "-o", tmp_path / "demo", "--json")[1])
    assert facts["compared"][-1]["accuracy"] == facts["evaluation"]["accuracy"]
    failed(run("demo", photos, "--digits", "-o", tmp_path / "demo"), 3, "photos or --digits")


def test_help_and_version(run):
    told = run("--help")[1]
    panels = [told.index(name) for name in ("Learn and use", "Trust and correct", "Compare", "Encoders and deployment")]
    assert panels == sorted(panels)
    # Every command is in a panel: the one without a name would come first.
    assert "─ Commands ─" not in told
    assert "predict" in told
    assert run("--version")[1].strip().count(".") >= 1


def test_help_names_values_in_words(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    every = [command.name or command.callback.__name__ for command in app.registered_commands]
    every += [f"class {name}" for name in ("add", "remove", "rename")]
    shown = "".join(run(*name.replace("_", "-").split(), "--help")[1] for name in ["", "class", *every])
    assert set(re.findall(r"<(\w[^>]*)>", shown)) == {"text", "path", "number"}
    assert re.search(r"--shots .*<number> \[x>=1\]", shown)
    assert not re.search(r"--json .*<", shown)


def break_a_photo(folder, content):
    path = folder / "train" / "red" / "broken.jpg"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("content", [b"", b"no image", b"\xff\xd8\xff\xe0 cut short"])
def test_bad_photo_in_the_training_folder(run, photos, tmp_path, content):
    break_a_photo(photos, content)
    failed(run("fit", photos, "-e", "fake", "-o", tmp_path / "c.tip"), 3, "or give --skip-bad to go on")
    code, out, err = run("demo", photos, "-e", "fake", "-o", tmp_path / "demo")
    assert (code, "broken.jpg" in err, "--skip-bad" in err) == (3, True, False)
    assert not (tmp_path / "c.tip").exists()
    code, out, err = run("fit", photos, "-e", "fake", "-o", tmp_path / "c.tip", "--skip-bad")
    assert (code, err.count("skipped:")) == (0, 1)
    assert "broken.jpg" in err
    assert "15 shots" in out


def test_decompression_bomb(run, model, tmp_path):
    Image.new("L", (11_000, 11_000)).save(tmp_path / "bomb.png")
    failed(run("predict", model, tmp_path / "bomb.png"), 3, "bomb.png")


def test_data_sets_that_are_none(run, photos, tmp_path):
    def fit(data, *more):
        return run("fit", data, "-e", "fake", "-o", tmp_path / "new.tip", *more)

    failed(fit(tmp_path / "nowhere"), 3, "nowhere")
    (tmp_path / "empty").mkdir()
    failed(fit(tmp_path / "empty"), 3, "empty")
    (photos / "train" / "puce").mkdir()
    failed(fit(photos), 3, "puce")
    (photos / "train" / "puce").rmdir()
    (photos / "train" / "RED").mkdir()
    Image.new("RGB", (9, 9)).save(photos / "train" / "RED" / "a.png")
    failed(fit(photos), 3, "RED", "red")
    one = tmp_path / "one" / "only"
    one.mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(one / "a.png")
    failed(fit(tmp_path / "one"), 3, "only")
    (tmp_path / "no_label.csv").write_text("path,tag\na.png,x\n")
    failed(fit(tmp_path / "no_label.csv"), 3, "no_label.csv", "label")
    (tmp_path / "missing.csv").write_text("path,label\ngone.png,x\nalso.png,y\n")
    failed(fit(tmp_path / "missing.csv"), 3, "gone.png")
    (tmp_path / "names.json").write_text('{"rde": "red"}')
    (photos / "train" / "RED" / "a.png").unlink()
    (photos / "train" / "RED").rmdir()
    failed(fit(photos, "--class-texts", tmp_path / "names.json"), 3, "rde")
    assert not (tmp_path / "new.tip").exists()


def test_links_that_form_a_loop(run, photos, tmp_path):
    (photos / "train" / "red" / "self").symlink_to(photos / "train" / "red", target_is_directory=True)
    (photos / "train" / "red" / "up").symlink_to(photos / "train", target_is_directory=True)
    code, out, err = run("fit", photos, "-e", "fake", "-o", tmp_path / "c.tip", "-m", "prototype")
    assert (code, err) == (0, "")
    assert out.startswith("15 shots of 3 classes")


def test_models_that_are_none(run, photos, model, tmp_path):
    photo = next(photos.rglob("*.png"))
    failed(run("predict", tmp_path / "no.tip", photo), 4, "no.tip")
    failed(run("predict", model, tmp_path / "gone.jpg"), 3, "gone.jpg")
    failed(run("predict", model, photo, "-o", tmp_path / "answers.xls"), 3, "answers.xls")
    failed(run("fit", photos, "-e", "nothing", "-o", tmp_path / "new.tip"), 5, "nothing", "lite")
    failed(run("fit", photos, "-e", "fake", "-m", "nothing", "-o", tmp_path / "new.tip"), 3, "tip-adapter")
    failed(run("fit", photos, "-e", "fake", "-o", photos), 1, "photos")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"format_version": 99}))
    failed(run("predict", model, photo), 4, "99", "upgrade")


def test_unusable_hub_name_without_network(run, photos, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    result = run("fit", photos, "-e", "clip-vit-b-32", "-o", tmp_path / "new.tip")
    failed(result, 5, "lite")


def start(*arguments, **options):
    command = [sys.executable, "-m", "tip_adapter", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


INTERRUPT_AFTER_ONE_BATCH = """
import os, signal, sys
from tip_adapter.cli import main
from tip_adapter.encoders.fake import FakeEncoder

encode = FakeEncoder.encode_pixels
batches = []

def interrupt(self, pixels):
    batches.append(len(pixels))
    if len(batches) == 2:
        os.kill(os.getpid(), signal.SIGINT)
    return encode(self, pixels)

FakeEncoder.encode_pixels = interrupt
main()
"""


def test_interrupted(run, photos):
    command = [sys.executable, "-c", INTERRUPT_AFTER_ONE_BATCH]
    arguments = ["embed", str(photos), "-e", "fake", "--batch-size", "4"]
    process = subprocess.run(command + arguments, capture_output=True, text=True, timeout=60)
    assert (process.returncode, process.stdout) == (130, "")
    said, last = process.stderr.splitlines()
    assert said.startswith("data: ")
    assert last == "interrupted: run it again to go on, what is finished is kept"
    facts = json.loads(run("embed", photos / "train", photos / "test", "-e", "fake", "--json")[1])
    assert (facts["n"], facts["cached"]) == (24, 4)


def test_interrupted_fit_leaves_nothing(photos, tmp_path):
    code = INTERRUPT_AFTER_ONE_BATCH.replace("len(batches) == 2", "True")
    arguments = ["fit", str(photos), "-e", "fake", "-o", str(tmp_path / "new" / "c.tip")]
    process = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    lines = [line for line in process.stderr.splitlines() if not line.startswith("data: ")]
    assert (process.returncode, len(lines)) == (130, 1)
    assert not (tmp_path / "new").exists()


def test_reader_of_a_pipe_that_leaves(photos, model):
    process = start("predict", model, photos / "test", "--json")
    process.stdout.close()
    err = process.stderr.read()
    process.stderr.close()
    process.wait(timeout=30)
    assert "Traceback" not in err


def test_truncated_photos_are_an_option(run, photos, tmp_path):
    red = sorted((photos / "train" / "red").iterdir())
    red[0].write_bytes(red[0].read_bytes()[:-400])
    model, allowed = tmp_path / "c.tip", "--allow-truncated"
    for arguments in (["fit", photos, "-o", model], ["embed", photos / "train"], ["evaluate", model, photos / "train"]):
        arguments += ["-e", "fake"]
        if arguments[0] == "fit":
            code, _, err = run(*arguments)
            assert (code, red[0].name in err) == (3, True)
            assert err.endswith(
                ", or give --skip-bad to go on without it or --allow-truncated to use the part that is there\n"
            )
        assert run(*arguments, allowed)[0] == 0
    assert run("predict", model, red[0], "-e", "fake")[0] == 3
    code, out, _ = run("predict", model, red[0], "-e", "fake", allowed)
    assert (code, "red" in out) == (0, True)
