"""Constrained decoding: the text must follow a JSON schema, regex, list of choices or grammar.

At each step all tokens that the grammar does not allow next are forbidden. The llguidance package
computes which ones are allowed; it is an extra, imported when first needed.

A `Constraint` is a logits processor like any other: its result depends on the prefix alone. So it
works for each row of a ragged batch, each beam, and each position of a draft.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

import gradient
from gradient.errors import ArgumentError, GenerationError, MissingDependency
from gradient.generation.common_prefix import common_length
from gradient.generation.logits.processors import Prefixes
from gradient.tensor import Tensor

if TYPE_CHECKING:
    from gradient.generation.options import GenerationOptions
    from gradient.text import Tokenizer

#: Whitespace between JSON's tokens: a blank, or a new line with its indentation. JSON allows more,
#: but a model that is unsure of the next token would then write blanks without end.
WHITESPACE = r" ?|\n[ \t]{0,16}"

#: The vocabulary in llguidance's form, which takes a second to make for a large one.
_vocabularies: weakref.WeakKeyDictionary[Tokenizer, dict[Any, Any]] = weakref.WeakKeyDictionary()


def import_llguidance() -> Any:
    """Return the llguidance package.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import llguidance
    except ImportError as error:
        raise MissingDependency(
            "json_schema, regex, choices and grammar need the llguidance package: "
            'pip install "gradient-dl[constraints]"'
        ) from error
    return llguidance


def json_schema_grammar(schema: Any) -> str:
    """Return the grammar of JSON documents that fit a schema: a dict, JSON text or pydantic model.

    Raises:
        ArgumentError: it is none of these.
    """
    if hasattr(schema, "model_json_schema"):
        schema = schema.model_json_schema()
    if isinstance(schema, str):
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise ArgumentError(f"json_schema: is not JSON: {error}") from None
    if not isinstance(schema, Mapping):
        raise ArgumentError(
            f"json_schema: expected a JSON schema, a dict such as "
            f'{{"type": "object", "properties": ...}}, got {schema!r:.80}'
        )
    matcher = import_llguidance().LLMatcher
    return matcher.grammar_from_json_schema(
        json.dumps(schema), overrides={"whitespace_pattern": WHITESPACE}
    )


def regex_grammar(pattern: str) -> str:
    """Return the grammar of texts that match a regular expression completely."""
    return import_llguidance().LLMatcher.grammar_from_regex(pattern)


def choices_grammar(choices: Sequence[str]) -> str:
    """Return the grammar that allows only these texts."""
    literals = (json.dumps(choice, ensure_ascii=False) for choice in choices)
    return import_llguidance().LLMatcher.grammar_from_lark("start: " + " | ".join(literals))


def lark_grammar(grammar: str) -> str:
    """Return the grammar written in llguidance's variant of Lark's notation."""
    return import_llguidance().LLMatcher.grammar_from_lark(grammar)


def constraint_of(
    options: GenerationOptions,
    tokenizer: Tokenizer | None,
    vocab_size: int,
    eos_ids: frozenset[int],
) -> Constraint | None:
    """Return the constraint that the options ask for, or None.

    Raises:
        ArgumentError: there is no tokenizer; see `Constraint` for more.
        MissingDependency: llguidance is not installed.
    """
    makers = {
        "json_schema": json_schema_grammar,
        "regex": regex_grammar,
        "choices": choices_grammar,
        "grammar": lark_grammar,
    }
    for name, make in makers.items():
        asked = getattr(options, name)
        if asked is None:
            continue
        if tokenizer is None:
            raise ArgumentError(f"{name}: a constraint on text needs a tokenizer")
        return Constraint(name, make(asked), tokenizer, vocab_size, eos_ids)
    return None


