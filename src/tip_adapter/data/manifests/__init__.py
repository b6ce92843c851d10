"""Tables that say which photo is of which class."""

from tip_adapter.data.manifests.photo_tables import table_images, table_parts, usable_table
from tip_adapter.data.manifests.tables import TABLE_SUFFIXES, Table, read_table

__all__ = ["TABLE_SUFFIXES", "Table", "read_table", "table_images", "table_parts", "usable_table"]
