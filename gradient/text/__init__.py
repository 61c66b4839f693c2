"""Tokenizers, streaming decoding, BPE training and chat templates."""

from gradient.text.chat_template import ChatTemplateError, render_chat
from gradient.text.stream import StreamDecoder
from gradient.text.thinking import ThinkingStream, split_thinking
from gradient.text.tokenizer import Tokenizer
from gradient.text.tool_schema import get_json_schema
from gradient.text.train import byte_tokenizer, train_bpe

__all__ = [
    "ChatTemplateError",
    "StreamDecoder",
    "ThinkingStream",
    "Tokenizer",
    "byte_tokenizer",
    "get_json_schema",
    "render_chat",
    "split_thinking",
    "train_bpe",
]
