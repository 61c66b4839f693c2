"""Finding and reading a tokenizer's files in a model folder, or one such file."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from gradient.errors import FileFormatError, ModelNotFound
from gradient.io.gguf import GGUFFile
from gradient.io.json_file import MAX_JSON_BYTES, read_json
from gradient.io.regular_file import check_regular
from gradient.text.added_tokens import (
    END_OF_TEXT,
    SPECIAL_NAMES,
    add_tokens,
    read_optional,
    special_tokens,
    text_of,
)
from gradient.text.arguments import SpecialTokens, TokenizerArguments
from gradient.text.build import add_bos_eos, byte_level_bpe, import_tokenizers, panics_as
from gradient.text.families import BY_CLASS, BY_MODEL_TYPE, GPT2, ROBERTA_CLASSES, PreTokenization
from gradient.text.gguf.reading import read_vocabulary
from gradient.text.pieces import tokenizer_of_pieces
from gradient.text.sentencepiece import (
    arguments_of,
    read_llama2c,
    read_sentencepiece,
    without_dummy_prefix,
)
from gradient.text.wordpiece import wordpiece

if TYPE_CHECKING:
    import tokenizers

Config = dict[str, Any]

#: Vocabulary and merges, under Hugging Face's and under OpenAI's names.
_BPE_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_SENTENCEPIECE_FILES = ("tokenizer.model", "spiece.model")
#: `tokenizer_class`es, without "Tokenizer" and "Fast", whose ids are the pieces' indices.
_LLAMA_CLASSES = ("Llama", "CodeLlama", "Gemma", "Baichuan", "InternLM", "InternLM2", "Ernie4_5_")
_BERT_CLASSES = ("Bert", "DistilBert", "Electra", "MobileBert", "LayoutLM", "")
_ANY_CLASS = ("PreTrained", "Tokenizers", "PreTrainedTokenizers", "")


@dataclass
class _Found:
    """A tokenizer as read from its own files, and its class, if known."""

    backend: tokenizers.Tokenizer
    specials: SpecialTokens = field(default_factory=SpecialTokens)
    add_bos: bool | None = None
    add_eos: bool | None = None
    charsmap: bytes = b""


def read_folder(folder: Path) -> TokenizerArguments:
    """See `Tokenizer.from_folder`."""
    config = read_optional(folder / "tokenizer_config.json")
    for names, read in _READERS:
        if all((folder / name).is_file() for name in names):
            found = read(folder, names, config)
            break
    else:
        raise _not_found(folder)
    add_tokens(folder, found.backend, config)
    options: Config = special_tokens(folder, config, found.backend, found.specials)
    options["charsmap"] = found.charsmap
    for end, known in (("bos", found.add_bos), ("eos", found.add_eos)):
        flag = config.get(f"add_{end}_token", known)
        has_token = bool(options[f"{end}_token"])
        options[f"add_{end}"] = flag if isinstance(flag, bool) and has_token else None
    options["chat_template"] = _chat_template(folder, config)
    return cast("TokenizerArguments", {"backend": found.backend, **options})


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has files of a tokenizer; they are not read."""
    known = any(all((folder / name).is_file() for name in names) for names, _ in _READERS)
    return known or any(folder.glob("*.model"))


def read_file(path: Path) -> TokenizerArguments:
    """See `Tokenizer.from_file`."""
    if path.suffix in (".model", ".bin"):
        model = read_sentencepiece(path) if path.suffix == ".model" else read_llama2c(path)
        return arguments_of(model)
    if path.suffix == ".txt":
        return {"backend": wordpiece(_read_vocab_txt(path))}
    if path.suffix == ".gguf":
        if not path.is_file():
            raise ModelNotFound(f"no tokenizer at {path}: no such file")
        return read_vocabulary(GGUFFile(path).metadata)
    return {"backend": read_tokenizer_json(path)}


@contextlib.contextmanager
def errors_name(path: Path, *kinds: type[Exception]) -> Iterator[None]:
    """Convert errors of these kinds to FileFormatErrors that name the file or folder."""
    try:
        yield
    except kinds as error:
        named = str(path) in str(error)
        raise FileFormatError(str(error) if named else f"{path}: {error}") from None


# One kind of file each ----------------------------------------------------------------------------


