"""Aligned tables for the terminal."""


def table(header: list[str], rows: list[list[str]]) -> str:
    """Format rows in columns as wide as their widest cell, numbers right-aligned and words left-aligned."""
    columns = list(zip(header, *rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(cell[:1].isdigit() for cell in column[1:] if cell) for column in columns]

    def line(cells: list[str]) -> str:
        aligned = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        return "  ".join(aligned).rstrip()

    return "\n".join([line(header), "  ".join("─" * width for width in widths), *map(line, rows)])
