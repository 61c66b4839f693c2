"""What a training run needs to know, in one dataclass that is resolved and checked once."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradient.errors import ArgumentError, CheckpointError, FileFormatError, ModelNotFound
from gradient.io.json_file import read_json

#: The file in a run's folder that holds its config.
CONFIG = "train.json"

#: Options of `gradient train` that are not called as their fields are.
OPTIONS = {"base_model": "from"}

#: Model shapes by name. The parameter counts in the comments leave the embeddings out.
PRESETS: dict[str, dict[str, int]] = {
    "nano": {"n_layer": 2, "n_head": 2, "n_embd": 64, "block_size": 64},  # 0.1 M
    "tiny": {"n_layer": 4, "n_head": 4, "n_embd": 128, "block_size": 256},  # 0.8 M
    "small": {"n_layer": 4, "n_head": 6, "n_embd": 192, "block_size": 256},  # 1.8 M
    "medium": {"n_layer": 6, "n_head": 6, "n_embd": 384, "block_size": 256},  # 10.6 M
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 1024},  # 85 M
}

#: Model families that can be trained from the start.
ARCHITECTURES = ("gpt2", "llama")
PACKINGS = ("windows", "documents")
EXPORT_DTYPES = ("float32", "bfloat16", "float16", "f32", "bf16", "f16")

#: What a base model decides.
SHAPE = (
    "architecture",
    "n_layer",
    "n_head",
    "n_kv_head",
    "n_embd",
    "intermediate_size",
    "tie_embeddings",
    "dropout",
)

#: Settings whose defaults are others with a base model.
BASE_DEFAULTS = ("block_size", "learning_rate")

#: What a run in progress may not change: the tokens, the model and the order of the batches.
FIXED_AT_START = (
    "paths",
    "glob",
    "tokenizer",
    "vocab_size",
    "val_fraction",
    "packing",
    "chat_template",
    "base_model",
    "architecture",
    "n_layer",
    "n_head",
    "n_kv_head",
    "n_embd",
    "intermediate_size",
    "tie_embeddings",
    "block_size",
    "batch_size",
    "accumulate",
    "seed",
)


def _setting(default: Any, panel: str, text: str) -> Any:
    """A field that is also an option of `gradient train`, with its help text and its heading."""
    return dataclasses.field(default=default, metadata={"panel": panel, "help": text})


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Everything that decides a run; two runs of one config on one machine are equal bit for bit.

    Lengths are in tokens, `max_minutes` in minutes of training time (over all resumptions).
    `max_minutes` makes the learning rate follow the clock when the steps would take too long,
    and then two runs are no longer equal.
    """

    # Data
    paths: tuple[str, ...] = ()
    """Files and folders of text; none: the sources of the Python standard library."""
    glob: str = _setting("*", "Data", "Which files of a folder to read.")
    tokenizer: str = _setting(
        "bpe", "Data", "bpe (trained on the text), bytes, or a folder that holds a tokenizer."
    )
    vocab_size: int = _setting(2048, "Data", "Size of a trained tokenizer's vocabulary.")
    val_fraction: float = _setting(
        0.05, "Data", "Share of the documents that is held out (of the text if there is one only)."
    )
    packing: str | None = _setting(
        None,
        "Data",
        "windows: sequences are cut anywhere out of the text; documents: they hold whole "
        "documents, which do not see one another. Default documents for chats and --from.",
    )
    chat_template: str | None = _setting(
        None,
        "Data",
        "File with the Jinja template that formats chats; default the tokenizer's, else ChatML.",
    )
    # Model
    base_model: str | None = _setting(
        None,
        "Model",
        "Go on from this model's weights, with its tokenizer: a folder, a run's, or a hub name.",
    )
    architecture: str = _setting("gpt2", "Model", f"{' or '.join(ARCHITECTURES)}.")
    n_layer: int = _setting(4, "Model", "Number of transformer blocks.")
    n_head: int = _setting(6, "Model", "Attention heads in a block.")
    n_kv_head: int | None = _setting(
        None, "Model", "Key-value heads, llama only; default as many as heads."
    )
    n_embd: int = _setting(192, "Model", "Width: size of a token's hidden state.")
    intermediate_size: int | None = _setting(
        None, "Model", "Width inside the MLP; default 4 (llama: 8/3) times --n-embd."
    )
    block_size: int = _setting(
        256, "Model", "Context length, in tokens; with --from the model's, at most 1024."
    )
    tie_embeddings: bool = _setting(
        True, "Model", "Use the token embedding as the output matrix, too."
    )
    dropout: float = _setting(
        0.0, "Model", "Share of activations zeroed in training (llama: of attention weights)."
    )
    # Optimisation
    steps: int = _setting(2000, "Optimisation", "Optimiser steps.")
    max_minutes: float | None = _setting(
        None,
        "Optimisation",
        "End by then: the learning rate follows the clock if the steps take too long.",
    )
    batch_size: int = _setting(16, "Optimisation", "Sequences in one forward pass.")
    accumulate: int = _setting(1, "Optimisation", "Forward passes in one optimiser step.")
    learning_rate: float = _setting(
        1e-3, "Optimisation", "AdamW's, after the warm-up; with --from by default 1e-4."
    )
    final_lr_fraction: float = _setting(
        0.05, "Optimisation", "Share of the learning rate that is left at the end."
    )
    warmup_steps: int = _setting(
        100, "Optimisation", "Steps over which it rises from zero; at most half of all."
    )
    weight_decay: float = _setting(
        0.1, "Optimisation", "AdamW's, for matrices; biases and norms have none."
    )
    beta1: float = _setting(0.9, "Optimisation", "AdamW's decay of the mean.")
    beta2: float = _setting(0.99, "Optimisation", "AdamW's decay of the squares' mean.")
    grad_clip: float = _setting(1.0, "Optimisation", "Largest norm of all gradients; 0: any.")
    # The run
    out: str = "gradient-run"
    """The folder that receives all that the run writes."""
    eval_every: int = _setting(
        250, "The run", "Steps between validations; a checkpoint follows each."
    )
    eval_batches: int = _setting(20, "The run", "Batches in a validation.")
    log_every: int = _setting(10, "The run", "Steps between records in the log.")
    sample_prompts: tuple[str, ...] = _setting(
        (), "The run", "A prompt for the text samples; may be given several times."
    )
    sample_tokens: int = _setting(64, "The run", "Tokens in a sample; 0: no samples.")
    keep_last: int = _setting(2, "The run", "Checkpoints that are kept, beside the best one.")
    seed: int = _setting(1337, "The run", "Of the first weights, the batches and dropout.")
    device: str = _setting("cpu", "The run", "cpu, cuda:0 or metal.")
    export_dtype: str = _setting(
        "float32", "The run", "Of the finished model's weights: f32, bf16, f16 (or float32 ...)."
    )
    tensorboard: bool = _setting(True, "The run", "Write event files, if it is installed.")

    def __post_init__(self) -> None:
        """Check all fields at once.

        Raises:
            ArgumentError: lists every field that is out of range.
        """
        wrong = [
            f"{name}: expected {expected}, got {getattr(self, name)!r}"
            for name, expected, ok in (
                ("vocab_size", "at least 257 (256 bytes and an end mark)", self.vocab_size >= 257),
                ("val_fraction", "a number from 0 to 0.5", 0 <= self.val_fraction <= 0.5),
                (
                    "packing",
                    f"one of {', '.join(PACKINGS)}",
                    self.packing is None or self.packing in PACKINGS,
                ),
                *self._shape_checks(),
                ("block_size", "at least 2", self.block_size >= 2),
                ("dropout", "a number from 0 to less than 1", 0 <= self.dropout < 1),
                ("batch_size", "at least 1", self.batch_size >= 1),
                ("accumulate", "at least 1", self.accumulate >= 1),
                ("steps", "at least 1", self.steps >= 1),
                ("max_minutes", "more than 0", self.max_minutes is None or self.max_minutes > 0),
                ("learning_rate", "more than 0", self.learning_rate > 0),
                ("final_lr_fraction", "a number from 0 to 1", 0 <= self.final_lr_fraction <= 1),
                ("warmup_steps", "at least 0", self.warmup_steps >= 0),
                ("weight_decay", "at least 0", self.weight_decay >= 0),
                ("beta1", "a number from 0 to less than 1", 0 <= self.beta1 < 1),
                ("beta2", "a number from 0 to less than 1", 0 <= self.beta2 < 1),
                ("grad_clip", "at least 0", self.grad_clip >= 0),
                ("eval_every", "at least 1", self.eval_every >= 1),
                ("eval_batches", "at least 1", self.eval_batches >= 1),
                ("log_every", "at least 1", self.log_every >= 1),
                ("sample_tokens", "at least 0", self.sample_tokens >= 0),
                ("keep_last", "at least 1", self.keep_last >= 1),
                (
                    "export_dtype",
                    f"one of {', '.join(EXPORT_DTYPES)}",
                    self.export_dtype in EXPORT_DTYPES,
                ),
            )
            if not ok
        ]
        if wrong:
            raise ArgumentError("training: " + "; ".join(wrong))

    def _shape_checks(self) -> list[tuple[str, str, bool]]:
        """Checks of the model's shape, which a base model passes by being one."""
        if self.base_model is not None:
            return []
        heads, kv_heads = self.n_head, self.n_kv_head
        # Rotary positions turn pairs of a head's columns.
        unit = heads * (2 if self.architecture == "llama" else 1)
        return [
            (
                "architecture",
                f"one of {', '.join(ARCHITECTURES)}",
                self.architecture in ARCHITECTURES,
            ),
            ("n_layer", "at least 1", self.n_layer >= 1),
            ("n_head", "at least 1", heads >= 1),
            (
                "n_kv_head",
                f"a divisor of n_head={heads}, for architecture llama",
                kv_heads is None
                or (self.architecture == "llama" and kv_heads >= 1 and heads % kv_heads == 0),
            ),
            (
                "n_embd",
                f"a multiple of n_head={heads}" + (" * 2" if unit > heads else ""),
                self.n_embd >= 1 and heads >= 1 and self.n_embd % unit == 0,
            ),
            (
                "intermediate_size",
                "at least 1",
                self.intermediate_size is None or self.intermediate_size >= 1,
            ),
        ]

    @classmethod
    def from_base(cls, base_model: str | os.PathLike[str], **options: Any) -> TrainConfig:
        """A run that goes on from the weights of the model in a folder or file.

        Its shape is the model's; `block_size` is what that was made for, at most 1024, unless
        given, and `learning_rate` 1e-4.

        Raises:
            ArgumentError: `options` give the model another shape, or a longer context.
            ModelNotFound, UnsupportedModel, FileFormatError: see `gradient.checkpoints.load_model`.
        """
        from gradient.training.model import shape_of

        shape, context = shape_of(Path(base_model))
        wrong = [
            f"{name}: {shape[name]!r} in the model, {options[name]!r} given"
            for name in SHAPE
            if name in options and options[name] != shape[name]
        ]
        block_size = options.get("block_size", min(context or 1024, 1024))
        if context is not None and block_size > context:
            wrong.append(f"block_size: at most {context} in the model, {block_size} given")
        if wrong:
            raise ArgumentError(f"base_model {str(base_model)!r} decides this: " + "; ".join(wrong))
        settled = {"base_model": str(base_model), "block_size": block_size} | shape
        return cls(**({"learning_rate": 1e-4} | options | settled))

    @classmethod
    def preset(cls, size: str, **options: Any) -> TrainConfig:
        """The model shape called `size` (see `PRESETS`); `options` win over it."""
        if size not in PRESETS:
            raise ArgumentError(f"size: expected one of {', '.join(PRESETS)}, got {size!r}")
        return cls(**(PRESETS[size] | options))

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.accumulate * self.block_size

    def resumed_with(self, changes: Mapping[str, Any]) -> TrainConfig:
        """This config with `changes`, as far as a run in progress can take them.

        Raises:
            ArgumentError: lists the changes that would need a new run.
        """
        current = {name: getattr(self, name) for name in changes}
        fixed = [
            f"{name}: {current[name]!r} in the checkpoint, {value!r} now"
            for name, value in changes.items()
            if name in FIXED_AT_START and value != current[name]
        ]
        if fixed:
            raise ArgumentError(
                "resume: these cannot change in a run that has begun: "
                + "; ".join(fixed)
                + ". Leave them out, or start a new run in another --out folder."
            )
        return dataclasses.replace(self, **changes)

    def command(self) -> str:
        """The `gradient train` command that asks for this config."""
        words = ["gradient", "train", *self.paths, "--out", self.out]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            usual = value == field.default
            if self.base_model is not None:  # which decides the shape, and has defaults of its own
                usual = field.name in SHAPE or (usual and field.name not in BASE_DEFAULTS)
            if not field.metadata or usual:
                continue
            name = OPTIONS.get(field.name, field.name.replace("_", "-"))
            if field.name == "sample_prompts":
                words += [word for prompt in value for word in ("--sample", prompt)]
            elif isinstance(value, bool):
                words.append(f"--{name}" if value else f"--no-{name}")
            else:
                words += [f"--{name}", str(value)]
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """Plain values, for a config file."""
        return {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """The inverse of `to_json`.

        Raises:
            ArgumentError: names a key that is no field, and the field nearest to it.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ArgumentError(f"training config: {key!r} is not a setting{hint}")
        plain: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**plain)

    def save(self, path: Path) -> None:
        """Write the config as JSON, whole or not at all."""
        from gradient.io.atomic import atomic_write

        with atomic_write(path) as file:
            file.write((json.dumps(self.to_json(), indent=2) + "\n").encode())

    @classmethod
    def load(cls, path: Path) -> TrainConfig:
        """Read a config that `save` wrote.

        Raises:
            CheckpointError: there is no such file.
            FileFormatError: it is no file, not JSON, or not an object.
        """
        try:
            values = read_json(path)
        except ModelNotFound:
            raise CheckpointError(
                f"there is no run to resume in {str(path.parent)!r}: {path.name} is missing"
            ) from None
        if not isinstance(values, dict):
            raise FileFormatError(f"{path}: expected a JSON object, got {type(values).__name__}")
        return cls.from_json(values)
