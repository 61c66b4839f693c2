"""Thousands of damaged model files, each loaded and run; `test_fuzz_files.py` starts this program.

    python tests/support/fuzz_files.py KIND COUNT SCRATCH

What it prints, as JSON, are the outcomes: how many loaded, how many were refused in our words, and
every other: an exception that is not ours, a load that took too long, a file opened outside of the
model's folder. Memory is limited, so that an allocation out of proportion fails.
"""

from __future__ import annotations

import contextlib
import copy
import json
import os
import random
import resource
import shutil
import struct
import sys
import sysconfig
import time
import traceback
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np

import gradient
from gradient import hub
from gradient.checkpoints import save_model
from gradient.checkpoints.gguf.save import save_gguf
from gradient.errors import GradientError
from gradient.generation import generate
from gradient.io.gguf import GGUFFile
from gradient.io.gguf import write as write_gguf
from gradient.models.llama import LlamaConfig, LlamaForCausalLM
from gradient.quantization import quantize_
from gradient.text import train_bpe
from gradient.text.pieces import PieceType
from support.piece_models import BYTES, SPECIALS, model_bytes

#: A load of these few kilobytes takes milliseconds; on a busy machine, tenths of seconds.
SECONDS = 20.0
#: What a load may claim beyond what the process holds before.
MORE_MEMORY = 2 << 30

VALUES = [
    0, -1, 1, 2, 3, 7, 64, 10**6, 10**9, 2**31, 10**18, 2**63, 2**64, 0.5, -0.5, 1e-320, 1e308,
    float("nan"), float("inf"), True, False, None, "", "x", "silu", "llama3", "../../etc/passwd",
    "/etc/passwd", "9" * 500, "\ud800", [], [1], [[[]]], {}, {"a": {"b": []}}, {"type": "BPE"},
]  # fmt: skip
NUMBERS = [0, 1, 2, 3, 7, 8, 0x7F, 0x80, 0xFF, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, 1 << 62,
           (1 << 63) - 1, 1 << 63, (1 << 64) - 1]  # fmt: skip

PIECES = [*"▁abcdefghijklmnopqrstuvwxyz", "th", "he", "▁the", "▁q", "qu", "ck", "br", "wn", "ox"]
BYTES_TEXT = [text for text, _, _ in BYTES]

Files = dict[str, bytes]
Damage = Callable[[random.Random, Files], None]


# ---- models to damage ---------------------------------------------------------------------------


