"""Someone with a download of Kaggle: train.csv with ids and classes, a folder of photos beside it."""

import csv


def test_a_table_of_ids_and_breeds(clothes, tip_adapter, tmp_path):
    (tmp_path / "download" / "train").mkdir(parents=True)
    rows = []
    for number, photo in enumerate(sorted(clothes.rglob("*.jpg"))):
        name = f"{number:04x}bce5d0a7"
        photo.rename(tmp_path / "download" / "train" / f"{name}.jpg")
        rows.append((name, photo.parent.name))
    with (tmp_path / "download" / "labels.csv").open("w", newline="", encoding="utf-8-sig") as file:
        csv.writer(file).writerows([("id", "breed"), *rows])
    told = tip_adapter("fit", "download/labels.csv", "--encoder", "lite-fast", "--output", "clothes.tip")
    assert "18 shots of 3 classes" in told
    assert 'photos by "id", classes by "breed"' in told
    assert "shoes" in tip_adapter("predict", "clothes.tip", "everything/test/shoes/01.jpg")
