"""What a person sees: tables on terminals of 80 and 60 columns, and names that try to steer them."""

import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tip_adapter import ImageClassifier, bench

pty = pytest.importorskip("pty", reason="terminals are looked at on POSIX systems")

CLASSES = (
    "Tomato___Tomato_Yellow_Leaf_Curl_Virus",
    "Corn_(maize)___Cercospora_leaf_spot Gray_leaf_spot",
    "Spider mites",
)

SESSION = """
import fcntl, json, struct, sys, termios
columns, commands = int(sys.argv[1]), json.loads(sys.argv[2])
fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
from tip_adapter.cli import main
for command in commands:
    sys.argv = ["tip-adapter", *command]
    try:
        main()
    except SystemExit as stop:
        print(f"[exit {stop.code}]")
"""


def seen(columns, *commands):
    """Run commands one after the other on a terminal; what each left on the screen."""
    leader, follower = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"NO_COLOR": "1"}
    arguments = [sys.executable, "-c", SESSION, str(columns), json.dumps([list(map(str, each)) for each in commands])]
    with subprocess.Popen(arguments, stdin=follower, stdout=follower, stderr=follower, env=environment):
        os.close(follower)
        pieces = []
        while True:
            try:
                piece = os.read(leader, 1 << 16)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            pieces.append(piece)
    os.close(leader)
    raw = b"".join(pieces).decode()
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", raw).replace("\r\n", "\n")
    screens = re.split(r"\[exit \d+\]\n", plain)
    assert raw.count("[exit 0]") == len(commands), plain
    return ["\n".join(line.split("\r")[-1].rstrip() for line in screen.splitlines()) for screen in screens[:-1]]


