"""`python -m bench.worker CASE OPTIONS`: runs one case, and prints its results as JSON lines."""

from __future__ import annotations

import importlib
import json
import sys

from bench.cases import CASES, Options


def main(name: str, options: str) -> None:
    case = importlib.import_module(f"bench.cases.{CASES[name].module}")
    for result in case.run(Options(**json.loads(options))):
        print(result.json(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
