"""An assistant asks and teaches through the protocol's own client; one server answers all tests."""

import json
import os
import shutil
import sys
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image

from conftest import write_photos
from tip_adapter import ImageClassifier
from tip_adapter.cli.mcp import PhotoTools, make_server

pytest.importorskip("mcp.server.mcpserver", reason="the extra mcp is not installed")

import mcp
from anyio.from_thread import start_blocking_portal


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    """A classifier, new photos below `in`, and what is not to be seen beside them."""
    here = tmp_path_factory.mktemp("mcp")
    write_photos(here / "train", 4, seed=0)
    write_photos(here / "in", 2, seed=1)
    write_photos(here / "private", 1, seed=2)
    ImageClassifier("fake", "tip-adapter", store=None).fit(here / "train").save(here / "c.tip")
    (here / "in" / "notes.txt").write_text("no photo")
    (here / "in" / "bad.jpg").write_bytes(b"cut")
    (here / "in" / "way out").symlink_to(here / "private")
    (here / "in" / "table.csv").write_text(f"image,label\n{here}/private/red/photo 0é.png,red\n", encoding="utf-8")
    return here


@pytest.fixture(scope="module")
def client(here):
    environment = os.environ | {"TIP_ADAPTER_CACHE": str(here / "cache")}
    arguments = ["-m", "tip_adapter", "mcp", str(here / "c.tip"), "--photos", str(here / "in")]
    server = mcp.StdioServerParameters(command=sys.executable, args=arguments, env=environment, cwd=here)
    with ExitStack() as stack:
        portal = stack.enter_context(start_blocking_portal())
        client = mcp.Client(mcp.stdio_client(server))
        stack.enter_context(portal.wrap_async_context_manager(client))
        yield lambda method, **arguments: portal.call(lambda: getattr(client, method)(**arguments))


@pytest.fixture
def call(client):
    """Call a tool; what it answers."""

    def call(tool, **arguments):
        result = client("call_tool", name=tool, arguments=arguments)
        assert not result.is_error, result.content
        assert json.loads(result.content[0].text) == result.structured_content
        return result.structured_content

    return call


@pytest.fixture
def refused(client, here):
    """Call a tool in vain; what it says, with the classifier as it was."""

    def call(tool, **arguments):
        before = (here / "c.tip" / "config.json").read_bytes()
        result = client("call_tool", name=tool, arguments=arguments)
        assert result.is_error
        assert (here / "c.tip" / "config.json").read_bytes() == before
        return result.content[0].text

    return call


def test_the_tools_say_what_they_do(client):
    tools = {tool.name: tool for tool in client("list_tools").tools}
    assert list(tools) == ["classify", "explain", "next", "add_shot", "undo"]
    assert all(tool.description for tool in tools.values())
    assert [name for name, tool in tools.items() if tool.annotations.read_only_hint] == ["classify", "explain", "next"]


def test_photos_are_classified_and_explained(call, here):
    found = call("classify", photos=["red", "sky blue/*.png", "bad.jpg"], top_k=2)
    assert [row["class"] for row in found["predictions"]] == ["red", "red", "sky blue", "sky blue"]
    assert all(len(row["top"]) == 2 for row in found["predictions"])
    assert [row["path"] for row in found["skipped"]] == [str(here / "in" / "bad.jpg")]
    why = call("explain", photo=found["predictions"][0]["path"], shots=2)
    assert why["answer"] == "red"
    assert len(why["deciding"]) == 2