def tables(screen):
    """Lines of tables: two blanks stand between columns, as before the reason of the next command."""
    return [line for line in screen.splitlines() if re.search(r"\S {2,}\S", line) and not line.startswith("next: ")]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A fitted classifier of classes with long names, as the working directory."""
    folder = tmp_path_factory.mktemp("terminal")
    rng = np.random.default_rng(0)
    for name, base in zip(CLASSES, (50, 120, 200), strict=True):
        for split, count in (("train", 4), ("test", 2)):
            (folder / "plants" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = np.clip(base + rng.integers(-40, 40, (64, 64, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(pixels).save(folder / "plants" / split / name / f"a photo of a plant {index}.png")
    patch = pytest.MonkeyPatch()
    patch.setenv("TIP_ADAPTER_CACHE", str(folder / "cache"))
    patch.setenv("TIP_ADAPTER_ENCODER", "fake")
    patch.chdir(folder)
    ImageClassifier("fake", "tip-adapter").fit("plants").save("c.tip")
    bench.run(["plants"], "bench", methods="zero-shot,tip-adapter,prototype", encoder="fake", n_seeds=1, figures=False)
    yield folder
    patch.undo()


@pytest.mark.parametrize("columns", [60, 80])
def test_tables_fit_and_lose_nothing(home, columns):
    photo = f"plants/test/{CLASSES[0]}/a photo of a plant 0.png"
    predict, sets, explain, shots, evaluate, bench, journal, info, about, doctor = seen(
        columns,
        ("predict", "c.tip", "plants/test", "--top-k", 3),
        ("predict", "c.tip", "plants/test", "--coverage", 0.8),
        ("explain", "c.tip", photo),
        ("shots", "c.tip"),
        ("evaluate", "c.tip", "plants"),
        ("bench", "--report-only", "-o", "bench"),
        ("journal", "c.tip"),
        ("info", "c.tip"),
        ("info",),
        ("doctor", "c.tip"),
    )
    for screen in (predict, sets, explain, shots, evaluate, bench, journal, info, about, doctor):
        assert tables(screen)
        assert all(len(line) <= columns for line in tables(screen)), screen
        assert "…" not in screen
    assert len(re.findall(r"\d\.\d %", predict)) == 6 * 3
    assert len(re.findall(r"\d\.png|(?<=t )\d", predict)) >= 6
    ids = re.findall(r"^[0-9a-f]{12}(?= )", shots, re.MULTILINE)
    assert len(ids) == 12
    assert set(re.findall(r"^[0-9a-f]{12}(?= )", explain, re.MULTILINE)) <= set(ids)
    assert len(set(re.findall(r"^[0-9a-f]{12}(?= )", explain, re.MULTILINE))) == 5
    assert {"margin", "still"} <= set(explain.split())
    assert len(re.findall(r"\d\.\d ± \d", bench)) == 9
    assert {"NLL", "ECE", "parameters"} <= set(bench.split())
    assert evaluate.count(" %") >= 8


HOSTILE = "red\x1b[2J\u202e\r\n=cmd|<img src=x>"


@pytest.fixture
def hostile(tmp_path, monkeypatch, run):
    """A classifier one of whose classes and photos steer terminals, spreadsheets and pages."""
    monkeypatch.setenv("TIP_ADAPTER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TIP_ADAPTER_ENCODER", "fake")
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate((f"={HOSTILE}", "blue")):
        for split in ("train", "test"):
            (tmp_path / "photos" / split / name).mkdir(parents=True)
            for index in range(3):
                shade = 200 * number + 8 * index + 4 * (split == "test")
                picture = Image.new("RGB", (64, 64), (shade, 90, 40))
                picture.save(tmp_path / "photos" / split / name / f"{HOSTILE} {index}.png".replace("/", ""))
    assert run("fit", "photos", "-m", "tip-adapter", "-o", "c.tip")[0] == 0
    return tmp_path


@pytest.mark.parametrize(
    "command",
    [
        ("fit", "photos", "-m", "auto", "-o", "d.tip"),
        ("predict", "c.tip", "photos/test", "--top-k", "2"),
        ("predict", "c.tip", "photos/test", "--json"),
        ("explain", "c.tip", "photos/test"),
        ("evaluate", "c.tip", "photos", "--html", "r.html", "--plot", "r.png"),
        ("doctor", "c.tip", "--html", "d.html"),
        ("info", "c.tip"),
        ("info", "c.tip", "--json"),
        ("shots", "c.tip"),
        ("class", "rename", "c.tip", f"={HOSTILE}", f"@{HOSTILE}"),
        ("embed", "photos/train"),
        ("predict", "c.tip", f"{HOSTILE}.jpg"),
        ("predict", f"{HOSTILE}.tip", "a.jpg"),
        ("relabel", "c.tip", f"{HOSTILE} 0.png", "--class", HOSTILE),
        ("fit", "photos", "-m", HOSTILE),
        ("fit", "photos", "-e", HOSTILE),
        (HOSTILE,),
    ],
    ids=lambda command: " ".join(command[:1]).split("\x1b")[0],
)
def test_names_never_steer_the_terminal(run, hostile, command):
    code, out, err = run(*command)
    assert code == 0 or err.count("\n") == 1
    assert not {"\x1b", "\u202e", "\r"} & set(out + err)


def test_names_in_files_are_names(run, hostile):
    assert run("predict", "c.tip", "photos/test", "-o", "a.csv")[0] == 0
    assert run("explain", "c.tip", "photos/test", "-o", "b.csv")[0] == 0
    for name in ("a.csv", "b.csv"):
        written = (hostile / name).read_text(encoding="utf-8")
        assert "'=red" in written
        assert not re.search(r'(^|[,\n"])[=@]', written)
        assert not {"\x1b", "\u202e", "\r"} & set(written)
    card = (hostile / "c.tip" / "README.md").read_text(encoding="utf-8")
    assert not {"\x1b", "\u202e", "\r"} & set(card)
    assert "\n=cmd" not in card
    assert "<img" not in card.replace(r"\<img", "")
    run("evaluate", "c.tip", "photos", "--html", "r.html")
    page = (hostile / "r.html").read_text(encoding="utf-8")
    assert not {"\x1b", "\u202e"} & set(page)
    assert "<img src=x" not in page
