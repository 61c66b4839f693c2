"""Writes the tables of the documentation that are made of code: `python docs/tables.py`."""

from __future__ import annotations

import re
from pathlib import Path

from gradient.generation.declared import declared
from gradient.generation.options import Options

PAGE = Path(__file__).parent / "language_models.md"


def options_table() -> str:
    """Return the table of the options of `generate`."""
    rows = [
        f"| `{name}` | `{option.default!r}` | {option.help} |"
        for name, option in declared(Options).items()
    ]
    return "\n".join(["| option | default | meaning |", "|---|---|---|", *rows, ""])


def with_table(page: str) -> str:
    """Return the page with its table as it should be."""
    start = re.escape("| option | default | meaning |\n")
    return re.sub(rf"{start}(\|.*\n)*", lambda _: options_table(), page)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
