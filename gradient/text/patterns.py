"""Regular expressions of tokenizer.json: which are known to be fast, and encoding by the others.

A tokenizer.json may contain any pattern, and the `tokenizers` package matches it by backtracking
(Oniguruma). It gives up a single match after ten million steps, but tries one at each
character of a text: a bad pattern can take hours, inside a call that cannot be interrupted. So
patterns that are neither published ones nor obviously linear run in a separate process,
which is ended when it takes too long (`GuardedEncoder`).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from gradient.errors import ArgumentError, FileFormatError
from gradient.text.families import BY_CLASS, BY_GGUF_NAME, BY_MODEL_TYPE, GPT2, UNNAMED

if TYPE_CHECKING:
    import tokenizers

#: The time limit in seconds for a text, plus that for each of its characters. A good pattern takes
#: a microsecond per character.
SECONDS, PER_CHARACTER = 10.0, 1e-5

#: Patterns of published tokenizers, beside those in `families`.
_PUBLISHED = (
    # GPT-4 (cl100k_base), as tiktoken has it and as it was converted
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]++[\r\n]*"
    r"|\s*[\r\n]|\s+(?!\S)|\s+",
    # CLIP
    r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]"
    r"|[^\s\p{L}\p{N}]+",
    r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+",
)
_FAMILIES = (*BY_CLASS.values(), *BY_MODEL_TYPE.values(), *BY_GGUF_NAME.values(), GPT2, UNNAMED)
KNOWN = frozenset([*_PUBLISHED, *(p for family in _FAMILIES for p in family.patterns)])

#: One character or class, perhaps repeated, with nothing after it (or the text's end after a single
#: one): it fails at the first character that does not fit, so a text is scanned once.
_ATOM = (
    r"(?:\\[pP]\{\^?\w+\}|\\[^\w]|\\[sSdDwWrnt]|\[\^?(?:\\.|[^\[\]\\&])+\]|[^\\\[\](){}.*+?|^$])"
)
_LINEAR = re.compile(rf"{_ATOM}(?:\\z|(?:[+*?]|\{{\d{{1,3}}(?:,\d{{0,3}})?\}})?\+?)")


#: sentencepiece's treatment of spaces, as `pieces` and `charsmap` write it.
_SPACES = frozenset([r"\A +| +\z", r"\A +|[ ▁]+\z", r"(?m:(?<=.))\z", r"(?m)\A.+\z"])
#: A similar one, which excludes some literal texts.
_BUT_FOR_LITERALS = re.compile(r"\\A\(\?!\(\?:(?:\\\W|[^\\()\[\]{}.*+?^$])*\)\\z\)")


def is_quick(pattern: str) -> bool:
    """Whether a pattern's time is known to grow linearly with the text."""
    return (
        pattern in KNOWN
        or pattern in _SPACES
        or _BUT_FOR_LITERALS.fullmatch(pattern) is not None
        or all(map(_LINEAR.fullmatch, pattern.split("|")))
    )


def slow_patterns(backend: tokenizers.Tokenizer) -> list[str]:
    """The patterns of a tokenizer that may take long on some text.

    Raises:
        FileFormatError: its decoder has one; single tokens are not decoded in another process.
    """
    found = [
        pattern
        for part in (backend.normalizer, backend.pre_tokenizer)
        for pattern in _patterns(_state(part))
        if not is_quick(pattern)
    ]
    for pattern in _patterns(_state(backend.decoder)):
        if not is_quick(pattern):
            raise FileFormatError(
                f"the tokenizer's decoder has a regular expression that may take for ever: "
                f"{pattern!r:.200}"
            )
    return found


def _state(part: Any) -> Any:
    """A part's content in tokenizer.json; None for a part made of Python functions."""
    try:
        return None if part is None else json.loads(part.__getstate__())
    except Exception:
        return None


def _patterns(state: Any) -> Iterator[str]:
    """All regular expressions in a part of tokenizer.json."""
    if isinstance(state, dict):
        if isinstance(state.get("Regex"), str):
            yield state["Regex"]
        state = list(state.values())
    if isinstance(state, list):
        for each in state:
            yield from _patterns(each)


