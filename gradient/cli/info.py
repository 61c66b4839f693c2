"""`gradient info`: what a model is, without running it."""

from __future__ import annotations

from collections import defaultdict
from typing import Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.output import byte_size, print_json, print_table


def info(
    model: Annotated[
        str, typer.Argument(help="A model's folder or its id on the hub.")
    ] = "pycoder",
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show a model's architecture, parameters, memory and config.

    Weights are memory-mapped, not read.
    """
    from gradient import hub

    described = describe(hub.load(model, revision=revision, offline=offline), model)
    if as_json:
        print_json(described)
        return
    rows = [
        ("architecture", described["architecture"]),
        ("parameters", f"{described['parameters']:,}"),
        ("weights", f"{byte_size(described['bytes'])} in {', '.join(described['dtypes'])}"),
        ("vocabulary", f"{described['vocab_size']:,}"),
        ("context", f"{described['context_length'] or 'unknown'} tokens"),
        ("chat template", "yes" if described["chat_template"] else "no"),
    ]
    print_table(("", model), rows)
    parts = [
        (name, f"{part['parameters']:,}", byte_size(part["bytes"]))
        for name, part in described["parts"].items()
    ]
    print_table(("part", "parameters", "memory"), parts)
    config = [(key, str(value)) for key, value in described["config"].items()]
    print_table(("config", ""), config)


def describe(language_model: Any, name: str) -> dict[str, Any]:
    """The facts about a loaded model, as plain values; sizes in bytes, shared weights once."""
    model, config = language_model.model, language_model.config
    parts: dict[str, dict[str, int]] = defaultdict(lambda: {"parameters": 0, "bytes": 0})
    dtypes = set()
    for path, parameter in model.named_parameters():
        part = parts[_part(path)]
        part["parameters"] += parameter.numel()
        part["bytes"] += parameter.numel() * parameter.dtype.itemsize
        dtypes.add(parameter.dtype.name)
    settings = config.to_hf()
    lengths = ("max_position_embeddings", "n_positions", "n_ctx")
    return {
        "model": name,
        "architecture": type(model).__name__,
        "parameters": sum(part["parameters"] for part in parts.values()),
        "bytes": sum(part["bytes"] for part in parts.values()),
        "dtypes": sorted(dtypes),
        "vocab_size": config.vocab_size,
        "context_length": next((settings[key] for key in lengths if settings.get(key)), None),
        "chat_template": bool(language_model.tokenizer.chat_template),
        "parts": dict(parts),
        "config": settings,
    }


def _part(path: str) -> str:
    """`transformer.h.3.attn.c_attn.weight` belongs to `transformer.h.*.attn`."""
    names = ["*" if name.isdigit() else name for name in path.split(".")[:-1]]
    return ".".join(names[: names.index("*") + 2] if "*" in names else names)
