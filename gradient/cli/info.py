"""`gradient info`: what a model, a checkpoint or a weight file is, without running it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.output import byte_size, print_json, print_table


def info(
    model: Annotated[
        str,
        typer.Argument(help="A model's folder or hub id, a checkpoint, or a .safetensors file."),
    ] = "pycoder",
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show a model's architecture, parameters, memory and config.

    Weights are memory-mapped, not read.
    """
    path = Path(model).expanduser()
    if path.suffix == ".safetensors" and path.is_file():
        described = describe_file(path)
    elif (path / "checkpoint.json").is_file():
        described = describe_checkpoint(path)
    else:
        described = describe_model(model, revision=revision, offline=offline)
    if as_json:
        print_json(described)
    else:
        _print(described)


def describe_model(name: str, *, revision: str | None, offline: bool) -> dict[str, Any]:
    """A model by id or folder; sizes in bytes, shared weights counted once."""
    from gradient import hub

    folder = hub.find(name, revision=revision, offline=offline)
    language_model = hub.load(folder, offline=offline)
    model, settings = language_model.model, language_model.config.to_hf()
    lengths = ("max_position_embeddings", "n_positions", "n_ctx")
    context = next((settings[key] for key in lengths if settings.get(key)), None)
    weights = (
        (path, parameter.numel(), parameter.numel() * parameter.dtype.itemsize, parameter.dtype)
        for path, parameter in model.named_parameters()
    )
    return {
        "model": name,
        "folder": str(folder),
        "architecture": type(model).__name__,
        **_sizes((path, n, size, dtype.name) for path, n, size, dtype in weights),
        "vocab_size": language_model.config.vocab_size,
        "context_length": context,
        "chat_template": bool(language_model.tokenizer.chat_template),
        "config": settings,
        "training": _training(folder),
    }


def describe_checkpoint(folder: Path) -> dict[str, Any]:
    """A checkpoint of a training run: its step, its metrics and its weights.

    Raises:
        CheckpointError: it is damaged.
    """
    from gradient.io.checkpoint import find_checkpoint

    found = find_checkpoint(folder)
    described = describe_file(folder / "model.safetensors")
    return described | {"model": str(folder), "step": found.step, "metrics": found.metrics}


def describe_file(path: Path) -> dict[str, Any]:
    """The tensors of a safetensors file, from its header alone.

    Raises:
        FileFormatError: it is truncated or malformed.
    """
    from gradient.io.safetensors import SafetensorsFile

    file = SafetensorsFile(path)
    weights = [
        (name, _product(entry.shape), entry.stop - entry.start, entry.dtype)
        for name, entry in file.entries.items()
    ]
    return {"model": str(path), **_sizes(weights), "metadata": dict(file.metadata)}


def _product(shape: Iterable[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _sizes(weights: Iterable[tuple[str, int, int, str]]) -> dict[str, Any]:
    """Totals, and those of each part, of weights given as (name, numbers, bytes, dtype)."""
    parts: dict[str, dict[str, int]] = defaultdict(lambda: {"parameters": 0, "bytes": 0})
    dtypes = set()
    for name, count, size, dtype in weights:
        part = parts[_part(name)]
        part["parameters"] += count
        part["bytes"] += size
        dtypes.add(dtype)
    return {
        "parameters": sum(part["parameters"] for part in parts.values()),
        "bytes": sum(part["bytes"] for part in parts.values()),
        "dtypes": sorted(dtypes),
        "parts": dict(parts),
    }


def _part(name: str) -> str:
    """`transformer.h.3.attn.c_attn.weight` belongs to `transformer.h.*.attn`."""
    names = ["*" if part.isdigit() else part for part in name.split(".")[:-1]]
    return ".".join(names[: names.index("*") + 2] if "*" in names else names) or name


def _training(folder: Path) -> dict[str, Any] | None:
    """What `gradient train` wrote of how the model came to be."""
    try:
        return json.loads((folder / "training.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def _print(described: dict[str, Any]) -> None:
    rows = [
        ("parameters", f"{described['parameters']:,}"),
        ("weights", f"{byte_size(described['bytes'])} in {', '.join(described['dtypes'])}"),
    ]
    if "architecture" in described:
        context = described["context_length"]
        rows += [
            ("architecture", described["architecture"]),
            ("vocabulary", f"{described['vocab_size']:,}"),
            ("context", f"{context} tokens" if context else "not limited"),
            ("chat template", "yes" if described["chat_template"] else "no"),
        ]
    if "step" in described:
        rows.append(("step", str(described["step"])))
        rows += [(name, f"{value}") for name, value in described["metrics"].items()]
    if training := described.get("training"):
        rows += [
            ("trained on", f"{training['tokens_seen']:,} tokens of {training['text']}"),
            ("validation loss", f"{training['val_loss']}"),
        ]
    print_table((described["model"], ""), rows)
    parts = [
        (name, f"{part['parameters']:,}", byte_size(part["bytes"]))
        for name, part in described["parts"].items()
    ]
    typer.echo()
    print_table(("part", "parameters", "memory"), parts)
    for name in ("config", "metadata"):
        if described.get(name):
            typer.echo()
            print_table((name, ""), [(key, str(value)) for key, value in described[name].items()])