def test_a_shot_is_taught_and_taken_back(call, here, run):
    noise = np.random.default_rng(0).integers(0, 255, (48, 40, 3)).astype(np.uint8)
    Image.fromarray(noise).save(here / "in" / "noise.png")
    (photo,) = (row["path"] for row in call("next", photos=["noise.png", "red"], count=2)["photos"])
    before = ImageClassifier.load(here / "c.tip").model_
    added = call("add_shot", photo=photo, class_name="crimson", new_class=True)
    assert added["classes"]["crimson"] == len(added["ids"]) == 1
    assert call("classify", photos=[photo], top_k=4)["predictions"][0]["class"] == "crimson"
    assert call("add_shot", photo=photo, class_name="crimson")["already_there"][0]["id"] == added["ids"][0]
    actions = [entry["action"] for entry in json.loads(run("journal", here / "c.tip", "--json")[1])["journal"]]
    assert actions == ["fit", "add-class", "add"]
    assert [call("undo")["undone"]["action"] for _ in range(2)] == ["add", "add-class"]
    assert ImageClassifier.load(here / "c.tip").model_.shots.ids == before.shots.ids


def test_edits_of_others_are_seen(call, here, run):
    assert run("class", "rename", here / "c.tip", "green", "grass")[0] == 0
    assert call("classify", photos=["green"])["predictions"][0]["class"] == "grass"
    assert run("undo", here / "c.tip")[0] == 0


@pytest.mark.parametrize(
    "path",
    ["../private/red", "/etc/hostname", "../private/*/*.png", "way out/red", "way out/red/photo 0é.png", "table.csv"],
)
def test_nothing_outside_is_looked_at(refused, path):
    for tool, name in (("classify", "photos"), ("next", "photos")):
        assert "Expected photos below" in refused(tool, **{name: [path]})
    assert "Expected photos below" in refused("add_shot", photo=path, class_name="red")


@pytest.mark.parametrize(
    ("tool", "arguments", "words"),
    [
        ("classify", {"photos": ["http://127.0.0.1/a.jpg"]}, "Expected the path of a photo"),
        ("classify", {"photos": ["a\0.jpg"]}, "Expected the path of a photo"),
        ("classify", {"photos": []}, "got none"),
        ("classify", {"photos": ["red"], "top_k": 0}, "Expected top_k"),
        ("classify", {"photos": ["nowhere.jpg"]}, "check the path"),
        ("classify", {"photos": 7}, "photos"),
        ("explain", {"photo": "notes.txt"}, "Expected"),
        ("explain", {"photo": "red"}, "Expected one photo, got the 2"),
        ("next", {"photos": ["red"], "count": 0}, "Expected"),
        ("add_shot", {"photo": "bad.jpg", "class_name": "red"}, "bad.jpg"),
        ("add_shot", {"photo": "red/photo 0é.png", "class_name": "rde"}, "classes that the classifier does not know"),
        ("undo", {}, "nothing"),
        ("purge", {}, "purge"),
    ],
)
def test_what_does_not_fit_is_said(refused, tool, arguments, words):
    assert words in refused(tool, **arguments)


def test_a_classifier_that_is_gone_is_said_and_may_come_back(client, call, here):
    shutil.move(here / "c.tip", here / "elsewhere.tip")
    for tool, arguments in (("classify", {"photos": ["red"]}), ("undo", {})):
        result = client("call_tool", name=tool, arguments=arguments)
        assert "there is no folder" in result.content[0].text
    shutil.move(here / "elsewhere.tip", here / "c.tip")
    assert call("classify", photos=["red"])["predictions"][0]["class"] == "red"


def test_many_photos_are_not_answered_at_once(refused, here):
    (here / "in" / "many").mkdir()
    for number in range(101):
        Image.new("RGB", (8, 8)).save(here / "in" / "many" / f"{number}.png")
    assert "at most 100 photos" in refused("classify", photos=["many"])


def test_what_cannot_be_served_is_said_at_the_start(fails, here):
    fails(4, "there is no folder", "mcp", here / "nowhere.tip")
    fails(3, "Expected a folder of photos", "mcp", here / "c.tip", "--photos", here / "in" / "notes.txt")


def test_edits_are_not_offered_where_only_answers_are(here):
    server = make_server(PhotoTools(str(here / "c.tip"), [here / "in"], None, 0), read_only=True)
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(mcp.Client(server)) as client:
        assert {tool.name for tool in portal.call(client.list_tools).tools} == {"classify", "explain", "next"}
