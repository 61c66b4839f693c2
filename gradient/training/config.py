"""The configuration of a training run: one dataclass, resolved and checked once."""

from __future__ import annotations

import dataclasses
import difflib
import json
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

from gradient.checks import Limit, Relation, check, integer, number, one_of, optional
from gradient.errors import ArgumentError, CheckpointError, FileFormatError, ModelNotFound
from gradient.io.json_file import read_json

__all__ = ["PRESETS", "TrainConfig"]

#: The file in a run's folder that holds its config.
CONFIG = "train.json"

#: Options of `gradient train` with another name than their field.
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
EXPORT_DTYPES = TRAINING_DTYPES = ("float32", "bfloat16", "float16", "f32", "bf16", "f16")

#: Settings with other defaults for a base model.
BASE_DEFAULTS = ("block_size", "learning_rate")


def _setting(
    default: Any, text: str, limit: Limit | None = None, *, panel: str, fixed: bool = False
) -> Any:
    """A field that is also an option of `gradient train`: its help text, limit and heading.

    Args:
        fixed: it cannot change when a run is resumed.
    """
    metadata = {"panel": panel, "help": text, "fixed": fixed}
    metadata |= {} if limit is None else {"limit": limit}
    return dataclasses.field(default=default, metadata=metadata)


# The tokens, the model and the order of the batches cannot change.
_data = partial(_setting, panel="Data", fixed=True)
_model = partial(_setting, panel="Model", fixed=True)
_optimisation = partial(_setting, panel="Optimisation")
_run = partial(_setting, panel="The run")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """All settings of a run; two runs with the same config on one machine are bit-identical.

    Lengths are in tokens, `max_minutes` in minutes of training time (including earlier parts of a
    resumed run). If the steps would take longer than `max_minutes`, the learning rate depends on
    the elapsed time, and two runs may differ.
    """

    # Data
    paths: tuple[str, ...] = dataclasses.field(default=(), metadata={"fixed": True})
    """Files and folders of text; none: the sources of the Python standard library."""
    glob: str = _data("*", "Which files of a folder to read.")
    tokenizer: str = _data(
        "bpe", "bpe (trained on the text), bytes, or a folder that holds a tokenizer."
    )
    vocab_size: int = _data(
        2048,
        "Size of a trained tokenizer's vocabulary.",
        integer(257, 2**24)._replace(
            expected="at least 257 (256 bytes and an end mark) and at most 2**24"
        ),
    )
    val_fraction: float = _data(
        0.05,
        "Share of the documents that is held out (of the text if there is one only).",
        number(0, 0.5),
    )
    packing: str | None = _data(
        None,
        "How sequences are filled. windows: cut anywhere out of the text, one document after "
        "another; documents: whole documents, which do not see one another. Default documents "
        "for chats and --from.",
        optional(one_of(*PACKINGS)),
    )
    chat_template: str | None = _data(
        None,
        "File with the Jinja template that formats chats; default the tokenizer's, else ChatML.",
    )
    # Model
    base_model: str | None = _model(
        None,
        "Go on from this model's weights, with its tokenizer: a folder, a run's, or a hub name.",
    )
    architecture: str = _model("gpt2", f"{' or '.join(ARCHITECTURES)}.")
    n_layer: int = _model(4, "Number of transformer blocks.", integer(1))
    n_head: int = _model(6, "Attention heads in a block.", integer(1))
    n_kv_head: int | None = _model(
        None, "Key-value heads, llama only; default as many as heads.", optional(integer(1))
    )
    n_embd: int = _model(192, "Width: size of a token's hidden state.", integer(1))
    intermediate_size: int | None = _model(
        None, "Width inside the MLP; default 4 (llama: 8/3) times --n-embd.", optional(integer(1))
    )
    block_size: int = _model(
        256, "Context length, in tokens; with --from the model's, at most 1024.", integer(2)
    )
    tie_embeddings: bool = _model(True, "Use the token embedding as the output matrix, too.")
    dropout: float = _model(
        0.0,
        "Share of activations zeroed in training (llama: of attention weights).",
        number(0, below=1),
        fixed=False,
    )
    # Optimisation
    steps: int = _optimisation(2000, "Optimiser steps.", integer(1))
    max_minutes: float | None = _optimisation(
        None,
        "End by then: the learning rate follows the clock if the steps take too long.",
        optional(number(above=0)),
    )
    batch_size: int = _optimisation(16, "Sequences in one forward pass.", integer(1), fixed=True)
    accumulate: int = _optimisation(
        1, "Forward passes in one optimiser step.", integer(1), fixed=True
    )
    learning_rate: float = _optimisation(
        1e-3,
        "AdamW's, after the warm-up; with --from by default 1e-4.",
        number(above=0, finite=True),
    )
    final_lr_fraction: float = _optimisation(
        0.05, "Share of the learning rate that is left at the end.", number(0, 1)
    )
    warmup_steps: int = _optimisation(
        100, "Steps over which it rises from zero; at most half of all.", integer(0)
    )
    weight_decay: float = _optimisation(
        0.1, "AdamW's, for matrices; biases and norms have none.", number(0, finite=True)
    )
    beta1: float = _optimisation(0.9, "AdamW's decay of the mean.", number(0, below=1))
    beta2: float = _optimisation(0.99, "AdamW's decay of the squares' mean.", number(0, below=1))
    dtype: str = _optimisation(
        "float32",
        "Of weights and activations: f32 or bf16; losses, and what AdamW keeps, are in float32. "
        "f16: float32 weights, products in float16, the loss scaled.",
        one_of(*TRAINING_DTYPES),
        fixed=True,
    )
    master_weights: bool = _optimisation(
        True,
        "Let AdamW keep bfloat16 weights in float32, too, where small steps add up.",
        fixed=True,
    )
    grad_clip: float = _optimisation(1.0, "Largest norm of all gradients; 0: any.", number(0))
    # The run
    out: str = "gradient-run"
    """The folder that receives all that the run writes."""
    eval_every: int = _run(250, "Steps between validations; a checkpoint follows each.", integer(1))
    eval_batches: int = _run(20, "Batches in a validation.", integer(1))
    log_every: int = _run(10, "Steps between records in the log.", integer(1))
    sample_prompts: tuple[str, ...] = _run(
        (), "A prompt for the text samples; may be given several times."
    )
    sample_tokens: int = _run(64, "Tokens in a sample; 0: no samples.", integer(0))
    keep_last: int = _run(2, "Checkpoints that are kept, beside the best one.", integer(1))
    seed: int = _run(
        1337,
        "Of the first weights, the batches and dropout.",
        integer(-(2**63), 2**64 - 1)._replace(expected="an integer from -2**63 to 2**64 - 1"),
        fixed=True,
    )
    device: str = _run("cpu", "cpu, cuda:0, or auto: the GPU if it can be used, else cpu.")
    export_dtype: str = _run(
        "float32",
        "Of the finished model's weights: f32, bf16, f16 (or float32 ...).",
        one_of(*EXPORT_DTYPES),
    )
    tensorboard: bool = _run(True, "Write event files, if it is installed.")

    relations: ClassVar[tuple[Relation, ...]] = (
        # A base model's shape is what it is.
        Relation(
            ("base_model", "architecture"),
            lambda base_model, architecture: (
                base_model is not None or architecture in ARCHITECTURES
            ),
            "architecture must be one of " + ", ".join(ARCHITECTURES) + ", got {architecture!r}",
        ),
        Relation(
            ("base_model", "architecture", "n_kv_head", "n_head"),
            lambda base_model, architecture, n_kv_head, n_head: (
                base_model is not None
                or n_kv_head is None
                or (architecture == "llama" and n_head % n_kv_head == 0)
            ),
            "n_kv_head must be a divisor of n_head = {n_head}, and of architecture llama, got "
            "{n_kv_head}",
        ),
        Relation(  # rotary positions turn pairs of a head's columns
            ("base_model", "architecture", "n_embd", "n_head"),
            lambda base_model, architecture, n_embd, n_head: (
                base_model is not None
                or n_embd % (2 * n_head if architecture == "llama" else n_head) == 0
            ),
            "n_embd must be a multiple of n_head = {n_head} (of twice that for architecture "
            "llama), got {n_embd}",
        ),
    )

    def __post_init__(self) -> None:
        """Check all fields at once.

        Raises:
            ArgumentError: lists every field that is out of range.
        """
        check("training", self)

    @classmethod
    def from_base(cls, base_model: str | os.PathLike[str], **options: Any) -> TrainConfig:
        """Return the config of a run that fine-tunes the model in a folder or file.

        The shape is the model's. By default `block_size` is the model's context length, at most
        1024, and `learning_rate` is 1e-4.

        Raises:
            ArgumentError: `options` change the model's shape, or exceed its context length.
            ModelNotFound, UnsupportedModel, FileFormatError: see `gradient.checkpoints.load_model`.
        """
        from gradient.training.base_model import shape_of

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
        """The model shape called `size` (see `PRESETS`); `options` override it."""
        if size not in PRESETS:
            raise ArgumentError(f"size: expected one of {', '.join(PRESETS)}, got {size!r}")
        return cls(**(PRESETS[size] | options))

    @property
    def tokens_per_step(self) -> int:
        """Return the number of tokens in an optimiser step."""
        return self.batch_size * self.accumulate * self.block_size

    def resumed_with(self, changes: Mapping[str, Any]) -> TrainConfig:
        """Return this config with `changes`, if a resumed run may change these settings.

        Raises:
            ArgumentError: lists the changes that would need a new run.
        """
        current = {name: getattr(self, name) for name in changes}
        fields = dataclasses.fields(self)
        fixed_at_start = [field.name for field in fields if field.metadata.get("fixed")]
        fixed = [
            f"{name}: {current[name]!r} in the checkpoint, {value!r} now"
            for name, value in changes.items()
            if name in fixed_at_start and value != current[name]
        ]
        if fixed:
            raise ArgumentError(
                "resume: these cannot change in a run that has begun: "
                + "; ".join(fixed)
                + ". Leave them out, or start a new run in another --out folder."
            )
        return dataclasses.replace(self, **changes)

    def command(self) -> str:
        """The `gradient train` command for this config."""
        words = ["gradient", "train", *self.paths, "--out", self.out]
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            usual = value == field.default
            if self.base_model is not None:  # it determines the shape, and other defaults
                usual = field.name in SHAPE or (usual and field.name not in BASE_DEFAULTS)
            if "panel" not in field.metadata or usual:
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
            ArgumentError: a key is not a field; the message suggests a similar field.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for key in values:
            if key not in fields:
                near = difflib.get_close_matches(key, fields, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise ArgumentError(f"training config: {key!r} is not a setting{hint}")
        settings: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in values.items()
        }
        return cls(**settings)

    def save(self, path: Path) -> None:
        """Write the config as JSON, atomically."""
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


#: Settings that a base model determines.
SHAPE = [
    field.name
    for field in dataclasses.fields(TrainConfig)
    if field.metadata.get("panel") == "Model" and field.name not in ("base_model", "block_size")
]
