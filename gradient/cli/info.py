"""`gradient info`: describes a model, a checkpoint or a weight file, without running it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.output import byte_size, print_json, print_table
from gradient.errors import GradientError

if TYPE_CHECKING:
    from gradient.checkpoints import Checkpoint

BUFFERS = ("running_mean", "running_var", "num_batches_tracked", "inv_freq", "position_ids")
"""The last parts of the names of buffers. A file does not say which tensors are parameters."""

#: A tensor: its name, numbers, bytes, dtype, shape.
Weight = tuple[str, int, int, str, tuple[int, ...]]


def info(
    model: Annotated[
        str,
        typer.Argument(
            help="A model's folder, file or hub id, a checkpoint, or any file of weights: "
            ".safetensors, .gguf, .pt, .pth, .bin."
        ),
    ] = "tinyworld",
    context: Annotated[
        int | None,
        typer.Option("--context", min=1, help="Tokens of a row.", show_default="the model's"),
    ] = None,
    batch: Annotated[int, typer.Option("--batch", min=1, help="Rows at once.")] = 1,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List every tensor: its shape, dtype and size.")
    ] = False,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show a model's architecture, parameters, memory and config, or the content of a weight file.

    Weights are memory-mapped, not read. `gradient memory` estimates the total memory.
    """
    from gradient.checkpoints import open_checkpoint
    from gradient.io.regular_file import file_format

    path = Path(model).expanduser()
    if path.is_file() and "safetensors" in (path.suffix[1:], file_format(path)):
        described = describe_file(path)
    elif path.is_file() and path.suffix != ".gguf" and not (path.parent / "config.json").is_file():
        described = describe_bare(open_checkpoint(path))
    elif (path / "checkpoint.json").is_file():
        described = describe_checkpoint(path)
    else:
        described = describe_model(
            model, revision=revision, offline=offline, context=context, batch=batch
        )
    if not tensors:
        described.pop("tensors", None)
    if as_json:
        print_json(described)
    else:
        _print(described)


def describe_model(
    name: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    context: int | None = None,
    batch: int = 1,
) -> dict[str, Any]:
    """A model by id, folder or file; sizes in bytes, shared weights counted once.

    Args:
        context: tokens of a row in the estimate of the cache; None: the model's context.
        batch: rows in the cache.
    """
    from gradient import hub
    from gradient.checkpoints import load_model, open_checkpoint

    checkpoint = open_checkpoint(hub.find(name, revision=revision, offline=offline))
    try:
        model = load_model(checkpoint)
    except GradientError as error:
        if not (checkpoint.metadata or any(checkpoint.folder.glob("*.safetensors"))):
            raise
        return describe_bare(checkpoint) | {"note": f"no model that gradient runs: {error}"}
    settings = model_settings(model)
    weights = [(name, *_described(value)) for name, value in model.named_parameters()]
    described = {
        "model": name,
        "folder": str(checkpoint.path),
        "architecture": model.architecture,
        **_sizes(weights),
        "tensors": _tensors(weights),
        "vocab_size": model.config.vocab_size,
        "context_length": settings["context"],
        "chat_template": bool(checkpoint.chat_template),
    }
    if hasattr(model, "kv_shapes"):
        tokens = context or settings["context"] or 2048
        each = sum(2 * heads * size for heads, size, _ in model.kv_shapes) * model.dtype.itemsize
        described["memory"] = {
            "context": tokens,
            "batch": batch,
            "cache_bytes_per_token": each,
            "cache_bytes": each * tokens * batch,
            "total_bytes": described["bytes"] + each * tokens * batch,
        }
    described |= {"config": settings["config"], "training": _training(checkpoint.path)}
    return described | _metadata(checkpoint.metadata)


def describe_bare(checkpoint: Checkpoint) -> dict[str, Any]:
    """The tensors of a file or folder of weights that need not be a model.

    Raises:
        FileFormatError: its format is unknown.
    """
    weights = [(name, *_described(checkpoint.tensors[name])) for name in checkpoint.tensors]
    found = {"model": str(checkpoint.path), **_sizes(weights), "tensors": _tensors(weights)}
    return found | _metadata(checkpoint.metadata)


def _metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A file's metadata; of long arrays only the length."""
    found = {}
    for key, value in metadata.items():
        if hasattr(value, "__len__") and not isinstance(value, str):
            items = value.tolist() if hasattr(value, "tolist") else list(value)
            found[key] = items if len(items) <= 16 else f"array of {len(items):,}"
        elif isinstance(value, str) and len(value) > 2000:
            found[key] = f"{value[:200]}... ({len(value):,} characters)"
        else:
            found[key] = value.item() if hasattr(value, "item") else value
    return {"metadata": found} if found else {}


def _described(value: Any) -> tuple[int, int, str, tuple[int, ...]]:
    """Numbers, bytes, dtype and shape of a tensor."""
    return value.numel(), value.nbytes, value.dtype.name, tuple(value.shape)


