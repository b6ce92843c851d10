"""What people of this field hold is taken as it is: tables, data sets, pipelines, pickles."""

import gc
import pickle
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline

from tip_adapter import METHODS, ImageClassifier, ImageEmbedder
from tip_adapter.classifier.inputs import images_of, labelled_images
from tip_adapter.data.decoding import StoredImage
from tip_adapter.data.sequences import list_images
from tip_adapter.errors import DatasetError, ImageError, InputError

LEVELS, NAMES = (20, 30, 220, 230), ["night", "night", "day", "day"]


@pytest.fixture
def paths(tmp_path):
    made = []
    for level in LEVELS:
        made.append(str(tmp_path / f"{level}.png"))
        Image.new("RGB", (24, 24), (level, level, level)).save(made[-1])
    return made


@pytest.fixture
def classifier(paths):
    return ImageClassifier("fake", "prototype", store=None).fit(paths, NAMES)


def test_a_call_answers_as_a_pipeline_does(classifier, paths):
    one = classifier(paths[0], top_k=1)
    assert one == [{"label": "night", "score": pytest.approx(one[0]["score"])}]
    several = classifier(paths)
    assert [row[0]["label"] for row in several] == NAMES
    assert [len(row) for row in several] == [2] * 4


@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow", "datasets"])
def test_rows_get_their_predictions(classifier, paths, kind):
    frame = pd.DataFrame({"path": paths[::-1], "note": list("abcd")}, index=[7, 5, 3, 1])
    made = {
        "pandas": lambda: frame,
        "polars": lambda: pl.from_pandas(frame),
        "pyarrow": lambda: pa.Table.from_pandas(frame, preserve_index=False),
        "datasets": lambda: pytest.importorskip("datasets").Dataset.from_pandas(frame, preserve_index=False),
    }[kind]()
    found = classifier.predict_frame(made)
    assert type(found) is type(made)
    values = found["prediction"].to_pylist() if kind == "pyarrow" else list(found["prediction"])
    assert values == NAMES[::-1]
    if kind == "pandas":
        assert found.index.tolist() == [7, 5, 3, 1]
        assert "prediction" not in frame


def test_rows_of_bad_photos_stay_and_are_empty(classifier, paths, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"no picture")
    frame = pd.DataFrame({"path": [paths[0], str(tmp_path / "bad.png")]})
    found = classifier.predict_frame(frame, skip_bad=True)
    assert found["prediction"].tolist()[0] == "night"
    assert found.loc[1, ["prediction", "probability"]].isna().all()
    with pytest.raises(ImageError, match="bad"):
        classifier.predict_frame(frame)


def test_frames_that_do_not_fit_are_refused(classifier, paths):
    with pytest.raises(InputError, match="Expected a table"):
        classifier.predict_frame(paths)
    with pytest.raises(InputError, match="has a column 'prediction' already"):
        classifier.predict_frame(pd.DataFrame({"path": paths, "prediction": NAMES}))


def test_empty_paths_are_refused_with_their_rows(classifier, paths):
    frame = pd.DataFrame({"path": [paths[0], None, float("nan")], "label": NAMES[:3]})
    for use in (ImageClassifier("fake", store=None).fit, classifier.predict, classifier.predict_frame):
        with pytest.raises(ImageError, match=r"^Expected an image in row [12] \(.*\), got none"):
            use(frame)
    assert classifier.predict(frame, skip_bad=True) == ["night", None, None]
    assert [name for name, _ in classifier.predict(frame, skip_bad=True).skipped] == ["row 1", "row 2"]


def hugging_face(paths, labels, names=("day", "night")):
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=list(names))})
    return datasets.Dataset.from_dict({"image": paths, "label": labels}, features=features)


def test_a_data_set_of_hugging_face_gives_what_its_files_give(paths, classifier):
    data = hugging_face(paths, [1, 1, 0, 0])
    learned = ImageClassifier("fake", "prototype", store=None).fit(data.shuffle(seed=1))
    assert learned.class_names == ("day", "night")
    ours, theirs = classifier.model_.shots.features, learned.model_.shots.features
    assert sorted(ours.digests) == sorted(theirs.digests)
    order = [theirs.digests.index(digest) for digest in ours.digests]
    np.testing.assert_array_equal(ours.unit, theirs.unit[order])
    assert learned.predict(data) == NAMES
    assert learned.evaluate(data).accuracy == 1.0
    for images in (images_of(data), labelled_images(data).images):
        assert {type(image) for image in list_images(images)} == {StoredImage}  # read when it is wanted


def test_a_missing_photo_in_a_data_set_is_named_by_its_row(paths, classifier):
    data = hugging_face([paths[0], None], [1, 0])
    with pytest.raises(ImageError, match="Expected an image in row 1 of the column image, got none"):
        classifier.predict(data)
    assert classifier.predict(data, skip_bad=True) == ["night", None]


