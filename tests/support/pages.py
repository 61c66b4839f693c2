"""The documentation's pages and their Python."""

from __future__ import annotations

import re
from pathlib import Path

from support.paths import CHECKOUT

PAGES = [
    CHECKOUT / "README.md",
    CHECKOUT / "CONTRIBUTING.md",
    *sorted(CHECKOUT.glob("docs/**/*.md")),
]
FRAGMENTS = {"CONTRIBUTING.md", "design.md"}  # their Python shows how code looks inside
RUNNABLE = [page for page in PAGES if page.name not in FRAGMENTS]

BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def python_of(page: Path) -> str:
    """The page's Python blocks, one after another, each at its own line number."""
    text = page.read_text(encoding="utf-8")
    lines = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        for i, line in enumerate(block.group(1).splitlines()):
            lines[first + i] = line
    return "\n".join(lines)
