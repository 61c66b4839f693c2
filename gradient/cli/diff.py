"""`gradient diff`: the first module, and the first op, at which two runs of a model differ."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.device import chosen_device
from gradient.cli.output import print_json, print_table
from gradient.dtypes.names import floating_dtype

if TYPE_CHECKING:
    from gradient.evaluation.divergence import Difference, Divergence
    from gradient.evaluation.trace import Event

SETTINGS = "dtype=, device=, quantize=, cached, transformers"
READERS: dict[str, Callable[[str], Any]] = {
    "dtype": lambda text: floating_dtype(text).name,
    "device": chosen_device,
    "quantize": str,
}
"""The settings of the form name=value, and the function that reads the value of each."""
TEXT = "The quick brown fox jumps over the lazy dog, and then it sleeps."


@dataclass
class Side:
    """One of the two runs: a model, and its settings."""

    model: str
    options: dict[str, Any] = field(default_factory=dict)
    cached: bool = False
    transformers: bool = False


def diff(
    a: Annotated[
        str,
        typer.Argument(
            help=f"A model's folder, file or hub id, and perhaps settings: MODEL@SETTING,... with "
            f"{SETTINGS}."
        ),
    ],
    b: Annotated[
        str,
        typer.Argument(help="The reference, likewise. @SETTINGS alone: of the same model."),
    ],
    text: Annotated[str, typer.Option("--text", help="What both read.")] = TEXT,
    tolerance: Annotated[
        float | None,
        typer.Option(
            "--tolerance",
            min=0.0,
            help="The largest relative error that is no difference.",
            show_default="0.001, and 0.05 where a side is packed or in 16 bits",
        ),
    ] = None,
    all_ops: Annotated[bool, typer.Option("--ops", help="List the ops, too.")] = False,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Compare two runs of a model, result by result; the exit code is 1 if they differ.

    For example: gradient diff ./model @transformers, or gradient diff model.gguf @cached
    """
    from gradient.evaluation.divergence import compare

    first = read_side(a, None)
    second = read_side(b, first.model)
    tokens = read_tokens(first if not first.transformers else second, text, offline)
    wide = tolerance
    sides = (first, second)
    if text == TEXT:  # the default: cut to what both can read
        tokens = tokens[: min(context_of(side, offline) or len(tokens) for side in sides)]
    if wide is None:
        same = first.model == second.model
        wide = 0.05 if any(rounded(side, same, offline) for side in sides) else 1e-3
    runs = [results_of(side, tokens, offline) for side in sides]
    found = compare(runs[0], runs[1], wide)
    if as_json:
        print_json(report(found, len(tokens), all_ops))
    else:
        show(found, a, b, len(tokens), all_ops)
    if found.first_module is not None:
        raise typer.Exit(1)


def read_side(text: str, default: str | None) -> Side:
    """Read "MODEL@dtype=bfloat16,cached".

    Raises:
        ArgumentError: the model is missing, or the setting is unknown.
    """
    from gradient.errors import ArgumentError

    model, _, settings = text.partition("@")
    side = Side(model or default or "")
    if not side.model:
        raise ArgumentError(f"diff: {text!r} names no model")
    for setting in filter(None, settings.split(",")):
        name, equals, value = setting.partition("=")
        if setting in ("cached", "transformers"):
            setattr(side, setting, True)
        elif equals and value and name in READERS:
            side.options[name] = READERS[name](value)
        else:
            raise ArgumentError(f"diff: unknown setting {setting!r} in {text!r}; use {SETTINGS}")
    return side


def rounded(side: Side, same: bool, offline: bool) -> bool:
    """Whether a side computes with fewer bits than float32, by its settings or its weights.

    If both sides have the `same` packed weights, they compute with the same numbers, in float32.
    """
    from gradient import hub
    from gradient.checkpoints import open_checkpoint

    if "quantize" in side.options:
        return True
    if "dtype" in side.options:
        return side.options["dtype"] in ("bfloat16", "float16")
    weights = open_checkpoint(hub.find(side.model, offline=offline)).weights
    dtypes = {weights[name].dtype for name in weights}
    if any(each.is_packed for each in dtypes):
        return not same
    return any(each.is_floating_point and each.itemsize < 4 for each in dtypes)


def read_tokens(side: Side, text: str, offline: bool) -> list[int]:
    from gradient import hub
    from gradient.checkpoints import open_checkpoint

    checkpoint = open_checkpoint(hub.find(side.model, offline=offline))
    return checkpoint.load_tokenizer().encode(text)


def context_of(side: Side, offline: bool) -> int | None:
    """The context length of a side's model by its config; None if the config has none."""
    from gradient import hub
    from gradient.checkpoints import open_checkpoint

    config = open_checkpoint(hub.find(side.model, offline=offline)).config
    found: int | None = config.get("n_positions") or config.get("max_position_embeddings")
    return found


def results_of(side: Side, tokens: list[int], offline: bool) -> list[Event]:
    from gradient import hub
    from gradient.errors import ArgumentError
    from gradient.evaluation.divergence import activations
    from gradient.evaluation.reference import run_transformers

    if side.transformers:
        path = hub.find(side.model, offline=offline)
        return run_transformers(path, tokens, side.options.get("dtype"))
    model = hub.load(side.model, offline=offline, **side.options).model
    if tokens and max(tokens) >= model.config.vocab_size:
        raise ArgumentError(
            f"diff: these cannot be compared: {side.model} has a vocabulary of "
            f"{model.config.vocab_size}, and the other's tokens of the text go to {max(tokens)}: "
            "are they of one model?"
        )
    return activations(model, tokens, cached=side.cached)


def described(difference: Difference | None) -> dict[str, Any] | None:
    return None if difference is None else {"name": difference.name, "error": difference.error}


def report(found: Divergence, tokens: int, all_ops: bool) -> dict[str, Any]:
    """The comparison as a JSON document."""
    return {
        "tokens": tokens,
        "tolerance": found.tolerance,
        "first_module": described(found.first_module),
        "first_op": described(found.first_op),
        "largest": found.largest,
        "modules": [described(each) for each in found.modules],
        "ops": [described(each) for each in found.ops] if all_ops else len(found.ops),
    }


def show(found: Divergence, a: str, b: str, tokens: int, all_ops: bool) -> None:
    """Print the comparison."""
    rows = [
        (each.name or "(the model)", f"{each.error:.2e}", mark(each.error, found.tolerance))
        for each in found.modules
    ]
    print_table(("module", "error", ""), rows, title=f"{a} against {b}, {tokens} tokens")
    if all_ops:
        typer.echo()
        rows = [(e.name, f"{e.error:.2e}", mark(e.error, found.tolerance)) for e in found.ops]
        print_table(("op", "error", ""), rows)
    typer.echo()
    if found.first_module is None:
        typer.echo(f"no difference above {found.tolerance:g}; the largest is {found.largest:.2e}")
        return
    first = found.first_module
    typer.echo(f"first module that differs: {first.name or '(the model)'}  ({first.error:.2e})")
    if found.first_op is not None:
        typer.echo(
            f"first op that differs:     {found.first_op.name}  ({found.first_op.error:.2e})"
        )


def mark(error: float, tolerance: float) -> str:
    return "" if error <= tolerance else "differs"
