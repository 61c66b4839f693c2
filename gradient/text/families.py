"""How families of byte-level BPE tokenizers split text into words before they merge bytes.

Merges never cross a split, so the splits are part of a vocabulary, but its files may not define
them: vocab.json and merges.txt leave them to the code, GGUF files name them. The patterns are
those of the models' own tokenizer.json files, in the syntax of the `tokenizers` package's regular
expressions (Oniguruma). Each of several patterns splits the words left by the ones before.
"""

from __future__ import annotations

from dataclasses import dataclass

#: GPT-2's (Radford et al. 2019): contractions, words with the space before them, numbers, the rest.
GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s*[\r\n]+|\s+(?!\S)|\s+"


def _gpt4(digits: str) -> str:
    """The pattern of GPT-4 and its many successors, which differ in how digits are grouped."""
    return (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}"
        rf"| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_SPACES}"
    )


@dataclass(frozen=True)
class PreTokenization:
    """A family's processing of text before it merges bytes.

    Attributes:
        patterns: a match becomes a word, and so does the text between matches.
        nfc: compose accents first (Unicode normal form C).
        ignore_merges: a word that is in the vocabulary is one token, whatever the merges give.
        add_prefix_space: begin with a space, so that the first word is encoded like any other (only
            for GPT-2's pattern).
        add_bos: texts begin with BOS unless the files say otherwise.
    """

    patterns: tuple[str, ...] = (GPT2_PATTERN,)
    nfc: bool = False
    ignore_merges: bool = False
    add_prefix_space: bool = False
    add_bos: bool = False


_upper = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_lower = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_cjk = r"[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
#: Letters with case, in the Unicode version of DeepSeek-LLM's tokenizer.
_cased = (
    r"A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽ"
    r"ᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥ"
    r"ῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎ"
    r"ꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)

GPT2 = PreTokenization()
#: Each digit is a word.
STARCODER = PreTokenization((r"\p{N}", GPT2_PATTERN))
QWEN2 = PreTokenization((_gpt4(r"\p{N}"),), nfc=True)
STABLELM2 = PreTokenization(QWEN2.patterns)
LLAMA3 = PreTokenization((_gpt4(r"\p{N}{1,3}"),), ignore_merges=True, add_bos=True)
GPT4 = PreTokenization((_gpt4(r"\p{N}{1,3}"),))
FALCON = PreTokenization((r"[\p{P}\$\+<=>\^~\|`]+", GPT2_PATTERN, r"[0-9]{3}"))
DEEPSEEK_LLM = PreTokenization(
    (
        r"[\r\n]",
        rf"\s?[{_cased}]+",
        r"\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
        r"\s+\z",
        _cjk,
        r"\p{N}+",
    )
)
DEEPSEEK_CODER = PreTokenization((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _cjk, r"\p{N}"))
DEEPSEEK_V3 = PreTokenization(
    (
        r"\p{N}{1,3}",
        r"[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+",
        r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+"
        r"|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
        rf"| ?[\p{{P}}\p{{S}}]+[\r\n]*|{_SPACES}",
    )
)
TEKKEN = PreTokenization(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_upper}*{_lower}+|[^\r\n\p{{L}}\p{{N}}]?{_upper}+{_lower}*"
        rf"|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
    ),
    ignore_merges=True,
    add_bos=True,
)
#: GPT-4o's: words by case, contractions with the word before them.
GPT4O = PreTokenization(
    (
        rf"[^\r\n\p{{L}}\p{{N}}]?{_upper}*{_lower}+{_CONTRACTIONS}?"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{_upper}+{_lower}*{_CONTRACTIONS}?"
        rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_SPACES}",
    )
)
SEED_CODER = PreTokenization(
    (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}"
        rf"| ?[^\s\p{{L}}\p{{N}}\r\n]+|{_SPACES}",
    )
)
VIKING = PreTokenization((r" ?[^(\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+", r"\p{N}"))
#: llama.cpp's rule for a file that does not name its family.
UNNAMED = PreTokenization((r"[\p{P}\$\+<=>\^~\|]+", GPT2_PATTERN, r"\p{N}+", r"[0-9]{3}"))

_ROBERTA = ("RobertaTokenizer", "BartTokenizer", "LongformerTokenizer")
#: Classes whose tokenizers put <s> and </s> around a text.
ROBERTA_CLASSES = frozenset(name + fast for name in _ROBERTA for fast in ("", "Fast"))
#: By the `tokenizer_class` of tokenizer_config.json, for folders with vocab.json and merges.txt.
BY_CLASS = {
    name + fast: family
    for name, family in {
        "GPT2Tokenizer": GPT2,
        "GPTNeoXTokenizer": GPT2,
        "CodeGenTokenizer": GPT2,
        "WhisperTokenizer": GPT2,
        **dict.fromkeys(_ROBERTA, GPT2),
        "Qwen2Tokenizer": QWEN2,
    }.items()
    for fast in ("", "Fast")
}
#: By the `model_type` of config.json, if no class is named; others are assumed to be GPT-2's.
BY_MODEL_TYPE = dict.fromkeys(("qwen2", "qwen2_moe", "qwen3", "qwen3_moe"), QWEN2)

#: By GGUF's `tokenizer.ggml.pre`. If several names mean one family, `metadata_of` in
#: text/gguf writes the first.
BY_GGUF_NAME = {
    "gpt-2": GPT2,
    "phi-2": GPT2,
    "mpt": GPT2,
    "olmo": GPT2,
    "roberta-bpe": GPT2,
    "trillion": GPT2,
    "a.x-4.0": GPT2,
    "mellum": GPT2,
    "starcoder": STARCODER,
    "refact": STARCODER,
    "smollm": STARCODER,
    "minerva-7b": STARCODER,
    "qwen2": QWEN2,
    "deepseek-r1-qwen": QWEN2,
    "megrez": QWEN2,
    "stablelm2": STABLELM2,
    "seed-coder": SEED_CODER,
    "llama-bpe": LLAMA3,
    "llama3": LLAMA3,
    "llama-v3": LLAMA3,
    "falcon3": LLAMA3,
    "pixtral": LLAMA3,
    "midm-2.0": LLAMA3,
    "dbrx": GPT4,
    "smaug-bpe": GPT4,
    "chatglm-bpe": GPT4,
    "glm4": GPT4,
    "falcon": FALCON,
    "deepseek-llm": DEEPSEEK_LLM,
    "deepseek-coder": DEEPSEEK_CODER,
    "deepseek-v3": DEEPSEEK_V3,
    "tekken": TEKKEN,
    "gpt-4o": GPT4O,
    "viking": VIKING,
    "default": UNNAMED,
}
