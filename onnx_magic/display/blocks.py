"""What a shown record is made of: a few plain blocks, each with two renderings (text.py, html.py).

Strings in blocks are raw: the renderings make them visible, cut and escape them, and nobody else does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from onnx_magic.records.closeups import Closeup

Tone: TypeAlias = Literal["plain", "good", "bad", "warn", "name", "quiet"]
"""`good`, `bad` and `warn` go with a word or a mark that says the same: colour alone says nothing."""

MARKS: dict[str, str] = {"good": "✓", "bad": "✗", "warn": "!"}
"""The mark that stands beside a tone."""


@dataclass(frozen=True)
class Cell:
    """A few words with one look.

    Args:
        text: What is written.
        tone: Its colour.
        mono: Whether it is code, a name or a number.
        aside: A word or two behind it, small and in brackets.
        limit: Characters after which the middle is cut out.
        mark: Which part of the text stands out, from where to where; such a text is not cut.
        bar: Length of a bar that stands in front of the text, from 0 to 1.
        lines: Whether it is a text that a person reads: as HTML its line breaks are breaks, not `\\n`.
    """

    text: str
    tone: Tone = "plain"
    mono: bool = False
    aside: str = ""
    limit: int = 60
    mark: tuple[int, int] | None = None
    bar: float | None = None
    lines: bool = False


@dataclass(frozen=True)
class Verdict:
    """The first line: a word, what it says, and what to do."""

    tone: Tone
    word: str
    sentence: str
    fix: str = ""


@dataclass(frozen=True)
class Item:
    """A sentence of its own: a finding or a note, its place and its fix."""

    tone: Tone
    word: str
    sentence: str
    fix: str = ""
    place: str = ""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Args:
        title: Its title.
        right: Numbers stand in it: set to the right.
        wraps: Words stand in it: broken into lines where there is little room (HTML).
    """

    title: str
    right: bool = False
    wraps: bool = False


@dataclass(frozen=True)
class Table:
    """Rows under columns; the cell in `header_column` names its row.

    Args:
        label: What the table holds, for a screen reader.
        columns: The columns.
        rows: The rows, a cell per column.
        keep: How many rows are shown at once; the others are folded away (HTML) or counted (text).
        more: Where the other rows are to be had (`exported.inputs`).
        header_column: Index of the column that names the row.
        rules: Indices of rows that begin a new group.
    """

    label: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]
    keep: int = 16
    more: str = ""
    header_column: int = 0
    rules: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Facts:
    """A line of small facts, set apart by `gap`."""

    parts: tuple[Cell, ...]
    gap: str = " · "


@dataclass(frozen=True)
class Beside:
    """Tables that stand beside each other where there is room."""

    tables: tuple[Table, ...]


@dataclass(frozen=True)
class Figure:
    """A heat map with a line about it and a small table of values (text has the last two).

    Args:
        title: The line.
        table: The values.
        closeup: What the heat map shows.
        alt: What the heat map says, in words.
    """

    title: Facts
    table: Table
    closeup: Closeup
    alt: str


@dataclass(frozen=True)
class Figures:
    """Figures, and a line that says how to read them (HTML)."""

    figures: tuple[Figure, ...]
    legend: str


@dataclass(frozen=True)
class Fold:
    """Blocks behind a title that is opened by a click (HTML); text names the title and indents them.

    Args:
        title: What is in it.
        blocks: What is shown when it is open.
    """

    title: str
    blocks: tuple[Block, ...]


Block: TypeAlias = Verdict | Item | Table | Facts | Beside | Figures | Fold
Blocks: TypeAlias = Sequence[Block]