def _tensors(weights: Iterable[Weight]) -> list[dict[str, Any]]:
    """Each tensor, as a document lists it."""
    return [
        {"name": name, "shape": list(shape), "dtype": dtype, "bytes": size}
        for name, _, size, dtype, shape in weights
    ]


def model_settings(model: Any) -> dict[str, Any]:
    """A model's config as in config.json, and the context length of its training."""
    config = model.config.to_hf()
    lengths = ("max_position_embeddings", "n_positions", "n_ctx")
    return {
        "config": config,
        "context": next((config[key] for key in lengths if config.get(key)), None),
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
    """The tensors of a safetensors file, by its header only.

    Raises:
        FileFormatError: it is truncated or malformed.
    """
    from gradient.io.safetensors import SafetensorsFile

    file = SafetensorsFile(path)
    weights = [
        (name, math.prod(entry.shape), entry.stop - entry.start, entry.dtype, tuple(entry.shape))
        for name, entry in file.entries.items()
    ]
    described = {"model": str(path), **_sizes(weights), "tensors": _tensors(weights)}
    return described | _metadata(file.metadata)


def _sizes(weights: Iterable[Weight]) -> dict[str, Any]:
    """Totals of weights, and those of each part; numbers in buffers are not parameters."""
    parts: dict[str, dict[str, int]] = defaultdict(lambda: {"parameters": 0, "bytes": 0})
    dtypes, buffers = set(), 0
    for name, count, size, dtype, _ in weights:
        part = parts[_part(name)]
        if name.rpartition(".")[2] in BUFFERS:
            buffers += count
        else:
            part["parameters"] += count
        part["bytes"] += size
        dtypes.add(dtype)
    return {
        "parameters": sum(part["parameters"] for part in parts.values()),
        **({"buffers": buffers} if buffers else {}),
        "bytes": sum(part["bytes"] for part in parts.values()),
        "dtypes": sorted(dtypes),
        "parts": dict(parts),
    }


def _part(name: str) -> str:
    """`transformer.h.3.attn.c_attn.weight` belongs to `transformer.h.*.attn`."""
    names = ["*" if part.isdigit() else part for part in name.split(".")[:-1]]
    return ".".join(names[: names.index("*") + 2] if "*" in names else names) or name


def _training(folder: Path) -> dict[str, Any] | None:
    """The record of the training run by `gradient train`, if there is one."""
    from gradient.io.json_file import read_json

    try:
        found = read_json(folder / "training.json")
    except (OSError, GradientError):
        return None
    said = {"tokens_seen", "text", "val_loss"}
    return found if isinstance(found, dict) and said <= found.keys() else None


def _print(described: dict[str, Any]) -> None:
    dtypes = ", ".join(described["dtypes"])
    rows: list[tuple[str, ...]] = [
        ("parameters", f"{described['parameters']:,}"),
        *([("buffers", f"{described['buffers']:,} numbers")] if "buffers" in described else []),
        ("weights", " in ".join([byte_size(described["bytes"]), *[dtypes] * bool(dtypes)])),
    ]
    if "architecture" in described:
        context = described["context_length"]
        rows += [
            ("architecture", described["architecture"]),
            ("vocabulary", f"{described['vocab_size']:,}"),
            ("context", f"{context} tokens" if context else "not limited"),
            ("chat template", "yes" if described["chat_template"] else "no"),
        ]
    if memory := described.get("memory"):
        rows += [
            (
                "cache",
                f"{byte_size(memory['cache_bytes'])} for {memory['batch']} x "
                f"{memory['context']:,} tokens, {byte_size(memory['cache_bytes_per_token'])} each",
            ),
            ("weights and cache", byte_size(memory["total_bytes"])),
        ]
    if "step" in described:
        rows.append(("step", str(described["step"])))
        rows += [(name, f"{value}") for name, value in described["metrics"].items()]
    if training := described.get("training"):
        rows += [
            ("trained on", f"{training['tokens_seen']:,} tokens of {training['text']}"),
            ("validation loss", f"{training['val_loss']:.4f}"),
        ]
    print_table((described["model"], ""), rows)
    if "note" in described:
        typer.echo(f"note: {described['note']}", err=True)
    parts = [
        (name, f"{part['parameters']:,}", byte_size(part["bytes"]))
        for name, part in described["parts"].items()
    ]
    typer.echo()
    print_table(("part", "parameters", "memory"), parts)
    if "tensors" in described:
        rows = [
            (
                each["name"],
                "x".join(map(str, each["shape"])),
                each["dtype"],
                byte_size(each["bytes"]),
            )
            for each in described["tensors"]
        ]
        typer.echo()
        print_table(("tensor", "shape", "dtype", "memory"), rows)
    for name in ("config", "metadata"):
        if described.get(name):
            typer.echo()
            print_table((name, ""), [(key, str(value)) for key, value in described[name].items()])
