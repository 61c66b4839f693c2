"""`python -m bench.chart RESULTS.jsonl PICTURE.png`: the `llama.cpp` case as a table and as bars.

The table, in Markdown, is printed. The picture needs matplotlib, which comes with
`pip install -e ".[train]"`. The command for the README's picture:

    python -m bench.chart bench/results/2026-11-23-icelake-two-threads.jsonl docs/llama_cpp.png
"""

from __future__ import annotations

import sys
from pathlib import Path

from bench.result import Result


def ratios(path: Path) -> dict[str, Result]:
    """Our results with a ratio to llama.cpp's, by what was measured; the last of several."""
    lines = path.read_text(encoding="utf-8").splitlines()
    results = [Result.from_json(line) for line in lines if line.startswith('{"kind": "result"')]
    return {r.what: r for r in results if r.case == r.peer == "llama.cpp"}


def table(results: dict[str, Result]) -> str:
    """The figures as Markdown."""
    rows = ["| weights: task | tokens a second | against llama.cpp |", "|---|---|---|"]
    rows += [f"| {what} | {r.value:.3g} | {r.ratio:.2f} |" for what, r in results.items()]
    return "\n".join(rows)


def draw(results: dict[str, Result], picture: Path) -> None:
    """Draw a bar for each ratio, and a line at 1, where both are equally fast."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1 + 0.3 * len(results)), layout="constrained")
    axes = figure.subplots()
    axes.barh(list(results), [r.ratio or 0.0 for r in results.values()], color="#3b6ea5")
    axes.axvline(1, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("tokens a second, as a multiple of llama.cpp's")
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    found = ratios(Path(sys.argv[1]))
    print(table(found))
    draw(found, Path(sys.argv[2]))
