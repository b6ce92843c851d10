"""Classifiers go to a Hub, and come back from it: whole processes, a server on this machine."""

import json
import os
import subprocess
import sys

import pytest
from PIL import Image

from hub_server import Hub, serving
from tiny_onnx import some_photos
from tip_adapter import ImageClassifier
from tip_adapter.errors import InputError

PUSH = """
from tip_adapter import ImageClassifier
print(ImageClassifier.load("c.tip", store=None).push_to_hub("me/colours", {options}))
"""
PULL = """
from tip_adapter import ImageClassifier
classifier = ImageClassifier.from_pretrained("{name}", {options})
print(classifier.class_names, len(classifier.model_.shots.thumbnails), classifier.model_.shots.features.names[0])
"""


@pytest.fixture
def hub():
    with serving(Hub()) as made:
        yield made


@pytest.fixture
def run(tmp_path, hub):
    photos = [tmp_path / f"{number}.bmp" for number in range(6)]
    for path, pixels in zip(photos, some_photos(6), strict=True):
        Image.fromarray(pixels).save(path)
    classifier = ImageClassifier("fake", "tip-adapter", store=None).fit(
        photos, ["red", "blue"] * 3, groups=[f"patient {number}" for number in range(6)]
    )
    classifier.save(tmp_path / "c.tip")
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH", "SYSTEMROOT") if name in os.environ}
    own = {"HF_HOME": str(tmp_path / "hf"), "HOME": str(tmp_path), "NO_PROXY": "127.0.0.1", "HF_ENDPOINT": hub.address}
    own["HF_HUB_DISABLE_XET"] = "1"  # large files by git-lfs, which the server speaks

    def process(code, **variables):
        done = subprocess.run(
            [sys.executable, "-c", code], env=kept | own | variables, cwd=tmp_path, capture_output=True, text=True
        )
        return done.stdout.strip(), done.stderr

    return process


def test_there_and_back_without_pictures_and_names(run, hub):
    address, err = run(PUSH.format(options='license_name="cc-by-4.0"'), HF_TOKEN=hub.token)
    assert address.startswith(f"{hub.address}/me/colours/commit/"), err
    card = hub.files["me/colours"]["README.md"].decode()
    assert card.startswith("---\nlibrary_name: tip-adapter")
    words = 'license: "cc-by-4.0"', "- accuracy: ", "of 6 shots", "| blue | 3 |", 'from_pretrained("me/colours")'
    assert [one for one in words if one not in card] == []
    sent = hub.files["me/colours"].values()
    assert [word for word in (b".bmp", b"patient") if any(word in content for content in sent)] == []
    assert len(hub.large) == 2
    found, err = run(PULL.format(name="me/colours", options="store=None"))
    classes, pictures, name = found.rsplit(" ", 2)
    assert (classes, pictures) == ("('blue', 'red')", "0"), err
    assert not name.endswith(".bmp")


def test_pictures_where_they_are_wanted_and_what_was_there_goes(run, hub):
    hub.files["me/colours"] = {"old.bin": b"of an earlier version"}
    run(PUSH.format(options="pictures=True"), HF_TOKEN=hub.token)
    assert "old.bin" not in hub.files["me/colours"]
    found, err = run(PULL.format(name="me/colours", options='revision="main", store=None'))
    assert found.split(")")[1].split()[0] == "6", err
    assert found.endswith(".bmp")


@pytest.mark.parametrize("token", [{}, {"HF_TOKEN": "hf_of_somebody"}])
def test_pushing_without_a_token_is_one_line(run, hub, token):
    out, err = run(PUSH.format(options=""), **token)
    last = err.strip().splitlines()[-1]
    assert out == ""
    assert "TipAdapterError: " in last
    assert "me/colours" in last
    assert "HF_TOKEN" in last
    assert hub.files == {}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("me/nothing", "store=None", "Found no Hub repository me/nothing that you may see"),
        ("me/other", "store=None", "Expected a saved classifier"),
        ("me/other", 'revision="v9", store=None', "Found no revision v9 of the Hub repository me/other"),
        ("one/two/three", "store=None", "Expected hub:owner/name"),
    ],
)
def test_what_is_not_there_is_one_line(run, hub, name, options, message):
    hub.files["me/other"] = {"config.json": json.dumps({"model_type": "bert"}).encode(), "model.safetensors": b"large"}
    _, err = run(PULL.format(name=name, options=options))
    assert message in err.strip().splitlines()[-1]
    assert "model.safetensors" not in hub.sent()


def test_a_folder_has_no_revisions(tmp_path):
    with pytest.raises(InputError, match="no revision with the folder"):
        ImageClassifier.from_pretrained(tmp_path, revision="main")


@pytest.mark.parametrize("name", ["", "nothing"])
def test_a_folder_that_is_not_there_is_named(name):
    with pytest.raises(InputError, match="Expected an existing folder, or owner/name on the Hub"):
        ImageClassifier.from_pretrained(name)
