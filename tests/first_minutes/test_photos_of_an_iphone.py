"""Someone with a phone: HEIC files that lie on their side, with films and edits beside them."""

import pytest
from PIL import Image

ORIENTATION, TURN_RIGHT = 0x0112, 6


def test_heic_photos_as_a_phone_gives_them(clothes, tip_adapter, tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    for number, photo in enumerate(sorted(clothes.rglob("*.jpg")), start=1000):
        folder = tmp_path / "phone" / photo.parent.name
        folder.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        exif[ORIENTATION] = TURN_RIGHT
        with Image.open(photo) as image:
            lying = image.rotate(90, expand=True)
        pillow_heif.from_pillow(lying).save(folder / f"IMG_{number}.HEIC", exif=exif.tobytes(), quality=90)
        (folder / f"IMG_{number}.MOV").write_bytes(b"\0\0\0\x14ftypqt  ")
        (folder / f"IMG_{number}.AAE").write_text("<plist/>")
    told = tip_adapter("fit", "phone", "--encoder", "lite-fast", "--output", "clothes.tip")
    assert "18 shots of 3 classes" in told
    assert "36 files without a picture" in told
    assert "dress" in tip_adapter("predict", "clothes.tip", "everything/test/dress/02.jpg")
