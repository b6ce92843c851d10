"""Photos that show the same moment: found, given, read from tables; counted, saved, edited."""

import csv

import numpy as np
import pytest
from PIL import Image

from tip_adapter import ImageClassifier
from tip_adapter.errors import InputError

COLOURS = {"red": (200, 40, 40), "blue": (40, 40, 200)}


def scene(colour, seed):
    rng = np.random.default_rng(seed)
    rough = np.clip(np.array(colour) + rng.integers(-70, 70, (4, 4, 3)), 0, 255).astype(np.uint8)
    return np.asarray(Image.fromarray(rough).resize((48, 48), Image.Resampling.BICUBIC))


def frames(colour, seed, count=4):
    rng = np.random.default_rng(100 + seed)
    return [np.clip(scene(colour, seed) + rng.normal(0, 2, (48, 48, 3)), 0, 255).astype(np.uint8) for _ in range(count)]


def bursts(scenes=3, count=4):
    images, labels, groups = [], [], []
    for number, (name, colour) in enumerate(COLOURS.items()):
        for seed in range(scenes):
            images += frames(colour, 10 * number + seed, count)
            labels += [name] * count
            groups += [f"{name} {seed}"] * count
    return images, labels, groups


def test_groups_that_were_given_are_counted_saved_and_kept_by_edits(tmp_path):
    images, labels, groups = bursts()
    classifier = ImageClassifier("fake", store=None).fit(images, labels, groups=groups)
    assert classifier.model_.shots.counted == "24 shots, 6 groups"
    assert classifier.model_.calibration.n == 6
    classifier.save(tmp_path / "bursts.tip")
    loaded = ImageClassifier.load(tmp_path / "bursts.tip", store=None)
    assert loaded.model_.shots.groups == classifier.model_.shots.groups
    new = frames(COLOURS["red"], 7, 3)
    ids = loaded.add_shots(new, ["red"] * 3, groups=["webcam"] * 3).ids
    assert loaded.model_.shots.counted == "27 shots, 7 groups"
    loaded.relabel(ids[:1], "blue")
    loaded.remove_shots(ids[1:2])
    assert sorted(group for group in loaded.model_.shots.groups if group == "webcam") == ["webcam"] * 2
    for _ in range(3):
        loaded.undo()
    assert loaded.model_.shots.groups == classifier.model_.shots.groups
    loaded.refit()
    assert loaded.model_.calibration.n == 6


def test_near_copies_are_found_without_a_word():
    images, labels, _ = bursts()
    classifier = ImageClassifier("fake", store=None).fit(images, labels)
    assert classifier.model_.shots.n_groups < 24
    apart = ImageClassifier("fake", store=None).fit(images, labels, groups=range(24))
    assert apart.model_.shots.counted == "24 shots"


def test_blanks_are_photos_on_their_own():
    images, labels, _ = bursts(scenes=1)
    given = ["a", "a", "", None, "b", "b", float("nan"), ""]
    assert ImageClassifier("fake", store=None).fit(images, labels, groups=given).model_.shots.n_groups == 6


def test_a_group_for_each_photo_is_expected():
    images, labels, _ = bursts()
    with pytest.raises(InputError, match="a group for each of the 24 images, got 2"):
        ImageClassifier("fake", store=None).fit(images, labels, groups=["a", "b"])
    with pytest.raises(InputError, match="groups by folder, exif-time, duplicates, or one for each photo, got 'shelf'"):
        ImageClassifier("fake", store=None).fit(images, labels, groups="shelf")


def test_a_column_of_a_table(tmp_path, run):
    images, labels, groups = bursts(scenes=2, count=2)
    with (tmp_path / "photos.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", "group"])
        for number, (image, label, group) in enumerate(zip(images, labels, groups, strict=True)):
            Image.fromarray(image).save(tmp_path / f"{number}.png")
            table.writerow([f"{number}.png", label, group if number else ""])
    code, out, _ = run("fit", tmp_path / "photos.csv", "-e", "fake", "-o", tmp_path / "a.tip")
    assert code == 0
    assert "8 shots, 5 groups of 2 classes" in out
    assert any('groups by "group", 1 without one on their own' in line for line in run.data)


