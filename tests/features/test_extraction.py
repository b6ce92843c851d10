import multiprocessing
import pickle
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tip_adapter.data.decoding import image_digest, load_image
from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.errors import FeatureError, ImageError, InputError, ModelFileError
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.feature_set import FeatureSet
from tip_adapter.features.pipeline import ImageReader
from tip_adapter.features.store import FeatureStore
from tip_adapter.processors import usable_processors


class CountingEncoder(FakeEncoder):
    """Remembers the sizes of its batches."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def encode_pixels(self, pixels):
        self.batches.append(len(pixels))
        return super().encode_pixels(pixels)


def photo(seed, side=40):
    return np.random.default_rng(seed).integers(0, 256, (side, side + 9, 3), dtype=np.uint8)


PHOTOS = [photo(seed) for seed in range(12)]


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for index, pixels in enumerate(PHOTOS):
        Image.fromarray(pixels).save(folder / f"photo {index:02}.png")
    return sorted(folder.iterdir())


@pytest.fixture
def store(tmp_path):
    with FeatureStore(tmp_path / "features.sqlite3") as store:
        yield store


# ---------------------------------------------------------------- what comes out


def test_center_views_equal_the_encoder_alone(files):
    extraction = extract_features(FakeEncoder(), files, batch_size=5)
    features = extraction.features
    np.testing.assert_array_equal(features.raw[:, 0], FakeEncoder().encode_images(files))
    assert features.encoder_id == FakeEncoder().image_id
    assert features.names == tuple(map(str, files))
    assert len(set(features.digests)) == len(files)
    assert extraction.kept.tolist() == list(range(12))
    assert extraction.skipped == ()


def test_random_views_are_those_of_seed_digest_and_index(files):
    encoder = FakeEncoder()
    features = extract_features(encoder, files[:2], views=3, random_state=5).features
    for index, file in enumerate(files[:2]):
        image = load_image(file, min_side=encoder.preprocessing.min_side(random_views=True))
        for view in range(3):
            rng = np.random.default_rng([5, int(features.digests[index], 16), view])
            pixels = encoder.preprocessing.random_view(image, rng)
            np.testing.assert_array_equal(features.raw[index, view], encoder.encode_pixels(pixels[None])[0])


@settings(max_examples=25, deadline=None)
@given(
    order=st.permutations(range(len(PHOTOS))),
    count=st.integers(1, len(PHOTOS)),
    views=st.integers(1, 4),
    batch_size=st.integers(1, 50),
)
def test_features_do_not_depend_on_batch_size_order_or_the_other_photos(order, count, views, batch_size):
    reference = extract_features(FakeEncoder(), PHOTOS, views=views, random_state=3).features
    chosen = order[:count]
    features = extract_features(
        FakeEncoder(), [PHOTOS[index] for index in chosen], views=views, random_state=3, batch_size=batch_size
    ).features
    np.testing.assert_array_equal(features.raw, reference.raw[chosen])
    assert features.digests == tuple(reference.digests[index] for index in chosen)


def test_seed_changes_random_views_only():
    def raw(views, seed):
        return extract_features(FakeEncoder(), PHOTOS, views=views, random_state=seed).features.raw

    assert np.array_equal(raw(1, 0), raw(1, 1))
    assert not np.array_equal(raw(2, 0), raw(2, 1))


def test_more_views_begin_with_the_fewer(store):
    few = extract_features(FakeEncoder(), PHOTOS, views=2, store=store).features.raw
    encoder = CountingEncoder()
    many = extract_features(encoder, PHOTOS, views=5, store=store).features.raw
    assert np.array_equal(many[:, :2], few)
    assert sum(encoder.batches) == 12 * 3


def test_batches_have_one_size_across_images():
    encoder = CountingEncoder()
    extract_features(encoder, PHOTOS, views=5, batch_size=8)
    assert encoder.batches == [8] * 7 + [4]


def test_all_kinds_of_images(files):
    with Image.open(files[3]) as opened:
        images = [str(files[0]), files[1], files[2].read_bytes(), opened, PHOTOS[4]]
        features = extract_features(FakeEncoder(), images).features
    assert features.digests[3] == image_digest(files[3].read_bytes())
    np.testing.assert_array_equal(features.raw, extract_features(FakeEncoder(), files[:5]).features.raw)
    assert features.names == (str(files[0]), str(files[1]), "image 2", "image 3", "image 4")


# ---------------------------------------------------------------- nothing is encoded twice


@pytest.mark.parametrize("views", [1, 3])
def test_warm_store_needs_no_encoder(files, store, views):
    cold = extract_features(FakeEncoder(), files, views=views, store=store).features
    encoder = CountingEncoder()
    warm = extract_features(encoder, files, views=views, store=store).features
    assert encoder.batches == []
    assert np.array_equal(warm.raw, cold.raw)
    assert store.count() == 12 * views


@pytest.mark.parametrize("with_store", [True, False])
def test_same_bytes_are_encoded_once(files, store, with_store):
    encoder = CountingEncoder()
    images = [file for file in files for _ in range(3)]
    features = extract_features(encoder, images, views=2, store=store if with_store else None).features
    assert sum(encoder.batches) == 12 * 2
    assert np.array_equal(features.raw, np.repeat(extract_features(encoder, files, views=2).features.raw, 3, axis=0))
    assert features.names == tuple(map(str, images))


def test_stored_feature_of_another_length(files, store):
    encoder = FakeEncoder()
    digest = extract_features(encoder, files[:1]).features.digests[0]
    store.put(encoder.image_id, {(digest, "center"): np.ones(3)})
    with pytest.raises(ModelFileError, match=r"shape \(64,\) of encoder fake in the feature store .*got \(3,\)"):
        extract_features(encoder, files, store=store)


def test_progress_counts_to_the_end(files, store):
    extract_features(FakeEncoder(), files[:4], store=store)
    calls = []
    extract_features(
        FakeEncoder(),
        [*files, files[5]],
        store=store,
        batch_size=3,
        progress=lambda done, total, cached: calls.append((done, total, cached)),
    )
    assert calls[-1] == (13, 13, 5)
    assert [done for done, _, _ in calls] == sorted(done for done, _, _ in calls)
    assert {total for _, total, _ in calls} == {13}


def test_photos_wait_in_bounded_number(files):
    started = []

    class Watched(list):
        def __getitem__(self, index):
            started.append(index)
            return super().__getitem__(index)

    ahead = []

    class Encoder(FakeEncoder):
        encoded = 0

        def encode_pixels(self, pixels):
            ahead.append(len(started) - self.encoded)
            self.encoded += len(pixels)
            return super().encode_pixels(pixels)

    extract_features(Encoder(), Watched([photo(0, side=33 + index) for index in range(300)]), batch_size=4)
    assert max(ahead) <= max(8, 2 * usable_processors()) + 4 + 1


# ---------------------------------------------------------------- bad images


@pytest.fixture
def spoilt(files):
    files[4].write_bytes(b"")
    files[7].write_bytes(files[7].read_bytes()[:200])
    return files


def test_first_bad_image_is_raised_and_what_was_encoded_is_stored(spoilt, store):
    with pytest.raises(ImageError, match=r"photo 04\.png"):
        extract_features(FakeEncoder(), spoilt, store=store, batch_size=2)
    assert store.count() == 4


def test_skip_bad_goes_on_and_lists(spoilt, store):
    extraction = extract_features(FakeEncoder(), spoilt, store=store, skip_bad=True, batch_size=4)
    assert extraction.kept.tolist() == [0, 1, 2, 3, 5, 6, 8, 9, 10, 11]
    assert [name for name, _ in extraction.skipped] == [str(spoilt[4]), str(spoilt[7])]
    assert "empty file" in extraction.skipped[0][1]
    kept = [spoilt[index] for index in extraction.kept]
    np.testing.assert_array_equal(extraction.features.raw, extract_features(FakeEncoder(), kept).features.raw)
    assert store.count() == 10


def test_every_twin_of_a_bad_image_is_skipped(spoilt):
    extraction = extract_features(FakeEncoder(), [spoilt[4], spoilt[0], spoilt[4]], skip_bad=True)
    assert extraction.kept.tolist() == [1]
    assert len(extraction.skipped) == 2


def test_missing_file_and_no_readable_image(tmp_path):
    with pytest.raises(ImageError, match=r"none of 2; the first: .*nowhere\.jpg"):
        extract_features(FakeEncoder(), [tmp_path / "nowhere.jpg", b""], skip_bad=True)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        ([], {}, "at least one image, got none"),
        ({"photo.jpg"}, {}, "images in an order, got a set"),
        (PHOTOS, {"views": 0}, "views ≥ 1"),
        (PHOTOS, {"batch_size": 0}, "batch_size ≥ 1"),
        (PHOTOS, {"random_state": -1}, "random_state ≥ 0"),
    ],
)
def test_unfit_arguments(images, options, message):
    with pytest.raises(InputError, match=message):
        extract_features(FakeEncoder(), images, **options)


# ---------------------------------------------------------------- encoders that fail, and interruptions


def test_nan_from_the_encoder_names_the_image_and_is_never_stored(files, store):
    class Broken(FakeEncoder):
        def encode_pixels(self, pixels):
            features = super().encode_pixels(pixels)
            features[1, 3] = np.nan
            return features

    with pytest.raises(FeatureError, match=r"from encoder fake, got NaN or infinity for .*photo 01\.png"):
        extract_features(Broken(), files, store=store)
    assert store.count() == 0


def test_wrong_shape_from_the_encoder(files):
    class Broken(FakeEncoder):
        def encode_pixels(self, pixels):
            return super().encode_pixels(pixels)[:, :5]

    with pytest.raises(FeatureError, match=r"shape \(12, 64\) from encoder fake, got \(12, 5\)"):
        extract_features(Broken(), files)


def test_ctrl_c_keeps_finished_batches_and_ends_the_threads(files, store):
    class Interrupted(CountingEncoder):
        def encode_pixels(self, pixels):
            if len(self.batches) == 2:
                raise KeyboardInterrupt
            return super().encode_pixels(pixels)

    with pytest.raises(KeyboardInterrupt):
        extract_features(Interrupted(), files, store=store, batch_size=4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("decode")]
    assert store.count() == 8
    encoder = CountingEncoder()
    extract_features(encoder, files, store=store, batch_size=4)
    assert encoder.batches == [4]


KILLED = """
import sys
from pathlib import Path
from tip_adapter.encoders.fake import FakeEncoder
from tip_adapter.features.extraction import extract_features
from tip_adapter.features.store import FeatureStore

