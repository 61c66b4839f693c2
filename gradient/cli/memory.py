"""`gradient memory`: whether a model fits into memory, without loading it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.output import byte_size, print_json, print_table


def memory(
    model: Annotated[str, typer.Argument(help="A model's folder, file or hub id.")] = "tinyworld",
    context: Annotated[
        int | None,
        typer.Option(
            "--context",
            "-c",
            min=2,
            help="Tokens of a row, generated ones included.",
            show_default="the model's, at most 2048",
        ),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", "-b", min=1, help="Rows at once.")] = 1,
    dtype: opt.DType = None,
    quantize: opt.Quantize = None,
    cache: Annotated[
        str, typer.Option("--cache", help="The cache's kind: static, sliding, paged.")
    ] = "static",
    cache_dtype: Annotated[
        str | None, typer.Option("--cache-dtype", help="What keys and values are stored in.")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Run some layers on a whole chunk of the prompt: closer, and slower."
        ),
    ] = False,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Estimate the peak memory of generation, and compare it with this machine's memory.

    The exit code is 1 if it does not fit.
    """
    from gradient import hub
    from gradient.evaluation.memory import forecast
    from gradient.io.free_memory import available

    path = hub.find(model, revision=revision, offline=offline)
    found = forecast(
        path,
        context=context,
        batch=batch,
        dtype=dtype,
        quantize=quantize,
        cache=cache,
        cache_dtype=cache_dtype,
        measure=measure,
    )
    free = available()
    fits = free is None or found.total <= free
    if as_json:
        report: dict[str, Any] = {"model": model, **asdict(found), "total": found.total}
        print_json(report | {"available": free, "fits": fits})
    else:
        rows = [
            ("program", byte_size(found.program), "Python, libraries, kernels, the tokenizer"),
            ("weights", byte_size(found.weights), ""),
            ("cache", byte_size(found.cache), f"{batch} x {found.context} tokens"),
            ("working", byte_size(found.working), "activations and what kernels need for a moment"),
            ("peak", byte_size(found.total), ""),
        ]
        if free is not None:
            rows.append(("available", byte_size(free), "it fits" if fits else "it does not fit"))
        print_table((model, "memory", ""), rows)
    if not fits:
        raise typer.Exit(1)
