"""A saved classifier as an MLflow model, for MLflow's own tools and without pickle."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from tip_adapter.classifier import ImageClassifier
from tip_adapter.data.class_names import is_missing
from tip_adapter.data.decoding import NamedBytes, StoredImage
from tip_adapter.data.files import path_below
from tip_adapter.errors import ImageError, InputError
from tip_adapter.libraries import require_extra
from tip_adapter.model.predictions import Prediction, Results
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    from mlflow.models.model import ModelInfo
    from pandas import DataFrame

CLASSIFIER, ENCODER = "classifier.tip", "encoder"
PHOTOS = "photos"


def save_model(
    classifier: ImageClassifier,
    path: StrPath,
    *,
    photos: StrPath | None = None,
    encoder: StrPath | None = None,
    pip_requirements: Sequence[str] = (),
) -> None:
    """Save a classifier as an MLflow model (`mlflow.pyfunc`).

    Its input is a table with a column ``image`` of whole image files: bytes in Python, base64 in JSON. Its output has
    the columns ``prediction``, ``probability`` and ``error``: of a photo that cannot be read "", 0 and the reason.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted; its shots go along, with their thumbnails.
    path : path-like
        A new folder.
    photos : path-like, optional
        A folder whose photos a second column, ``path``, may name; nothing outside it is read. Default: no such column.
        ``mlflow.pyfunc.load_model(..., model_config={"photos": folder})`` overrides it.
    encoder : path-like, optional
        A folder of the classifier's encoder to copy along. Default: the encoder is named, and has to be found where the
        model is loaded.
    pip_requirements : sequence of str, optional
        For environments that MLflow builds, such as the path of a wheel of this package. Default: MLflow alone.

    Raises
    ------
    MissingExtraError
        When MLflow is not installed.
    EncoderError
        When the classifier's encoder is not the one in the folder.
    """
    pyfunc = _pyfunc()
    with _arguments(classifier, photos, encoder, pip_requirements) as arguments:
        pyfunc.save_model(path=os.fspath(path), **arguments)


def log_model(
    classifier: ImageClassifier,
    name: str,
    *,
    photos: StrPath | None = None,
    encoder: StrPath | None = None,
    registered_model_name: str | None = None,
    pip_requirements: Sequence[str] = (),
) -> ModelInfo:
    """Log a classifier as a model of the present MLflow run.

    Parameters
    ----------
    classifier : ImageClassifier
        Fitted.
    name : str
        Of the model.
    photos, encoder, pip_requirements
        As for `save_model`.
    registered_model_name : str, optional
        Register it in MLflow's registry, too.
    """
    pyfunc = _pyfunc()
    with _arguments(classifier, photos, encoder, pip_requirements) as arguments:
        return pyfunc.log_model(name=name, registered_model_name=registered_model_name, **arguments)


def load_model(model_uri: str) -> ImageClassifier:
    """Load the classifier itself, which explains and learns; ``mlflow.pyfunc.load_model`` loads what predicts.

    Parameters
    ----------
    model_uri : str
        As MLflow's, such as ``"models:/clothes/1"``, or a folder.
    """
    classifier: ImageClassifier = _pyfunc().load_model(model_uri).get_raw_model()
    return classifier


class PhotoModel:
    """What MLflow calls to predict."""

    def __init__(self, classifier: ImageClassifier, photos: Path | None) -> None:
        self.classifier, self.photos = classifier, photos

    def get_raw_model(self) -> ImageClassifier:
        """Return the classifier itself."""
        return self.classifier

    def predict(self, model_input: DataFrame, params: Mapping[str, Any] | None = None) -> DataFrame:
        """Name the class of every row."""
        import pandas as pd

        rows = model_input.to_dict("records")
        names = [f"row {number}" for number in range(len(rows))]
        images = [self._image(name, row) for name, row in zip(names, rows, strict=True)]
        found = self.classifier.predict_top(images, skip_bad=True) if images else Results[Prediction]()
        errors = dict(found.skipped)
        named = {prediction.path: prediction.top[0] for prediction in found}
        # No cell is missing: MLflow would write NaN into its JSON.
        answers = [(*named.get(name, ("", 0.0)), errors.get(name, "")) for name in names]
        return pd.DataFrame(answers, columns=["prediction", "probability", "error"], index=model_input.index)

    def _image(self, name: str, row: Mapping[str, Any]) -> StoredImage:
        """The image of a row, which is read when its turn comes."""

        def read() -> bytes:
            image, path = row.get("image"), row.get("path")
            if isinstance(image, bytes):
                return image
            if is_missing(path):
                raise ImageError(f"Expected the bytes of an image file in {name}, got {type(image).__name__}")
            if self.photos is None:
                raise ImageError(
                    f"Expected the bytes of an image file in {name}, got a path: name the folder of photos by "
                    "mlflow.pyfunc.load_model(…, model_config={'photos': 'photos/'})"
                )
            try:
                return path_below([self.photos], str(path)).read_bytes()
            except (InputError, OSError) as error:
                raise ImageError(str(error)) from error

        return StoredImage(read, name)


def _load_pyfunc(path: str, model_config: Mapping[str, Any] | None = None) -> PhotoModel:
    """Load what `save_model` saved; MLflow calls this."""
    photos = (model_config or {}).get(PHOTOS)
    return PhotoModel(_load(Path(path)), None if photos is None else Path(os.path.realpath(photos)))


def _load(folder: Path) -> ImageClassifier:
    encoder = folder / ENCODER
    return ImageClassifier.load(folder / CLASSIFIER, encoder=encoder if encoder.is_dir() else None)


def _pyfunc() -> Any:
    return require_extra("mlflow.pyfunc", "mlflow")


@contextlib.contextmanager
def _arguments(
    classifier: ImageClassifier, photos: StrPath | None, encoder: StrPath | None, pip_requirements: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """What MLflow is told, with the files that it copies."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "tip-adapter"
        folder.mkdir()
        classifier.model_.save(folder / CLASSIFIER)
        if encoder is not None:
            shutil.copytree(encoder, folder / ENCODER)
            _ = _load(folder).encoder  # raises where it is another
        yield {
            "loader_module": __name__,
            "data_path": str(folder),
            "signature": _signature(paths=photos is not None),
            "input_example": _example(),
            "model_config": None if photos is None else {PHOTOS: os.path.abspath(photos)},
            "pip_requirements": list(pip_requirements),
        }


def _signature(*, paths: bool) -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    inputs = [ColSpec("binary", "image", required=not paths)]
    inputs += [ColSpec("string", "path", required=False)] if paths else []
    kinds = {"prediction": "string", "probability": "double", "error": "string"}
    return ModelSignature(Schema(inputs), Schema([ColSpec(kind, name) for name, kind in kinds.items()]))


def _example() -> DataFrame:
    """A grey picture: nobody's photo."""
    import pandas as pd

    file = BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(file, "PNG")
    return pd.DataFrame({"image": [NamedBytes(file.getvalue(), "grey.png")]})
