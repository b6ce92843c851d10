"""Photos that arrive are classified once, sorted and tagged, whatever they are called and however the watch ended."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tip_adapter.cli.watch import RECORD
from tip_adapter.data.arrivals import Arrivals
from tip_adapter.storage.escaping import for_path
from tip_adapter.storage.filing import file_into


@pytest.fixture
def inbox(photos):
    """A folder of nine new photos, in folders of three."""
    return photos / "test"


@pytest.fixture
def once(run, model):
    """Deal with what is in a folder; the rows that were printed."""

    def call(folder, *arguments, code=0):
        got, out, _ = run("watch", model, folder, "--once", "--settle", 0, "--json", *arguments)
        assert got == code, out
        return [json.loads(line) for line in out.splitlines()]

    return call


def files(folder):
    return sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and ".tip-adapter" not in path.parts
    )


def test_photos_are_moved_into_folders_of_their_classes(once, inbox, tmp_path):
    rows = once(inbox, "--move-to", tmp_path / "sorted")
    assert len(rows) == 9
    assert files(inbox) == []
    assert files(tmp_path / "sorted") == sorted(
        f"{name}/photo {number}é.png" for name in ("red", "green", "sky blue") for number in range(3)
    )
    assert all(Path(row["moved_to"]).parent.name == row["class"] == Path(row["path"]).parent.name for row in rows)
    assert once(inbox, "--move-to", tmp_path / "sorted") == []


def test_nothing_is_done_twice_and_what_is_new_is_done(once, inbox, tmp_path):
    sorted_into = inbox / "sorted"
    assert len(once(inbox, "--copy-to", sorted_into, "--tag")) == 9
    before = files(inbox)
    assert once(inbox, "--copy-to", sorted_into, "--tag") == []
    (inbox / RECORD).unlink()  # as if killed before anything was written down
    assert len(once(inbox, "--copy-to", sorted_into, "--tag")) == 9
    assert files(inbox) == before
    shutil.copy(inbox / "red" / "photo 0é.png", inbox / "new.png")
    assert [Path(row["path"]).name for row in once(inbox, "--copy-to", sorted_into)] == ["new.png"]
    assert len(once(inbox, "--move-to", sorted_into)) == 10  # another wish
    with open(inbox / RECORD, "ab") as record:
        record.write(b'[1]\n{"name": 3}\n\xff\xfe\n' + b"[" * 100_000 + b'\n{"name": "cut')
    assert once(inbox, "--move-to", sorted_into) == []


def test_a_tag_says_what_was_predicted(once, inbox):
    row, *_ = once(inbox / "red", "--tag")
    tag = json.loads(Path(row["tag"]).read_text())
    assert tag == {name: row[name] for name in ("class", "probability", "top")}
    assert row["tag"] == f"{row['path']}.class.json"


def test_photos_of_the_same_name_stay_apart(once, inbox, tmp_path):
    target = tmp_path / "sorted"
    (target / "red").mkdir(parents=True)
    (target / "red" / "photo 0é.png").write_text("mine")
    once(inbox, "--move-to", target)
    assert (target / "red" / "photo 0é.png").read_text() == "mine"
    assert (target / "red" / "photo 0é-2.png").is_file()


def test_unreadable_photos_are_listed_once_and_stop_nothing(once, run, model, inbox):
    bad = inbox / "red" / "bad.png"
    bad.write_bytes(b"cut")
    rows = once(inbox, "--move-to", inbox / "sorted")
    assert [row["path"] for row in rows if "error" in row] == [str(bad)]
    assert len(rows) == 10
    assert once(inbox, "--move-to", inbox / "sorted") == []
    shutil.copy(inbox / "sorted" / "red" / "photo 0é.png", bad)
    assert [row["class"] for row in once(inbox, "--move-to", inbox / "sorted")] == ["red"]
    bad.write_bytes(b"cut")
    code, out, err = run("watch", model, inbox / "red", "--once", "--settle", 0)
    assert (code, out, err.count("skipped: ")) == (0, "", 1)


def test_photos_of_no_class_have_a_folder(once, inbox, tmp_path):
    rows = once(inbox, "--move-to", tmp_path / "sorted", "--none-of-these", 0.999)
    rejected = [row for row in rows if row["class"] is None]
    assert rejected
    assert {Path(row["moved_to"]).parent.name for row in rejected} == {"none of these"}


def test_names_of_classes_stay_inside(once, run, model, inbox, tmp_path):
    for old, new in (("red", "../../out"), ("green", "None of these"), ("sky blue", "a/b")):
        assert run("class", "rename", model, old, new)[0] == 0
    once(inbox, "--move-to", tmp_path / "sorted")
    assert {name.split("/")[0] for name in files(tmp_path / "sorted")} == {
        "%2E.%2F..%2Fout",
        "%4Eone of these",
        "a%2Fb",
    }


@pytest.mark.parametrize("name", ["..", ".", ".x", "a/b", "CON", "nul.txt", "x.", "\x1b[1m", "a\nb", "é" * 300, "50%"])
def test_a_folder_of_any_name(tmp_path, name):
    folder = for_path(name)
    assert folder.isprintable()
    assert len(folder.encode()) <= 200
    (tmp_path / folder).mkdir()
    assert os.listdir(tmp_path) == [folder]
    others = {for_path(other) for other in ("%2E.", "a%2Fb", "%43ON", "é" * 301, "50%25", "a\\nb")}
    assert folder not in others


def test_a_file_is_taken_once_it_is_whole(tmp_path):
    arrivals = Arrivals(tmp_path, settle_s=2)
    photo = tmp_path / "a.png"
    for size in (0, 10, 20):
        photo.write_bytes(b"x" * size)
        arrivals.notice([photo], now=size)
        assert arrivals.whole(now=size) == {}
    assert arrivals.whole(now=21) == {}
    assert list(arrivals.whole(now=22)) == [photo]
    assert arrivals.whole(now=99) == {}
    for name in ("b.png.part", ".c.png", "d.txt"):
        (tmp_path / name).touch()
    (tmp_path / "link.png").symlink_to(photo)
    photo.unlink()
    arrivals.notice([tmp_path, photo], now=100)
    assert arrivals.waiting == 0


@pytest.mark.parametrize("reason", [errno.EPERM, errno.EXDEV])
def test_files_move_where_there_are_no_links_and_across_disks(tmp_path, monkeypatch, reason):
    link = os.link

    def link_on_one_disk(one, other):
        if reason == errno.EXDEV and one.parent == other.parent:
            return link(one, other)
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(os, "link", link_on_one_disk)
    for text in ("1", "2"):
        (tmp_path / "a.txt").write_text(text)
        file_into(tmp_path / "a.txt", tmp_path / "b", keep=False)
    assert [(tmp_path / "b" / name).read_text() for name in ("a.txt", "a-2.txt")] == ["1", "2"]
    assert files(tmp_path) == ["b/a-2.txt", "b/a.txt"]


def test_what_cannot_be_watched(fails, model, inbox, tmp_path):
    fails(3, "a folder to watch", "watch", model, tmp_path / "gone")
    fails(3, "got both", "watch", model, inbox, "--move-to", "a", "--copy-to", "b")
    fails(3, "false-alarm rate", "watch", model, inbox, "--once", "--none-of-these", 0.0001)
    fails(3, "does not hold", "watch", model, inbox, "--once", "--move-to", inbox.parent)


def test_arrivals_while_it_watches(model, inbox, tmp_path):
    pytest.importorskip("watchfiles", reason="the extra watch is not installed")
    place, target = tmp_path / "in", tmp_path / "sorted"
    place.mkdir()
    command = [sys.executable, "-m", "tip_adapter", "watch", str(model), str(place), "--move-to", str(target), "--json"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([*command, "--settle", "0.2"], **pipes) as process:
        for _ in range(2):  # what is there, and that it waits
            process.stderr.readline()
        for name in ("red", "green"):
            shutil.copy(inbox / name / "photo 0é.png", place / f"{name}.png")
            row = json.loads(process.stdout.readline())
            assert (row["class"], row["moved_to"]) == (name, str(target / name / f"{name}.png"))
        shutil.copytree(inbox / "sky blue", place / "folder")
        assert {json.loads(process.stdout.readline())["class"] for _ in range(3)} == {"sky blue"}
        other = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert (other.returncode, other.stderr.count("\n")) == (1, 1)
        assert "Another process" in other.stderr
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.decode() == "interrupted: run it again to go on, what is finished is kept\n"