class Constraint:
    """Keeps each row of a generation within a grammar.

    Example:
        >>> constraint = Constraint("regex", regex_grammar(r"\\d{4}"), lm.tokenizer, 2048, {0})
        >>> lm.generate("The year ", logits_processors=[constraint])
    """

    def __init__(
        self,
        name: str,
        grammar: str,
        tokenizer: Tokenizer,
        vocab_size: int,
        eos_ids: frozenset[int],
    ) -> None:
        """Args:
        name: the option that asked for it, for messages.
        grammar: from one of the functions of this module.
        vocab_size: of the model, which may have more tokens than the tokenizer.
        eos_ids: the tokens that end a text: allowed where the grammar could end.

        Raises:
            ArgumentError: the grammar is wrong, or asks for what llguidance does not support.
        """
        self.name = name
        self.grammar = grammar
        if not eos_ids:
            raise ArgumentError(f"{name}: needs a model with an end-of-text token, to end the text")
        self.vocabulary = vocabulary(tokenizer, vocab_size, eos_ids)
        self.matcher = import_llguidance().LLMatcher
        wrong, messages = self.matcher.validate_grammar_with_warnings(grammar, self.vocabulary)
        if wrong:
            raise ArgumentError(f"{name}: {' '.join(messages).strip()}")
        self._states: dict[int, tuple[Any, list[int]]] = {}  # row: (matcher, what it has taken)

    def __call__(self, logits: Tensor, prefixes: Prefixes) -> Tensor:
        """Forbid every token that the grammar does not allow next: see `LogitsProcessor`."""
        V = logits.shape[-1]
        masks = np.full((len(prefixes), -(-V // 8)), 0xFF, dtype=np.uint8)  # a bit for each token
        for sequence, row in enumerate(prefixes.rows):
            matcher = self._after(row, prefixes.generated(sequence))
            if matcher is not None:
                mask = np.frombuffer(matcher.compute_bitmask(), dtype=np.uint8)
                masks[sequence] = mask[: masks.shape[1]]
        allowed = np.unpackbits(masks, axis=1, count=V, bitorder="little").astype(np.bool_)
        allowed_on_device = gradient.tensor(allowed, device=logits.device)
        return gradient.where(allowed_on_device, logits, -float("inf"))

    def complete(self, row: int, token_ids: Sequence[int]) -> bool:
        """Return whether these tokens are a complete text, which the grammar cannot continue."""
        matcher = self._matcher(row, token_ids)
        return matcher is not None and matcher.is_stopped() and matcher.is_accepting()

    def ends(self, row: int, token_ids: Sequence[int]) -> bool:
        """Return the same for tokens that were chosen under this constraint.

        Raises:
            GenerationError: they are not the beginning of a text of the grammar.
        """
        if self.complete(row, token_ids):
            return True
        if self._after(row, token_ids) is None:
            raise GenerationError(
                f"{self.name}: llguidance has allowed the token {token_ids[-1]} and then refused "
                f"it: it does not understand this tokenizer"
            )
        return False

    def _after(self, row: int, token_ids: Sequence[int]) -> Any:
        """Return the row's matcher after these tokens; None if no token must be forbidden there.

        This is so after the end of a text, and after impossible tokens: speculative decoding asks
        for the logits after drafted tokens that are then rejected.
        """
        matcher = self._matcher(row, token_ids)
        return None if matcher is None or matcher.is_stopped() else matcher

    def _matcher(self, row: int, token_ids: Sequence[int]) -> Any:
        if row not in self._states:
            self._states[row] = self.matcher(self.vocabulary, self.grammar, log_level=0), []
        matcher, taken = self._states[row]
        common = common_length([taken, token_ids])
        if common < len(taken):
            matcher.rollback(len(taken) - common)
            del taken[common:]
        new = list(token_ids[common:])
        taken += new[: matcher.try_consume_tokens(new)] if new else []
        if matcher.is_error():
            raise GenerationError(f"{self.name}: {matcher.get_error()}")
        return matcher if len(taken) == len(token_ids) else None


def vocabulary(tokenizer: Tokenizer, vocab_size: int, eos_ids: frozenset[int]) -> Any:
    """Return a tokenizer's vocabulary in llguidance's form, made once.

    Raises:
        ArgumentError: llguidance cannot read the tokenizer.
    """
    size = max(vocab_size, tokenizer.vocab_size)
    made = _vocabularies.setdefault(tokenizer, {})
    if (size, eos_ids) not in made:
        package, ends = import_llguidance(), sorted(eos_ids)
        source = tokenizer.backend.to_str()
        try:
            found = package.LLTokenizer(source, n_vocab=size, eos_token=ends)
        except ValueError as error:
            raise ArgumentError(f"constraints: this tokenizer cannot be used: {error}") from error
        if any(found.decode_bytes(found.tokenize_str(text)) != text.encode() for text in PROBES):
            wrapper = package.TokenizerWrapper(LiteralTokenizer(found, size, tokenizer))
            found = package.LLTokenizer(wrapper, n_vocab=size, eos_token=ends)
        made[size, eos_ids] = found
    return made[size, eos_ids]


#: Texts that some tokenizers change before they tokenize them.
PROBES = (" a ", "A\tb  c\n")


class LiteralTokenizer:
    """Tokenizes text without changing it, for tokenizers that normalise it (strip, lower-case).

    If a grammar allows only one text, llguidance asks for the tokens of that text, and forces them.
    So they must decode to exactly this text.
    """

    def __init__(self, vocabulary: Any, size: int, tokenizer: Tokenizer) -> None:
        """Args:
        vocabulary: llguidance's, which knows the bytes of each token.
        """
        self.eos_token_id = vocabulary.eos_token
        self.bos_token_id = tokenizer.bos_id
        self.tokens = [vocabulary.decode_bytes([token]) for token in range(size)]
        self.special_token_ids = sorted(tokenizer.special_ids)
        self._cut = vocabulary.greedy_tokenize

    def __call__(self, text: str) -> list[int]:
        """Return the longest tokens that fit, one after the other."""
        return self._cut(text)
