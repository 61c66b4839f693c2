"""`gradient convert`: writes a model in another format, with its weights' dtype or another one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli.output import byte_size, print_json, print_table
from gradient.cli.progress import byte_progress
from gradient.dtypes.names import floating_dtype

if TYPE_CHECKING:
    import gradient
    from gradient.models.pretrained import PretrainedModel
    from gradient.tensor import Tensor
    from gradient.text import Tokenizer

Source = Annotated[
    str,
    typer.Argument(
        help="A model: a folder, a .gguf, llama2.c or PyTorch file, or an id on the hub."
    ),
]


def convert(
    source: Source,
    destination: Annotated[
        Path,
        typer.Argument(
            parser=opt.named_path,
            metavar="destination",
            help="What to write: a file that ends in .gguf, or a folder for gradient and "
            "transformers. It must not exist.",
        ),
    ],
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            help="Store matrices as f32, f16 or bf16.",
            show_default="as they are; packed ones in a folder as f16",
        ),
    ] = None,
    tokenizer: opt.Tokenizer = None,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Convert a model to GGUF, or to a Hugging Face style folder.

    Weights are streamed from mapped files; the output appears when it is complete.
    """
    wanted = None if dtype is None else floating_dtype(dtype)
    check_free(destination)
    began = time.perf_counter()
    where: dict[str, Any] = {"revision": revision, "offline": offline}
    if destination.suffix == ".gguf":
        model = Opened(source, tokenizer, **where)
        with byte_progress("writing", quiet=as_json) as progress:
            sizes = model.write_gguf(destination, progress, dtype=wanted)
    else:
        with byte_progress("reading", quiet=as_json) as progress:
            model = Opened(
                source,
                tokenizer,
                dtype=wanted,
                converter=lambda _: _unpacked(wanted),
                progress=progress,
                **where,
            )
        sizes = model.write_folder(destination)
    report(source, destination, model, sizes, time.perf_counter() - began, as_json)


class Opened:
    """A model to convert: its weights, its tokenizer, and its file's other metadata."""

    def __init__(
        self,
        source: str,
        tokenizer: str | None,
        *,
        revision: str | None,
        offline: bool,
        **how: Any,
    ) -> None:
        from gradient import hub
        from gradient.checkpoints import load_model, open_checkpoint
        from gradient.errors import ModelNotFound
        from gradient.text import Tokenizer

        path = hub.find(source, revision=revision, offline=offline)
        checkpoint = open_checkpoint(path)
        self.model: PretrainedModel = load_model(checkpoint, **how)
        self.tokenizer: Tokenizer | None = None
        named = Path(source)
        name = named.stem if path.is_file() else named.name
        name = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        kept = ("general.",) if tokenizer is not None else ("general.", "tokenizer.")
        self.metadata: dict[str, Any] = {"general.name": name or path.name} | {
            key: value for key, value in checkpoint.metadata.items() if key.startswith(kept)
        }
        self.notes: list[str] = []
        if tokenizer is not None:
            self.tokenizer = Tokenizer.load(tokenizer)
            return
        try:
            self.tokenizer = checkpoint.load_tokenizer()
        except ModelNotFound as error:
            self.notes.append(f"no tokenizer was found, none is written: {error}")

    def write_gguf(
        self, path: Path, progress: Callable[[int, int], None], **options: Any
    ) -> dict[str, int]:
        """Write a GGUF file; return the bytes of each dtype."""
        from gradient.checkpoints import save_gguf

        path.parent.mkdir(parents=True, exist_ok=True)
        return save_gguf(
            self.model,
            path,
            tokenizer=self.tokenizer,
            metadata=self.metadata,
            progress=progress,
            **options,
        )

    def write_folder(self, folder: Path) -> dict[str, int]:
        """Write the model as a Hugging Face style folder; return each dtype's bytes."""
        from gradient.checkpoints import save_model
        from gradient.checkpoints.generation_config import write_generation_config
        from gradient.checkpoints.weight_names import to_checkpoint
        from gradient.io.atomic import atomic_folder
        from gradient.models.causal_lm import CausalLM

        sizes: dict[str, int] = {}
        for value in to_checkpoint(self.model).values():
            sizes[value.dtype.name] = sizes.get(value.dtype.name, 0) + value.nbytes
        with atomic_folder(folder) as beside:
            save_model(self.model, beside)
            if isinstance(self.model, CausalLM):
                write_generation_config(self.model.generation_config, beside)
            if self.tokenizer is not None:
                self.tokenizer.save(beside)
        return sizes


def _unpacked(dtype: gradient.DType | None) -> Callable[[str, Tensor], Tensor]:
    """Return a function that unpacks packed weights while they are loaded."""
    from gradient.dtypes import float16

    wide = dtype or float16
    return lambda name, weight: weight.dequantize(wide) if weight.dtype.is_packed else weight


#: Suffixes of weight files. A folder of such a name is probably a mistake.
_FILES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".ggml", ".onnx")


def check_free(destination: Path) -> None:
    """Refuse to overwrite anything, and to make a folder with a weight file's name.

    Raises:
        ArgumentError: the name exists, or its suffix is that of a format that is not written.
    """
    from gradient.errors import ArgumentError

    if destination.suffix in _FILES:
        raise ArgumentError(
            f"{destination}: no {destination.suffix} file is written; expected a name that ends in "
            ".gguf, or a folder (for config.json, model.safetensors and the tokenizer)"
        )
    if os.path.lexists(destination):
        raise ArgumentError(f"{destination} exists already; give another name, or remove it first")


def report(
    source: str,
    destination: Path,
    opened: Opened,
    sizes: dict[str, int],
    seconds: float,
    as_json: bool,
) -> None:
    """Print what was written."""
    total = sum(sizes.values())
    if as_json:
        print_json(
            {
                "source": source,
                "destination": str(destination),
                "architecture": opened.model.architecture,
                "bytes": total,
                "dtypes": sizes,
                "tokenizer": opened.tokenizer is not None,
                "seconds": seconds,
                "notes": opened.notes,
            }
        )
        return
    for note in opened.notes:
        typer.echo(f"note: {note}", err=True)
    rows = [
        ("architecture", opened.model.architecture),
        *((name, byte_size(size)) for name, size in sizes.items()),
        ("in all", f"{byte_size(total)} in {seconds:.1f} s ({byte_size(total / seconds)}/s)"),
    ]
    print_table((str(destination), ""), rows)
