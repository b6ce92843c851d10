"""Someone with a notebook: a data frame of files and classes, whose rows are mixed and whose index is no count."""

import os
from unittest.mock import patch


def test_one_call_learns_and_another_adds_a_column(clothes, environment):
    import pandas as pd

    from tip_adapter import ImageClassifier

    rows = [
        {"file_name": str(photo), "category": photo.parent.name, "year": 2000 + int(photo.stem)}
        for photo in sorted(clothes.rglob("*.jpg"))
    ]
    frame = pd.DataFrame(rows).sample(frac=1, random_state=0)
    known, new = frame[frame.year < 2005], frame[frame.year >= 2005].copy()
    with patch.dict(os.environ, environment):
        clf = ImageClassifier(encoder="lite-fast").fit(known)
        new["predicted"] = clf.predict(new)
        accuracy = (new.predicted == new.category).mean()
        assert clf.classes_ == ("dress", "hat", "shoes")
        assert accuracy == clf.evaluate(new).accuracy
    assert accuracy > 0.8