def test_folders_and_times(tmp_path):
    images, labels, _ = bursts(scenes=1, count=4)
    paths = []
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        path = tmp_path / label / ("morning" if number % 4 < 2 else "evening") / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2026:05:0{1 + number // 4} 10:0{(number % 4) // 3 * 5}:0{number % 4}"
        Image.fromarray(image).save(path, exif=exif)
        paths.append(path)
    by_folder = ImageClassifier("fake", store=None).fit(paths, labels, groups="folder")
    assert by_folder.model_.shots.n_groups == 4
    by_time = ImageClassifier("fake", store=None).fit(paths, labels, groups="exif-time")
    assert by_time.model_.shots.n_groups == 4
    assert sorted(map(by_time.model_.shots.groups.count, set(by_time.model_.shots.groups))) == [1, 1, 3, 3]


def test_without_text(run, photos, tmp_path):
    code, *_ = run("fit", photos / "train", "-e", "fake", "--no-text", "-o", tmp_path / "a.tip")
    assert code == 0
    model = ImageClassifier.load(tmp_path / "a.tip", store=None).model_
    assert model.class_texts == ((), (), ())
    assert np.isnan(model.zero_shot_weights).all()
    given = ("-e", "fake", "--no-text", "-m", "zero-shot", "-o", tmp_path / "b.tip")
    code, _, err = run("fit", photos / "train", *given)
    assert code != 0
    assert "text" in err
    code, _, err = run(
        "fit", photos / "train", "-e", "fake", "--no-text", "--class-texts", "a.json", "-o", tmp_path / "b.tip"
    )
    assert code != 0
    assert "got both" in err
    classifier = ImageClassifier.load(tmp_path / "a.tip", store=None)
    assert classifier.evaluate(photos / "test").zero_shot_accuracy is None
    assert "zero-shot" not in classifier.model_.method.chosen["summary"]


def test_a_class_with_one_group_is_named(tmp_path, run):
    rows = [
        (f"{name}{index}.png", name, f"{name}{index if name == 'blue' else 0}")
        for name in COLOURS
        for index in range(3)
    ]
    for place, name, _ in rows:
        Image.fromarray(scene(COLOURS[name], len(place) + ord(place[-5]))).save(tmp_path / place)
    with (tmp_path / "t.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "group"), *rows])
    code, out, _ = run("fit", tmp_path / "t.csv", "-e", "fake", "-o", tmp_path / "a.tip")
    assert code == 0
    assert "6 shots, 4 groups of 2 classes" in out
    assert "only one group of red: none of it can be held out" in out


def brighter(image, step):
    return np.clip(image.astype(int) + step, 0, 255).astype(np.uint8)


def test_new_shots_join_the_groups_of_their_near_copies(tmp_path):
    images, labels, _ = bursts(scenes=3, count=1)
    ImageClassifier("fake", store=None).fit(images, labels).save(tmp_path / "a.tip")
    loaded = ImageClassifier.load(tmp_path / "a.tip", store=None)
    groups = loaded.model_.shots.n_groups
    for step in (1, 2):
        loaded.add_shots([brighter(images[0], step)], labels[:1])
        assert loaded.model_.shots.n_groups == groups
    # A new class has groups of its own, whatever those of others are called.
    loaded.add_class("green", images=[brighter(images[3], step) for step in (1, 2)])
    assert loaded.model_.shots.n_groups == groups + 1
    loaded.add_shots([brighter(images[0], 3)], labels[:1], groups=["by itself"])
    assert loaded.model_.shots.n_groups == groups + 2


def test_files_of_features_take_groups_and_cannot_find_any(tmp_path, run, photos):
    run("embed", photos / "train", "-e", "fake", "-o", tmp_path / "f.npz")
    code, _, err = run("fit", tmp_path / "f.npz", "--group-by", "folder", "-o", tmp_path / "a.tip")
    assert code == 3
    assert "Expected a group for each row" in err
    given = [str(number % 5) if number < 10 else None for number in range(15)]
    fitted = ImageClassifier(store=None).fit(tmp_path / "f.npz", groups=given)
    assert fitted.model_.shots.n_groups == 10


def test_a_classifier_without_texts_learns_again_without(run, photos, tmp_path):
    run("fit", photos / "train", "-e", "fake", "--no-text", "-o", tmp_path / "a.tip")
    again = ImageClassifier.load(tmp_path / "a.tip", store=None).fit(photos / "train")
    assert again.model_.class_texts == ((), (), ())
