"""`gradient chat`: a conversation, line by line."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gradient.cli import options as opt
from gradient.cli import sampling
from gradient.cli.errors import by_flags
from gradient.cli.flags import spell_out
from gradient.cli.generate import report, write
from gradient.cli.interrupt import whole_imports
from gradient.cli.loading import load_language_model
from gradient.cli.turns import AT_TERMINAL, HELP, LEAVE, command_of, turns
from gradient.errors import GradientError

if TYPE_CHECKING:
    from gradient.generation import LanguageModel, TextStream


def chat(
    model: opt.Model = "tinyworld",
    system: Annotated[
        str | None, typer.Option("--system", help="Instructions that precede the conversation.")
    ] = None,
    device: opt.Device = "cpu",
    dtype: opt.DType = None,
    quantize: opt.Quantize = None,
    tokenizer: opt.Tokenizer = None,
    revision: opt.Revision = None,
    offline: opt.Offline = False,
    verbose: opt.Verbose = False,
    as_json: opt.Json = False,
    debug: opt.Debug = False,
    **given: Any,
) -> None:
    """Talk with a model; /help lists the commands inside a conversation.

    Ctrl-C ends an answer; at the prompt, it ends the program. When the context is full, the oldest
    turns are dropped, with a notice. In a pipe every line of standard input is one turn, and only
    the answers are printed; with --json each answer is one JSON line {"role", "content"}.
    """
    from gradient.generation import PromptCache

    given = sampling.read(given)
    place: dict[str, Any] = {"device": device, "dtype": dtype, "offline": offline}
    place |= {"quantize": quantize, "tokenizer": tokenizer, "quiet": as_json}
    language_model = load_language_model(model, revision=revision, **place)
    _ = language_model.tokenizer  # fails here if there is none
    if not language_model.has_chat_template:
        typer.echo(
            f"note: {model} has no chat template: it is a base model, not trained to converse. It "
            "continues a transcript; `gradient generate` suits it better.",
            err=True,
        )
    given = sampling.with_draft(given, **place)
    options: Any = sampling.with_defaults(given, language_model.recommended)
    # A turn's prompt is the whole conversation; with the cache only the new part is computed.
    options["prompt_cache"] = PromptCache(language_model.model)
    talk = Conversation(language_model, options, system, as_json=as_json, verbose=verbose)
    for text in turns():
        command = command_of(text, strict=sys.stdin.isatty())
        if command is not None and command[0] in LEAVE:
            break
        if command is not None:
            talk.run_command(*command)
        else:
            talk.answer(text.strip())


#: Options for a single text, or for another kind of cache than chat's own.
_NOT_IN_CHAT = (
    "cache",
    "cache_dtype",
    "ignore_eos",
    "length_penalty",
    "logprobs",
    "num_beams",
    "num_return_sequences",
)
spell_out(chat, sampling.generation_flags(without=_NOT_IN_CHAT, max_new_tokens=512))


class Conversation:
    """A conversation, its model, and the display of answers.

    Attributes:
        messages: the messages that the model still gets.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        options: dict[str, Any],
        system: str | None,
        *,
        as_json: bool,
        verbose: bool,
    ) -> None:
        self.language_model = language_model
        self.options = options
        self.as_json = as_json
        self.verbose = verbose
        self.messages: list[dict[str, Any]] = []
        self.begin(system)

    def begin(self, system: str | None) -> None:
        """Drop all messages, and begin with these instructions."""
        self.system = system or None
        self.messages = []

    def run_command(self, name: str, rest: str) -> None:
        """Run a command."""
        asked = [at for at, message in enumerate(self.messages) if message["role"] == "user"]
        if name in ("reset", "clear"):
            self.begin(self.system)
        elif name == "system":
            self.begin(rest or None)
        elif name == "keep" and asked:
            for message in self.messages[asked[-1] :]:
                message["keep"] = True
        elif name == "undo" and asked:
            del self.messages[asked[-1] :]
        elif name == "help":
            typer.echo(HELP + AT_TERMINAL * sys.stdin.isatty(), err=True)
        elif name in ("keep", "undo"):
            typer.echo(f"/{name}: there is no turn yet", err=True)
        else:
            typer.echo(f"there is no command /{name}; /help lists them", err=True)

    def answer(self, text: str) -> None:
        """Generate and show the model's answer.

        Raises:
            GradientError: it failed. At a terminal it is printed instead, and the turn is removed.
        """
        terminal = sys.stdin.isatty()
        asked = [*self.messages, {"role": "user", "content": text}]
        pieces = []
        stream: TextStream | None = None
        try:
            with whole_imports() if terminal else contextlib.nullcontext():
                shown = self.language_model.trim_messages(
                    asked,
                    max_new_tokens=self.options.get("max_new_tokens"),
                    beyond_context=self.options.get("beyond_context", False),
                    system=self.system,
                )
                # `system` is put into the first turn if the template has no such role.
                stream = self.language_model.chat(
                    shown, system=self.system, stream=True, **self.options
                )
                report_dropped_turns(asked, shown)
                asked = shown
                for piece in stream:
                    pieces.append(piece)
                    if not self.as_json:
                        write(piece)
        except KeyboardInterrupt:
            if not terminal:
                raise  # at a terminal, Ctrl-C ends only the answer
        except GradientError as error:  # the last turn is too long, or the template refuses it
            if not terminal:
                raise
            typer.echo(f"error: {by_flags(str(error), chat)}", err=True)
            return
        reply = {"role": "assistant", "content": "".join(pieces)}
        self.messages = [*asked, reply]
        sys.stdout.write(json.dumps(reply) + "\n" if self.as_json else "\n")
        sys.stdout.flush()
        if self.verbose and stream is not None:
            report(stream.generation)


def report_dropped_turns(asked: list[dict[str, Any]], shown: list[dict[str, Any]]) -> None:
    """Print how many of the turns were dropped from the model's input, as the context is full."""
    turns = [message["role"] for message in asked].count("user")
    turns -= [message["role"] for message in shown].count("user")
    if len(shown) < len(asked):
        what = "turn was" if turns == 1 else f"{turns} turns were"
        typer.echo(
            f"note: the context is full: the oldest {what} dropped (/keep keeps one)", err=True
        )
