"""Writes the tables of the documentation that are made of code: `python docs/tables.py`."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from gradient.generation.declared import declared
from gradient.generation.options import Options
from gradient.models.families import MODELS

DOCS = Path(__file__).parent
OPTIONS = ("| option | default | meaning |", "|---|---|---|")
FAMILIES = ("| family | `model_type` in config.json | GGUF | file |", "|---|---|---|---|")


def options_table() -> str:
    """Return the table of the options of `generate`."""
    rows = [
        f"| `{name}` | `{option.default!r}` | {option.help} |"
        for name, option in declared(Options).items()
    ]
    return "\n".join([*OPTIONS, *rows, ""])


def families_table() -> str:
    """Return the table of the families of models, a row for each file."""
    files: dict[str, list[str]] = {}
    for model_type, entry in MODELS.items():
        files.setdefault(entry.config.split(".")[0], []).append(model_type)
    rows = []
    for file, model_types in files.items():
        path = f"gradient/models/{file}.py"
        doc = ast.get_docstring(ast.parse((DOCS.parent / path).read_text(encoding="utf-8"))) or ""
        family, types = doc.split("\n")[0].removesuffix("."), ", ".join(map(code, model_types))
        gguf = any(MODELS[model_type].gguf for model_type in model_types)
        rows.append(f"| {family} | {types} | {'yes' if gguf else 'no'} | {code(path)} |")
    return "\n".join([*FAMILIES, *rows, ""])


def code(text: str) -> str:
    """Return a text as code."""
    return f"`{text}`"


#: {page: (the head of its table, what makes it)}
TABLES = {
    DOCS / "language_models.md": (OPTIONS, options_table),
    DOCS / "models.md": (FAMILIES, families_table),
}


def with_table(page: Path) -> str:
    """Return the text of a page with its table as it should be."""
    (head, _), table = TABLES[page]
    text = page.read_text(encoding="utf-8")
    return re.sub(rf"{re.escape(head)}\n(\|.*\n)*", lambda _: table(), text)


if __name__ == "__main__":
    for page in TABLES:
        page.write_text(with_table(page), encoding="utf-8")
