"""Files inside .zip and .tar archives, read as bytes."""

from tip_adapter.data.archives.opening import ARCHIVE_SUFFIXES, inside_archive, is_archive, open_archive

__all__ = ["ARCHIVE_SUFFIXES", "inside_archive", "is_archive", "open_archive"]
