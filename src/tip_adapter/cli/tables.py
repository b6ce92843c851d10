"""Print tables that fit the terminal and lose neither numbers nor ids, with names as data."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tip_adapter.cli.output import reader, to_stdout
from tip_adapter.storage.escaping import for_terminal

if TYPE_CHECKING:
    from rich.table import Table

NARROWEST = 14
"""Characters that a column of text keeps, before columns move to a table below."""

GAP = 2
"""Blanks between columns."""


@dataclass(frozen=True)
class Column:
    """A column of a table: one that folds goes on in the next line, a spare one is left out where there is no room."""

    title: str
    folds: bool
    right: bool = False
    spare: bool = False


def text(title: str) -> Column:
    """A column of names, which fold where the terminal is narrow."""
    return Column(title, folds=True)


def number(title: str) -> Column:
    """A column of numbers, never cut."""
    return Column(title, folds=False, right=True)


def whole(title: str) -> Column:
    """A column of what people copy or look at, such as ids: never cut."""
    return Column(title, folds=False)


def spare(title: str) -> Column:
    """A column of decoration, left out where anything would fold."""
    return Column(title, folds=False, spare=True)


def echo_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], *, header: bool = True) -> None:
    """Print a table; on a terminal names fold, and columns without room follow below, beside the first once more."""
    from rich.console import Console

    # Names of files and classes are no markup: "hat[1].jpg" and ":hat:" are shown as they are.
    console = Console(markup=False, emoji=False, highlight=False)
    cells = [[for_terminal(cell) for cell in row] for row in rows]
    widths = [_width(column, index, cells, header=header) for index, column in enumerate(columns)]
    if not console.is_terminal:
        console.width = sum(widths) + GAP * len(widths)
    for number_of_block, block in enumerate(_blocks(columns, widths, console.width)):
        if number_of_block:
            console.print()
        rows_of_block = [[row[index] for index in block] for row in cells]
        table = _rich_table([columns[index] for index in block], rows_of_block, header)
        if console.is_terminal:
            with reader():
                console.print(table)
        else:
            with console.capture() as written:
                console.print(table)
            to_stdout(re.sub(r" +$", "", written.get(), flags=re.MULTILINE))


def _width(column: Column, index: int, cells: Sequence[Sequence[str]], *, header: bool) -> int:
    from rich.cells import cell_len

    return max([cell_len(column.title) * header, 1, *(cell_len(row[index]) for row in cells)])


def _blocks(columns: Sequence[Column], widths: Sequence[int], room: int) -> Iterator[list[int]]:
    """Share columns out over as many tables as the terminal's width asks for; each begins with the first column."""
    needed = [min(width, NARROWEST) if column.folds else width for column, width in zip(columns, widths, strict=True)]
    shown = list(range(len(columns)))
    if sum(widths) + GAP * (len(widths) - 1) > room:
        shown = [index for index in shown if not columns[index].spare]
    block, taken = [0], needed[0]
    for index in shown[1:]:
        if taken + GAP + needed[index] > room and len(block) > 1:
            yield block
            block, taken = [0], needed[0]
        block.append(index)
        taken += GAP + needed[index]
    yield block


def _rich_table(columns: Sequence[Column], rows: Sequence[Sequence[str]], header: bool) -> Table:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, GAP, 0, 0), show_header=header)
    for column in columns:
        table.add_column(
            column.title, justify="right" if column.right else "left", overflow="fold", no_wrap=not column.folds
        )
    for row in rows:
        table.add_row(*row)
    return table
