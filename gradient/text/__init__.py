"""Tokenizers, streaming decoding, BPE training and chat templates."""

from gradient.text.chat_template import ChatTemplateError, render_chat
from gradient.text.stream import StreamDecoder
from gradient.text.tokenizer import Tokenizer
from gradient.text.train import byte_level, train_bpe

__all__ = [
    "ChatTemplateError",
    "StreamDecoder",
    "Tokenizer",
    "byte_level",
    "render_chat",
    "train_bpe",
]
