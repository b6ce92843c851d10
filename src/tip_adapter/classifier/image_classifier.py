"""`ImageClassifier`: an encoder, prompts and a method, fitted to labelled photos."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from tip_adapter.classifier.editing import EditableClassifier
from tip_adapter.classifier.hub import address_of, push
from tip_adapter.classifier.inputs import grouped, labelled_images
from tip_adapter.classifier.learning import Learner
from tip_adapter.classifier.live_model import EditingSession
from tip_adapter.classifier.support import saved_encoder
from tip_adapter.data import ImageDataset
from tip_adapter.data.groups import GroupBy
from tip_adapter.data.sequences import Images, Labels
from tip_adapter.errors import InputError, StorageWarning, warn
from tip_adapter.features.feature_files import is_feature_file
from tip_adapter.model.edits import started
from tip_adapter.model.few_shot_model import FewShotModel
from tip_adapter.model.predictions import Skipped
from tip_adapter.storage.bundles import Bundle, load_bundle
from tip_adapter.storage.hub_folders import HUB_PREFIX
from tip_adapter.storage.locking import WAIT_S
from tip_adapter.trust.precision import PrecisionReport
from tip_adapter.typing import StrPath

if TYPE_CHECKING:
    from tip_adapter.encoders import Encoder
    from tip_adapter.progress import Progress


class ImageClassifier(EditableClassifier):
    """Few-shot image classifier: a frozen encoder, class texts, and a method on its features.

    Parameters
    ----------
    encoder : str, path or Encoder, optional
        What `tip_adapter.load_encoder` takes, or an encoder. Default: `default_encoder`.
    method : str or FewShotMethod, default="auto"
        A name of `tip_adapter.METHODS`, or an estimator, which is cloned.
    method_parameters : mapping, optional
        For a method given by name, such as ``{"alpha": 1.0, "beta": 5.5}``.
    templates : str or sequence of str, default="ensemble"
        A name of `tip_adapter.features.prompts.TEMPLATES`, a template such as ``"a sketch of a {}."``, or several.
    class_texts : mapping of class name to text or texts, or "none", optional
        Better texts than the folder names; an empty list for a class without text, such as a background; "none" to use
        only the shots. Where labels are integers, these may name the classes, too.
    views : int, default=1
        Views per shot: 1 is the middle of the photo, V ≥ 2 are V random crops and flips (the paper's is 10). Methods
        take their mean, but those with `takes_views` train on each of them; the model then keeps them all. Left-out
        shots are asked about by the middle of the photo, as photos to classify are seen.
    precision : {"fp32", "int8"}, default="fp32"
        Of the encoder. "int8" is three times as fast for transformers as ONNX graphs; `fit` compares it with "fp32" on
        the shots.
    max_flipped : float, default=0.05
        Share of predictions on the shots that "int8" may change; where it changes more, `fit` refuses.
    store : "default", path or None, default="default"
        Where features are stored, so that no photo is encoded twice; None stores nothing.
    allow_truncated : bool, default=False
        Use what can be decoded of truncated photos, instead of refusing them.

    Attributes
    ----------
    model_ : FewShotModel
        All that was learned; it can be saved, and needs no encoder.
    skipped_ : tuple of (name, reason)
        Photos that `fit` skipped, with ``skip_bad=True``. What other methods skipped is in `skipped` of their result.
    precision_report_ : PrecisionReport or None
        What int8 changes on the shots; None with full precision.

    Examples
    --------
    >>> import numpy as np
    >>> from tip_adapter import ImageClassifier
    >>> dark, light = (np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 220))
    >>> clf = ImageClassifier(encoder="fake", store=None)
    >>> clf.fit([dark, dark + 9, light, light + 9], ["night", "night", "day", "day"]).predict([dark + 3])
    ['night']
    """

    skipped_: Skipped
    precision_report_: PrecisionReport | None

    def fit(
        self,
        data: Images | ImageDataset | Any,
        labels: Labels | None = None,
        *,
        shots: int | None = None,
        groups: Iterable[Any] | GroupBy | None = None,
        random_state: int = 0,
        skip_bad: bool = False,
        progress: Progress | None = None,
    ) -> Self:
        """Learn from labelled photos.

        Parameters
        ----------
        data : path, ImageDataset, table, iterable of (image, label), or iterable of images
            A folder of class folders; a manifest (.csv, .jsonl, .parquet); features that `tip-adapter embed` saved
            (.npz); a table of pandas, polars, pyarrow or `datasets` with a column of images and one of labels; pairs;
            or images, as `predict` takes them, with `labels`. What is iterable is iterated over once, in its order,
            whatever its index.
        labels : iterable of str or of int, optional
            Class of every image, where `data` has only images: names, or integers, which `predict` then returns
            (`classes_`); their digits are the names of the classes, and what the text encoder reads unless
            `class_texts` says something better. Classes are sorted, names as text and integers numerically.
        shots : int, optional
            Take at most so many photos of each class, drawn at random. Default: all.
        groups : iterable of N names or integers, "folder", "exif-time" or "duplicates", optional
            Which photos show the same moment, shelf or patient, and so say little more than one of them: they are held
            out together wherever the shots are used to evaluate the classifier. One of each photo (blanks for photos
            on their own); or those in one folder, taken within a minute of each other, or hardly different from each
            other. Default: the column ``group`` of a table, else "duplicates".
        random_state : int, default=0
            Seed of the draw and of the views.
        skip_bad : bool, default=False
            Go on without photos that cannot be read; they are in `skipped_`.
        progress : Progress, optional
            See `tip_adapter.progress.progress_bar`.

        Returns
        -------
        self

        Warns
        -----
        ShotsWarning
            When a class has fewer photos than `shots`.
        DuplicateWarning
            When a photo is there twice, or in two classes.

        Raises
        ------
        DatasetError
            When the data set is not as expected.
        ImageError
            When a photo cannot be read.
        """
        learner = Learner(
            self._photos,
            self.method,
            self.method_parameters,
            self.templates,
            self.class_texts,
            self.views,
            self.max_flipped,
            random_state,
            skip_bad,
            progress,
        )
        made_by, self._photos.made_by = self._photos.made_by, None
        try:
            if is_feature_file(data):
                learned = learner.from_features(data, shots, groups)
            else:
                photos = grouped(labelled_images(data, labels, prefer=("train",), skip_bad=skip_bad), groups)
                learned = learner.from_photos(photos, shots)
            made_by = learned.model.encoder
        finally:
            self._photos.made_by = made_by
        self.skipped_, self.precision_report_ = learned.skipped, learned.precision_report
        self._live.put(started(learned.model))
        return self

    def __repr__(self) -> str:
        """Name method and encoder, and what has been learned."""
        method = self.method if isinstance(self.method, str) else type(self.method).__name__
        encoder, model = self._photos.name, self._live.model
        fitted = model.counted if model else "not fitted"
        return f"<ImageClassifier: {method} on {encoder}, {fitted}>"

    def save(self, path: StrPath, *, wait_s: float = WAIT_S) -> None:
        """Save the classifier as a folder; the encoder is named in it, not copied.

        Parameters
        ----------
        path : path-like
            Such as ``clothes.tip``. A classifier saved there before is replaced.
        wait_s : float, default=60
            How long to wait for another process that is changing it, in seconds.

        Raises
        ------
        TipAdapterError
            When it cannot be written (nothing half-written stays), or it was loaded from there and changed there since.
        """
        self._live.save(path, wait_s)

    @classmethod
    def load(
        cls,
        path: StrPath,
        *,
        encoder: StrPath | Encoder | None = None,
        store: StrPath | Literal["default"] | None = "default",
        allow_truncated: bool = False,
    ) -> Self:
        """Load a saved classifier.

        Parameters
        ----------
        path : path-like
            The folder, or ``hub:owner/name``.
        encoder : str, path or Encoder, optional
            Where the encoder is now, such as an ONNX directory. Default: the name that was saved, which makes nothing
            be downloaded but the encoders of `tip_adapter.encoders.ENCODERS`: give the name of others yourself.
        store : "default", path or None, default="default"
        allow_truncated : bool, default=False

        Raises
        ------
        ModelFileError
            When it is no saved classifier, truncated, changed since, or of a newer version.
        """
        bundle = load_bundle(path)
        if bundle.forgetting:
            warn(
                f"Forgetting photos in {bundle.path} was interrupted, and traces of them are left: complete it with "
                f"tip-adapter purge {bundle.path}",
                StorageWarning,
            )
        return cls._of_bundle(bundle, encoder, store, allow_truncated)

    @classmethod
    def from_pretrained(
        cls,
        name: StrPath,
        *,
        revision: str | None = None,
        encoder: StrPath | Encoder | None = None,
        store: StrPath | Literal["default"] | None = "default",
    ) -> Self:
        """Load a classifier from a folder, or from a repository of the Hugging Face Hub.

        Parameters
        ----------
        name : path-like
            An existing folder, or ``owner/name``.
        revision : str, optional
            Branch, tag or commit of the repository.
        encoder, store
            As for `load`.

        Raises
        ------
        TipAdapterError
            When there is no such repository or revision, or it cannot be reached.
        ModelFileError
            When it is no saved classifier.
        """
        return cls.load(address_of(name, revision), encoder=encoder, store=store)

    def push_to_hub(
        self, repo_id: str, *, private: bool = True, pictures: bool = False, license_name: str | None = None
    ) -> str:
        """Upload the classifier to the Hugging Face Hub; whatever the repository had is replaced.

        Parameters
        ----------
        repo_id : str
            ``owner/name``; made if it is not there.
        private : bool, default=True
            Of a repository that is made.
        pictures : bool, default=False
            Upload thumbnails of the shots, the names of their files and groups, and the journal, too. The features of
            the shots are part of the classifier and always uploaded.
        license_name : str, optional
            For the model card, such as "cc-by-4.0".

        Returns
        -------
        str
            Address of the commit.

        Raises
        ------
        TipAdapterError
            When there is no token (``HF_TOKEN``, or ``hf auth login``), or the Hub cannot be reached.
        """
        return push(self._fitted(), repo_id, private=private, pictures=pictures, license_name=license_name)

    @classmethod
    def _of_bundle(
        cls,
        bundle: Bundle,
        encoder: StrPath | Encoder | None,
        store: StrPath | Literal["default"] | None,
        allow_truncated: bool = False,
    ) -> Self:
        model = FewShotModel.from_bundle(bundle)
        words = dict(zip(model.class_names, model.class_texts, strict=True))
        classifier = cls(
            saved_encoder(bundle, model) if encoder is None else encoder,
            model.method.name,
            method_parameters=model.method.parameters,
            templates=model.templates,
            class_texts=words if any(model.class_texts) else "none",
            views=model.views,
            precision=model.encoder.precision,
            store=store,
            allow_truncated=allow_truncated,
        )
        classifier._photos.made_by, classifier._photos.may_download = model.encoder, encoder is not None
        classifier._live.put(model, (bundle.path.resolve(), bundle.fingerprint))
        return classifier

    @classmethod
    @contextlib.contextmanager
    def editing(
        cls,
        path: StrPath,
        *,
        encoder: StrPath | Encoder | None = None,
        store: StrPath | Literal["default"] | None = "default",
        wait_s: float = WAIT_S,
    ) -> Iterator[Self]:
        """Load a saved classifier to correct it, together with others who may do the same; saved at the end.

        Photos are encoded without a lock. The first edit takes the lock until the block ends: it reads what others have
        changed since, and is applied to that.

        Parameters
        ----------
        path : path-like
            The folder.
        encoder, store
            As for `load`.
        wait_s : float, default=60
            How long to wait for another process that edits the same classifier, in seconds.

        Yields
        ------
        ImageClassifier
            Saved when the block ends without an error; otherwise the disk is left as it is.

        Raises
        ------
        TipAdapterError
            When another process keeps it for longer, it cannot be written, or somebody fitted it again in the meantime.
        ModelFileError
            When it is no saved classifier.

        Examples
        --------
        >>> import numpy as np, pathlib, tempfile
        >>> from tip_adapter import ImageClassifier
        >>> photos = [np.full((32, 32, 3), value, dtype=np.uint8) for value in (30, 40, 220, 230)]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder) / "light.tip"
        ...     ImageClassifier("fake", store=None).fit(photos, ["night", "night", "day", "day"]).save(path)
        ...     with ImageClassifier.editing(path, store=None) as classifier:
        ...         classifier.rename_class("night", "dark")
        ...     ImageClassifier.load(path).class_names
        ('day', 'dark')
        """
        if isinstance(path, str) and path.startswith(HUB_PREFIX):
            raise InputError(f"Expected a folder to edit, got {path}: load it, save it in a folder, and edit that")
        bundle = load_bundle(Path(path).resolve())
        classifier = cls._of_bundle(bundle, encoder, store)
        session = EditingSession(bundle.path, classifier.model_, bundle.fingerprint, wait_s)
        classifier._live.session = session
        try:
            yield classifier
            if classifier.model_ is not session.model:
                classifier.save(bundle.path, wait_s=wait_s)
        finally:
            classifier._live.session = None
            session.close()
