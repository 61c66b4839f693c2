"""The documentation tells the truth: its Python runs and prints what it says, its links hold."""

from __future__ import annotations

import ast
import contextlib
import io
import re
import runpy
from pathlib import Path

import pytest

from support.pages import PAGES, RUNNABLE, python_of
from support.paths import CHECKOUT

pytestmark = pytest.mark.cpu_only


LINK = re.compile(r"\]\(([^)\s]+)\)")


def promised_output(line: str) -> str | None:
    """What a `print(...)  # text` line says it prints, or None where it says nothing exact."""
    _, mark, comment = line.partition("  # ")
    comment = comment.strip()
    return comment if mark and "..." not in comment and not comment.endswith(".") else None


@pytest.mark.slow
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_python_of_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = python_of(page)
    lines = source.splitlines()
    names: dict[str, object] = {"__name__": "__main__"}
    monkeypatch.chdir(tmp_path)
    wrong = []
    for statement in ast.parse(source).body:
        printed = io.StringIO()
        code = compile(ast.Module([statement], []), str(page), "exec")
        with contextlib.redirect_stdout(printed):
            exec(code, names)
        promised = promised_output(lines[(statement.end_lineno or 1) - 1])
        is_print = ast.unparse(statement).startswith("print(")
        if is_print and promised is not None and printed.getvalue().strip() != promised:
            wrong.append(
                f"{page.name}:{statement.lineno}: says {promised!r}, prints {printed.getvalue()!r}"
            )
    assert wrong == []


def test_every_public_package_is_in_the_reference() -> None:
    pages = "".join(page.read_text() for page in CHECKOUT.glob("docs/reference/*.md"))
    packages = {path.stem for path in (CHECKOUT / "gradient").glob("[!_]*")} - {"py"}
    inside = {"checks", "cli", "cuda", "dtypes", "garbage", "hub_data", "locks", "ops"}
    inside |= {"random", "source_lines", "tensor"}
    # Shown with others, or of no use by themselves
    inside |= {"absent", "compat", "tensor_backend", "utils"}
    missing = {name for name in packages - inside if f"::: gradient.{name}\n" not in pages}
    assert missing == {"models"}  # whose modules docs/site.py lists


def test_tables_made_of_code_are_up_to_date() -> None:
    tables = runpy.run_path(str(CHECKOUT / "docs" / "tables.py"))
    for page, (_, table) in tables["TABLES"].items():
        assert table() in page.read_text(encoding="utf-8"), "run: python docs/tables.py"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_of_page_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    anchors = {
        re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    }
    broken = []
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        if path and not (page.parent / path).exists():
            broken.append(target)
        if not path and anchor not in anchors:
            broken.append(target)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_named_in_page_exist(page: Path) -> None:
    """`gradient/models/gpt2.py` in backquotes is a promise that the file is there."""
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"`((?:gradient|tests|bench|examples|docs)/[\w./]*)`", text)
    assert [path for path in named if not (CHECKOUT / path).exists()] == []


def test_no_entry_of_the_changelog_is_inside_another() -> None:
    """An entry that was put between the lines of another leaves one without its end."""
    text = (CHECKOUT / "CHANGELOG.md").read_text(encoding="utf-8")
    entries = [e for e in re.split(r"^(?=- |#|\n)", text, flags=re.MULTILINE) if e[:2] == "- "]
    assert [e for e in entries if not e.rstrip().endswith((".", ".)"))] == []
