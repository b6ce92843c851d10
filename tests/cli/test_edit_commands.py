"""Correcting a saved classifier as a user does: every command, what it says, and bad input."""

import json

import pytest


def facts(result):
    code, out, err = result
    assert code == 0, err
    return json.loads(out)


def listed(run, model, *options):
    return facts(run("shots", model, *options, "--json"))["shots"]


def test_add_remove_relabel_undo_and_refit(run, model, photos):
    new = photos / "test" / "red" / "photo 0é.png"
    added = facts(run("add", model, new, "--class", "red", "--json"))
    assert added["classes"] == {"green": 4, "red": 5, "sky blue": 4}
    assert "hyper-parameters" in added["stale"]
    again = facts(run("add", model, photos / "test", "--json"))
    assert len(again["ids"]) == 8
    assert [(row["id"], row["class"]) for row in again["already_there"]] == [(added["ids"][0], "red")]
    code, out, err = run("remove", model, added["ids"][0])
    assert (code, out) == (0, "1 shot removed: 20 shots of 3 classes\n")
    assert "refit" in err
    assert facts(run("relabel", model, again["ids"][0], "-c", "sky blue", "--json"))["classes"]["sky blue"] == 8
    assert "relabel" in run("undo", model)[1]
    assert facts(run("undo", model, "--json"))["undone"]["action"] == "remove"
    assert len(listed(run, model, "--class", "red")) == 7
    rows = facts(run("journal", model, "--json"))["journal"]
    assert [row["action"] for row in rows] == ["fit", "add", "add", "remove", "relabel", "undo", "undo"]
    table = run("journal", model)[1]
    assert "relabel (undone)" in table
    assert facts(run("info", model, "--json"))["edits"] == 6
    photo = photos / "test" / "green"
    assert "hyper-parameters" in facts(run("predict", model, photo, "--json"))["stale"]
    assert "hyper-parameters" in facts(run("evaluate", model, photos, "--json"))["stale"]
    assert "chosen before the last edits" in run("evaluate", model, photos)[2]
    assert facts(run("refit", model, "--json"))["stale"] == []
    assert facts(run("predict", model, photo, "--json"))["stale"] == []


def test_each_stale_part_comes_with_the_command_that_mends_it(run, model, photos):
    assert run("calibrate", model, photos / "test")[0] == 0
    photo = photos / "test" / "red" / "photo 0é.png"
    refit, calibrate = run("add", model, photo, "-c", "red")[2].splitlines()
    assert refit == "note: hyper-parameters chosen before the last edits; `tip-adapter refit` chooses again"
    assert calibrate == "note: calibrated before the last edits; `tip-adapter calibrate` does it again, with photos"
    assert run("refit", model)[2] == calibrate + "\n"
    assert calibrate.removeprefix("note: ") in run("info", model)[1]
    photo.unlink()  # a shot now, on which no calibration may rest
    assert run("calibrate", model, photos / "test")[2] == ""
    assert "before the last edits" not in run("info", model)[1]


def test_classes(run, model, photos):
    photo = photos / "test" / "red" / "photo 0é.png"
    out = run("class", "add", model, "purple", photo, "--text", "violet", "--text", "lilac")[1]
    assert out == "purple added, with 1 shot: 13 shots of 4 classes\n"
    assert facts(run("class", "rename", model, "purple", "mauve", "--json"))["classes"]["mauve"] == 1
    described = facts(run("info", model, "--json"))["classes"][3]
    assert described == {"class": "mauve", "shots": 1, "texts": ["violet", "lilac"]}
    assert "mauve removed, with 1 shot" in run("class", "remove", model, "mauve")[1]
    other = photos / "test" / "red" / "photo 1é.png"
    assert facts(run("add", model, other, "-c", "pink", "--new-classes", "--json"))["classes"]["pink"] == 1


def test_forget_and_purge(run, model, photos):
    first, second = (row["id"] for row in listed(run, model)[:2])
    assert "1 shot forgotten for good" in run("remove", model, first, "--forget")[1]
    assert run("remove", model, second)[0] == 0
    assert "1 photo forgotten for good" in run("purge", model)[1]
    for name in (first, second):
        assert name not in (model / "config.json").read_text()
    assert "0 photos forgotten" in run("purge", model)[1]
    code, _, err = run("undo", model)
    assert code == 3
    assert "nothing to undo" in err


def test_bad_photos_can_be_skipped(run, model, photos, tmp_path):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    good = photos / "test" / "red" / "photo 0é.png"
    before = (model / "config.json").read_bytes()
    assert run("add", model, bad, good, "-c", "red")[0] == 3
    assert (model / "config.json").read_bytes() == before
    added = facts(run("add", model, bad, good, "-c", "red", "--skip-bad", "--json"))
    assert (len(added["ids"]), len(added["skipped"])) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["remove", "MODEL", "nothing"], 3, ["no shot 'nothing'", "tip-adapter shots"]),
        (["relabel", "MODEL", "nothing", "-c", "red"], 3, ["no shot 'nothing'"]),
        (["class", "add", "MODEL", "red"], 3, ["a class 'red' already"]),
        (["class", "add", "MODEL", "pink", "--no-text"], 3, ["neither for 'pink'"]),
        (["class", "add", "MODEL", "pink", "--no-text", "--text", "x"], 3, ["got both"]),
        (["class", "remove", "MODEL", "pink"], 3, ["no class 'pink'", "green, red"]),
        (["class", "rename", "MODEL", "red", "green"], 3, ["a class 'green' already"]),
        (["shots", "MODEL", "-c", "pink"], 3, ["no class 'pink'"]),
        (["undo", "MODEL"], 3, ["nothing to undo"]),
        (["add", "MODEL", "PHOTO", "-c", "pink"], 3, ["pink", "--new-classes"]),
        (["add", "MODEL", "PHOTO", "PHOTO"], 3, ["--class for the 1 photo"]),
        (["add", "MODEL", "PHOTO"], 3, ["--class for the 1 photo"]),
        (["add", "MODEL", "FOLDER"], 3, ["--class for the 3 photos"]),
        (["add", "MODEL", "gone.jpg"], 3, ["images at gone.jpg, found none"]),
        (["add", "MODEL", "PHOTO", "gone.jpg"], 3, ["images at gone.jpg, found none"]),
        (["add", "MODEL", "gone.csv"], 3, ["gone.csv, found neither"]),
        (["add", "MODEL", "gone.jpg", "-c", "red"], 3, ["gone.jpg"]),
        (["add", "gone.tip", "PHOTO", "-c", "red"], 4, ["gone.tip"]),
        (["remove", "gone.tip", "x"], 4, ["gone.tip"]),
        (["purge", "gone.tip"], 4, ["gone.tip"]),
    ],
)
def test_bad_input_is_one_line_and_nothing_changes(fails, model, photos, arguments, code, words):
    before = (model / "config.json").read_bytes()
    red = photos / "test" / "red"
    given = {"MODEL": model, "PHOTO": red / "photo 0é.png", "FOLDER": red}
    fails(code, words, *[given.get(argument, argument) for argument in arguments])
    assert (model / "config.json").read_bytes() == before


def test_another_encoder_is_refused(fails, model, photos, tiny_clip):
    photo = photos / "test" / "red" / "photo 0é.png"
    fails(5, ["fitted with the encoder"], "add", model, photo, "-c", "red", "-e", f"huggingface:{tiny_clip}")
