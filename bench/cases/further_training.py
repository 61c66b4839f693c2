"""Training steps of models of further kinds, beside PyTorch's."""

from __future__ import annotations

from collections.abc import Iterator

from bench.cases import Options
from bench.cases.training import measure
from bench.further_models import MODELS
from bench.result import Result


def run(options: Options) -> Iterator[Result]:
    yield from measure("models", MODELS, options)
