"""`gradient train`: trains a language model on text or chats, new or from existing weights."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from gradient.cli import first_use
from gradient.cli import options as opt
from gradient.cli.device import chosen_device
from gradient.cli.flags import flag, spell_out
from gradient.errors import ArgumentError
from gradient.training.config import CONFIG, OPTIONS, PRESETS, TrainConfig

_SIZES = ", ".join(
    f"{name} ({shape['n_layer']} blocks, width {shape['n_embd']})"
    for name, shape in PRESETS.items()
)


def train(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            parser=opt.named_path,
            help="Text and .jsonl files, and folders; none: Python's own standard library.",
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            parser=opt.named_path,
            metavar="<path>",
            help="The run's folder.",
            rich_help_panel="The run",
        ),
    ] = Path(TrainConfig.out),
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on from the last checkpoint.", rich_help_panel="The run"),
    ] = False,
    size: Annotated[
        str | None, typer.Option("--size", help=f"{_SIZES}.", rich_help_panel="Model")
    ] = None,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
    **settings: Any,
) -> None:
    """Train a language model on text or chats, and export it as a Hugging Face style folder.

    A .jsonl file has a document in each line: {"text": "..."}, or a chat, {"messages": [{"role":
    "user", "content": "..."}, ...]}, of which only the assistant's words are learned.

    Ctrl-C finishes the step, saves, and shows how to resume. A resumed run keeps its settings; give
    only those that change, such as --steps. With --json every event is one JSON line.
    """
    # Settings not given are None or an empty list: a resumed run keeps its own values.
    given = {name: value for name, value in settings.items() if value not in (None, [])}
    if "sample_prompts" in given:
        given["sample_prompts"] = tuple(given["sample_prompts"])
    if "device" in given:
        given["device"] = chosen_device(given["device"])
    if paths:
        given["paths"] = tuple(str(path) for path in paths)
    config = _config(out, size, given, resume=resume)
    if config.device == "cpu":
        first_use.expect(f"training in {config.dtype}")

    from gradient.training.reporters import JsonReporter, for_stream
    from gradient.training.run import train as run

    run(config, resume=resume, reporter=JsonReporter() if as_json else for_stream())


def _config(out: Path, size: str | None, given: dict[str, Any], *, resume: bool) -> TrainConfig:
    if "base_model" in given:
        from gradient import hub

        if size is not None:
            raise ArgumentError("--size: the model given by --from decides its shape")
        given["base_model"] = str(hub.find(given["base_model"]))
    if not resume and "base_model" in given:
        return TrainConfig.from_base(given.pop("base_model"), out=str(out), **given)
    if not resume:
        return TrainConfig.preset(size or "small", out=str(out), **given)
    if size is not None:
        given = PRESETS.get(size, {}) | given
    return TrainConfig.load(out / CONFIG).resumed_with(given | {"out": str(out)})


def _flags() -> Iterator[inspect.Parameter]:
    """A flag for each field of TrainConfig that has help."""
    hints = typing.get_type_hints(TrainConfig)
    names = {name: [f"--{option}"] for name, option in OPTIONS.items()}
    names |= {"sample_prompts": ["--sample"], "learning_rate": ["--learning-rate", "--lr"]}
    for field in dataclasses.fields(TrainConfig):
        if "panel" not in field.metadata:
            continue
        shown = "from --size" if field.name in PRESETS["small"] else field.default
        if isinstance(shown, bool):
            shown = "yes" if shown else "no"
        yield flag(
            field.name,
            list[str] if field.name == "sample_prompts" else hints[field.name],
            *names.get(field.name, ()),
            help=field.metadata["help"],
            show_default=False if shown in (None, ()) else str(shown),
            rich_help_panel=field.metadata["panel"],
        )


spell_out(train, _flags())
