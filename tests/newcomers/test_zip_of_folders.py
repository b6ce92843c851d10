"""Someone has a zip of folders, one for each class, made on a Mac: one command makes a classifier of it."""

import io
import json
import zipfile

NAMES = ("café crème", "green tea", "red wine")


def make_archive(path, photo):
    """Zip what a Mac puts into a zip: a folder around all, its own files beside the photos, a read-me, a film."""
    with zipfile.ZipFile(path, "w") as archive:
        for number in range(6):
            split = "test" if number > 3 else "train"
            for name in NAMES:
                data = io.BytesIO()
                photo(name, number).save(data, "JPEG")
                archive.writestr(f"my drinks/{split}/{name}/IMG_{number}.jpg", data.getvalue())
                archive.writestr(f"__MACOSX/my drinks/{split}/{name}/._IMG_{number}.jpg", b"\0\5\26\7")
        archive.writestr("my drinks/.DS_Store", b"x")
        archive.writestr("my drinks/train/red wine/film.mov", b"\0\0\0\x14ftypqt  ")
        archive.writestr("my drinks/README.txt", b"from my phone")


def test_a_zip_of_folders(run, desk, photo):
    make_archive(desk / "drinks.zip", photo)
    code, out, err = run("fit", "drinks.zip", "-e", "fake", "-m", "tip-adapter", "-o", "drinks.tip")
    assert (code, err) == (0, "")
    assert out.startswith("12 shots of 3 classes")
    assert run.data == [
        "drinks.zip: 3 classes, splits train and test; train is taken (--split NAME takes another, --split none the "
        "folders for classes)",
        "passed over: 1 file without a picture (1 .mov), such as drinks.zip/my drinks/train/red wine/film.mov",
    ]
    assert json.loads(run("evaluate", "drinks.tip", "drinks.zip", "--json")[1])["accuracy"] == 1.0
    assert "green tea" in run("predict", "drinks.tip", "drinks.zip/my drinks/test/green tea/IMG_5.jpg")[1]
    assert sorted(path.name for path in desk.iterdir()) == ["drinks.tip", "drinks.zip"]
