"""What a classifier becomes elsewhere, and that nothing in it leads out of the place it is unpacked to."""

import csv
import io
import json
import zipfile

import numpy as np
import pytest

from serve_files import files
from tip_adapter import ImageClassifier
from tip_adapter.cli.studio import _begun
from tip_adapter.errors import ModelFileError
from tip_adapter.storage.bundle_archives import unpack_bundle

HOSTILE = ("../../up", "CON", "<b>hat</b>", "/etc", "hat", "Hat.", "Shots.csv")


@pytest.fixture
def hostile(tmp_path):
    """A classifier whose classes have names that are paths, devices, or markup."""
    images = [np.full((32, 32, 3), 20 + 20 * number, dtype=np.uint8) for number in range(len(HOSTILE))]
    ImageClassifier("fake", store=None).fit(images, list(HOSTILE)).save(tmp_path / "hostile.tip")
    return tmp_path / "hostile.tip"


def opened(answer):
    assert answer.status_code == 200, answer.text
    return zipfile.ZipFile(io.BytesIO(answer.content))


def test_pictures_in_class_folders(serving, hostile):
    client = serving({"hostile": hostile}, teaching=True)
    archive = opened(client.get("/v1/export/photos.zip"))
    paths = [name for name in archive.namelist() if name != "shots.csv"]
    assert sorted(path.partition("/")[0] for path in paths) == [
        "%2E.%2F..%2Fup", "%2Fetc", "%3Cb%3Ehat%3C%2Fb%3E", "%43ON", "%53hots.csv", "Hat%2E", "hat"
    ]  # fmt: skip
    assert all(path.count("/") == 1 and archive.read(path)[:2] == b"\xff\xd8" for path in paths)
    rows = list(csv.DictReader(io.StringIO(archive.read("shots.csv").decode())))
    assert {row["class"] for row in rows} == set(HOSTILE)
    assert {row["file"] for row in rows} == set(paths)


def test_an_exported_classifier_is_opened_again(serving, folder, tmp_path):
    client = serving({"light": folder}, teaching=True)
    data = client.get("/v1/export/classifier.zip").content
    assert not any(name.startswith(("/", ".")) for name in zipfile.ZipFile(io.BytesIO(data)).namelist())
    other = serving({"copy": tmp_path / "copy.tip"}, teaching=True, encoder="fake")
    assert other.post("/v1/open", content=b"no archive").status_code == 503
    assert not (tmp_path / "copy.tip").exists()
    assert other.post("/v1/open", content=data).json()["shots"] == 8
    assert other.post("/v1/open", content=data).status_code == 409
    assert other.post("/v1/undo").status_code == 422
    ask = {"files": files(40)}
    assert (
        other.post("/v1/predict", **ask).json()["predictions"]
        == client.post("/v1/predict", **ask).json()["predictions"]
    )


def test_the_command_line_opens_an_export(serving, folder, tmp_path, monkeypatch):
    client = serving({"light": folder}, teaching=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    path = tmp_path / "mine.tip.zip"
    path.write_bytes(client.get("/v1/export/classifier.zip").content)
    assert str(_begun(path, "fake", "auto")) == "mine.tip"
    assert len(ImageClassifier.load("mine.tip", store=None).model_.shots) == 8


def archive_of(**members):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("__", "/"), data)
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"PK", "cannot be read"),
        (archive_of(readme="hello"), "got 0 files config.json"),
        (archive_of(**{"a__config.json": "{}", "b__config.json": "{}"}), "got 2 files config.json"),
        (archive_of(**{"config.json": "{}", "arrays-0123456789abcdef.safetensors": bytes(10**8)}), "expands too far"),
        (archive_of(**{"config.json": "{}"}), "another program's"),
    ],
)
def test_archives_that_hold_no_classifier(data, words, tmp_path):
    with pytest.raises(ModelFileError, match=words):
        unpack_bundle(data, tmp_path / "new.tip", lambda place: ImageClassifier.load(place, store=None))
    assert list(tmp_path.iterdir()) == []


def test_other_members_are_left_out(folder, tmp_path):
    names = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    members = {f"x.tip/{name}": data for name, data in names.items()}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in {**members, "x.tip/../../up": b"up", "/abs": b"abs", "x.tip/run.py": b"run"}.items():
            archive.writestr(name, data)
    unpack_bundle(out.getvalue(), tmp_path / "in" / "new.tip", lambda place: None)
    assert "run.py" not in {path.name for path in (tmp_path / "in" / "new.tip").iterdir()}
    assert not (tmp_path / "up").exists()


def test_a_report_on_pinned_photos(serving, folder):
    client = serving({"light": folder}, teaching=True)
    given = {"classes": json.dumps(["night", "night", "day"])}
    answer = client.post("/v1/export/report.html", files=files(31, 32, 221), data=given)
    assert answer.status_code == 200
    assert "How good is light?" in answer.text
    assert client.post("/v1/export/report.html", files=files(31)).status_code == 422


def test_an_encoder_without_graph_says_why_there_are_no_onnx_files(serving, folder):
    pytest.importorskip("onnx", reason="the extra export is not installed")
    answer = serving({"light": folder}, teaching=True).get("/v1/export/onnx.zip")
    assert (answer.status_code, answer.headers["content-type"]) == (503, "application/problem+json")
    assert "encoder" in answer.json()["detail"]
