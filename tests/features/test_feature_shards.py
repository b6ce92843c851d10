"""Files of features that are damaged, or of something else, are refused in one line."""

import json

import numpy as np
import pytest

from tip_adapter.errors import TipAdapterError
from tip_adapter.features.feature_files import load_feature_file, load_training_features
from tip_adapter.features.shards import JOB

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FEATURES = np.eye(4, dtype=np.float32)
JOB_OF_FEATURES = {"kind": "features", "encoder": "fake", "precision": "fp32", "logit_scale": 100.0}


def table(job=JOB_OF_FEATURES, **other):
    columns = {
        "id": list("abcd"),
        "label": ["cat", "cat", "dog", "dog"],
        "digest": [digit * 64 for digit in "1234"],
        "features": pa.FixedSizeListArray.from_arrays(pa.array(FEATURES.ravel()), 4),
    }
    columns = {name: values for name, values in (columns | other).items() if values is not None}
    return pa.table(columns).replace_schema_metadata({JOB: json.dumps(job) if isinstance(job, dict) else job})


SOUND = table()
DAMAGED = {
    "no ids": table(id=None),
    "no features": table(features=None),
    "lists of any size": table(features=[[1.0], [2.0, 3.0], [], [4.0]]),
    "numbers": table(features=[1.0, 2.0, 3.0, 4.0]),
    "words": table(features=list("abcd")),
    "numbers for labels": table(label=[1, 2, 3, None]),
    "names that differ in case": table(label=["cat", "Cat", "dog", "dog"]),
    "NaN": table(features=pa.FixedSizeListArray.from_arrays(pa.array(np.full(16, np.nan, np.float32)), 4)),
    "no job": table(job="{"),
    "a job that is a list": table(job="[]"),
    "a scale that is a word": table(job=JOB_OF_FEATURES | {"logit_scale": "much"}),
    "a scale of NaN": table(job=json.dumps(JOB_OF_FEATURES | {"logit_scale": float("nan")})),
    "no encoder": table(job={"kind": "features"}),
    "predictions": table(job={"kind": "predictions"}),
}


def test_sound_files_are_read(tmp_path):
    pq.write_table(SOUND, tmp_path / "sound.parquet")
    np.testing.assert_array_equal(load_training_features(tmp_path / "sound.parquet").part.features, FEATURES)


def test_files_without_any_label_or_group_stand_beside_others(tmp_path):
    (tmp_path / "_manifest.json").touch()
    pq.write_table(table(group=["g", "g", "h", None]), tmp_path / "part-1.parquet")
    pq.write_table(table(id=list("efgh"), label=pa.nulls(4)), tmp_path / "part-2.parquet")
    found = load_training_features(tmp_path).part
    assert (found.names[:], found.groups) == (tuple("abcd"), ("g", "g", "h", ""))


def test_a_blank_label_is_none_and_names_have_one_form(tmp_path):
    pq.write_table(table(label=["cat", " cat ", "  ", "dog"]), tmp_path / "x.parquet")
    found = load_training_features(tmp_path / "x.parquet")
    assert (found.class_names, found.part.labels.tolist()) == (("cat", "dog"), [0, 0, 1])


def test_the_photo_of_bad_features_is_named(tmp_path):
    rows = FEATURES.copy()
    rows[2] = np.inf
    features = pa.FixedSizeListArray.from_arrays(pa.array(rows.ravel()), 4)
    pq.write_table(table(label=["cat", None, "dog", "dog"], features=features), tmp_path / "x.parquet")
    with pytest.raises(TipAdapterError, match="got others of 'c'"):
        load_training_features(tmp_path / "x.parquet")


WIDER = pa.FixedSizeListArray.from_arrays(pa.array(np.eye(4, 5, dtype=np.float32).ravel()), 5)
ODD = {
    "dimensions": (table(id=list("efgh"), features=WIDER), r"of 4 dimensions in .*, got 5 in .*part-2\.parquet"),
    "encoder": (table(job=JOB_OF_FEATURES | {"encoder": "lite"}), r"those of .*part-1\.parquet and .*part-2\.parquet"),
    "ids": (table(id=list("ebfg")), r"got 1 ids again, such as b:"),
}


@pytest.mark.parametrize("odd", ODD)
def test_the_file_or_photo_that_does_not_fit_the_others_is_named(tmp_path, odd):
    other, said = ODD[odd]
    (tmp_path / "_manifest.json").touch()
    pq.write_table(SOUND, tmp_path / "part-1.parquet")
    pq.write_table(other, tmp_path / "part-2.parquet")
    with pytest.raises(TipAdapterError, match=said):
        load_training_features(tmp_path)


@pytest.mark.parametrize("name", DAMAGED)
@pytest.mark.parametrize("read", [load_training_features, load_feature_file])
def test_damaged_tables_are_refused(tmp_path, name, read):
    pq.write_table(DAMAGED[name], tmp_path / "x.parquet")
    with pytest.raises(TipAdapterError) as caught:
        read(tmp_path / "x.parquet")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cut", [0, 3, 100, -4, -300])
def test_cut_files_are_refused(tmp_path, cut):
    pq.write_table(SOUND, tmp_path / "whole.parquet")
    (tmp_path / "x.parquet").write_bytes((tmp_path / "whole.parquet").read_bytes()[:cut])
    with pytest.raises(TipAdapterError, match=r"x\.parquet, got.*delete what is damaged"):
        load_feature_file(tmp_path / "x.parquet")
