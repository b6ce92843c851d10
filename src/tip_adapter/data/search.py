"""Find the photos that files, folders, archives and patterns refer to."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from tip_adapter.data.class_names import counted
from tip_adapter.data.dataset import checked_path, is_table
from tip_adapter.data.files import is_file, is_folder, read_beginning
from tip_adapter.data.findings import Findings
from tip_adapter.data.folders import FolderReader, is_ignored, is_saved_classifier
from tip_adapter.data.formats import FileKind, kind_of_content, kind_of_name
from tip_adapter.data.manifests import table_images
from tip_adapter.data.pixels.containers import HEAD_BYTES
from tip_adapter.errors import DatasetError, SkippableError
from tip_adapter.typing import StrPath


def find_images(sources: StrPath | Iterable[StrPath], *, findings: Findings | None = None) -> list[Path]:
    """List the images that files, folders and patterns stand for.

    Parameters
    ----------
    sources : iterable of paths
        Files, whatever their suffix, but for manifests, which stand for the photos they name; folders and archives,
        searched to any depth for images; and patterns with ``*``, ``?``, ``[...]`` and ``**``, for shells that leave
        them alone. A folder that matches a pattern is searched too.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> from tip_adapter.data import find_images
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for name in ("b.jpg", "a.png", "notes.txt"):
    ...         Path(folder, name).touch()
    ...     [path.name for path in find_images([folder, f"{folder}/*.jpg"])]
    ['a.png', 'b.jpg']
    """
    findings = Findings() if findings is None else findings
    reader, found = FolderReader(findings), dict[str, Path]()
    for source in [sources] if isinstance(sources, str | os.PathLike) else sources:
        path = checked_path(source)
        images = _images_at(path, reader)
        if not images:
            findings.skip(str(source), _none_at(path, reader))
        for image in images:
            found.setdefault(os.path.abspath(image), image)
    if not found:
        if findings.skipped:
            raise DatasetError(f"Expected at least one image, got none; the first problem: {findings.skipped[0][1]}")
        raise DatasetError("Expected at least one file, folder or pattern of images, got none: name one")
    return list(found.values())


def _none_at(path: Path, reader: FolderReader) -> SkippableError:
    files = reader.files_below(path) if is_folder(path) else []
    if files:
        return SkippableError(
            f"Expected images at {path}, found {counted(files, 'file')} of other kinds, such as {files[0]}: convert or "
            "replace them"
        )
    return SkippableError(f"Expected images at {path}, found none: check the path or pattern")


def _images_at(path: Path, reader: FolderReader) -> list[Path]:
    if is_folder(path):
        return reader.images_below(path)
    if os.path.lexists(path) or is_file(path):
        return table_images(path, reader) if is_table(path) else [path]
    parts = path.parts
    fixed = next((i for i, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root = Path(*parts[:fixed])
    if fixed == len(parts) or not os.path.isdir(root):
        return []
    try:
        matches = sorted(root.glob(os.path.join(*parts[fixed:])), key=Path.as_posix)  # follows no links below **
    except (ValueError, OSError) as error:
        raise DatasetError(f"Expected a pattern of image files, got {path} ({error}): correct it") from error
    visible = [match for match in matches if not any(map(is_ignored, match.relative_to(root).parts))]
    visible = [match for match in visible if not any(map(is_saved_classifier, (match, *match.parents)))]
    folders = [image for match in visible if is_folder(match) for image in reader.images_below(match)]
    return folders + [match for match in visible if not is_folder(match) and _is_image(match, reader.findings)]


def _is_image(path: Path, findings: Findings) -> bool:
    kind = kind_of_name(path.name) or kind_of_content(read_beginning(path, HEAD_BYTES))
    if kind is FileKind.UNREAD_PHOTO:
        findings.unread_photos.append(str(path))
    elif kind is FileKind.OTHER:
        findings.other_files.append(str(path))
    return kind is FileKind.PHOTO
