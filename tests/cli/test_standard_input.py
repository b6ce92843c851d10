"""Names of photos on standard input, answers as JSON lines, and what is printed with --quiet."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def told(run, monkeypatch, tmp_path):
    """Run the program with bytes on standard input."""

    def call(data, *arguments):
        (tmp_path / "names").write_bytes(data)
        with open(tmp_path / "names") as names:
            monkeypatch.setattr(sys, "stdin", names)
            return run(*arguments)

    return call


def lines(out):
    return [json.loads(line) for line in out.splitlines()]


def images(folder):
    return sorted(str(path) for path in folder.rglob("*.png"))


@pytest.mark.parametrize(("end", "options"), [("\n", []), ("\r\n", []), ("\0", ["-0"]), ("\0", ["--null"])])
def test_names_are_read(told, run, photos, model, end, options):
    names = images(photos / "test")
    given = end.join([*names, ""]).encode()
    code, out, err = told(given, "predict", model, "-", "--json", *options)
    assert (code, err) == (0, "")
    rows = lines(out)
    whole = json.loads(run("predict", model, photos / "test", "--json")[1])["predictions"]
    assert sorted(rows, key=lambda row: row["path"]) == sorted(whole, key=lambda row: row["path"])
    assert all(set(row) == {"path", "class", "probability", "top"} for row in rows)


def test_every_command_of_photos_reads_names(told, run, photos, model, tmp_path):
    given = os.fsencode("\n".join(images(photos / "test" / "red")))
    assert told(given, "predict", model, "-")[1] == run("predict", model, photos / "test" / "red")[1]
    assert told(given, "explain", model, "-")[1] == run("explain", model, photos / "test" / "red")[1]
    assert len(lines(told(given, "explain", model, "-", "--json")[1])) == 3
    rows = lines(told(given, "predict", model, "-", "--json", "--coverage", 0.9)[1])
    assert all(set(row) == {"path", "classes"} for row in rows)
    assert told(given, "predict", model, "-", "-o", tmp_path / "t.csv")[0] == 0
    assert (tmp_path / "t.csv").read_text().count("\n") == 4
    assert told(given, "embed", "-", "-e", "fake")[1].startswith("3 photos")
    assert told(given, "add", model, "-", "--class", "red")[1].startswith("3 shots added")
    code, out, _ = told(given, "predict", model, "-", photos / "test" / "green", "--json")
    assert (code, len(lines(out))) == (0, 6)


def test_a_photo_that_cannot_be_read_is_a_line_or_ends_the_stream(told, photos, model, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    good = images(photos / "test")[0]
    given = os.fsencode(f"{tmp_path / 'bad.png'}\n{good}\ngone.png\n")
    code, out, err = told(given, "predict", model, "-", "--json", "--skip-bad")
    assert (code, err) == (0, "")
    assert [row["path"] for row in lines(out)] == [good, "gone.png", str(tmp_path / "bad.png")]
    assert [set(row) for row in lines(out)[1:]] == [{"path", "error"}] * 2
    code, out, err = told(given, "predict", model, "-", "--json")
    assert (code, [row["path"] for row in lines(out)]) == (3, [good])
    assert err.startswith("error: ")
    assert err.endswith("or give --skip-bad to go on without it\n")
    (tmp_path / "too.png").write_bytes(b"")
    only_bad = os.fsencode(f"{tmp_path / 'bad.png'}\n{tmp_path / 'too.png'}")
    code, out, _ = told(only_bad, "predict", model, "-", "--json", "--skip-bad")
    assert (code, [row["path"] for row in lines(out)]) == (0, only_bad.decode().split("\n"))


def test_what_is_no_list_of_names(told, fails, photos, model):
    for command in (["predict", model, "-"], ["predict", model, "-", "--json"], ["embed", "-", "-e", "fake"]):
        code, out, err = told(b"\n \n", *command)
        assert (code, out) == (3, "")
        assert "names of photos on standard input, got none" in err
    fails(3, "Expected - among the photos with --null", "predict", model, photos, "-0")
    fails(3, "got it twice", "predict", model, "-", "-")
    fails(2, "standard input is not read here", "fit", "-")


def test_a_line_is_written_before_the_next_name_comes(photos, model):
    first, second, *_ = images(photos / "test")
    command = [sys.executable, "-m", "tip_adapter", "predict", str(model), "-", "--json"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for name in (first, second):
            process.stdin.write(os.fsencode(name) + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["path"] == name
        process.stdout.close()  # as head leaves
        process.stdin.write(os.fsencode(first) + b"\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 0


@pytest.mark.parametrize("before", [True, False])
def test_quiet_leaves_errors_alone(run, photos, model, fails, tmp_path, before):
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    command = ["predict", model, photos / "test", bad, "--skip-bad"]
    assert "skipped: " in run(*command)[2]
    code, out, err = run("--quiet", *command) if before else run(*command, "--quiet")
    assert (code, err, run.data, out) == (0, "", [], run(*command)[1])
    fails(3, "bad.png", "predict", model, bad, "--quiet")
    assert "skipped: " in run(*command)[2]
