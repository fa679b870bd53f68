"""Tables of one line each, in a narrow terminal as well: what is long stands below its line."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table

_BETWEEN = 2
_NARROWEST = 9  # a column that is folded keeps this


@dataclass(slots=True)
class Lines:
    """columns: their heads. right: those that are set to the right. whole: those that are never folded, like times.
    below: the last column goes below its line, unless every line has room for it. spare: the first column is left out
    where all the folding does not make room for it."""

    columns: Sequence[str]
    right: Collection[str] = ()
    whole: Collection[str] = ()
    below: bool = False
    spare: bool = False
    _rows: list[tuple[list[str], list[str]]] = field(default_factory=list)

    def add(self, *cells: str, notes: Sequence[str] = ()) -> None:
        """notes: what is to be said of it, below its line in any case."""
        self._rows.append((list(cells), list(notes)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, rows = list(self.columns), self._rows
        widths = _widths(console, columns, rows)
        if self.below and _total(widths) > options.max_width:
            del columns[-1]
            rows = [(cells[:-1], [cell for cell in cells[-1:] if cell] + notes) for cells, notes in rows]
            widths = _widths(console, columns, rows)
        foldable = [name not in self.whole for name in columns]
        widths = _narrowed(made := widths, foldable, options.max_width)
        if self.spare and _total(widths) > options.max_width:
            del columns[0]
            rows = [(cells[1:], notes) for cells, notes in rows]
            widths = _narrowed(made[1:], foldable[1:], options.max_width)
        yield self._part(columns, widths, header=True)
        for cells, notes in rows:
            part = self._part(columns, widths, header=False)
            part.add_row(*cells)
            yield part
            for note in notes:
                yield Padding(console.render_str(note, overflow="fold"), (0, 0, 0, 2))

    def _part(self, columns: Sequence[str], widths: Sequence[int], *, header: bool) -> Table:
        part = Table(box=None, pad_edge=False, header_style="bold", padding=(0, _BETWEEN, 0, 0), show_header=header)
        for name, width in zip(columns, widths, strict=True):
            justify = "right" if name in self.right else "left"
            part.add_column(name, justify=justify, overflow="fold", width=width)  # type: ignore[arg-type]
        return part


def _widths(console: Console, columns: Sequence[str], rows: Sequence[tuple[list[str], list[str]]]) -> list[int]:
    told = [columns, *(cells for cells, _ in rows)]
    return [max(console.render_str(cell).cell_len for cell in column) for column in zip(*told, strict=True)]


def _total(widths: Sequence[int]) -> int:
    return sum(widths) + _BETWEEN * len(widths)


def _narrowed(widths: Sequence[int], foldable: Sequence[bool], room: int) -> list[int]:
    """So that they have room, if they can: a cell goes at a time from the widest of those that may be folded."""
    made = list(widths)
    while _total(made) > room:
        widest = max(range(len(made)), key=lambda at: made[at] if foldable[at] else 0)
        if not foldable[widest] or made[widest] <= _NARROWEST:
            break
        made[widest] -= 1
    return made
