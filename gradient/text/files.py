"""Finding and reading a tokenizer's files in a model folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradient.errors import ArgumentError, FileFormatError, ModelNotFound
from gradient.io.json_file import MAX_JSON_BYTES, read_json
from gradient.text.build import byte_level_bpe, import_tokenizers, panics_as, special
from gradient.text.families import BY_CLASS
from gradient.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

#: Vocabulary and merges, under Hugging Face's and under OpenAI's names.
_BPE_FILES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_SPECIAL_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token")
_END_OF_TEXT = "<|endoftext|>"


def read_folder(folder: Path) -> Tokenizer:
    """See `Tokenizer.from_folder`."""
    config = _read_optional(folder / "tokenizer_config.json")
    if (folder / "tokenizer.json").is_file():
        backend = read_tokenizer_json(folder / "tokenizer.json")
    else:
        backend = _read_bpe(folder, config)
    specials: dict[str, Any] = _special_tokens(folder, config, backend)
    add_bos = config.get("add_bos_token")
    try:
        return Tokenizer(
            backend,
            add_bos=add_bos if isinstance(add_bos, bool) and specials.get("bos_token") else None,
            chat_template=_chat_template(folder, config),
            **specials,
        )
    except ArgumentError as error:
        raise FileFormatError(f"{folder}: {error}") from None


def read_tokenizer_json(path: Path) -> tokenizers.Tokenizer:
    """See `Tokenizer.from_file`."""
    tk = import_tokenizers()
    try:
        text = _read_text(path)
    except (FileNotFoundError, IsADirectoryError) as error:
        raise ModelNotFound(f"no tokenizer at {path}: {error.strerror}") from None
    with panics_as(f"{path} is not a valid tokenizer.json"):
        return tk.Tokenizer.from_str(text)


def _read_bpe(folder: Path, config: dict[str, Any]) -> tokenizers.Tokenizer:
    for vocab_name, merges_name in _BPE_FILES:
        if (folder / vocab_name).is_file() and (folder / merges_name).is_file():
            break
    else:
        raise _not_found(folder)
    kind = config.get("tokenizer_class", "GPT2Tokenizer")
    if kind not in BY_CLASS:
        raise FileFormatError(
            f"{folder}: {vocab_name} and {merges_name} of a {kind} cannot be read without its "
            f"tokenizer.json; only those of {', '.join(BY_CLASS)} can. Save it with transformers: "
            "AutoTokenizer.from_pretrained(folder).save_pretrained(folder)"
        )
    vocab = read_json(folder / vocab_name)
    if not isinstance(vocab, dict) or not all(type(number) is int for number in vocab.values()):
        raise FileFormatError(f"{folder / vocab_name}: expected an object of token to id")
    merges = _read_merges(folder / merges_name)
    try:
        backend = byte_level_bpe(vocab, merges, _known_specials(config, vocab), BY_CLASS[kind])
        _add_tokens(backend, config)
    except (FileFormatError, OverflowError) as error:
        raise FileFormatError(f"{folder}: {vocab_name} and {merges_name}: {error}") from None
    return backend


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


def _known_specials(config: dict[str, Any], vocab: dict[str, int]) -> list[str]:
    """Special tokens that the vocabulary itself holds; GPT-2's holds one and does not say so."""
    named = [_END_OF_TEXT, *(_text_of(config.get(name)) for name in _SPECIAL_NAMES)]
    return [token for token in dict.fromkeys(named) if token is not None and token in vocab]


def _add_tokens(backend: tokenizers.Tokenizer, config: dict[str, Any]) -> None:
    """The tokens that tokenizer_config.json adds, which must get the ids it gives them."""
    added = config.get("added_tokens_decoder")
    if not isinstance(added, dict):
        return
    tk = import_tokenizers()
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    numbers = {number: token for number, token in added.items() if str(number).isdecimal()}
    for number in sorted(numbers, key=int):
        token = numbers[number]
        content = _text_of(token)
        if content is None:
            raise FileFormatError(f"added token {number} has no content")
        chosen = {flag: bool(token[flag]) for flag in flags if flag in token}
        backend.add_tokens([tk.AddedToken(content, **chosen)])
        if backend.token_to_id(content) != int(number):
            raise FileFormatError(
                f"added token {content!r} should have id {number} and gets "
                f"{backend.token_to_id(content)}: the vocabulary is not the one it was added to"
            )


def _special_tokens(
    folder: Path, config: dict[str, Any], backend: tokenizers.Tokenizer
) -> dict[str, str | None]:
    """Special tokens by name: as the tokenizer's files say, else as the model's config says."""
    named = _read_optional(folder / "special_tokens_map.json") | config
    specials = {name: _text_of(named.get(name)) for name in _SPECIAL_NAMES}
    model = _read_optional(folder / "config.json")
    for name in ("bos_token", "eos_token"):
        if specials[name] is None and name not in config:
            number = model.get(f"{name}_id")
            if type(number) is int and 0 <= number < backend.get_vocab_size():
                specials[name] = backend.id_to_token(number)
            elif backend.token_to_id(_END_OF_TEXT) is not None and not model:
                specials[name] = _END_OF_TEXT
    for token in filter(None, specials.values()):
        if backend.token_to_id(token) is None:
            backend.add_special_tokens([special(token)])
    return specials


def _chat_template(folder: Path, config: dict[str, Any]) -> str | dict[str, str] | None:
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _read_text(file)
    template = config.get("chat_template")
    if isinstance(template, list):
        try:
            return {str(entry["name"]): str(entry["template"]) for entry in template}
        except (TypeError, KeyError):
            raise FileFormatError(
                f"{folder / 'tokenizer_config.json'}: chat_template must be a string or a list of "
                "objects with name and template"
            ) from None
    return template if isinstance(template, str) else None


def _text_of(token: Any) -> str | None:
    """A special token is written as a string, or as an object with its content."""
    content = token.get("content") if isinstance(token, dict) else token
    return content if isinstance(content, str) else None


def _read_text(path: Path) -> str:
    """The text of a file of someone else's making, bounded in size as `read_json` is."""
    size = path.stat().st_size
    if size > MAX_JSON_BYTES:
        raise FileFormatError(f"{path} has {size:,} bytes; the limit is {MAX_JSON_BYTES:,}")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise FileFormatError(f"{path} is not UTF-8 (byte {error.start})") from None


def _read_optional(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    content = read_json(path)
    if not isinstance(content, dict):
        raise FileFormatError(f"{path}: expected a JSON object, got {type(content).__name__}")
    return content


def _not_found(folder: Path) -> ModelNotFound:
    if not folder.is_dir():
        return ModelNotFound(f"no tokenizer: {folder} is not a folder")
    pairs = " or ".join(f"{vocab} + {merges}" for vocab, merges in _BPE_FILES)
    held = sorted(entry.name for entry in folder.iterdir())
    return ModelNotFound(
        f"no tokenizer in {folder}: looked for tokenizer.json, or {pairs}; "
        f"found {', '.join(held[:12]) or 'an empty folder'}{', ...' if len(held) > 12 else ''}"
    )
