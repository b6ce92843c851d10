"""How far a classifier can be trusted: in Python and on the command line, saved and loaded, bad input included."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tip_adapter import ImageClassifier
from tip_adapter.cli import main
from tip_adapter.errors import DatasetError, InputError, TrainingWarning
from tip_adapter.methods.heads import softmax
from tip_adapter.model.few_shot_model import FewShotModel


@pytest.fixture
def fitted(photos):
    return ImageClassifier("fake", store=None).fit(photos / "train")


def run(capsys, monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["tip-adapter", *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        main()
    captured = capsys.readouterr()
    return stop.value.code, captured.out, captured.err


def test_fitting_calibrates_and_probabilities_use_the_temperature(fitted, photos):
    calibration = fitted.model_.calibration
    assert (calibration.source, calibration.n, calibration.n_folds) == ("shots", 15, 5)
    paths = sorted((photos / "test").rglob("*.png"))
    logits = fitted.model_.head.logits(fitted._photos.extract(paths).features.unit)
    expected = softmax(logits.astype(float) / calibration.temperature)
    np.testing.assert_allclose(fitted.predict_proba(paths), expected, rtol=1e-12)


def test_an_interrupted_calibration_keeps_the_training(photos, monkeypatch):
    classifier = ImageClassifier("fake", method="lp-plus-plus", method_parameters={"iterations": 5}, store=None)

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("tip_adapter.methods.left_out.left_out_logits", interrupted)
    with pytest.warns(TrainingWarning, match="calibration was interrupted: the training is kept"):
        classifier.fit(photos / "train")
    assert classifier.model_.calibration is None
    assert classifier.predict(sorted((photos / "train").rglob("*.png"))[:1])[0] in classifier.class_names
    with pytest.raises(KeyboardInterrupt):
        ImageClassifier("fake", method="gda", store=None).fit(photos / "train")


def test_saved_and_loaded_everything_is_the_same(fitted, photos, tmp_path):
    fitted.save(tmp_path / "m.tip")
    again = ImageClassifier.load(tmp_path / "m.tip", store=None)
    paths = sorted((photos / "test").rglob("*.png"))
    for kind in ("lac", "aps"):
        before, after = (clf.predict_set(paths, 0.8, kind=kind) for clf in (fitted, again))
        assert before == after
    assert fitted.predict(paths, none_of_these=0.2) == again.predict(paths, none_of_these=0.2)
    assert "temperature" in (tmp_path / "m.tip" / "README.md").read_text(encoding="utf-8")


def test_sets_say_what_they_rest_on_and_do_not_depend_on_the_batch(fitted, photos):
    paths = sorted((photos / "test").rglob("*.png"))
    together = fitted.predict_set(paths, 0.9, kind="aps")
    alone = [fitted.predict_set([path], 0.9, kind="aps").sets[0] for path in paths]
    # Logits of a batch differ in the last digits.
    assert [[name for name, _ in each.classes] for each in together.sets] == [
        [name for name, _ in each.classes] for each in alone
    ]
    assert "15 shots, left out in 5 folds" in together.summary
    assert "no guarantee" in together.summary
    assert all(each.classes for each in together.sets)


def test_photos_of_other_things_are_none_of_these(fitted, photos):
    paths = sorted((photos / "test").rglob("*.png"))
    rng = np.random.default_rng(0)
    strange = [rng.integers(0, 255, (48, 40, 3)).astype(np.uint8) for _ in range(5)]
    answers = fitted.predict([*paths, *strange], none_of_these=0.1)
    known, unknown = answers[: len(paths)], answers[len(paths) :]
    assert unknown == [None] * 5
    assert sum(answer is None for answer in known) <= 4
    assert None not in fitted.predict([*paths, *strange])
    top = fitted.predict_top(strange, none_of_these=0.1, top_k=2)[0]
    assert top.to_dict()["class"] is None
    assert len(top.top) == 2
    assert top.flat()["class"] == ""


def test_photos_apart_from_the_shots_take_the_place_of_the_shots(fitted, photos):
    fitted.calibrate(photos / "test")
    assert fitted.model_.calibration.origin == "9 photos apart from the shots"
    assert "holds on average" in fitted.predict_set(sorted((photos / "test").rglob("*.png")), 0.8).guarantee
    with pytest.raises(InputError, match="15 of the 15 photos are shots of the classifier"):
        fitted.calibrate(photos / "train")
    (photos / "test" / "green").rename(photos / "test" / "lime")
    with pytest.raises(DatasetError, match="classes that the classifier does not know: lime"):
        fitted.calibrate(photos / "test")


def test_several_views_are_calibrated_by_one(photos):
    clf = ImageClassifier("fake", views=3, store=None).fit(photos / "train")
    assert clf.model_.calibration.n == 15
    assert clf.skipped_ == ()


def test_one_shot_per_class_is_not_calibrated_and_says_so(photos):
    clf = ImageClassifier("fake", store=None).fit(photos / "train", shots=1)
    assert clf.model_.temperature == 1.0
    with pytest.raises(InputError, match="needs at least 9 calibration photos, got 0: give two shots"):
        clf.predict_set([], 0.9)
    with pytest.raises(InputError, match="needs at least 19 calibration photos, got 0: give two shots"):
        clf.predict([], none_of_these=0.05)


@pytest.mark.parametrize("coverage", [0.0, 1.0, 7.0])
def test_coverage_out_of_range_is_told_before_photos_are_read(fitted, coverage):
    with pytest.raises(InputError, match="Expected coverage above 0 and below 1"):
        fitted.predict_set(["nowhere.jpg"], coverage)


def test_a_model_without_calibration_says_what_to_do(fitted):
    import dataclasses

    fitted._live.put(dataclasses.replace(fitted.model_, calibration=None))
    for ask in (lambda: fitted.predict_set([], 0.9), lambda: fitted.predict([], none_of_these=0.1)):
        with pytest.raises(InputError, match="not calibrated: fit it again, or call calibrate"):
            ask()


def test_the_doctor_finds_a_copy_between_train_and_test(photos):
    shutil.copy(photos / "train" / "red" / "photo 0é.png", photos / "test" / "red" / "again.png")
    clf = ImageClassifier("fake", store=None).fit(photos / "train")
    between = [pair for pair in clf.doctor(photos / "test").duplicates if pair.where == "train and test"]
    assert [pair.same_file for pair in between].count(True) == 1


def test_the_report_is_written_with_the_figures_of_evaluate(photos, tmp_path):
    fitted = ImageClassifier("fake", "tip-adapter", store=None).fit(photos / "train")
    evaluation = fitted.report(tmp_path / "report.html", photos / "test", title="Colours")
    assert evaluation.accuracy == fitted.evaluate(photos / "test").accuracy
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<title>Colours</title>" in html
    assert "α and β" in html
    assert html.count("data:image/jpeg;base64,") >= 9


def test_the_command_line(photos, tmp_path, capsys, monkeypatch):
    model, test = tmp_path / "m.tip", photos / "test"
    assert run(capsys, monkeypatch, "fit", photos, "-e", "fake", "-o", model)[0] == 0
    code, out, _ = run(capsys, monkeypatch, "predict", model, test, "--coverage", 0.9, "--json")
    told = json.loads(out)
    assert (code, told["coverage"], len(told["sets"])) == (0, 0.9, 9)
    code, out, _ = run(capsys, monkeypatch, "predict", model, test, "--coverage", 0.9, "-o", tmp_path / "sets.csv")
    assert "9 sets saved" in out
    assert "90 % coverage wanted" in out
    assert (tmp_path / "sets.csv").read_text(encoding="utf-8").startswith("path,size,classes")
    assert "90 % coverage wanted" in run(capsys, monkeypatch, "predict", model, test, "--coverage", 0.9)[1]
    assert run(capsys, monkeypatch, "predict", model, test, "--none-of-these", 0.1)[0] == 0
    code, out, _ = run(capsys, monkeypatch, "evaluate", model, test, "--html", tmp_path / "r.html")
    assert f"page: {tmp_path / 'r.html'}" in out
    code, out, _ = run(capsys, monkeypatch, "calibrate", model, test)
    assert "9 photos apart from the shots" in out
    assert FewShotModel.load(model).calibration.source == "photos"
    (photos / "test").rename(photos / "validation")
    code, out, _ = run(capsys, monkeypatch, "calibrate", model, photos)
    assert (code, "9 photos apart from the shots" in out) == (0, True)


def test_the_doctor_on_the_command_line(photos, tmp_path, capsys, monkeypatch):
    (photos / "train" / "red" / "broken.png").write_bytes(b"no picture")
    Image.new("RGB", (20, 20), (200, 40, 40)).save(photos / "train" / "red" / "tiny.png")
    page = tmp_path / "doctor.html"
    code, out, err = run(capsys, monkeypatch, "doctor", photos, "-e", "fake", "--html", page)
    assert code == 0, err
    assert "broken.png" in out
    assert "only 20 × 20 pixels" in out
    assert "compared with 9 other photos" in out
    assert "broken.png" in page.read_text(encoding="utf-8")
    code, out, _ = run(capsys, monkeypatch, "doctor", photos, "-e", "fake", "--json")
    # The test photos are 40 pixels wide, too.
    assert {image["name"].split("/")[-1] for image in json.loads(out)["images"]} >= {"broken.png", "tiny.png"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("predict", "m.tip", "test", "--coverage", "1.5"), "Expected coverage above 0 and below 1"),
        (("predict", "m.tip", "test", "--coverage", "0.99"), "needs at least 99 calibration photos, got 15"),
        (("predict", "m.tip", "test", "--coverage", "0.9", "--sets", "raps"), "lac or aps, got 'raps'"),
        (("predict", "m.tip", "test", "--none-of-these", "0.01"), "needs at least 99 calibration photos"),
        (("predict", "m.tip", "test", "--none-of-these", "1"), "Expected the false-alarm rate above 0 and below 1"),
        (
            ("predict", "m.tip", "test", "--coverage", "0.9", "--none-of-these", "0.1"),
            "Expected --coverage or --none-of-these, got both",
        ),
        (("predict", "m.tip", "test", "--top-k", "2", "--coverage", "0.9"), "Expected --coverage without --top-k"),
        (("predict", "m.tip", "test", "--sets", "aps"), "Expected --coverage with --sets"),
        (("predict", "m.tip", "test", "--allow-empty"), "Expected --coverage with --allow-empty"),
        (("evaluate", "m.tip", "test", "--html", "r.txt"), "Expected a page that ends in .html"),
        (("evaluate", "m.tip", "test", "--html", "m.tip/config.json/r.html"), "choose another place"),
        (("doctor", "m.tip", "--html", "m.tip/config.json/new/r.html"), "choose another place"),
        (("calibrate", "m.tip", "train"), "photos are shots of the classifier"),
        (("doctor", "nowhere"), "Expected a folder of class folders, an archive of one or a manifest at nowhere"),
        (("doctor", "m.tip", "--html", "p.pdf"), "Expected a page that ends in .html"),
    ],
)
def test_bad_input_is_one_line(photos, capsys, monkeypatch, arguments, message):
    monkeypatch.chdir(photos)
    ImageClassifier("fake", store=None).fit("train").save("m.tip")
    before = (photos / "m.tip" / "config.json").read_bytes()
    code, out, err = run(capsys, monkeypatch, *arguments)
    assert code == 3
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert message in err
    assert (photos / "m.tip" / "config.json").read_bytes() == before


def test_predicting_needs_no_estimator():
    code = (
        "import sys, numpy as np\n"
        "import tip_adapter.classifier.trusting, tip_adapter.trust.calibration\n"
        "assert 'sklearn' not in sys.modules and 'jinja2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_shots_themselves_do_not_speak_against_what_left_out_shots_promised():
    noise = np.random.default_rng(0).integers(0, 255, (90, 24, 24, 3), dtype=np.uint8)
    labels = ["a", "b"] * 45
    classifier = ImageClassifier("fake", class_texts="none", store=None).fit(list(noise[:60]), labels[:60])
    of_shots = classifier.evaluate(list(noise[:60]), labels[:60])
    assert (of_shots.accuracy, of_shots.n_shots_among, of_shots.disagreement) == (1.0, 60, "")
    assert classifier.evaluate(list(noise[60:]), labels[60:]).n_shots_among == 0