class Stuck(FakeEncoder):
    calls = 0
    def encode_pixels(self, pixels):
        self.calls += 1
        if self.calls == 3:
            sys.stdout.write("third batch\\n")
            sys.stdout.flush()
            sys.stdin.read()
        return super().encode_pixels(pixels)

extract_features(Stuck(), sorted(Path(sys.argv[1]).iterdir()), store=FeatureStore(sys.argv[2]), batch_size=3)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_killed_run_goes_on_where_it_ended(files, tmp_path):
    path = tmp_path / "killed.sqlite3"
    command = [sys.executable, "-c", KILLED, str(files[0].parent), str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"third batch\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with FeatureStore(path) as store:
        assert store.count() == 6
        encoder = CountingEncoder()
        resumed = extract_features(encoder, files, store=store).features
        assert encoder.batches == [6]
    np.testing.assert_array_equal(resumed.raw, extract_features(FakeEncoder(), files).features.raw)


def extract_in_child(folder, path, barrier):
    barrier.wait(timeout=30)
    with FeatureStore(path) as store:
        extract_features(FakeEncoder(), sorted(folder.iterdir()), views=3, store=store, batch_size=2)


def test_two_processes_at_once_leave_one_copy_of_each_row(files, tmp_path):
    context = multiprocessing.get_context("spawn")
    barrier = context.Barrier(2)
    path = tmp_path / "both.sqlite3"
    children = [context.Process(target=extract_in_child, args=(files[0].parent, path, barrier)) for _ in range(2)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout=60)
    assert [child.exitcode for child in children] == [0, 0]
    with FeatureStore(path) as store:
        assert store.count() == 36
        encoder = CountingEncoder()
        extract_features(encoder, files, views=3, store=store)
        assert encoder.batches == []


# ---------------------------------------------------------------- FeatureSet


def feature_set(count=5, views=3, dim=4, seed=0):
    raw = np.random.default_rng(seed).standard_normal((count, views, dim)).astype(np.float32)
    texts = tuple(f"{seed}-{index}" for index in range(count))
    return FeatureSet(raw, "encoder", texts, tuple(f"{text}.jpg" for text in texts))


def test_unit_is_the_normalised_mean_of_the_un_normalised_views():
    features = feature_set()
    for index in range(5):
        mean = sum(features.raw[index, view].astype(np.float64) for view in range(3)) / 3
        np.testing.assert_allclose(features.unit[index], mean / np.sqrt((mean**2).sum()), atol=1e-6)
    assert features.unit.dtype == np.float32


def test_zero_feature_has_no_direction():
    features = FeatureSet(np.zeros((1, 1, 3), dtype=np.float32), "encoder", ("d",), ("black.jpg",))
    with pytest.raises(FeatureError, match=r"other than zero for black\.jpg"):
        _ = features.unit


def test_subset():
    features = feature_set()
    part = features.subset([3, 0])
    assert part.names == ("0-3.jpg", "0-0.jpg")
    assert np.array_equal(part.raw, features.raw[[3, 0]])
    assert features.subset(np.arange(5) > 2).digests == ("0-3", "0-4")
    assert len(features.subset([])) == 0


def test_features_grow_without_a_copy_and_without_changing_what_was_there():
    first = feature_set(count=32).subset(np.arange(32))
    raw, more = first.raw.copy(), feature_set(count=2, seed=1)
    one = first.extended(more)
    two = one.extended(feature_set(count=1, seed=2))
    other = first.extended(feature_set(count=1, seed=3))
    assert np.shares_memory(first.raw, two.raw)
    assert not np.shares_memory(first.raw, other.raw)
    assert (one.names[-1], two.names[-1], other.names[-1]) == ("1-1.jpg", "2-0.jpg", "3-0.jpg")
    for grown in (one, two, other):
        np.testing.assert_array_equal(grown.raw[:32], raw)
        np.testing.assert_array_equal(grown.unit[:32], first.unit)
    np.testing.assert_array_equal(two.raw[32:34], more.raw)
    np.testing.assert_array_equal(two.unit[32:34], more.unit)


def test_what_is_left_out_is_nowhere_behind_the_rest():
    whole = feature_set(count=32).extended(feature_set(count=1, seed=1))
    rest = whole.subset(np.arange(32))
    for kept, lost in ((rest.raw, whole.raw[32]), (rest.unit, whole.unit[32])):
        assert lost.tobytes() not in kept.base.tobytes()
        assert not kept.base[len(rest) :].any()  # What memory held before may be a photo that was forgotten.
    assert whole.subset(np.arange(33)).extended(whole).raw[32].tobytes() not in pickle.dumps(rest)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.zeros((2, 3), dtype=np.float32), r"shape \(N, V, D\)"),
        (np.zeros((2, 1, 3)), "float64"),
        (np.zeros((3, 1, 3), dtype=np.float32), "2 and 2"),
        (np.full((2, 1, 3), np.nan, dtype=np.float32), r"NaN or infinity for a\.jpg"),
    ],
)
def test_feature_set_of_unfit_arrays(raw, message):
    with pytest.raises(FeatureError, match=message):
        FeatureSet(raw, "encoder", ("1", "2"), ("a.jpg", "b.jpg"))