def test_its_splits_are_chosen_by_what_they_are_for(paths):
    datasets = pytest.importorskip("datasets")
    data = datasets.DatasetDict({"train": hugging_face(paths, [1, 1, 0, 0]), "test": hugging_face(paths[:1], [1])})
    learned = ImageClassifier("fake", "prototype", store=None).fit(data)
    assert learned.model_.counts.tolist() == [2, 2]
    assert learned.evaluate(data).n == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # datasets leaves the table open
def test_a_folder_with_its_table_is_read_as_hugging_face_reads_it(paths, classifier, tmp_path):
    datasets = pytest.importorskip("datasets")
    rows = zip(paths, NAMES, strict=True)
    table = "file_name,label\n" + "".join(f"{Path(path).name},{name}\n" for path, name in rows)
    (tmp_path / "metadata.csv").write_text(table)
    data = datasets.load_dataset("imagefolder", data_dir=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    gc.collect()
    learned = ImageClassifier("fake", "prototype", store=None).fit(data)
    assert sorted(learned.model_.shots.features.digests) == sorted(classifier.model_.shots.features.digests)
    assert learned.predict(paths) == NAMES


@pytest.mark.parametrize("labels", [[1, None, 0, 0], [1, -1, 0, 0]])
def test_its_missing_labels_are_refused_with_their_rows(paths, labels):
    data = hugging_face(paths, [1, 1, 0, 0])
    data = data.remove_columns("label").add_column("label", labels, feature=data.features["label"])
    with pytest.raises((DatasetError, InputError), match=r"row 1|row\(s\)? 1"):
        ImageClassifier("fake", store=None).fit(data)


class Indexed:
    """As a data set of torch: pairs by index, counted reads."""

    def __init__(self, paths):
        self.paths, self.reads = paths, 0

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, row):
        self.reads += 1
        return self.image(row), NAMES[row]

    def image(self, row):
        with Image.open(self.paths[row]) as image:
            return image.convert("RGB")


def test_a_data_set_of_torch_is_read_when_it_is_wanted(paths):
    data = Indexed(paths)
    images, labels = labelled_images(data).images, data.reads
    assert (len(list_images(images)), data.reads) == (len(paths), labels)
    learned = ImageClassifier("fake", "prototype", store=None).fit(data)
    assert learned.predict(paths) == NAMES


def test_a_data_set_of_torch_without_labels_is_refused(paths):
    class Alone(Indexed):
        def __getitem__(self, row):
            return self.image(row)

    with pytest.raises(InputError, match="from every index of a Alone"):
        ImageClassifier("fake", store=None).fit(Alone(paths))


@pytest.mark.parametrize("name", [name for name in METHODS if not METHODS[name].takes_images])
def test_methods_are_kept_as_pickles_and_by_joblib(name, tmp_path):
    if METHODS[name].transductive or name == "coop":
        pytest.skip("asks for its encoder, or for all queries at once")
    rng = np.random.default_rng(0)
    texts = np.eye(8, dtype=np.float32)[:3]
    labels = np.repeat([0, 1, 2], 4)
    shots = texts[labels] + 0.2 * rng.normal(size=(12, 8))
    shots = (shots / np.linalg.norm(shots, axis=1, keepdims=True)).astype(np.float32)
    method = METHODS[name](texts).fit(shots, labels)
    joblib.dump(method, tmp_path / "method.joblib")
    copies = [pickle.loads(pickle.dumps(method)), joblib.load(tmp_path / "method.joblib")]
    for copy in [*copies, clone(method).fit(shots, labels)]:
        np.testing.assert_allclose(copy.logits(shots), method.logits(shots), rtol=1e-5, atol=1e-5)


def test_an_embedder_stands_in_a_pipeline(paths):
    embedder = ImageEmbedder("fake", store=None)
    features = embedder.fit_transform(paths)
    np.testing.assert_allclose(np.linalg.norm(features, axis=1), 1, atol=1e-6)
    assert embedder.get_feature_names_out().tolist()[:2] == ["fake_0", "fake_1"]
    assert len(embedder.get_feature_names_out()) == features.shape[1]
    pipeline = make_pipeline(ImageEmbedder("fake", store=None), LogisticRegression()).fit(paths, NAMES)
    assert clone(pipeline).fit(paths, NAMES).predict(paths).tolist() == NAMES
    assert pickle.loads(pickle.dumps(pipeline)).predict(paths).tolist() == NAMES
    search = GridSearchCV(pipeline, {"imageembedder__encoder": ["fake"]}, cv=2)
    assert search.fit(pd.Series(paths, [9, 7, 5, 3]), NAMES).predict(paths).tolist() == NAMES
    assert clone(embedder).set_params(encoder="nothing").get_params()["encoder"] == "nothing"
