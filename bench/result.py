"""One measured figure, and how a list of them is written: as JSON lines and as a table."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Result:
    """One contender's figure in one case; bench/README.md explains the fields."""

    case: str
    what: str
    contender: str
    value: float
    unit: str
    best: float | None = None
    samples: int | None = None
    peer: str | None = None
    ratio: float | None = None
    roofline: float | None = None
    bound: str | None = None
    target: str | None = None
    met: bool | None = None
    note: str | None = None

    def json(self) -> str:
        fields = {name: value for name, value in asdict(self).items() if value is not None}
        return json.dumps({"kind": "result", **fields})

    @classmethod
    def from_json(cls, line: str) -> Result:
        fields = json.loads(line)
        fields.pop("kind")
        return cls(**fields)


HEADINGS = ("case", "what", "contender", "median", "best", "ratio", "roofline", "target")


def table(results: Iterable[Result]) -> str:
    """The results as aligned columns of text."""
    rows = [HEADINGS, *(_cells(result) for result in results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADINGS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _cells(result: Result) -> tuple[str, ...]:
    verdict = {True: "met", False: "MISSED", None: ""}[result.met]
    return (
        result.case,
        result.what,
        result.contender,
        f"{_figure(result.value)} {result.unit}",
        "" if result.best is None else _figure(result.best),
        "" if result.ratio is None else f"{result.ratio:.2f} x {result.peer}",
        "" if result.roofline is None else f"{result.roofline:.0%} of {result.bound}",
        " ".join(filter(None, (result.target, verdict))),
    )


def _figure(value: float) -> str:
    """Three significant digits, without an exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def first_line(error: BaseException) -> str:
    """The first line of an exception's message; "" if it has none."""
    return next(iter(str(error).splitlines()), "")[:200]
