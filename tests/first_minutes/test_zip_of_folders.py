"""Someone with a zip: a folder in it, class folders in that, and what a Mac adds."""

import zipfile


def test_a_zip_of_class_folders(clothes, tip_adapter, tmp_path):
    with zipfile.ZipFile(tmp_path / "clothes.zip", "w") as archive:
        for photo in sorted(clothes.rglob("*.jpg")):
            name = photo.relative_to(clothes)
            archive.write(photo, f"clothes/{name}")
            archive.writestr(f"__MACOSX/clothes/{name.parent}/._{name.name}", b"\0\5\x16\7Mac OS X")
        archive.writestr("clothes/.DS_Store", b"Bud1")
    told = tip_adapter("fit", "clothes.zip", "--encoder", "lite-fast", "--output", "clothes.tip")
    assert "18 shots of 3 classes" in told
    assert "the classes are the folders in clothes.zip/clothes" in told
    assert "MACOSX" not in told
    assert "hat" in tip_adapter("predict", "clothes.tip", "everything/test/hat/01.jpg")