def llama(**changes: object) -> LlamaForCausalLM:
    gradient.manual_seed(0)
    settings = {
        "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0,
        "max_position_embeddings": 64, "rope_scaling": {"rope_type": "llama3", "factor": 2.0,
        "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32},
    }  # fmt: skip
    return LlamaForCausalLM(LlamaConfig.from_hf(settings | changes)).eval()


def tokenizer():
    text = "the quick brown fox jumps over the lazy dog and the cat sleeps in the sun " * 20
    return train_bpe([text], vocab_size=300)


def model_folder(folder: Path, **options: object) -> Files:
    save_model(llama(), folder, **options)
    tokenizer().save(folder)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def sharded_folder(folder: Path) -> Files:
    return model_folder(folder, max_shard_bytes=40_000)


def gguf_file(folder: Path) -> Files:
    """Blocks of 32 weights fit these rows; larger ones fall back to smaller."""
    model = quantize_(llama(), "q4_0")
    save_gguf(model, folder / "model.gguf", tokenizer=tokenizer())
    return {"model.gguf": (folder / "model.gguf").read_bytes()}


def torch_folder(folder: Path) -> Files:
    """A PyTorch file of the same weights, written by its own few instructions."""
    from support.torch_files import Storage, tensor, write

    files = model_folder(folder)
    state = gradient.load(folder / "model.safetensors")
    content, storages = {}, {}
    for key, (name, value) in enumerate(state.items()):
        array = np.ascontiguousarray(value.array)
        steps = tuple(step // array.itemsize for step in array.strides)
        content[name] = tensor(Storage(str(key)), array.shape, steps)
        storages[str(key)] = array
    write(folder / "pytorch_model.bin", content, storages)
    files["pytorch_model.bin"] = (folder / "pytorch_model.bin").read_bytes()
    del files["model.safetensors"]
    return files


def split_gguf(folder: Path) -> Files:
    """The same in two parts, each with a head of its own."""
    gguf_file(folder)
    whole = GGUFFile(folder / "model.gguf")
    names = list(whole)
    for number, part in enumerate((names[:10], names[10:])):
        metadata = dict(whole.typed_metadata) if number == 0 else {}
        metadata |= {"split.no": number, "split.count": 2, "split.tensors.count": len(names)}
        path = folder / f"model-{number + 1:05d}-of-00002.gguf"
        write_gguf(path, metadata, {name: whole[name] for name in part})
    (folder / "model.gguf").unlink()
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def llama2c_file(folder: Path) -> Files:
    """Version 0, the output matrix its own, with a tokenizer.bin beside it."""
    dim, hidden, layers, heads, kv, words, context = header = (32, 64, 2, 4, 2, 295, 16)
    shapes = [
        *((words, dim), (layers, dim), (layers, dim, dim), (layers, kv * 8, dim)),
        *((layers, kv * 8, dim), (layers, dim, dim), (layers, dim), (layers, hidden, dim)),
        *((layers, dim, hidden), (layers, hidden, dim), (dim,), (context, 8), (words, dim)),
    ]
    draw = np.random.default_rng(0)
    weights = b"".join(draw.normal(size=shape).astype("<f4").tobytes() for shape in shapes)
    fields = [*header[:5], -words, context]
    pieces = b"".join(
        struct.pack("<fi", -number, len(text.encode())) + text.encode()
        for number, text in enumerate(["<unk>", "<s>", "</s>", *BYTES_TEXT, *PIECES])
    )
    return {
        "model.bin": struct.pack("<7i", *fields) + weights,
        "tokenizer.bin": struct.pack("<i", 7) + pieces,
    }


def pieces_folder(folder: Path) -> Files:
    """A SentencePiece vocabulary, some tokens of which other files name."""
    files = model_folder(folder)
    words = [(text, -float(number), 1) for number, text in enumerate(PIECES)]
    vocabulary = [*SPECIALS, *BYTES, *words, ("<user>", 0.0, PieceType.USER_DEFINED)]
    charsmap = struct.pack("<I", 1024) + bytes(1024) + b"\0"
    del files["tokenizer.json"]
    return files | {
        "tokenizer.model": model_bytes(vocabulary, charsmap=charsmap),
        "tokenizer_config.json": json.dumps(
            {"tokenizer_class": "LlamaTokenizer", "legacy": False, "bos_token": "<s>"}
        ).encode(),
        "added_tokens.json": b'{"<extra>": 296, "<more>": 297}',
        "special_tokens_map.json": b'{"eos_token": {"content": "</s>", "lstrip": false}}',
    }


def merges_folder(folder: Path) -> Files:
    """A vocabulary and its merges as GPT-2 has them, apart."""
    files = model_folder(folder)
    model = json.loads(files.pop("tokenizer.json"))["model"]
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    return files | {
        "vocab.json": json.dumps(model["vocab"]).encode(),
        "merges.txt": b"#version: 0.2\n" + merges.encode(),
        "tokenizer_config.json": json.dumps(
            {
                "tokenizer_class": "Qwen2Tokenizer",
                "added_tokens_decoder": {"300": {"content": "<extra>", "special": True}},
            }
        ).encode(),
        "added_tokens.json": b'{"<extra>": 300}',
    }


def words_folder(folder: Path) -> Files:
    """A WordPiece vocabulary."""
    files = model_folder(folder)
    del files["tokenizer.json"]
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "quick", "##s", "b", "##rown"]
    return files | {
        "vocab.txt": "\n".join(pieces).encode(),
        "tokenizer_config.json": b'{"tokenizer_class": "BertTokenizer", "do_lower_case": true}',
    }


# ---- damage -------------------------------------------------------------------------------------


def flip(draw: random.Random, files: Files, name: str, within: int | None = None) -> None:
    """Replace up to six bytes, cut some out, double some, or end the file early."""
    data = bytearray(files[name])
    end = min(within or len(data), len(data))
    kind = draw.choice(["bytes", "bytes", "bits", "cut", "double", "truncate", "number"])
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(max(end, 1))
        if not data:
            break
        if kind == "bytes":
            data[at % len(data)] = draw.randrange(256)
        elif kind == "bits":
            data[at % len(data)] ^= 1 << draw.randrange(8)
        elif kind == "number":
            size = draw.choice([4, 8])
            value = draw.choice(NUMBERS) % (1 << 8 * size)
            data[at : at + size] = value.to_bytes(size, "little")
    if kind == "truncate":
        del data[draw.randrange(len(data)) :]
    elif kind in ("cut", "double"):
        at = draw.randrange(max(end, 1))
        piece = data[at : at + draw.choice([1, 2, 4, 8, 64, 1000])]
        data[at : at + len(piece)] = b"" if kind == "cut" else piece * 2
    files[name] = bytes(data)


def edit_json(draw: random.Random, files: Files, name: str) -> None:
    """Replace, remove or move values anywhere in a JSON file."""
    content = json.loads(files[name])
    for _ in range(draw.randint(1, 3)):
        places = list(containers(content))
        place = draw.choice(places)
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        if not keys:
            continue
        key = draw.choice(keys)
        kind = draw.choice(["value", "value", "value", "remove", "move", "nest"])
        if kind == "value":
            place[key] = copy.deepcopy(draw.choice(VALUES))  # it may be damaged in its turn
        elif kind == "remove":
            del place[key]
        elif kind == "move":
            place[draw.choice(keys)] = place[key]
        else:
            for _ in range(draw.choice([1, 20, 200])):
                place[key] = [place[key]]
    with contextlib.suppress(RecursionError):  # nested twice, in a chain too long to write down
        files[name] = json.dumps(content).encode("utf-8", "surrogatepass")


def containers(value: object):
    """Every dict and list in a JSON value, of long ones only some members."""
    if isinstance(value, dict):
        yield value
        for key in list(value)[:40]:
            yield from containers(value[key])
    elif isinstance(value, list):
        yield value
        for item in value[:5]:
            yield from containers(item)


def safetensors(draw: random.Random, files: Files) -> None:
    name = draw.choice([name for name in files if ".safetensors" in name])
    if name.endswith(".json"):
        (edit_json if draw.random() < 0.7 else flip)(draw, files, name)
        return
    data = files[name]
    size = int.from_bytes(data[:8], "little")
    if draw.random() < 0.5:
        flip(draw, files, name, 8 + size)
        return
    part = {"header": data[8 : 8 + size]}
    edit_json(draw, part, "header")
    header = part["header"]
    files[name] = len(header).to_bytes(8, "little") + header + data[8 + size :]


def gguf(draw: random.Random, files: Files) -> None:
    # Mostly in what describes tensors and metadata, which is the first half of so small a file.
    size = len(files["model.gguf"])
    flip(draw, files, "model.gguf", draw.choice([40, 1500, size // 8, size // 2, size]))


def config(draw: random.Random, files: Files) -> None:
    (edit_json if draw.random() < 0.85 else flip)(draw, files, "config.json")


def tokenizer_json(draw: random.Random, files: Files) -> None:
    name = draw.choice(["tokenizer.json", "tokenizer.json", "tokenizer_config.json"])
    (edit_json if draw.random() < 0.8 else flip)(draw, files, name)


def torch_zip(draw: random.Random, files: Files) -> None:
    data = files["pytorch_model.bin"]
    # The pickle comes first, and the directory last.
    if draw.random() < 0.5:
        flip(draw, files, "pytorch_model.bin", data.find(b"archive/data/0"))
        return
    tail = len(data) - data.find(b"PK\x01\x02")
    part = {"tail": data[-tail:]}
    flip(draw, part, "tail")
    files["pytorch_model.bin"] = data[:-tail] + part["tail"]


def any_of(*names: str) -> Damage:
    """Damage to one of these files: values of JSON, lines or bytes."""

    def damage(draw: random.Random, files: Files) -> None:
        name = draw.choice(names)
        if name.endswith(".json") and draw.random() < 0.8:
            edit_json(draw, files, name)
        elif name.endswith(".txt") and draw.random() < 0.5:
            edit_lines(draw, files, name)
        else:
            flip(draw, files, name, draw.choice([40, 2000, None]))

    return damage


def edit_lines(draw: random.Random, files: Files, name: str) -> None:
    """Replace, remove, double or lengthen lines of a text."""
    lines = files[name].split(b"\n")
    for _ in range(draw.randint(1, 4)):
        at = draw.randrange(len(lines))
        other = draw.choice([b"", b" ", b"a b c", b"\r", b"\xff", "é ".encode(), b"x" * 100_000])
        kind = draw.choice(["other", "remove", "double", "move"])
        if kind == "other":
            lines[at] = other
        elif kind == "remove" and len(lines) > 1:
            del lines[at]
        elif kind == "double":
            lines[at:at] = [lines[at]] * draw.choice([1, 1000])
        else:
            lines[at] = lines[draw.randrange(len(lines))]
    files[name] = b"\n".join(lines)


KINDS: dict[str, tuple[Callable[[Path], Files], Damage]] = {
    "safetensors": (sharded_folder, safetensors),
    "gguf": (gguf_file, gguf),
    "config": (model_folder, config),
    "tokenizer": (model_folder, tokenizer_json),
    "torch": (torch_folder, torch_zip),
    "split": (split_gguf, any_of("model-00001-of-00002.gguf", "model-00002-of-00002.gguf")),
    "llama2c": (llama2c_file, any_of("model.bin", "tokenizer.bin")),
    "sentencepiece": (
        pieces_folder,
        any_of(
            *("tokenizer.model", "tokenizer.model", "tokenizer.model", "tokenizer_config.json"),
            *("added_tokens.json", "special_tokens_map.json"),
        ),
    ),
    "merges": (
        merges_folder,
        any_of("vocab.json", "merges.txt", "tokenizer_config.json", "added_tokens.json"),
    ),
    "wordpiece": (words_folder, any_of("vocab.txt", "vocab.txt", "tokenizer_config.json")),
}


# ---- the run ------------------------------------------------------------------------------------


def load_and_run(folder: Path) -> None:
    """What a user would do with it."""
    one = folder / "model.bin"
    lm = hub.load(one if one.is_file() else folder, offline=True)
    ids = lm.tokenizer.encode("the quick brown fox")
    lm.tokenizer.decode(ids)
    prompt = [token for token in ids if token < lm.config.vocab_size] or [1]
    generate(lm.model, prompt, max_new_tokens=2)
    lm.generate("the lazy dog", max_new_tokens=2)


def main(kind: str, count: int, scratch: Path) -> dict[str, object]:
    make, damage = KINDS[kind]
    original = make(fresh(scratch / "original"))
    folder = scratch / "damaged"
    load_and_run(write(folder, original))  # the whole one works, and everything is imported
    allowed = tuple(
        str(path)
        for path in (
            folder, Path(gradient.__file__).parent, sysconfig.get_path("stdlib"), "/proc", "/sys",
            os.devnull,  # of a process that matches patterns
            *(path for path in sys.path if path), sys.prefix,
        )
    )  # fmt: skip
    opened: list[str] = []

    def audit(event: str, arguments: tuple[object, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes):
            path = arguments[0]
            opened.append(path.decode() if isinstance(path, bytes) else path)

    sys.addaudithook(audit)
    limit_memory()
    outcomes: dict[str, object] = {"loaded": 0, "refused": 0, "wrong": []}
    for number in range(count):
        draw = random.Random(f"{kind} {number}")
        files = dict(original)
        damage(draw, files)
        write(folder, files)
        opened.clear()
        begun = time.process_time()
        problem = None
        try:
            load_and_run(folder)
            outcomes["loaded"] += 1  # type: ignore[operator]
        except GradientError:
            outcomes["refused"] += 1  # type: ignore[operator]
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            last = traceback.extract_tb(error.__traceback__)[-1]
            problem = f"{type(error).__name__}: {error!s:.200} ({last.filename}:{last.lineno})"
        if (seconds := time.process_time() - begun) > SECONDS:
            problem = f"took {seconds:.1f} s"
        outside = [p for p in opened if p.startswith("/") and not p.startswith(allowed)]
        if outside:
            problem = f"opened {outside[0]}"
        if problem:
            outcomes["wrong"].append(f"{number}: {problem}")  # type: ignore[attr-defined]
    return outcomes


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, files: Files) -> Path:
    fresh(folder)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def limit_memory() -> None:
    if sys.platform != "linux":
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + MORE_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))))
