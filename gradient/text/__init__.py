"""Tokenizers, streaming decoding, BPE training and chat templates."""

from gradient.text.chat_template import *
from gradient.text.stream import *
from gradient.text.thinking import *
from gradient.text.tokenizer import *
from gradient.text.tool_schema import *
from gradient.text.train import *
