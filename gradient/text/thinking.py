"""Separates a reasoning model's thinking from its answer: `<think>` ... `</think>` ...

Some chat templates write `<think>` themselves, at the end of the prompt; then the model's text
begins with a thought without an opening tag.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ThinkingStream", "split_thinking"]

OPEN, CLOSE = "<think>", "</think>"


class Thought(NamedTuple):
    """A text in two parts: the thinking, which is not for the user, and the answer."""

    thinking: str
    answer: str


def split_thinking(text: str, *, opened: bool = False) -> Thought:
    """Split a reasoning model's text into its thinking and its answer, both without the tags.

        split_thinking("<think>2 and 2 is 4.</think>\\n\\nFour.")     # ("2 and 2 is 4.", "Four.")

    Text without tags is an answer. A thought without its end (no tokens were left) is thinking.

    Args:
        opened: the prompt ended in `<think>`. A text with only the closing tag
            implies it.
    """
    head, closed, tail = text.partition(CLOSE)
    begins = text.lstrip().startswith(OPEN)
    if not (begins or opened or closed):
        return Thought("", text)
    thinking = head.lstrip().removeprefix(OPEN) if begins else head
    return Thought(thinking.strip(), tail.lstrip())


def ends_in_open_thought(prompt: str) -> bool:
    """Whether a prompt ends by opening a thought, which the model then continues."""
    return prompt.rstrip().endswith(OPEN)


class ThinkingStream:
    """`split_thinking` for text that comes in pieces; a tag may lie across them.

        stream = ThinkingStream()
        for piece in lm.stream(prompt):
            thought = stream.push(piece)      # new text of each part
            print(thought.answer, end="")
        print(stream.flush().answer)

    Args:
        opened: see `split_thinking`. It is required here, because an answer's first words cannot
            wait for a `</think>` that may come.
    """

    def __init__(self, *, opened: bool = False):
        self._state = "start"
        self._untagged = "thinking" if opened else "answer"  # if no tag begins the text
        self._held = ""  # may be the beginning of a tag, or space at a part's end
        self._started = False  # this part has returned some text

    def push(self, piece: str) -> Thought:
        """Return the new text of each part, as far as it is certain."""
        self._held += piece
        thinking = answer = ""
        if self._state == "start":
            begun = self._held.lstrip()
            if begun.startswith(OPEN):
                self._held = begun.removeprefix(OPEN)
                self._state = "thinking"
            elif not OPEN.startswith(begun):
                self._state = self._untagged
                self._started = self._state == "answer"  # no thought: all of it is answer
        if self._state == "thinking":
            head, closed, tail = self._held.partition(CLOSE)
            if closed:
                thinking = self._shown(head).rstrip()
                self._state, self._started, self._held = "answer", False, tail
            else:
                keep = _tag_begun(head)
                ready = head[: len(head) - keep].rstrip()
                thinking, self._held = self._shown(ready), head[len(ready) :]
        if self._state == "answer":
            answer, self._held = self._shown(self._held), ""
        return Thought(thinking, answer)

    def flush(self) -> Thought:
        """Return the rest after the last piece."""
        rest, self._held = self._held, ""
        if (self._untagged if self._state == "start" else self._state) == "thinking":
            return Thought(self._shown(rest).rstrip(), "")
        return Thought("", rest)

    def _shown(self, text: str) -> str:
        """`text`, without the space before a part's first word."""
        if not self._started:
            text = text.lstrip()
            self._started = bool(text)
        return text


def _tag_begun(text: str) -> int:
    """The number of characters at the end of `text` that may be the beginning of `</think>`."""
    for size in range(min(len(CLOSE) - 1, len(text)), 0, -1):
        if CLOSE.startswith(text[-size:]):
            return size
    return 0