# ---------------------------------------------------------------- truncated files


@pytest.fixture
def with_truncated(files):
    files[2].write_bytes(files[2].read_bytes()[:-300])
    return files


@pytest.mark.parametrize("views", [1, 3])
def test_truncated_files_are_taken_where_they_are_allowed_and_never_stored(with_truncated, store, views):
    with pytest.raises(ImageError, match=r"photo 02\.png to be a whole image"):
        extract_features(FakeEncoder(), with_truncated, views=views, store=store)
    allowed = extract_features(FakeEncoder(), with_truncated, views=views, store=store, allow_truncated=True)
    assert len(allowed.features) == len(with_truncated)
    assert not allowed.skipped
    kept = extract_features(FakeEncoder(), with_truncated, views=views, store=store, skip_bad=True)
    assert [name for name, _ in kept.skipped] == [str(with_truncated[2])]
    np.testing.assert_array_equal(kept.features.raw, np.delete(allowed.features.raw, 2, axis=0))


def test_bad_images_that_wait_do_not_keep_their_bytes(files):
    files[1].write_bytes(b"x" * 100_000)
    files[2].write_bytes(files[2].read_bytes()[:-300])
    reader = ImageReader(FakeEncoder(), files, 1, 0, None)
    for index in (1, 2):
        error = reader.prepare(index).error
        assert isinstance(error, ImageError)
        assert (error.__traceback__, error.__cause__, error.__context__) == (None, None, None)
