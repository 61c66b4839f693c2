"""Options that several commands share, so that they read and mean the same everywhere."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of text.")]
Debug = Annotated[bool, typer.Option("--debug", help="On an error, show the whole traceback.")]
Device = Annotated[str, typer.Option("--device", help="Where to compute: cpu, cuda:0, metal.")]

Model = Annotated[
    str,
    typer.Option(
        "--model", "-m", help="A model's folder or its id on the hub; pycoder comes with gradient."
    ),
]
DType = Annotated[
    str | None,
    typer.Option("--dtype", help="Convert the weights: float32, bfloat16, float16."),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        "--quantize", "-q", help="Pack the weights: q8_0, q4_k_m, q4_0, q6_k, int8, int4."
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
    bool, typer.Option("--offline", help="Use what is on this machine; never the network.")
]

MaxNewTokens = Annotated[
    int, typer.Option("--max-new-tokens", "-n", min=1, help="The most tokens to generate.")
]
Temperature = Annotated[
    float, typer.Option("--temperature", "-t", min=0.0, help="0 always takes the likeliest token.")
]
TopK = Annotated[
    int, typer.Option("--top-k", min=0, help="Sample among the k likeliest tokens; 0: all.")
]
TopP = Annotated[
    float,
    typer.Option("--top-p", min=0.0, max=1.0, help="Sample among the likeliest, up to this mass."),
]
MinP = Annotated[
    float,
    typer.Option(
        "--min-p", min=0.0, max=1.0, help="Drop tokens below this share of the likeliest one's."
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    typer.Option(
        "--repetition-penalty",
        help="Above 1: make seen tokens less likely.",
        show_default="1.1, and 1 at temperature 0",
    ),
]
Seed = Annotated[int | None, typer.Option("--seed", help="The same seed, the same text.")]
Stop = Annotated[
    list[str] | None,
    typer.Option("--stop", help="End before this string; may be given several times."),
]


def repetition_penalty(given: float | None, temperature: float) -> float:
    """The penalty asked for; else one that keeps small models from going in circles.

    At temperature 0 there is none: that means the likeliest tokens, as the model has them.
    """
    if given is not None:
        return given
    return 1.1 if temperature > 0 else 1.0
