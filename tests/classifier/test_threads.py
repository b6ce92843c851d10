"""One classifier serves many threads: every call has its own results, and the encoder is loaded once."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from tip_adapter import ImageClassifier
from tip_adapter.classifier import encoding

THREADS = 8


@pytest.fixture
def saved(photos, tmp_path):
    ImageClassifier("fake", "auto", store=None).fit(photos / "train").save(tmp_path / "c.tip")
    return tmp_path / "c.tip"


def test_eight_threads_get_their_own_results(saved, photos, tmp_path, monkeypatch):
    loads = []
    load = encoding.load_encoder
    monkeypatch.setattr(encoding, "load_encoder", lambda *given, **options: loads.append(1) or load(*given, **options))
    queries = sorted((photos / "test").rglob("*.png"))
    batches = []
    for number in range(THREADS):
        bad = tmp_path / f"bad {number}.jpg"
        bad.write_bytes(b"")
        order = np.random.default_rng(number).permutation(len(queries))[: number + 2]
        batches.append([bad, *(queries[index] for index in order)])
    shared, alone = ImageClassifier.load(saved), ImageClassifier.load(saved, store=None)
    start = Barrier(THREADS)

    def ask(number):
        batch = batches[number]
        start.wait()
        return [
            (
                shared.predict(batch, skip_bad=True),
                shared.predict_top(batch, top_k=3, skip_bad=True),
                shared.explain(batch, skip_bad=True),
                shared.predict_set(batch, 0.5, skip_bad=True),
                shared.evaluate(batch[1:], [path.parent.name for path in batch[1:]]).accuracy,
            )
            for _ in range(3)
        ]

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(ask, range(THREADS)))
    assert len(loads) == 1
    for batch, rounds in zip(batches, answers, strict=True):
        expected = alone.predict(batch, skip_bad=True)
        tops, sets = alone.predict_top(batch, top_k=3, skip_bad=True), alone.predict_set(batch, 0.5, skip_bad=True)
        for predicted, top, explained, named, accuracy in rounds:
            assert predicted == expected
            assert top == tops
            assert [one.path for one in explained] == [str(path) for path in batch[1:]]
            assert [one.answer for one in explained] == expected[1:]
            assert named == sets
            assert accuracy == 1.0
            assert {one.skipped for one in (predicted, top, explained, named)} == {expected.skipped}
            assert [name for name, _ in expected.skipped] == [str(batch[0])]
