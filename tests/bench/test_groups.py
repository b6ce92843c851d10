"""Whole groups leave together, and methods that live on text are left out where there is none."""

from dataclasses import replace

import numpy as np
import pytest

from tip_adapter import ImageClassifier, bench
from tip_adapter.bench import FeatureData, Part
from tip_adapter.bench.data import PhotoSettings, prepare
from tip_adapter.bench.draws import Wanted
from tip_adapter.bench.splits import load_splits
from tip_adapter.encoders import load_encoder
from tip_adapter.errors import DatasetError, InputError
from tip_adapter.features.feature_files import load_feature_file, save_feature_file

BURSTS = tuple(f"burst {row // 2}" for row in range(18))
"""Six photos of each of three classes, two a burst."""


def grouped(tiny, groups=BURSTS):
    train = Part(tiny.train.features, tiny.train.labels, groups=groups)
    return FeatureData("tiny", tiny.class_names, tiny.test, tiny.zero_shot_weights, 20.0, train=train)


def test_groups_are_saved_and_read_as_names_or_numbers(tiny, tmp_path):
    save_feature_file(tmp_path / "g.npz", grouped(tiny))
    assert load_feature_file(tmp_path / "g.npz").train.groups == BURSTS
    arrays = dict(np.load(tmp_path / "g.npz"))
    np.savez(tmp_path / "n.npz", **arrays | {"train_groups": np.arange(18) // 2})
    read = load_feature_file(tmp_path / "n.npz").train
    assert read.group_numbers.tolist() == (np.arange(18) // 2).tolist()
    assert read.subset(np.array([0, 1, 5])).group_numbers.tolist() == [0, 0, 1]
    for wrong in (np.arange(17), np.linspace(0, 1, 18)):
        np.savez(tmp_path / "w.npz", **arrays | {"train_groups": wrong})
        with pytest.raises(DatasetError, match="Expected train_groups as 18 names or integers"):
            load_feature_file(tmp_path / "w.npz")


def test_a_file_without_test_photos_is_halved_by_groups(tiny, tmp_path):
    save_feature_file(tmp_path / "g.npz", grouped(tiny))
    arrays = {key: values for key, values in np.load(tmp_path / "g.npz").items() if not key.startswith("test")}
    np.savez(tmp_path / "h.npz", **arrays)
    halves = load_feature_file(tmp_path / "h.npz")
    assert not set(halves.train.groups) & set(halves.test.groups)
    assert len(halves.train) + len(halves.test) == 18
    assert halves.description["origin"].endswith("in whole groups")


def test_a_table_with_a_column_of_groups_is_halved_by_them(photos, tmp_path):
    paths = sorted((photos / "train").rglob("*.png"))
    rows = [f"{path},{path.parent.name},{path.parent.name} {row % 3}" for row, path in enumerate(paths)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label,group", *rows]), encoding="utf-8")
    splits = load_splits(tmp_path / "t.csv")
    assert not set(splits.train.groups) & set(splits.test.groups)
    settings = PhotoSettings(lambda: load_encoder("fake"), "fake")
    data = prepare(tmp_path / "t.csv", settings, Wanted([1], 1))
    assert data.features.train.groups is not None
    assert not data.draws.notes or not any("too good" in note for note in data.draws.notes)


def test_splits_that_tear_groups_apart_are_told(photos, tmp_path):
    lines = ["path,label,split,group"]
    for split in ("train", "test"):
        for path in sorted((photos / split).rglob("*.png")):
            lines.append(f"{path},{path.parent.name},{split},{path.parent.name}")
    (tmp_path / "t.csv").write_text("\n".join(lines), encoding="utf-8")
    settings = PhotoSettings(lambda: load_encoder("fake"), "fake")
    notes = prepare(tmp_path / "t.csv", settings, Wanted([1], 1)).draws.notes
    assert any("9 test photos of t belong to groups of the training photos" in note for note in notes)


def test_what_is_tuned_on_shares_no_group_with_the_shots(tiny):
    data = prepare(grouped(tiny), PhotoSettings(lambda: load_encoder("fake"), "fake"), Wanted([1, 2], 4))
    assert data.draws.validation
    groups = np.array(BURSTS)
    for key, draw in data.draws.validation.items():
        assert not set(groups[draw.rows]) & set(groups[data.draws.sets[key].rows])


def test_methods_leave_whole_groups_out(tiny, tmp_path):
    data = [replace(tiny, name="alone"), replace(grouped(tiny), name="grouped")]
    result = bench.run(data, tmp_path, methods="tip-adapter", shots=[6], jobs=1, figures=False)
    chosen = {record["dataset"]: record["chosen"]["summary"] for record in result.records}
    assert "6-fold" in chosen["alone"]
    assert "3-fold" in chosen["grouped"]


def test_without_text_methods_that_live_on_it_are_left_out(tiny_file, tmp_path):
    result = bench.run(
        [tiny_file], tmp_path / "r", methods="zero-shot,lp-plus-plus,gda,tip-adapter", shots=[2], no_text=True, jobs=1
    )
    assert {row.method for row in result.report.rows} == {"gda", "tip-adapter"}
    reasons = {record["method"]: record["reason"] for record in result.report.records.not_applicable}
    assert set(reasons) == {"zero-shot", "lp-plus-plus"}
    assert set(reasons.values()) == {"needs the classes' texts, and there are none"}
    with_text = bench.run([tiny_file], tmp_path / "r", methods="gda", shots=[2], jobs=1)
    assert len({row.setting.dataset for row in with_text.report.rows}) == 2
    with pytest.raises(InputError, match="class texts and templates, or no text, got both"):
        bench.run([tiny_file], tmp_path / "x", no_text=True, templates="single")


def test_an_encoder_without_text_tower_has_no_text_either(photos, tmp_path, monkeypatch):
    encoder = load_encoder("fake")
    monkeypatch.setattr(encoder, "has_text_tower", False)
    data = prepare(photos, PhotoSettings(lambda: encoder, "fake"), Wanted([1], 1))
    assert data.features.zero_shot_weights is None


def test_fit_reads_the_groups_of_a_file(tiny, tmp_path):
    encoder = load_encoder("fake")
    rng = np.random.default_rng(0)
    features = rng.normal(size=(8, encoder.dim)).astype(np.float32)
    part = Part(features, np.repeat([0, 1], 4), groups=("a", "a", "b", "b", "c", "c", "", ""))
    data = FeatureData("pets", ("cat", "dog"), part, train=part)
    save_feature_file(tmp_path / "p.npz", data)
    clf = ImageClassifier(encoder, method="gda", store=None).fit(tmp_path / "p.npz")
    assert clf.model_.shots.n_groups == 5
