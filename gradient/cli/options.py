"""Options that several commands share, with the same names and meaning everywhere."""

from pathlib import Path
from typing import Annotated

import typer

from gradient.cli.device import chosen_device


def named_path(text: str) -> Path:
    """The path of a flag or an argument.

    An empty text, as from an unset variable of the shell, is refused: `Path("")` is the current
    folder, which the user did not mean.
    """
    if not text:
        raise typer.BadParameter('is empty; expected a path ("." is the current folder)')
    return Path(text)


Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="On an error, show the whole traceback.")]
Device = Annotated[
    str,
    typer.Option(
        "--device",
        callback=chosen_device,
        help="Where to compute: cpu, cuda:0, metal, or auto: the GPU if it can be used, else cpu.",
    ),
]

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A model's folder or hub id, or tinyworld, the bundled model."
    ),
]
DType = Annotated[
    str | None,
    typer.Option("--dtype", help="Convert the weights: f32, bf16, f16 (or float32 ...)."),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize", "-q", help="Quantise the weights: q8_0, q4_k_m, q4_0, q6_k, int8, int4."
    ),
]
Tokenizer = Annotated[
    str | None,
    typer.Option("--tokenizer", help="A folder or file with the tokenizer, if not the model's."),
]
Revision = Annotated[
    str | None, typer.Option("--revision", help="A branch, tag or commit of a hub model.")
]
Offline = Annotated[
    bool, typer.Option("--offline", help="Use cached files only, never the network.")
]

Verbose = Annotated[
    bool,
    typer.Option(
        "--verbose", "-v", help="On standard error: tokens, speed, and why the text ended."
    ),
]
