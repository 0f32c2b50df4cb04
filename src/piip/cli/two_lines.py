"""A table of what has long names: each stands on a line of its own, whole, for people copy it."""

from collections.abc import Sequence

from rich.text import Text

_GAP = "  "


def two_line_table(head: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Text:
    """Each name, and in the line below it its cells: the first to the left, the others to the right.

    It is to be printed with `soft_wrap`: then a name that is wider than the terminal goes on in the next line. A first
    cell with nothing beside it may be wider than the others.

    Args:
        head: what stands above the cells.
        rows: name and cells.
    """
    lines = [head, *((_GAP + cells[0], *cells[1:]) for _, cells in rows)]
    widths = [max(map(len, column)) for column in zip(*(line for line in lines if any(line[1:])), strict=True)]
    first, *others = (_aligned(line, widths) for line in lines)
    table = Text().append(first, style="bold")
    for (name, _), line in zip(rows, others, strict=True):
        table.append(f"\n{name}\n").append(line[: widths[0]], style="dim").append(line[widths[0] :])
    return table


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    figures = (cell.rjust(width) for cell, width in zip(cells[1:], widths[1:], strict=True))
    return _GAP.join([cells[0].ljust(widths[0]), *figures]).rstrip()
