"""Standard data sets by name: their layouts, and what is said about files that are missing."""

import json
from pathlib import Path

import pytest

from tip_adapter.bench import STANDARD_DATASETS
from tip_adapter.bench.data import PhotoSettings, prepare
from tip_adapter.bench.draws import Wanted
from tip_adapter.bench.standard import load_standard, standard_name
from tip_adapter.bench.texts import class_texts_of, templates_of
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.prompts import DEFAULT_TEMPLATES


def write_json_dataset(root, name):
    """Two classes, whose order of labels is not the alphabet's."""
    dataset = STANDARD_DATASETS[name]
    folder = root / dataset.folder
    parts = {"train": 3, "val": 1, "test": 2}
    content = {}
    for part, count in parts.items():
        content[part] = [
            [f"{part}/{kind} {i}.jpg", label, kind] for label, kind in enumerate(("zebra", "ant")) for i in range(count)
        ]
        for image, _, _ in content[part]:
            path = folder / dataset.images / image
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    (folder / dataset.split).write_text(json.dumps(content), encoding="utf-8")


JSON_NAMES = [name for name, dataset in STANDARD_DATASETS.items() if dataset.layout == "json"]


def test_there_are_the_eleven_of_the_literature():
    assert len(STANDARD_DATASETS) == 11
    assert len(JSON_NAMES) == 9
    assert all("{}" in template for dataset in STANDARD_DATASETS.values() for template in dataset.templates)


@pytest.mark.parametrize("name", JSON_NAMES)
def test_official_json_splits(tmp_path, name):
    write_json_dataset(tmp_path, name)
    splits = load_standard(STANDARD_DATASETS[name].title, tmp_path)
    assert splits.class_names == ("zebra", "ant")
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [6, 2, 4]
    assert splits.test.labels.tolist() == [0, 0, 1, 1]
    assert splits.test.paths[0].name == "zebra 0.jpg"
    assert templates_of(splits, None) == STANDARD_DATASETS[name].templates


def test_aircraft_variants(tmp_path):
    folder = tmp_path / "fgvc_aircraft"
    (folder / "images").mkdir(parents=True)
    (folder / "variants.txt").write_text("A380\n707-320\n")
    for part in ("train", "val", "test"):
        (folder / f"images_variant_{part}.txt").write_text(f"{part}1 A380\n{part}2 707-320\n")
        for number in (1, 2):
            (folder / "images" / f"{part}{number}.jpg").touch()
    splits = load_standard("fgvc_aircraft", tmp_path)
    assert splits.class_names == ("A380", "707-320")
    assert splits.train.labels.tolist() == [0, 1]
    (folder / "images_variant_val.txt").write_text("val1 Concorde\n")
    with pytest.raises(DatasetError, match="got 'val1 Concorde'"):
        load_standard("fgvc_aircraft", tmp_path)


def test_imagenet_has_no_validation_split(tmp_path):
    folder = tmp_path / "imagenet"
    for part in ("train", "val"):
        for kind in ("n01", "n02"):
            (folder / "images" / part / kind).mkdir(parents=True)
            (folder / "images" / part / kind / "1.jpg").touch()
    (folder / "classnames.txt").write_text("n02 ant\nn01 great white shark\n")
    splits = load_standard("ImageNet", tmp_path)
    assert splits.validation is None
    assert class_texts_of(splits, None) == (("great white shark",), ("ant",))
    (folder / "classnames.txt").write_text("n02 ant\n")
    with pytest.raises(DatasetError, match="no name for n01"):
        load_standard("imagenet", tmp_path)


@pytest.mark.parametrize("name", STANDARD_DATASETS)
def test_a_missing_file_says_what_goes_where(tmp_path, name):
    dataset = STANDARD_DATASETS[name]
    with pytest.raises(
        DatasetError, match=f"{dataset.title} needs .*{dataset.split}, which is missing: put its photos"
    ):
        load_standard(name, tmp_path)


