"""The flags of `generate` and `chat` for options of generation, and their defaults."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer

from gradient.cli.flags import flag
from gradient.cli.loading import load_language_model
from gradient.generation.declared import declared
from gradient.generation.options import Options

#: For models without recommended options. The penalty keeps small models from repeating themselves.
DEFAULTS = {"temperature": 0.7, "top_p": 0.95, "repetition_penalty": 1.1}
#: Options whose results a stream of text cannot show.
NEED_JSON = ("num_return_sequences", "logprobs")


def generation_flags(*, without: Sequence[str] = (), **defaults: Any) -> list[inspect.Parameter]:
    """Return a flag for each option of `generate` that names one.

    Args:
        without: options that the command sets itself.
        defaults: values of options that are not given; for others see `with_defaults`.
    """
    hints = typing.get_type_hints(Options)
    flags = []
    for name, option in declared(Options).items():
        if option.flag is None or name in without:
            continue
        kind = _KINDS[name] if name in _KINDS else _kind(hints[name])
        text = option.help_of_flag or option.help
        text = text[0].upper() + text[1:] + "."
        if typing.get_origin(kind) is list and "several times" not in text:
            text += " May be given several times."
        if name in NEED_JSON:
            text += " Needs --json."
        shown = f"the model's own, else {DEFAULTS[name]}" if name in DEFAULTS else False
        flags.append(
            flag(
                name,
                kind,
                *flag_names(name),
                default=defaults.get(name),
                help=text,
                rich_help_panel=option.panel,
                metavar=_METAVARS.get(name),
                show_default=name in defaults or shown,
            )
        )
    return flags


def flag_names(name: str) -> list[str]:
    """The flags of an option: ["--temperature", "-t"]."""
    return (declared(Options)[name].flag or "--" + name.replace("_", "-")).split()


def with_defaults(given: Mapping[str, Any], recommended: Mapping[str, Any]) -> dict[str, Any]:
    """The given options; for others those recommended by the model's authors, then `DEFAULTS`.

    At temperature 0, and with beams, there are no defaults: these modes choose the most probable
    tokens of the model.
    """
    chosen = dict(given)
    if chosen.get("num_beams", 1) > 1:
        chosen.setdefault("temperature", 0.0)
    if chosen.get("temperature") == 0:
        return chosen
    if "temperature" in recommended:
        return {**recommended, **chosen}
    return {**DEFAULTS, **recommended, **chosen}


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """The given options as arguments of `generate`, with the draft model still as a name.

    Raises:
        typer.BadParameter: an option is out of its limits, or names a file that cannot be read.
    """
    values = {name: value for name, value in given.items() if value not in (None, [])}
    for name, value in values.items():
        option = declared(Options)[name]
        try:
            if name in _READERS:
                values[name] = value = _READERS[name](value)
            if option.limit is not None and name != "draft" and not option.limit.holds(value):
                expected = option.limit.expected.removesuffix(", or None")
                raise typer.BadParameter(f"must be {expected}, got {value!r:.80}")
        except typer.BadParameter as error:
            error.param_hint = flag_names(name)[0]
            raise
    return values


def with_draft(given: Mapping[str, Any], **place: Any) -> dict[str, Any]:
    """The given options, with the draft model loaded."""
    if given.get("draft") in (None, "prompt_lookup"):
        return dict(given)
    return {**given, "draft": load_language_model(given["draft"], **place)}


def parse_logit_bias(pairs: list[str]) -> dict[int, float]:
    """Convert ["50256=-inf", ...] to {50256: -inf, ...}.

    Raises:
        typer.BadParameter: an item does not have this form.
    """
    bias = {}
    for pair in pairs:
        token, _, value = pair.partition("=")
        try:
            bias[int(token)] = float(value)
        except ValueError:
            raise typer.BadParameter(
                f"expected ID=VALUE, such as 50256=-inf, got {pair!r}"
            ) from None
    return bias


def read_text(path: Path) -> str:
    """A file's text.

    Raises:
        typer.BadParameter: there is no such file, or it is not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{path} is not UTF-8 text: {error}") from None


def read_schema(given: str) -> str:
    """A JSON schema, given itself or as the name of a file."""
    return given if given.lstrip().startswith("{") else read_text(Path(given))


#: The types of flags that do not follow from the options.
_KINDS: dict[str, Any] = {
    "logit_bias": list[str],
    "stop": list[str],
    "choices": list[str],
    "json_schema": str,
    "grammar": Path,
    "draft": str,
}
_METAVARS = {"logit_bias": "ID=V", "json_schema": "FILE|JSON", "grammar": "FILE", "draft": "MODEL"}


def _kind(hint: Any) -> type:
    """The type of a flag's value, one of those of the option."""
    kinds = typing.get_args(hint) or (hint,)
    return next(kind for kind in (int, float, str, bool) if kind in kinds)


#: Functions that convert values of the command line to an option's value.
_READERS: dict[str, Callable[[Any], Any]] = {
    "logit_bias": parse_logit_bias,
    "json_schema": read_schema,
    "grammar": read_text,
}
