"""A tokenizer's metadata for a GGUF file: the inverse of `reading`."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from gradient.errors import UnsupportedModel
from gradient.text.build import add_byte_level_steps, import_tokenizers
from gradient.text.decoding import fallback_bytes_of
from gradient.text.families import BY_GGUF_NAME
from gradient.text.gguf.keys import PREFIX, SPECIAL_IDS
from gradient.text.pieces import SPACE, PieceType
from gradient.text.wordpiece import CONTINUES

if TYPE_CHECKING:
    import tokenizers

    from gradient.text.tokenizer import Tokenizer

__all__ = ["metadata_of"]

#: A text that any two families of text/families.py split differently.
PROBE = (
    "Ab's HTMLPage e\u0301tude 1 23 4567 x12 … don'T «a-b»: $5^2 `c` <=> \t\t d\r\n\r\n e  \n "
    "中文字ab, (f).g!\n/h ２３ #word/\n🙂 ok؟ a。b ƻˈʰ  "
)


def metadata_of(tokenizer: Tokenizer) -> dict[str, Any]:
    """The `tokenizer.*` metadata of a tokenizer: the inverse of `Tokenizer.from_gguf`.

    Scores of a BPE vocabulary are made from the order of its merges, which is their only meaning.

    Raises:
        UnsupportedModel: GGUF has no name for its kind.
    """
    backend = tokenizer.backend
    state = json.loads(backend.to_str())
    model = state["model"]
    tokens = [backend.id_to_token(number) for number in range(tokenizer.vocab_size)]
    types = _types_of(tokenizer, tokens)
    kind = model["type"]
    if kind == "BPE":
        kind = "byte-level BPE" if _has_step(state["pre_tokenizer"], "ByteLevel") else "BPE"
    if kind not in _METADATA_OF:
        raise UnsupportedModel(
            f"GGUF: expected a tokenizer of one of the kinds {', '.join(_METADATA_OF)}, got {kind}"
        )
    made = {PREFIX + key: value for key, value in _METADATA_OF[kind](tokenizer, state).items()}
    made.setdefault(PREFIX + "tokens", [token or f"[EMPTY_{n}]" for n, token in enumerate(tokens)])
    made[PREFIX + "token_type"] = np.array(types, np.int32)
    for name, key in SPECIAL_IDS.items():
        number = getattr(tokenizer, name.replace("_token", "_id"))
        if number is not None:
            made[PREFIX + key] = number
    made.setdefault(PREFIX + "add_bos_token", tokenizer.add_bos)
    made.setdefault(PREFIX + "add_eos_token", tokenizer.add_eos)
    templates = tokenizer.chat_template
    if isinstance(templates, str):
        templates = {"default": templates}
    for name, template in (templates or {}).items():
        suffix = "" if name == "default" else f".{name}"
        made[f"tokenizer.chat_template{suffix}"] = template
    return made


def _types_of(tokenizer: Tokenizer, tokens: list[str | None]) -> list[int]:
    added = tokenizer.backend.get_added_tokens_decoder()
    byte_fallback = tokenizer.backend.token_to_id("<0x00>") is not None
    types = []
    for number, token in enumerate(tokens):
        kind = PieceType.NORMAL
        if token is None:
            kind = PieceType.UNUSED
        elif number == tokenizer.unk_id and number != tokenizer.eos_id:
            kind = PieceType.UNKNOWN
        elif number in added:
            kind = PieceType.CONTROL if added[number].special else PieceType.USER_DEFINED
        elif byte_fallback and len(token) == 6 and len(fallback_bytes_of(token)) == 1:
            kind = PieceType.BYTE
        types.append(int(kind))
    return types


def _gpt2_metadata(tokenizer: Tokenizer, state: dict[str, Any]) -> dict[str, Any]:
    merges = [" ".join(pair) for pair in _pairs(state)]
    return {
        "model": "gpt2",
        "pre": _family_name(tokenizer.backend, state),
        "merges": merges or np.empty(0, str),  # which says of what it has none
    }


def _family_name(backend: tokenizers.Tokenizer, state: dict[str, Any]) -> str:
    """The name of the family that splits a probe like this tokenizer, whatever its steps."""
    ignore_merges = bool(state["model"].get("ignore_merges"))
    cut = words_of_probe(backend)
    names = []
    for name, family in BY_GGUF_NAME.items():
        other = import_tokenizers().Tokenizer(import_tokenizers().models.BPE())
        add_byte_level_steps(other, family)
        if words_of_probe(other) == cut:
            if family.ignore_merges == ignore_merges:
                return name
            names.append(name)
    if names:
        return names[0]
    raise UnsupportedModel(
        "GGUF: no tokenizer.ggml.pre names how this tokenizer cuts text into words; known are "
        + ", ".join(BY_GGUF_NAME)
    )


def words_of_probe(backend: tokenizers.Tokenizer) -> list[str]:
    text = backend.normalizer.normalize_str(PROBE) if backend.normalizer else PROBE
    return [word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text)]


def _llama_metadata(tokenizer: Tokenizer, state: dict[str, Any]) -> dict[str, Any]:
    ranks: dict[str, int] = {}
    for rank, (left, right) in enumerate(_pairs(state)):
        ranks.setdefault(left + right, rank)
    last = len(state["model"]["merges"])
    scores = np.zeros(tokenizer.vocab_size, np.float32)
    for piece, number in state["model"]["vocab"].items():
        scores[number] = -ranks.get(piece, last + number)
    return {"model": "llama", "pre": "default", "scores": scores, **_spaces(tokenizer)}


def _spaces(tokenizer: Tokenizer) -> dict[str, bool]:
    """The treatment of spaces, found by encoding, as several settings have one effect."""

    def pieces(text: str) -> list[str]:
        return tokenizer.backend.encode(text, add_special_tokens=False).tokens

    return {
        "add_space_prefix": pieces("a")[:1] != ["a"] and pieces("a")[0].startswith(SPACE),
        "remove_extra_whitespaces": pieces(" a  a ") == pieces("a a"),
    }


def _t5_metadata(tokenizer: Tokenizer, state: dict[str, Any]) -> dict[str, Any]:
    scores = np.zeros(tokenizer.vocab_size, np.float32)
    stored = [score for _, score in state["model"]["vocab"]]
    scores[: len(stored)] = stored

    made: dict[str, Any] = {
        "model": "t5",
        "pre": "default",
        "scores": scores,
        **_spaces(tokenizer),
    }
    for step in _steps(state["normalizer"]):
        if step["type"] == "Precompiled":
            made["precompiled_charsmap"] = np.frombuffer(
                base64.b64decode(step["precompiled_charsmap"]), np.uint8
            )
    return made


def _bert_metadata(tokenizer: Tokenizer, state: dict[str, Any]) -> dict[str, Any]:
    marked = []
    for number in range(tokenizer.vocab_size):
        token = tokenizer.backend.id_to_token(number) or f"[EMPTY_{number}]"
        if token.startswith(CONTINUES):
            token = token.removeprefix(CONTINUES)
        elif not (token.startswith("[") and token.endswith("]")):
            token = SPACE + token
        marked.append(token)
    made: dict[str, Any] = {"model": "bert", "pre": "default", "tokens": marked}
    ids = {name: tokenizer.token_to_id(name) for name in ("[CLS]", "[SEP]", "[MASK]")}
    for name, key in (("[CLS]", "cls"), ("[SEP]", "seperator"), ("[MASK]", "mask")):
        if ids[name] is not None:
            made[f"{key}_token_id"] = ids[name]
    # Readers put these two in the places of BOS and EOS. A BERT's files may declare neither, and
    # still have them added.
    ends = tokenizer.encode("")
    made["add_bos_token"] = ends[:1] == [ids["[CLS]"]]
    made["add_eos_token"] = ends[-1:] == [ids["[SEP]"]]
    return made


_METADATA_OF = {
    "byte-level BPE": _gpt2_metadata,
    "BPE": _llama_metadata,
    "Unigram": _t5_metadata,
    "WordPiece": _bert_metadata,
}


def _pairs(state: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Merges as pairs; older files write each as one string."""
    for merge in state["model"]["merges"]:
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge
        yield left, right


def _steps(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    """The steps of a normaliser or pre-tokenizer, which may be a sequence of them."""
    if part is None:
        return []
    return next((part[key] for key in ("normalizers", "pretokenizers") if key in part), [part])


def _has_step(part: dict[str, Any] | None, kind: str) -> bool:
    return any(step["type"] == kind for step in _steps(part))
