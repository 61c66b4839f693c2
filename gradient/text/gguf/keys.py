"""The keys of GGUF's metadata that describe a vocabulary: `tokenizer.ggml.*`, as llama.cpp's."""

from collections.abc import Mapping
from typing import Any

Metadata = Mapping[str, Any]

PREFIX = "tokenizer.ggml."
#: Ids of special tokens, by `Tokenizer`'s names for them.
SPECIAL_IDS = {
    "bos_token": "bos_token_id",
    "eos_token": "eos_token_id",
    "pad_token": "padding_token_id",
    "unk_token": "unknown_token_id",
}
OTHER_IDS = ("eot_token_id", "eom_token_id", "cls_token_id", "mask_token_id")
#: Files have the first spelling.
SEPARATOR_IDS = ("seperator_token_id", "separator_token_id")
