"""The options of `generate` and `chat` that say how tokens are chosen, and their defaults."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

#: For models whose makers recommend nothing. The penalty keeps small ones from going in circles.
DEFAULTS = {"temperature": 0.7, "top_p": 0.95, "repetition_penalty": 1.1}

_CHOICE = "Choosing tokens"
_FORM = "The form of the text"
_SPEED = "Speed and memory"
_OWN = "the model's own, else "


def _option(name: str, help: str, *, panel: str, default: str | None = None, **limits: Any) -> Any:
    names = name.split()
    return typer.Option(
        *names, help=help, rich_help_panel=panel, show_default=default or False, **limits
    )


Temperature = Annotated[
    float | None,
    _option(
        "--temperature -t",
        "0 always takes the likeliest token.",
        panel=_CHOICE,
        default=f"{_OWN}{DEFAULTS['temperature']}",
        min=0.0,
    ),
]
TopK = Annotated[
    int | None,
    _option("--top-k", "Sample among the k likeliest tokens; 0: all.", panel=_CHOICE, min=0),
]
TopP = Annotated[
    float | None,
    _option(
        "--top-p",
        "Sample among the likeliest, up to this mass.",
        panel=_CHOICE,
        default=f"{_OWN}{DEFAULTS['top_p']}",
        min=0.0,
        max=1.0,
    ),
]
MinP = Annotated[
    float | None,
    _option(
        "--min-p",
        "Drop tokens below this share of the likeliest one's.",
        panel=_CHOICE,
        min=0.0,
        max=1.0,
    ),
]
Typical = Annotated[
    float | None,
    _option(
        "--typical",
        "Sample among tokens about as informative as expected, up to this mass.",
        panel=_CHOICE,
        min=0.0,
        max=1.0,
    ),
]
RepetitionPenalty = Annotated[
    float | None,
    _option(
        "--repetition-penalty",
        "Above 1: make seen tokens less likely.",
        panel=_CHOICE,
        default=f"{_OWN}{DEFAULTS['repetition_penalty']}; 1 at temperature 0",
    ),
]
PresencePenalty = Annotated[
    float | None,
    _option(
        "--presence-penalty",
        "Taken from the logit of each token generated before, once.",
        panel=_CHOICE,
    ),
]
FrequencyPenalty = Annotated[
    float | None,
    _option(
        "--frequency-penalty",
        "Taken from the logit of each token as often as it was generated.",
        panel=_CHOICE,
    ),
]
LogitBias = Annotated[
    list[str] | None,
    _option(
        "--logit-bias",
        "Add to a token's logit; -inf forbids it. May be given several times.",
        panel=_CHOICE,
        metavar="ID=V",
    ),
]
NoRepeatNgram = Annotated[
    int | None,
    _option("--no-repeat-ngram", "No run of so many tokens twice.", panel=_CHOICE, min=0),
]
MinNewTokens = Annotated[
    int | None,
    _option("--min-new-tokens", "Do not end before so many tokens.", panel=_CHOICE, min=0),
]
Seed = Annotated[int | None, _option("--seed", "The same seed, the same text.", panel=_CHOICE)]
Beams = Annotated[
    int | None,
    _option(
        "--beams",
        "Search for the likeliest text with so many beams, at temperature 0.",
        panel=_CHOICE,
        min=1,
    ),
]
LengthPenalty = Annotated[
    float | None,
    _option("--length-penalty", "With --beams: above 1 favours longer texts.", panel=_CHOICE),
]

Stop = Annotated[
    list[str] | None,
    _option("--stop", "End before this string; may be given several times.", panel=_FORM),
]
JsonSchema = Annotated[
    Path | None,
    _option(
        "--json-schema",
        "Write a JSON document that fits the schema in this file.",
        panel=_FORM,
        exists=True,
        dir_okay=False,
    ),
]
Regex = Annotated[
    str | None, _option("--regex", "Write a text that matches this as a whole.", panel=_FORM)
]
Choice = Annotated[
    list[str] | None,
    _option("--choice", "Write one of these; to be given several times.", panel=_FORM),
]
Grammar = Annotated[
    Path | None,
    _option(
        "--grammar",
        "Write a text of the grammar in this file (Lark).",
        panel=_FORM,
        exists=True,
        dir_okay=False,
    ),
]

Draft = Annotated[
    str | None,
    _option(
        "--draft",
        "Guess tokens and check them at once: a smaller model, or prompt_lookup.",
        panel=_SPEED,
        metavar="MODEL",
    ),
]
Cache = Annotated[
    str | None,
    _option("--cache", "How the cache is laid out: static, sliding, paged.", panel=_SPEED),
]
CacheDType = Annotated[
    str | None,
    _option("--cache-dtype", "What the cache stores: a float dtype, int8 or int4.", panel=_SPEED),
]


def with_defaults(given: Mapping[str, Any], recommended: Mapping[str, Any]) -> dict[str, Any]:
    """The options given (None is not), over what the model's makers recommend, over `DEFAULTS`.

    At temperature 0, and with beams, there are no defaults: that means the likeliest tokens, as
    the model has them.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if chosen.get("num_beams", 1) > 1:
        chosen.setdefault("temperature", 0.0)
    if chosen.get("temperature") == 0:
        return chosen
    if "temperature" in recommended:
        return {**recommended, **chosen}
    return {**DEFAULTS, **recommended, **chosen}


def parse_logit_bias(pairs: list[str] | None) -> dict[int, float] | None:
    """["50256=-inf", ...] as {50256: -inf, ...}.

    Raises:
        typer.BadParameter: one is not of that form.
    """
    bias = {}
    for pair in pairs or []:
        token, _, value = pair.partition("=")
        try:
            bias[int(token)] = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"expected ID=VALUE, such as 50256=-inf, got {pair!r}", param_hint="--logit-bias"
            ) from None
    return bias or None


def read_text(path: Path | None) -> str | None:
    """A file's text, if there is a file.

    Raises:
        typer.BadParameter: it is not UTF-8.
    """
    try:
        return None if path is None else path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text: {error}") from None
