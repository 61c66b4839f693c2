"""Prompts in the forms that callers use, and the tokens that begin and end a text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Integral
from typing import TYPE_CHECKING, Any

from gradient.checkpoints.generation_config import eos_token_ids
from gradient.errors import ArgumentError, TypeMismatch
from gradient.models.causal_lm import CausalLM
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.text import Tokenizer

Prompt = str | Sequence[int]


def end_of_text_ids(model: CausalLM, tokenizer: Tokenizer | None) -> frozenset[int]:
    """Return the tokens that end a text: the tokenizer's, and those the model names.

    These are generation_config.json's; where it names none, config.json's.
    """
    ids = eos_token_ids(model.generation_config) or model.config.eos_token_ids
    if tokenizer is not None and tokenizer.eos_id is not None:
        ids |= {tokenizer.eos_id}
    return ids


def beginning_of_text_id(model: CausalLM, tokenizer: Tokenizer | None) -> int | None:
    """Return the token that an empty prompt becomes: the tokenizer's, else the config's."""
    bos_id = None if tokenizer is None else tokenizer.bos_id
    return model.config.bos_token_id if bos_id is None else bos_id


def read_prompts(
    prompt: Prompt | Sequence[Prompt] | Tensor,
    tokenizer: Tokenizer | None,
    attention_mask: Tensor | None,
) -> tuple[bool, list[list[int]]]:
    """Return whether several prompts were given, and the token ids of each, without padding.

    An empty list is a list of no prompts; the empty prompt is "", or [] among others.
    """
    if isinstance(prompt, Tensor):
        if prompt.ndim not in (1, 2):
            raise ArgumentError(
                f"prompt: expected a tensor of token ids (T,) or (B, T), got {tuple(prompt.shape)}"
            )
        rows = prompt.tolist()
        if attention_mask is None:
            return prompt.ndim == 2, rows if prompt.ndim == 2 else [rows]
        if prompt.ndim != 2 or tuple(attention_mask.shape) != tuple(prompt.shape):
            raise ArgumentError(
                f"attention_mask: expected the shape of the prompts (B, T), got "
                f"{tuple(attention_mask.shape)} for {tuple(prompt.shape)}"
            )
        masks = attention_mask.tolist()
        return True, [
            [token for token, real in zip(row, mask, strict=True) if real]
            for row, mask in zip(rows, masks, strict=True)
        ]
    if attention_mask is not None:
        raise ArgumentError(
            "attention_mask: only for prompts given as a tensor; lists need no padding"
        )
    if isinstance(prompt, Mapping):  # whose keys would be taken for prompts
        keys = ", ".join(map(repr, prompt))
        fix = "; give its input_ids" if "input_ids" in prompt else ""
        raise TypeMismatch(
            f"prompt: expected text, token ids or a list of either, got a "
            f"{type(prompt).__name__} of {keys:.80}{fix}"
        )
    if isinstance(prompt, Sequence) and not isinstance(prompt, str | bytes) and not prompt:
        return True, []
    many = _is_row(prompt) and any(isinstance(each, str) or _is_row(each) for each in prompt)
    each_prompt: Sequence[Any] = prompt if many else [prompt]
    return many, [_token_ids(each, tokenizer) for each in each_prompt]


def _is_row(prompt: Any) -> bool:
    """Return whether `prompt` is one sequence of tokens; bytes are undecoded text, not tokens."""
    return hasattr(prompt, "__iter__") and not isinstance(prompt, str | bytes | bytearray)


def _token_ids(prompt: Prompt, tokenizer: Tokenizer | None) -> list[int]:
    if not isinstance(prompt, str):
        if not _is_row(prompt):
            raise TypeMismatch(
                f"prompt: expected text, token ids or a list of either, got {prompt!r:.80}"
            )
        return list(prompt)
    if tokenizer is None:
        raise ArgumentError(
            "prompt: text needs a tokenizer; give token ids, or tokenizer= (hub.load takes it too)"
        )
    return encode_prompt(prompt, tokenizer)


def encode_prompt(text: str, tokenizer: Tokenizer) -> list[int]:
    """Return the tokens of a text that is to be continued: without the EOS that would end it.

    Some tokenizers add one to every text (`Tokenizer.add_eos`), as texts to train on have it. One
    that stands in the text itself stays.
    """
    ids = tokenizer.encode(text)
    if not tokenizer.add_eos:
        return ids
    own = tokenizer.encode(text, add_special_tokens=False)
    return ids if own[-1:] == [tokenizer.eos_id] else ids[:-1]


def bos_prompt(bos_id: int | None) -> list[int]:
    """Return what an empty prompt stands for: the beginning-of-text token."""
    if bos_id is None:
        raise ArgumentError(
            "prompt: empty, and the model has no beginning-of-text token to start from"
        )
    return [bos_id]


def check_tokens(prompts: Sequence[Sequence[int]], model: CausalLM) -> None:
    """Raise unless all token ids are in the vocabulary and are text tokens."""
    vocab_size, unreadable = model.config.vocab_size, model.unreadable_tokens
    for number, prompt in enumerate(prompts):
        wrong = [
            token
            for token in prompt
            if not isinstance(token, (int, Integral)) or not 0 <= token < vocab_size
        ]
        if wrong:
            raise ArgumentError(
                f"prompt {number}: expected token ids from 0 to {vocab_size - 1}, got {wrong[:5]} "
                f"(is this the model's own tokenizer?)"
            )
        for token in unreadable.keys() & set(prompt):
            raise ArgumentError(
                f"prompt {number}: token {token} stands for {unreadable[token]}, and this model "
                f"can be given text only: leave it out"
            )


def context_limit(model: CausalLM, beyond_context: bool = False) -> int | None:
    """Return the most tokens that a text may have; None if there is no limit.

    Args:
        beyond_context: let rotary positions go on where the model was not trained.
    """
    return model.context_length if beyond_context else model.trained_length


def budget(
    model: CausalLM,
    prompt: Sequence[int],
    max_new_tokens: int | None,
    beyond_context: bool = False,
) -> tuple[int, str]:
    """Return how many tokens may follow a prompt, and the finish reason once they have.

    Raises:
        ArgumentError: the prompt does not fit the model's context; or that has no end, and
            neither has the number of tokens to generate.
    """
    limit = context_limit(model, beyond_context)
    if limit is None:
        if max_new_tokens is None:
            raise ArgumentError("max_new_tokens: needed, as this model's context has no limit")
        return max_new_tokens, "length"
    if len(prompt) > limit:
        further = "" if model.context_length is not None else ", or set beyond_context=True"
        raise ArgumentError(
            f"prompt: {len(prompt)} tokens do not fit the model's context of {limit}: shorten it, "
            f"or keep its last {limit} tokens{further}"
        )
    room = limit - len(prompt) + 1  # the last token is never fed back
    if max_new_tokens is None or max_new_tokens > room:
        return room, "context"
    return max_new_tokens, "length"
