"""Someone has what a competition gives: a table of ids and classes, and two folders of photos with ids for names."""

import json

NAMES = ("café crème", "green tea", "red wine")


def test_a_competition(run, desk, photo):
    for split, first in (("train", 0), ("test", 100)):
        (desk / "drinks" / split).mkdir(parents=True)
        for number in range(9):
            photo(NAMES[number % 3], first + number).save(desk / "drinks" / split / f"{first + number:05}.jpg")
    rows = [f"{number:05},{NAMES[number % 3]}" for number in range(9)]
    (desk / "drinks" / "labels.csv").write_text("\ufeffid,drink\n" + "\n".join(rows) + "\n", encoding="utf-8")
    (desk / "drinks" / "sample_submission.csv").write_text("id,café crème,green tea,red wine\n00100,.3,.3,.3\n")
    code, out, err = run("fit", "drinks", "-e", "fake", "-m", "tip-adapter", "-o", "drinks.tip")
    assert (code, err) == (0, "")
    assert out.startswith("9 shots of 3 classes")
    assert run.data == ['drinks/labels.csv: photos by "id", classes by "drink"']
    code, out, _ = run("predict", "drinks.tip", "drinks/test", "--json")
    predictions = json.loads(out)["predictions"]
    assert [row["class"] for row in predictions] == [NAMES[(number - 100) % 3] for number in range(100, 109)]
    # The table alone will do, too, and tells which rows have no photo.
    (desk / "drinks" / "train" / "00004.jpg").unlink()
    code, _, err = run("fit", "drinks/labels.csv", "-e", "fake")
    assert (code, err) == (
        3,
        "error: Expected an image at drinks/00004 (row 6 of drinks/labels.csv), found none: correct or remove the row, "
        "or give --skip-bad to go on without it\n",
    )
    assert run("fit", "drinks/labels.csv", "-e", "fake", "-m", "tip-adapter", "--skip-bad")[1].startswith("8 shots")
