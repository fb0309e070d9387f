"""One way to print a table in a terminal."""

from __future__ import annotations

from collections.abc import Sequence


def format_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Lines of aligned columns under a header; numbers to the right, words to the left.

    Floats are printed with three decimals; None and NaN as "-".
    """
    cells = [list(header)] + [[format_cell(value) for value in row] for row in rows]
    widths = [max(len(line[i]) for line in cells) for i in range(len(header))]
    right = [all(not isinstance(row[i], str) for row in rows) and bool(rows) for i in range(len(header))]
    lines = ["  ".join(cell.rjust(width) if to_right else cell.ljust(width)
                       for cell, width, to_right in zip(line, widths, right)).rstrip() for line in cells]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def format_cell(value: object) -> str:
    """One value as it stands in a table."""
    if value is None or value != value:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)
