"""Text to token ids and back: one class over Hugging Face's `tokenizers`, whatever the files."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np

from gradient import absent
from gradient.errors import ArgumentError, FileFormatError, TypeMismatch
from gradient.io.atomic import write_text
from gradient.text.added_tokens import SPECIAL_NAMES
from gradient.text.assistant_spans import find_assistant_spans, marks_assistant
from gradient.text.build import panics_as, special
from gradient.text.chat_template import render_chat, render_with_spans
from gradient.text.decoding import TokenDecoder, token_list
from gradient.text.encoding import TokenEncoder
from gradient.text.files import errors_name, read_file, read_folder
from gradient.text.gguf.reading import read_vocabulary
from gradient.text.stream import StreamDecoder

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Tokenizer"]


class ChatTokens(NamedTuple):
    """A conversation as token ids, and a mask: 1 for tokens of the assistant, 0 for others."""

    input_ids: list[int]
    assistant_mask: list[int]


@absent.hints(
    bos_token_id="use bos_id",
    eos_token_id="use eos_id",
    pad_token_id="use pad_id",
    unk_token_id="use unk_id",
    all_special_ids="use special_ids",
    batch_decode="use [tokenizer.decode(ids) for ids in batch]",
    batch_encode_plus="use encode_batch(texts)",
    encode_plus="use encode(text), which returns a list of ids",
    convert_tokens_to_ids="use token_to_id(token)",
    convert_ids_to_tokens="use id_to_token(id)",
    tokenize="use [tokenizer.id_to_token(id) for id in tokenizer.encode(text)]",
    from_pretrained="use Tokenizer.from_folder(folder), or gradient.hub.load(source).tokenizer",
    save_pretrained="use save(folder)",
)
class Tokenizer:
    """Encodes text to token ids and decodes ids to text.

        tokenizer = gradient.text.Tokenizer.from_folder("models/gpt2")
        ids = tokenizer.encode("Hello world")          # [15496, 995]
        tokenizer.decode(ids)                          # "Hello world"

    Args:
        backend: the underlying `tokenizers.Tokenizer`.
        bos_token, eos_token, pad_token, unk_token: the texts of special tokens; None: there is
            none.
        add_bos, add_eos: add BOS at the start, or EOS at the end, when encoding; None: the
            backend's post-processor decides.
        chat_template: Jinja source, or several by name ("default", "tool_use").
        charsmap: SentencePiece's table of replacements. The backend must have it too, as its first
            step (`Precompiled`); the exact table here replaces that step when encoding.

    Raises:
        ArgumentError: a special token is not in the vocabulary.
    """

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        *,
        bos_token: str | None = None,
        eos_token: str | None = None,
        pad_token: str | None = None,
        unk_token: str | None = None,
        add_bos: bool | None = None,
        add_eos: bool | None = None,
        chat_template: str | Mapping[str, str] | None = None,
        charsmap: bytes = b"",
    ):
        # A file may configure truncation or padding; both are for batches, not for text.
        backend.no_truncation()
        backend.no_padding()
        self.backend = backend
        self._encoder = TokenEncoder(backend, charsmap)
        self.bos_token, self.bos_id = bos_token, self._special_id("bos_token", bos_token)
        self.eos_token, self.eos_id = eos_token, self._special_id("eos_token", eos_token)
        self.pad_token, self.pad_id = pad_token, self._special_id("pad_token", pad_token)
        self.unk_token, self.unk_id = unk_token, self._special_id("unk_token", unk_token)
        self.chat_template = chat_template
        with panics_as("this is not a valid tokenizer"):
            ends = backend.encode("", add_special_tokens=True).ids
        self._backend_adds_bos = self.bos_id is not None and ends[:1] == [self.bos_id]
        self._backend_adds_eos = self.eos_id is not None and ends[-1:] == [self.eos_id]
        if len(ends) == 1 and self.bos_id == self.eos_id:
            self._backend_adds_eos = False  # one token is BOS and EOS, and one is added
        self.add_bos = self._backend_adds_bos if add_bos is None else add_bos
        self.add_eos = self._backend_adds_eos if add_eos is None else add_eos
        for end, added, number in (
            ("bos", self.add_bos, self.bos_id),
            ("eos", self.add_eos, self.eos_id),
        ):
            if added and number is None:
                raise ArgumentError(f"Tokenizer: add_{end}=True needs a {end}_token")

    @classmethod
    def from_folder(cls, folder: str | os.PathLike[str]) -> Self:
        """Load the tokenizer in a model's folder.

        Reads tokenizer.json; else vocab.json and merges.txt, or OpenAI's encoder.json and
        vocab.bpe; else SentencePiece's tokenizer.model or spiece.model; else BERT's vocab.txt; else
        llama2.c's tokenizer.bin. Special tokens and chat template come from tokenizer_config.json,
        special_tokens_map.json, added_tokens.json, chat_template.jinja and config.json, if
        they exist.

        Raises:
            ModelNotFound: there is none; the message lists the expected and the existing files.
            FileFormatError: a file is damaged.
        """
        folder = Path(folder)
        with errors_name(folder, ArgumentError, FileFormatError, OverflowError, UnicodeEncodeError):
            return cls(**read_folder(folder))

    @classmethod
    def from_file(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Load the tokenizer in one file: a tokenizer.json, SentencePiece's `.model`, BERT's
        vocab.txt, llama2.c's `.bin`, or a `.gguf` with a model or a vocabulary; `options` as for
        `Tokenizer`.

        Raises:
            ModelNotFound: there is no such file.
            FileFormatError: it is damaged.
        """
        path = Path(path)
        with errors_name(path, FileFormatError):
            arguments: dict[str, Any] = {**read_file(path), **options}
            return cls(**arguments)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Load the tokenizer in a folder or a file; see `from_folder` and `from_file`."""
        path = Path(path).expanduser()
        return cls.from_folder(path) if path.is_dir() else cls.from_file(path)

    @classmethod
    def from_gguf(cls, metadata: Mapping[str, Any]) -> Self:
        """Return the tokenizer in a GGUF file's metadata, with special tokens and chat template.

            Tokenizer.from_gguf(gradient.io.gguf.GGUFFile("model.gguf").metadata)

        Raises:
            FileFormatError: there is none, it is of an unknown kind, or it is damaged.
        """
        return cls(**read_vocabulary(metadata))

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Write tokenizer.json and tokenizer_config.json to `folder`, in transformers' format.

        Raises:
            CheckpointError: the disk is full or has an error.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        # Written even if None: a reader would otherwise look elsewhere for one.
        config: dict[str, Any] = {name: getattr(self, name) for name in SPECIAL_NAMES}
        if self.add_bos != self._backend_adds_bos:
            config["add_bos_token"] = self.add_bos
        if self.add_eos != self._backend_adds_eos:
            config["add_eos_token"] = self.add_eos
        if isinstance(self.chat_template, str):
            config["chat_template"] = self.chat_template
        elif self.chat_template:
            config["chat_template"] = [
                {"name": name, "template": template}
                for name, template in self.chat_template.items()
            ]
        config["clean_up_tokenization_spaces"] = False
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        write_text(folder / "tokenizer.json", self.backend.to_str(pretty=True))
        text = json.dumps(config, indent=2, ensure_ascii=False)
        write_text(folder / "tokenizer_config.json", text + "\n")

    def add_special_tokens(self, tokens: Iterable[str]) -> int:
        """Add special tokens that the vocabulary lacks, at its end; return their number.

        Enlarge the model's embeddings before you use them.
        """
        new = [each for each in dict.fromkeys(tokens) if self.token_to_id(each) is None]
        self.backend.add_special_tokens([special(token) for token in new])
        # These were made from the old backend.
        self._encoder = TokenEncoder(self.backend, self._encoder.charsmap)
        self.__dict__.pop("_decoder", None)
        return len(new)

    # Text to ids ---------------------------------------------------------------------------

    @property
    def vocab_size(self) -> int:
        """Number of tokens, special and added ones included."""
        return self.backend.get_vocab_size(with_added_tokens=True)

    def encode(
        self, text: str, *, add_special_tokens: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Return the token ids of `text`.

        Args:
            add_special_tokens: add BOS (and other special tokens) if the tokenizer does so; a text
                that begins with BOS gets no second one.
            parse_special: encode special tokens in the text, such as `<|endoftext|>`, as one token.
                Use False for untrusted text: then they are ordinary characters.

        Raises:
            TypeMismatch: `text` is not a str.
            ArgumentError: it contains an unpaired surrogate, which UTF-8 cannot encode.
        """
        return self._encoded([text], add_special_tokens, parse_special)[0]

    def encode_batch(
        self,
        texts: Sequence[str],
        *,
        add_special_tokens: bool = True,
        parse_special: bool = True,
    ) -> list[list[int]]:
        """Return the token ids of each text, on all cores; arguments as in `encode`."""
        return self._encoded(texts, add_special_tokens, parse_special)

    def _encoded(
        self, texts: Sequence[str], add_special_tokens: bool, parse_special: bool
    ) -> list[list[int]]:
        if isinstance(texts, str):
            raise TypeMismatch("encode_batch: expected a list of texts, got one str; give [text]")
        ids = self._encoder.encode(texts, add_special_tokens, parse_special)
        return [self._with_bos_eos(row) for row in ids] if add_special_tokens else ids

    def _with_bos_eos(self, ids: list[int]) -> list[int]:
        """Ensure exactly one BOS at the start, if there should be one; likewise EOS at the end."""
        bos, eos = self.bos_id, self.eos_id
        if self.add_bos and bos is not None and ids[:1] != [bos]:
            ids = [bos, *ids]
        elif self._backend_adds_bos and (ids[:2] == [bos, bos] or not self.add_bos):
            ids = ids[1:]
        if self.add_eos and eos is not None and ids[-1:] != [eos]:
            ids = [*ids, eos]
        elif self._backend_adds_eos and (ids[-2:] == [eos, eos] or not self.add_eos):
            ids = ids[:-1]
        return ids

    def token_to_id(self, token: str) -> int | None:
        """Return the id of a token by its exact text in the vocabulary, or None."""
        return self.backend.token_to_id(token)

    def id_to_token(self, token_id: int) -> str | None:
        """Return the vocabulary's text of an id, or None; byte-level ones write a space as Ġ."""
        return self.backend.id_to_token(token_id)

    # Ids to text ---------------------------------------------------------------------------

    def decode(self, ids: Iterable[int], *, skip_special_tokens: bool = True) -> str:
        """Return the text of token ids (a list, array or 1-D tensor); broken UTF-8 becomes U+FFFD.

        Ids beyond the vocabulary, which models with a padded vocabulary can generate, have no text.

        Raises:
            TypeMismatch: they are not a row of integers.
            IndexOutOfRange: an id is negative.
        """
        return self._decoder.decode(token_list(ids), skip_special_tokens)

    def stream(
        self, context: Iterable[int] = (), *, skip_special_tokens: bool = True
    ) -> StreamDecoder:
        """Return a streaming decoder: `push(id)` returns whole characters, `flush()` the rest.

        Args:
            context: ids before the stream, such as the prompt. Some tokenizers drop the space
                before a text's first word; with a context they keep it.
        """
        return self._decoder.stream(token_list(context), skip_special_tokens)

    @property
    def special_ids(self) -> frozenset[int]:
        """Ids of the special tokens, which `decode` leaves out."""
        return self._decoder.special_ids

    def token_bytes(self, token_id: int) -> bytes:
        """Return the bytes of a token; b"" for special and unknown ones."""
        return self._decoder.token_bytes(token_id)

    @functools.cached_property
    def _decoder(self) -> TokenDecoder:
        return TokenDecoder(self.backend)

    # Chat ----------------------------------------------------------------------------------

    def apply_chat_template(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool | str = False,
        chat_template: str | None = None,
        **variables: Any,
    ) -> str:
        """Return the text of a conversation for this model; see `render_chat`.

        Encode it with `add_special_tokens=False`: a template writes BOS itself.

        Args:
            add_generation_prompt: end with the beginning of an answer; default True unless
                `continue_final_message`.
            chat_template: the template (Jinja source, or the name of one of the model's); default:
                the model's, or its "tool_use" template, if it has one and tools are given.

        Raises:
            ArgumentError: the tokenizer has no template (a base model), and none was given.
            ChatTemplateError: the template fails or refuses the messages.
        """
        if add_generation_prompt is None:
            add_generation_prompt = not continue_final_message
        return render_chat(
            self._template_for(tools, chat_template),
            messages,
            tools=tools,
            documents=documents,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **(self._special_texts() | variables),
        )

    def encode_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        documents: Sequence[Mapping[str, Any]] | None = None,
        chat_template: str | None = None,
        **variables: Any,
    ) -> ChatTokens:
        """Return a conversation as token ids, with a mask of the assistant's tokens, for training.

        The assistant's text is in the template's `{% generation %}` blocks; tokens partly
        inside a block count. If a template has no such blocks, a turn is the text
        between the prompt for it and its end (see `gradient.text.assistant_spans`). Arguments and
        errors as in `apply_chat_template`.
        """
        template = self._template_for(tools, chat_template)
        options = {"tools": tools, "documents": documents, **self._special_texts(), **variables}
        if marks_assistant(template):
            rendered = render_with_spans(template, messages, **options)
        else:
            rendered = find_assistant_spans(
                messages,
                lambda some, begin: render_chat(
                    template, some, add_generation_prompt=begin, **options
                ),
                [token for token in map(self.id_to_token, self.special_ids) if token],
            )
        with panics_as("encode: the tokenizer cannot do it, its files are damaged"):
            encoding = self._encoder.parsing.encode(rendered.text, add_special_tokens=False)
        offsets = np.asarray(encoding.offsets, np.int64).reshape(-1, 2)
        mask = np.zeros(len(offsets), bool)
        for begin, end in rendered.assistant_spans:
            mask |= (offsets[:, 0] < end) & (offsets[:, 1] > begin)
        return ChatTokens(encoding.ids, mask.astype(int).tolist())

    def _special_texts(self) -> dict[str, str]:
        """The existing special tokens, as variables of a template."""
        named = {name: getattr(self, name) for name in SPECIAL_NAMES}
        return {name: text for name, text in named.items() if text is not None}

    def _template_for(self, tools: Sequence[Any] | None, chosen: str | None) -> str:
        templates = self.chat_template
        if isinstance(templates, Mapping):
            by_default = "tool_use" if tools and "tool_use" in templates else "default"
            name = chosen or by_default
            if name in templates:
                return templates[name]
            if chosen is None:
                raise ArgumentError(
                    f"chat template: there is no {name!r} one; give chat_template= one of "
                    f"{', '.join(templates)}"
                )
        if chosen is not None:
            return chosen
        assert not isinstance(templates, Mapping)
        if not templates:
            raise ArgumentError(
                "this tokenizer has no chat template: the model is a base model, not trained to "
                "chat. Use generate() on plain text, or give a chat_template"
            )
        return templates

    # ---------------------------------------------------------------------------------------

    def _special_id(self, name: str, token: str | None) -> int | None:
        if token is None:
            return None
        number = self.backend.token_to_id(token)
        if number is None:
            raise ArgumentError(f"Tokenizer: {name} {token!r} is not in the vocabulary")
        return number

    def __repr__(self) -> str:
        return (
            f"Tokenizer({self.vocab_size} tokens, bos={self.bos_token!r}, eos={self.eos_token!r})"
        )
