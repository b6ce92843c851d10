"""Someone has a folder from an iPhone: HEIC photos, beside them films and files of edits."""

import importlib.util
import json

NAMES = ("green tea", "red wine")
HEIC_IS_READ = importlib.util.find_spec("pillow_heif") is not None


def fill(folder, photo):
    """Put photos of two classes where a phone puts them, one of each as JPEG."""
    for name in NAMES:
        (folder / name).mkdir(parents=True)
        for number in range(1, 5):
            path = folder / name / f"IMG_{number:04}"
            photo(name, number).save(path.with_suffix(".JPG"), "JPEG")
            if number > 1:
                as_heic(path, photo(name, number))
            path.with_suffix(".MOV").write_bytes(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ")
            path.with_suffix(".AAE").write_text('<?xml version="1.0"?><plist/>')


def as_heic(path, image):
    """Replace a JPEG by a HEIC photo; by the beginning of one where the extra that makes them is missing."""
    path.with_suffix(".JPG").unlink()
    target = path.with_suffix(".HEIC")
    if HEIC_IS_READ:
        import pillow_heif

        pillow_heif.from_pillow(image).save(target)
    else:
        target.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + target.name.encode() * 20)


def test_photos_of_an_iphone(run, desk, photo):
    fill(desk / "DCIM", photo)
    code, out, err = run("fit", "DCIM", "-e", "fake", "-m", "tip-adapter", "-o", "drinks.tip")
    said = "passed over: 16 files without a picture (8 .aae, 8 .mov), such as DCIM/green tea/IMG_0001.AAE"
    assert run.data == [said]
    if HEIC_IS_READ:
        assert (code, err) == (0, "")
        assert out.startswith("8 shots of 2 classes")
    else:
        assert (code, out, err.count("\n")) == (3, "", 1)
        assert "IMG_0002.HEIC" in err
        assert "--skip-bad" in err
    code, out, err = run("fit", "DCIM", "-e", "fake", "-m", "tip-adapter", "-o", "drinks.tip", "--skip-bad")
    assert code == 0
    assert out.startswith("8 shots of 2" if HEIC_IS_READ else "2 shots of 2")
    assert err.count("skipped: ") == (0 if HEIC_IS_READ else 6)
    found = json.loads(run("doctor", "DCIM", "-e", "fake", "--json")[1])
    assert len(found["images"]) >= (0 if HEIC_IS_READ else 6)
    assert json.loads(run("predict", "drinks.tip", "DCIM", "--skip-bad", "--json")[1])["data"]["passed_over"]