def test_missing_photos_and_broken_splits(tmp_path):
    write_json_dataset(tmp_path, "dtd")
    folder = tmp_path / "dtd"
    (folder / "images" / "test" / "ant 0.jpg").unlink()
    with pytest.raises(DatasetError, match=r"ant 0\.jpg and 0 more photos"):
        load_standard("dtd", tmp_path)
    for content in ("{", "[]", '{"train": [["a.jpg", 0]], "val": [], "test": []}'):
        (folder / STANDARD_DATASETS["dtd"].split).write_text(content)
        with pytest.raises(DatasetError, match=r"Expected lists of \[path, label, class name\]"):
            load_standard("dtd", tmp_path)
    rows = [["a.jpg", 1, "ant"]]
    (folder / STANDARD_DATASETS["dtd"].split).write_text(json.dumps({"train": rows, "val": [], "test": rows}))
    with pytest.raises(DatasetError, match="labels from 0 without gaps"):
        load_standard("dtd", tmp_path)


def test_names():
    assert standard_name("Oxford-Pets") == "oxford_pets"
    with pytest.raises(InputError, match="Unknown data set 'cifar': choose one of imagenet"):
        load_standard("cifar", Path())


def test_a_standard_data_set_is_measured_by_its_name(photos, tmp_path):
    """A folder of its layout, with photos that can be read, becomes features with its own templates."""
    folder = tmp_path / "root" / "eurosat"
    images = folder / "2750"
    images.mkdir(parents=True)
    content = {"train": [], "val": [], "test": []}
    for part, source in (("train", "train"), ("test", "test")):
        for label, kind in enumerate(("sky blue", "red")):
            for path in sorted((photos / source / kind).iterdir()):
                name = f"{part} {kind} {path.name}"
                (images / name).write_bytes(path.read_bytes())
                content[part].append([name, label, kind])
    (folder / "split_zhou_EuroSAT.json").write_text(json.dumps(content))
    settings = PhotoSettings(lambda: load_encoder("fake"), "fake", data_root=tmp_path / "root")
    data = prepare("EuroSAT", settings, Wanted([2], 1, ("paper",)))
    assert data.features.class_names == ("sky blue", "red")
    assert data.templates == ("a centered satellite photo of {}.",)
    assert data.features.validation is None


@pytest.fixture
def pets(tmp_path):
    write_json_dataset(tmp_path, "oxford_pets")
    return load_standard("oxford_pets", tmp_path)


def test_class_names_of_clip_benchmark(pets, tmp_path):
    path = tmp_path / "en_classnames.json"
    path.write_text(json.dumps({"cars": ["a", "b", "c"], "pets": ["striped horse", "small insect"]}))
    assert class_texts_of(pets, path) == (("striped horse",), ("small insect",))
    path.write_text(json.dumps({"pets": ["striped horse"]}))
    with pytest.raises(InputError, match="Expected 2 texts, one per class of oxford_pets, got 1"):
        class_texts_of(pets, path)
    path.write_text(json.dumps({"cars": ["a", "b"]}))
    with pytest.raises(InputError, match="texts for classes of the data set, got 'cars'"):
        class_texts_of(pets, path)


def test_class_names_of_this_project(pets, tmp_path):
    path = tmp_path / "names.json"
    path.write_text(json.dumps({"ant": ["emmet", "pismire"]}))
    assert class_texts_of(pets, path) == (("zebra",), ("emmet", "pismire"))


def test_templates_of_clip_benchmark(pets, tmp_path):
    path = tmp_path / "templates.json"
    path.write_text(json.dumps({"pets": ["a photo of a {c}, a pet.", "my {c}."], "cars": ["a {c}."]}))
    assert templates_of(pets, str(path)) == ("a photo of a {}, a pet.", "my {}.")
    path.write_text(json.dumps(["the {}."]))
    assert templates_of(pets, str(path)) == ("the {}.",)
    for content, words in (({"cars": ["a {c}."]}, "templates for oxford_pets .* it has cars"), (["none"], "with {}")):
        path.write_text(json.dumps(content))
        with pytest.raises(InputError, match=words):
            templates_of(pets, str(path))
    with pytest.raises(InputError, match=r"JSON file of templates at .*, got something else"):
        templates_of(pets, str(tmp_path / "missing.json"))
    assert templates_of(pets, "ensemble") == DEFAULT_TEMPLATES