def read_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    """The tokenizer in a tokenizer.json.

    Raises:
        ModelNotFound: there is no such file.
        FileFormatError: it is damaged.
    """
    tk = import_tokenizers()
    try:
        text = _read_text(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelNotFound(f"no tokenizer at {path}: {error.strerror}") from None
    with panics_as(f"{path} is not a valid tokenizer.json"):
        return tk.Tokenizer.from_str(text)


def _from_json(folder: Path, names: tuple[str, ...], config: Config) -> _Found:
    backend = read_tokenizer_json(folder / names[0])
    prefix = config.get("add_prefix_space")
    if isinstance(prefix, bool) and backend.pre_tokenizer is not None:
        _set_prefix_space(backend, prefix)
    return _Found(backend)


def _set_prefix_space(backend: tokenizers.Tokenizer, prefix: bool) -> None:
    """Apply tokenizer_config.json's setting, which overrides tokenizer.json, as in transformers."""
    tk = import_tokenizers()
    state = json.loads(backend.pre_tokenizer.__getstate__())
    if state["type"] == "ByteLevel" and state["add_prefix_space"] != prefix:
        backend.pre_tokenizer = tk.pre_tokenizers.ByteLevel(
            add_prefix_space=prefix, use_regex=state.get("use_regex", True)
        )


def _from_merges(folder: Path, names: tuple[str, ...], config: Config) -> _Found:
    vocab_name, merges_name = names
    family = _family(folder, names, config)
    vocab = read_json(folder / vocab_name)
    if not isinstance(vocab, dict) or not all(type(number) is int for number in vocab.values()):
        raise FileFormatError(f"{folder / vocab_name}: expected an object of token to id")
    merges = _read_merges(folder / merges_name)
    specials: SpecialTokens = {}
    if config.get("tokenizer_class") in ROBERTA_CLASSES:
        ends = {"bos_token": "<s>", "eos_token": "</s>"}
        known = {name: token for name, token in ends.items() if token in vocab}
        specials = cast("SpecialTokens", known)
    try:
        backend = byte_level_bpe(vocab, merges, _known_specials(config, vocab), family)
    except (FileFormatError, OverflowError) as error:
        raise FileFormatError(f"{folder}: {vocab_name} and {merges_name}: {error}") from None
    return _Found(backend, specials, bool(specials) or None, bool(specials) or None)


def _family(folder: Path, names: tuple[str, ...], config: Config) -> PreTokenization:
    kind = config.get("tokenizer_class")
    if kind is None:
        model_type = read_optional(folder / "config.json").get("model_type")
        family = BY_MODEL_TYPE.get(model_type, GPT2) if isinstance(model_type, str) else GPT2
    elif isinstance(kind, str) and kind in BY_CLASS:
        family = BY_CLASS[kind]
    else:
        raise FileFormatError(
            f"{folder}: {' and '.join(names)} of a {kind} cannot be read without its "
            f"tokenizer.json; only those of {', '.join(BY_CLASS)} can. Save it with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    if config.get("add_prefix_space") is True:
        family = PreTokenization(family.patterns, nfc=family.nfc, add_prefix_space=True)
    return family


def _read_merges(path: Path) -> list[tuple[str, str]]:
    merges = []
    for number, line in enumerate(_read_text(path).split("\n"), 1):
        line = line.rstrip("\r")
        if not line or (number == 1 and line.startswith("#version")):
            continue
        left, space, right = line.partition(" ")
        if not (left and space and right) or " " in right:
            raise FileFormatError(f"{path}: line {number}: expected two pieces, got {line!r:.60}")
        merges.append((left, right))
    return merges


def _known_specials(config: Config, vocab: dict[str, int]) -> list[str]:
    """Special tokens in the vocabulary itself; GPT-2's has one that no file declares."""
    named = [END_OF_TEXT, *(text_of(config.get(name)) for name in SPECIAL_NAMES)]
    return [token for token in dict.fromkeys(named) if token is not None and token in vocab]


def _from_sentencepiece(folder: Path, names: tuple[str, ...], config: Config) -> _Found:
    path = folder / names[0]
    model = read_sentencepiece(path)
    kind = _class_of(config)
    if kind not in (*_LLAMA_CLASSES, *_ANY_CLASS, "T5"):
        raise FileFormatError(
            f"{path} of a {kind}Tokenizer cannot be read without its tokenizer.json, for its ids "
            "are not those of the pieces. Save it with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    if config.get("add_prefix_space") is False:
        model = without_dummy_prefix(model)
    try:
        backend = tokenizer_of_pieces(
            model.vocabulary, prefix_first_only=config.get("legacy") is False and kind != "T5"
        )
    except FileFormatError as error:
        raise FileFormatError(f"{path}: {error}") from None
    specials = model.specials()
    charsmap = model.vocabulary.normalizer.charsmap
    if kind == "T5":  # has EOS but no BOS; its <extra_id_0> is the last token
        if "added_tokens_decoder" not in config:
            count = config.get("extra_ids", 100)
            count = count if type(count) is int and 0 <= count <= 1000 else 100
            extra = [f"<extra_id_{number}>" for number in reversed(range(count))]
            backend.add_special_tokens(extra)
        add_bos_eos(backend, None, specials["eos_token"])
        return _Found(backend, specials | {"bos_token": None}, False, True, charsmap)
    has_bos = specials["bos_token"] is not None
    if has_bos and config.get("add_bos_token", True):
        add_bos_eos(backend, specials["bos_token"], None)
    return _Found(backend, specials, has_bos or None, None, charsmap)


def _from_vocab_txt(folder: Path, names: tuple[str, ...], config: Config) -> _Found:
    kind = _class_of(config)
    if kind not in _BERT_CLASSES and kind not in _ANY_CLASS:
        raise FileFormatError(
            f"{folder}: vocab.txt of a {kind}Tokenizer cannot be read without its tokenizer.json; "
            f"only those of BERT's classes can: {', '.join(filter(None, _BERT_CLASSES))}"
        )
    vocab = _read_vocab_txt(folder / names[0])
    defaults = {name: f"[{name.upper()}]" for name in ("unk", "cls", "sep", "pad", "mask")}
    text = {name: text_of(config.get(f"{name}_token")) or defaults[name] for name in defaults}
    lowercase = config.get("do_lower_case")
    accents = config.get("strip_accents")
    backend = wordpiece(
        vocab,
        unk_token=text["unk"],
        cls_token=text["cls"],
        sep_token=text["sep"],
        special_tokens=(text["pad"], text["mask"]),
        lowercase=lowercase if isinstance(lowercase, bool) else None,
        strip_accents=accents if isinstance(accents, bool) else None,
        chinese_characters=config.get("tokenize_chinese_chars") is not False,
    )
    pad = text["pad"] if text["pad"] in vocab else None
    return _Found(backend, {"unk_token": text["unk"], "pad_token": pad})


def _read_vocab_txt(path: Path) -> dict[str, int]:
    try:
        lines = _read_text(path).removesuffix("\n").split("\n")
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelNotFound(f"no tokenizer at {path}: {error.strerror}") from None
    vocab = {line.rstrip("\r"): number for number, line in enumerate(lines)}
    if len(vocab) < len(lines):
        raise FileFormatError(f"{path}: {len(lines) - len(vocab)} of its pieces come twice")
    return vocab


def _from_llama2c(folder: Path, names: tuple[str, ...], config: Config) -> _Found:
    model = read_llama2c(folder / names[0])
    backend = tokenizer_of_pieces(model.vocabulary)
    add_bos_eos(backend, model.specials()["bos_token"], None)
    return _Found(backend, model.specials(), True, None)


_READERS: list[tuple[tuple[str, ...], Callable[[Path, tuple[str, ...], Config], _Found]]] = [
    (("tokenizer.json",), _from_json),
    *((names, _from_merges) for names in _BPE_FILES),
    *(((name,), _from_sentencepiece) for name in _SENTENCEPIECE_FILES),
    (("vocab.txt",), _from_vocab_txt),
    (("tokenizer.bin",), _from_llama2c),
]


# Chat templates, classes, errors ------------------------------------------------------------------


def _class_of(config: Config) -> str:
    kind = config.get("tokenizer_class")
    return kind.removesuffix("Fast").removesuffix("Tokenizer") if isinstance(kind, str) else ""


def _chat_template(folder: Path, config: Config) -> str | dict[str, str] | None:
    more = sorted((folder / "additional_chat_templates").glob("*.jinja"))
    templates = {file.stem: _read_text(file) for file in more if file.is_file()}
    file = folder / "chat_template.jinja"
    default = _read_text(file) if file.is_file() else config.get("chat_template")
    if isinstance(default, list):
        try:
            return templates | {str(each["name"]): str(each["template"]) for each in default}
        except (TypeError, KeyError):
            raise FileFormatError(
                f"{folder / 'tokenizer_config.json'}: chat_template must be a string or a list of "
                "objects with name and template"
            ) from None
    if not isinstance(default, str):
        return templates or None
    return templates | {"default": default} if templates else default


def _read_text(path: Path) -> str:
    """The text of an untrusted file, with the size limit of `read_json`."""
    check_regular(path)
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise FileFormatError(f"{path} has {size:,} bytes; the limit is {MAX_JSON_BYTES:,}")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not UTF-8 (byte {error.start})") from None


def _not_found(folder: Path) -> ModelNotFound:
    if not folder.is_dir():
        return ModelNotFound(f"no tokenizer: {folder} is not a folder")
    *first, last = (" + ".join(names) for names, _ in _READERS)
    held = sorted(entry.name for entry in folder.iterdir())
    return ModelNotFound(
        f"no tokenizer in {folder}: looked for {', '.join(first)} or {last}; "
        f"found {', '.join(held[:12]) or 'an empty folder'}{', ...' if len(held) > 12 else ''}"
    )
