"""What mkdocs does not do by itself: the README is the first page, and a link to a file of the
checkout leads to a page that shows the file."""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

import gradient

CHECKOUT = Path(__file__).parent.parent.resolve()
DOCS = CHECKOUT / "docs"
#: What pages of the reference have in place of a list that is made here.
FUNCTIONS, MODELS = "<!-- functions -->", "<!-- models -->"
#: Pages that stand above docs/.
ABOVE = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
LINK = re.compile(r"(?<=\]\()(?!https?:|#)([^)#\s]+)(?=[)#])")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages above docs/, and one for each file and folder that a page links to."""
    for name, page in ABOVE.items():
        text = (CHECKOUT / name).read_text(encoding="utf-8")
        files.append(File.generated(config, page, content=text))
    pages = [file for file in files if file.src_uri.endswith(".md")]
    linked = {path for page in pages for path in _linked(page) if _page_of(path) is None}
    inside = {path for folder in linked if folder.is_dir() for path in folder.glob("*.py")}
    for path in sorted(linked | inside):
        files.append(File.generated(config, _source_page(path), content=_shown(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turn links to files of the checkout into links to their pages."""
    if page.file.src_uri.startswith("source/"):
        return markdown
    if page.file.src_uri.startswith("reference/"):
        for marker, made in ((FUNCTIONS, _functions), (MODELS, _models)):
            markdown = markdown.replace(marker, made()) if marker in markdown else markdown
    here = Path(page.file.src_uri).parent

    def target(link: re.Match[str]) -> str:
        path = _folder_of(page.file) / link[1]
        if not path.exists():
            return link[1]  # mkdocs tells of it
        to = _page_of(path.resolve()) or _source_page(path.resolve())
        return Path(os.path.relpath(to, here)).as_posix()

    return LINK.sub(target, markdown)


def _functions() -> str:
    """A table of the functions of the namespace `gradient`; those of ops are made when they run."""
    rows = []
    for name in sorted(each for each in dir(gradient) if not each.startswith("_")):
        value = getattr(gradient, name)
        if callable(value) and not isinstance(value, (type, gradient.DType)):
            said = (inspect.getdoc(value) or "").partition("\n\n")[0]
            cells = (f"{name}{_parameters(value)}", " ".join(said.split()))
            first, second = (cell.replace("|", "\\|") for cell in cells)
            rows.append(f"| `{first}` | {second} |")
    return "\n".join(["| function | |", "|---|---|", *rows])


def _models() -> str:
    """The reference of each module of `gradient.models`."""
    names = sorted(path.stem for path in (CHECKOUT / "gradient" / "models").glob("[!_]*.py"))
    options = ("show_root_heading: true", "show_root_toc_entry: true", "show_source: false")
    lines = "".join(f"      {option}\n" for option in options)
    return "\n".join(f"::: gradient.models.{name}\n    options:\n{lines}" for name in names)


def _parameters(function: Any) -> str:
    """`(input, dim=None, *, dtype=None)`: a signature without annotations."""
    signature = inspect.signature(function)
    plain = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    return str(inspect.Signature(plain))


def _folder_of(file: File) -> Path:
    """The folder from which a page's links count."""
    return CHECKOUT if file.src_uri in ABOVE.values() else (DOCS / file.src_uri).parent


def _linked(file: File) -> set[Path]:
    """The files and folders of the checkout that a page links to."""
    paths = {(_folder_of(file) / link).resolve() for link in LINK.findall(file.content_string)}
    return {path for path in paths if path.exists()}


def _page_of(path: Path) -> str | None:
    """The page that a Markdown file is, or a picture; None of what is neither."""
    if path.is_relative_to(DOCS) and path.suffix in (".md", ".png"):
        return path.relative_to(DOCS).as_posix()
    return ABOVE.get(path.relative_to(CHECKOUT).as_posix())


def _source_page(path: Path) -> str:
    name = path.relative_to(CHECKOUT).as_posix()
    return f"source/{name}/index.md" if path.is_dir() else f"source/{name}.md"


def _shown(path: Path) -> str:
    """A page for a file: itself; for a folder: its files, each with what it says of itself."""
    name = path.relative_to(CHECKOUT).as_posix()
    hidden = "---\nsearch:\n  exclude: true\n---\n"
    if path.is_dir():
        lines = [
            f"- [{file.name}]({file.name}.md): {_summary(file)}"
            for file in sorted(path.glob("*.py"))
            if _summary(file)
        ]
        return f"{hidden}# {name}/\n\n" + "\n".join(lines) + "\n"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return hidden + re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)  # its links lead elsewhere
    kind = {".py": "python", ".toml": "toml"}.get(path.suffix, "text")
    return f'{hidden}# {name}\n\n````{kind} linenums="1"\n{text}\n````\n'


def _summary(file: Path) -> str:
    said = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
    return " ".join(said.partition("\n\n")[0].split())