class Encoded(NamedTuple):
    """The fields of `tokenizers.Encoding` that are used."""

    ids: list[int]
    offsets: list[tuple[int, int]]


_PROGRAM = """
import sys
sys.path[:] = {path!r}
import json, signal, tokenizers
read = sys.stdin.readline
made = tokenizers.Tokenizer.from_str(json.loads(read()))
made.encode_special_tokens = json.loads(read())
print(flush=True)
for line in sys.stdin:
    texts, special, seconds = json.loads(line)
    if hasattr(signal, "alarm"):
        signal.alarm(int(seconds) + 2)
    try:
        all = made.encode_batch(texts, add_special_tokens=special)
        answer = [[each.ids, each.offsets] for each in all]
    except BaseException as error:
        answer = str(error)
    if hasattr(signal, "alarm"):
        signal.alarm(0)
    print(json.dumps(answer), flush=True)
"""
"""What the process runs. The alarm ends a match whose parent was killed and cannot end it."""


class GuardedEncoder:
    """Encodes like a tokenizer, in a process that is ended when a text takes too long.

    Args:
        backend: the tokenizer.
        patterns: its slow patterns, for the error message.
    """

    def __init__(self, backend: tokenizers.Tokenizer, patterns: Sequence[str]) -> None:
        self._source = backend.to_str()
        self._special_as_text = bool(backend.encode_special_tokens)
        self._patterns = patterns
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._owner = 0

    def encode(self, text: str, *, add_special_tokens: bool = True) -> Encoded:
        """See `tokenizers.Tokenizer.encode`."""
        return self.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0]

    def encode_batch_fast(
        self, texts: Sequence[str], *, add_special_tokens: bool = True
    ) -> list[Encoded]:
        """See `tokenizers.Tokenizer.encode_batch`.

        Raises:
            ArgumentError: it took too long.
            FileFormatError: the tokenizer fails, or its process crashes.
        """
        for text in texts:
            text.encode("utf-8")  # raises like the package for an unpaired surrogate
        if os.getpid() != self._owner:  # after a fork, the child needs its own pipe
            self._lock = threading.Lock()
            self._process, self._owner = None, os.getpid()
        with self._lock:
            answer = self._ask(list(texts), add_special_tokens)
        if isinstance(answer, str):
            raise FileFormatError(answer)
        return [Encoded(ids, [(a, b) for a, b in offsets]) for ids, offsets in answer]

    def _ask(self, texts: list[str], special: bool) -> Any:
        if self._process is None:
            self._process = self._start()
        process = self._process
        characters = sum(map(len, texts))
        seconds = SECONDS + PER_CHARACTER * characters
        expired = threading.Event()

        def expire() -> None:
            expired.set()
            process.kill()

        alarm = threading.Timer(seconds, expire)
        alarm.daemon = True
        line = ""
        try:
            alarm.start()
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps([texts, special, seconds]) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            pass
        finally:
            alarm.cancel()
            if not line:  # ended, or Ctrl-C came: its answer would be read as the next one's
                _end(process)
                self._process = None
        if not line and expired.is_set():
            raise ArgumentError(
                f"encode: the tokenizer's regular expression took more than {seconds:.0f} s for "
                f"{characters:,} characters and was stopped: {self._patterns[0]!r:.200}; it is "
                "none of the published ones, and may take for ever"
            )
        if not line:
            raise FileFormatError(
                f"its process ended by itself (exit code {process.returncode}); the next text gets "
                "a new one"
            )
        return json.loads(line)

    def _start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM.format(path=sys.path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C at the terminal must not reach it
        )
        assert process.stdin is not None
        process.stdin.write(json.dumps(self._source) + "\n" + json.dumps(self._special_as_text))
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout is not None
        process.stdout.readline()  # waits until it is ready: starting does not count
        return process

    def __del__(self) -> None:
        process = getattr(self, "_process", None)
        if process is not None and self._owner == os.getpid():
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):  # unwritten data is lost
            if pipe is not None:
                pipe.close()
