"""explain: text, JSON, table and pictures."""

import csv
import json
import sys

import pytest
from PIL import Image

from tip_adapter.cli import main


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["tip-adapter", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    out, err = capsys.readouterr()
    return stop.value.code, out, err


@pytest.fixture
def model(photos, tmp_path, monkeypatch, capsys):
    code, _, err = run(monkeypatch, capsys, "fit", photos, "-e", "fake", "-m", "tip-adapter", "-o", tmp_path / "c.tip")
    assert code == 0, err
    return tmp_path / "c.tip"


def test_text(model, photos, monkeypatch, capsys):
    photo = next((photos / "test" / "red").glob("*.png"))
    code, out, _ = run(monkeypatch, capsys, "explain", model, photo)
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == str(photo)
    assert lines[1].startswith("red ")
    assert "the texts alone say" in lines[1]
    assert lines[2].startswith("logit of red: texts ")
    assert lines[3].startswith("margin over ")
    assert lines[4].split()[:2] == ["deciding", "shot"]
    assert len(lines[5:10]) == 5
    assert "photo 0é.png" in out or "photo 1é.png" in out
    assert lines[-1] == "Without a shot: as if it were removed, with the same α and β."


@pytest.mark.parametrize("method", ["zero-shot", "knn", "linear-probe", "auto"])
def test_text_of_other_methods(photos, tmp_path, method, monkeypatch, capsys):
    model = tmp_path / "m.tip"
    run(monkeypatch, capsys, "fit", photos, "-e", "fake", "-m", method, "-o", model)
    photo = next((photos / "test" / "red").glob("*.png"))
    code, out, err = run(monkeypatch, capsys, "explain", model, photo, "--plot", tmp_path / "why.png")
    assert code == 0, err
    assert ("nearest shot" in out) == (method in ("knn", "linear-probe"))
    assert ("learned from all shots" in out) == (method == "linear-probe")
    with Image.open(tmp_path / "why.png") as picture:
        assert min(picture.size) > 400


def test_json(model, photos, monkeypatch, capsys):
    code, out, _ = run(monkeypatch, capsys, "explain", model, photos / "test", "--json", "--top-shots", 2)
    facts = json.loads(out)
    assert (code, facts["skipped"], facts["plots"]) == (0, [], [])
    assert len(facts["explanations"]) == 9
    for why in facts["explanations"]:
        assert len(why["deciding"]) == 2
        assert why["text"]["logit"] + why["shots"]["logit"] == pytest.approx(why["logit"], rel=1e-5)
        assert why["text"]["share_of_logit"] + why["shots"]["share_of_logit"] == pytest.approx(1, rel=1e-5)


def test_table_and_pictures(model, photos, tmp_path, monkeypatch, capsys):
    arguments = ["explain", model, photos / "test", "--plot", tmp_path / "why", "-o", tmp_path / "t.csv"]
    code, out, _ = run(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "9 explanations saved" in out
    assert len(list((tmp_path / "why").glob("*.png"))) == 9
    with (tmp_path / "t.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 9
    assert {"path", "class", "probability", "runner_up", "margin", "deciding_shots"} <= set(rows[0])
    assert all(row["class"] == row["path"].split("/")[-2] for row in rows)


def test_bad_photos_are_skipped(model, photos, tmp_path, monkeypatch, capsys):
    (photos / "test" / "red" / "bad.png").write_bytes(b"nothing")
    arguments = ["explain", model, photos / "test" / "red", "--plot", tmp_path / "why", "--skip-bad"]
    code, _, err = run(monkeypatch, capsys, *arguments)
    assert code == 0
    assert "bad.png" in err
    assert len(list((tmp_path / "why").glob("*.png"))) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "why.gif"], "ending in .png, .svg or .pdf"),
        (["--plot", "why.png"], "Expected one photo"),
        (["--plot", "notes"], "got the file"),
        (["--top-shots", "-1"], "top-shots"),
        (["-o", "t.txt"], "t.txt"),
    ],
)
def test_bad_input(model, photos, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes").write_text("mine")
    code, out, err = run(monkeypatch, capsys, "explain", model, photos / "test", *arguments)
    assert code in (2, 3)
    assert message in err
    assert len(err.splitlines()) == 1
    assert out == ""
    assert not list(tmp_path.glob("why*"))
    assert (tmp_path / "notes").read_text() == "mine"
