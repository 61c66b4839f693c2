"""Tokenizers, streaming decoding, BPE training and chat templates."""

from typing import TYPE_CHECKING

from gradient._exports import public as _public
from gradient._exports import shown as _shown
from gradient.text.chat_template import *
from gradient.text.stream import *
from gradient.text.thinking import *
from gradient.text.tokenizer import *
from gradient.text.tool_schema import *
from gradient.text.train import *

if not TYPE_CHECKING:  # type checkers follow the star imports
    __all__ = _public(globals())
    __dir__ = _shown(globals())
