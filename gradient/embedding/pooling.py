"""Hidden states of a text's tokens to one vector, as sentence-transformers' files ask for it.

Reimers and Gurevych 2019, "Sentence-BERT" (arXiv:1908.10084), section 3. A folder of theirs lists
its steps in modules.json: the transformer, a pooling step, perhaps a normalising one.

Dimensions:
    B  texts    T  tokens    C  size of a hidden state    M  number of modes
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gradient
from gradient.errors import FileFormatError, UnsupportedModel
from gradient.io import atomic
from gradient.io.json_file import read_json
from gradient.tensor import Tensor

__all__ = ["Pooling"]

MODULES, POOLING, SETTINGS = "modules.json", "1_Pooling", "sentence_bert_config.json"
MAX_BYTES = 1024 * 1024  # such files have less than a KB

#: How a vector is made, under the names of 1_Pooling/config.json, in the order in which several
#: are put behind one another.
MODES = (
    "pooling_mode_cls_token",
    "pooling_mode_max_tokens",
    "pooling_mode_mean_tokens",
    "pooling_mode_mean_sqrt_len_tokens",
    "pooling_mode_lasttoken",
)


@dataclass(frozen=True)
class Pooling:
    """What becomes of the hidden states.

    Attributes:
        modes: of MODES; the vectors of several are concatenated.
        normalize: whether vectors are divided by their length.
        max_length: the most tokens of a text, special ones included; None is the model's own limit.
        lower_case: whether texts are put in lower case first.
    """

    modes: tuple[str, ...] = ("pooling_mode_mean_tokens",)
    normalize: bool = True
    max_length: int | None = None
    lower_case: bool = False

    def __call__(self, hidden: Tensor, lengths: list[int]) -> Tensor:
        """Hidden states (B, T, C), of which row i has lengths[i] real ones -> vectors (B, M C)."""
        n = gradient.tensor(lengths, device=hidden.device).unsqueeze(1)  # (B, 1)
        real = (gradient.arange(hidden.shape[1], device=hidden.device) < n).unsqueeze(2)
        wide = hidden.float() if hidden.dtype.bits < 32 else hidden  # sums of many

        def total() -> Tensor:
            return wide.masked_fill(~real, 0.0).sum(1)

        def mode(name: str) -> Tensor:
            if name == "pooling_mode_cls_token":
                return wide[:, 0]
            if name == "pooling_mode_lasttoken":
                return wide[gradient.arange(len(lengths), device=hidden.device), n[:, 0] - 1]
            if name == "pooling_mode_max_tokens":
                return wide.masked_fill(~real, float("-inf")).amax(1)
            if name == "pooling_mode_mean_sqrt_len_tokens":
                return total() / n.to(wide.dtype).sqrt()
            return total() / n.to(wide.dtype)

        vectors = [mode(name) for name in self.modes]
        return vectors[0] if len(vectors) == 1 else gradient.cat(vectors, dim=1)

    @classmethod
    def from_folder(cls, folder: Path) -> Pooling:
        """Read modules.json and what it names; the default, where there is none.

        Raises:
            UnsupportedModel: a step that is not known here.
            FileFormatError: a malformed file.
        """
        if not (folder / MODULES).is_file():
            return cls()
        settings = _read(folder / SETTINGS, dict) if (folder / SETTINGS).is_file() else {}
        length, lower = settings.get("max_seq_length"), settings.get("do_lower_case", False)
        if not (length is None or (type(length) is int and length > 0)) or type(lower) is not bool:
            raise FileFormatError(
                f"{folder / SETTINGS}: expected max_seq_length, a positive int or null, and "
                f"do_lower_case, true or false, got {length!r} and {lower!r}"
            )
        modes: tuple[str, ...] = ()
        normalize = False
        for number, step in enumerate(_read(folder / MODULES, list)):
            kind = step.get("type") if isinstance(step, dict) else None
            kind = str(kind).rpartition(".")[2]
            if number == 0 and kind == "Transformer" and step.get("path", "") == "":
                continue
            if number == 1 and kind == "Pooling" and step.get("path") == POOLING:
                modes = _modes(folder / POOLING / "config.json")
            elif number == 2 and kind == "Normalize":
                normalize = True
            else:
                raise UnsupportedModel(
                    f"{folder / MODULES}: step {number}, {kind!r} in {step!r}, is not supported; "
                    f"expected a Transformer in the folder itself, Pooling in {POOLING} and "
                    "perhaps Normalize, in this order"
                )
        if not modes:
            raise FileFormatError(f"{folder / MODULES}: names no pooling step")
        return cls(modes, normalize, length, lower)

    def save(self, folder: Path, size: int) -> None:
        """Write the files that sentence-transformers reads, for hidden states of `size`."""
        steps = ["Transformer", "Pooling", *(["Normalize"] if self.normalize else [])]
        paths = ["", POOLING, "2_Normalize"]
        modules = [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{step}"}
            for i, (step, path) in enumerate(zip(steps, paths, strict=False))
        ]
        pooling = {name: name in self.modes for name in MODES}
        settings = {"max_seq_length": self.max_length, "do_lower_case": self.lower_case}
        (folder / POOLING).mkdir(parents=True, exist_ok=True)
        for path, content in (
            (folder / MODULES, modules),
            (folder / POOLING / "config.json", {"word_embedding_dimension": size, **pooling}),
            (folder / SETTINGS, settings),
        ):
            atomic.write_text(path, json.dumps(content, indent=2) + "\n")


def _modes(path: Path) -> tuple[str, ...]:
    """Return the modes that a pooling step's config.json turns on."""
    values = _read(path, dict)
    on = {name for name, value in values.items() if name.startswith("pooling_mode") and value}
    unknown = sorted(on - set(MODES))
    if unknown or not on:
        raise UnsupportedModel(
            f"{path}: expected one or more of {', '.join(MODES)}, got "
            f"{', '.join(unknown) or 'none'}"
        )
    return tuple(name for name in MODES if name in on)


def _read(path: Path, kind: type) -> Any:
    """Return the JSON list or object in a small file."""
    value = read_json(path, MAX_BYTES)
    if not isinstance(value, kind):
        raise FileFormatError(
            f"{path}: expected a JSON {'object' if kind is dict else 'array'}, got {value!r:.80}"
        )
    return value
