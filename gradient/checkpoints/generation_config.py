"""generation_config.json: the generation options that a model's authors recommend."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gradient.errors import FileFormatError
from gradient.io import atomic
from gradient.io.json_file import read_json

NAME = "generation_config.json"
MAX_BYTES = 1024 * 1024  # a usual file has a few hundred


def read_generation_config(folder: Path) -> dict[str, Any]:
    """Return the file's content; {} if there is no such file.

    Raises:
        FileFormatError: it is not a JSON object, or its token ids are invalid.
    """
    path = folder / NAME
    if not path.is_file():
        return {}
    values = read_json(path, MAX_BYTES)
    if not isinstance(values, dict):
        raise FileFormatError(f"{path}: expected a JSON object, got {type(values).__name__}")
    for key in ("bos_token_id", "eos_token_id", "pad_token_id"):
        ids = values.get(key)
        several = ids if isinstance(ids, list) and key == "eos_token_id" else [ids]
        if any(type(each) is not int and each is not None for each in several):
            raise FileFormatError(f"{path}: {key} must be a token id, got {ids!r:.80}")
    return values


def write_generation_config(values: Mapping[str, Any], folder: Path) -> None:
    """Write the file into `folder`, unless it would be empty.

    Raises:
        CheckpointError: the disk is full or failing.
    """
    if values:
        atomic.write_text(folder / NAME, json.dumps(dict(values), indent=2) + "\n")


def eos_token_ids(values: Mapping[str, Any]) -> frozenset[int]:
    """Return the ids that end a text; the file may name none, one, or a list."""
    eos = values.get("eos_token_id")
    several = eos if isinstance(eos, list) else [eos]
    return frozenset(each for each in several if each is not None)
