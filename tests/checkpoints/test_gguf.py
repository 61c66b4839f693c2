"""The GGUF format: what is written is read back, real files are read, broken ones are refused."""

from __future__ import annotations

import functools
import struct
import time
from pathlib import Path

import numpy as np
import pytest

import gradient
from gradient.errors import (
    ArgumentError,
    CheckpointError,
    FileFormatError,
    ModelNotFound,
    ShapeError,
    TypeMismatch,
)
from gradient.io import gguf
from gradient.io.gguf import GGUFFile, LazyTensor

pytestmark = pytest.mark.cpu_only

U32, F32, BOOL, STRING, ARRAY = 4, 6, 7, 8, 9


# Building files by hand, right and wrong -----------------------------------------------------


def text(value: str | bytes, order: str = "<") -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(order + "Q", len(data)) + data


def entry(key: str | bytes, kind: int, value: bytes, order: str = "<") -> bytes:
    return text(key, order) + struct.pack(order + "I", kind) + value


def info(name: str, shape: tuple[int, ...], kind: int, offset: int, order: str = "<") -> bytes:
    """`shape` in the file's order: columns first."""
    sizes = struct.pack(f"{order}I{len(shape)}Q", len(shape), *shape)
    return text(name, order) + sizes + struct.pack(order + "IQ", kind, offset)


def built(
    *keys: bytes,
    infos: tuple[bytes, ...] = (),
    data: bytes = b"",
    version: int = 3,
    counts: tuple[int, int] | None = None,
    align: int = 32,
    order: str = "<",
) -> bytes:
    counts = counts or (len(infos), len(keys))
    head = b"GGUF" + struct.pack(order + "IQQ", version, *counts) + b"".join(keys + infos)
    return head + b"\0" * (-len(head) % align) + data


def opened(data: bytes, folder: Path) -> GGUFFile:
    (folder / "built.gguf").write_bytes(data)
    return GGUFFile(folder / "built.gguf")


def array_of(inner: int, count: int, data: bytes) -> bytes:
    return struct.pack("<IQ", inner, count) + data


TENSOR = (info("w", (4, 2), 0, 0),)
NUMBERS = np.arange(8, dtype="<f4").tobytes()


@pytest.mark.parametrize("version", [2, 3])
def test_a_file_built_by_hand(version, tmp_path):
    file = opened(
        built(entry("n", U32, b"\7\0\0\0"), infos=TENSOR, data=NUMBERS, version=version), tmp_path
    )
    assert file.version == version and file.metadata == {"n": 7} and list(file) == ["w"]
    assert file["w"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]] and "w" in file and len(file) == 1
    assert repr(file) == f"GGUFFile({str(tmp_path / 'built.gguf')!r}, 1 tensors)"


def test_big_endian(tmp_path):
    keys = (entry("n", U32, b"\0\0\0\7", ">"), entry("s", STRING, text("é", ">"), ">"))
    data = np.arange(8, dtype=">f4").tobytes()
    infos = (info("w", (4, 2), 0, 0, ">"), info("q", (32, 1), 8, 32, ">"))
    file = opened(built(*keys, infos=infos, data=data + b"\0" * 34, order=">"), tmp_path)
    assert file.metadata == {"n": 7, "s": "é"}
    assert file["w"].tolist() == [[0, 1, 2, 3], [4, 5, 6, 7]]
    with pytest.raises(FileFormatError, match="'q' has Q8_0 blocks in big-endian order"):
        file.blocks("q")


def test_tensors_are_views_and_the_file_stays(tmp_path):
    file = opened(built(infos=TENSOR, data=NUMBERS), tmp_path)
    file["w"][0, 0] = 100.0
    assert file["w"][0, 0].item() == 100.0  # one mapping, seen twice
    assert GGUFFile(file.path)["w"][0, 0].item() == 0.0


def test_release_gives_pages_back(tmp_path):
    gguf.write(tmp_path / "large.gguf", {}, {"w": gradient.ones(64, 1024)})
    file = GGUFFile(tmp_path / "large.gguf")
    file["w"].fill_(2.0)
    file.release("w")
    assert (file["w"][20:40] == 1.0).all()


MALFORMED = {
    "empty": (b"", "0 bytes, too few"),
    "short": (b"GGUF\3\0\0\0", "8 bytes, too few"),
    "other format": (b"GGML" + bytes(40), r"at byte 0, it begins with b'GGML'"),
    "zip": (b"PK\3\4" + bytes(40), "a zip file"),
    "page": (b"<!DOCTYPE html>" + bytes(40), "a web page"),
    "version 1": (built(version=1), "its version is 1; versions 2 and 3"),
    "version 4": (built(version=4), "its version is 4"),
    "tensor count": (built(counts=(2**63, 0)), "9,223,372,036,854,775,808 tensors are announced"),
    "key count": (built(counts=(0, 2**63)), "9,223,372,036,854,775,808 metadata keys"),
    "one key too many": (built(counts=(0, 1)), "needs|announced"),
    "key length": (built(struct.pack("<Q", 2**63) + b"abcdefgh", counts=(0, 1)), "a metadata key"),
    "key not UTF-8": (built(entry(b"\xff\xfe", U32, bytes(4))), "a metadata key is not UTF-8"),
    "text not UTF-8": (built(entry("k", STRING, text(b"\xc3"))), "the text of 'k' is not UTF-8"),
    "same key twice": (
        built(entry("k", U32, bytes(4)), entry("k", U32, bytes(4))),
        "'k' comes a second time",
    ),
    "value type": (built(entry("k", 13, bytes(8))), "'k' has the unknown value type 13"),
    "bool 2": (built(entry("k", BOOL, b"\2")), "neither 0 nor 1"),
    "text length": (built(entry("k", STRING, struct.pack("<Q", 2**64 - 1))), "the text of 'k'"),
    "array length": (
        built(entry("k", ARRAY, array_of(U32, 2**63, b"")), align=64),
        "'k' announces 9,223,372,036,854,775,808 elements",
    ),
    "string array length": (
        built(entry("k", ARRAY, array_of(STRING, 2**61, bytes(64)))),
        "'k' announces",
    ),
    "string in an array": (
        built(entry("k", ARRAY, array_of(STRING, 1, struct.pack("<Q", 2**63)))),
        "a string of 'k' ends",
    ),
    "string of an array not UTF-8": (
        built(entry("k", ARRAY, array_of(STRING, 2, text("a") + text(b"\xff")))),
        "a string of 'k' is not UTF-8",
    ),
    "element type": (built(entry("k", ARRAY, array_of(77, 1, bytes(8)))), "element type 77"),
    "deep arrays": (
        built(entry("k", ARRAY, array_of(ARRAY, 1, b"") * 50 + array_of(U32, 0, b""))),
        "nests arrays more than 4 deep",
    ),
    "many empty arrays": (
        built(entry("k", ARRAY, array_of(ARRAY, 2**40, array_of(U32, 0, b"") * 100))),
        "'k' announces 1,099,511,627,776 elements",
    ),
    "alignment 0": (built(entry("general.alignment", U32, bytes(4))), "expected a power of two"),
    "alignment 24": (
        built(entry("general.alignment", U32, struct.pack("<I", 24))),
        "expected a power of two",
    ),
    "alignment 2**31": (
        built(entry("general.alignment", U32, struct.pack("<I", 2**31))),
        "expected a power of two",
    ),
    "alignment text": (
        built(entry("general.alignment", STRING, text("32"))),
        "expected a power of two",
    ),
    "no dimensions": (built(infos=(info("w", (), 0, 0),), data=NUMBERS), "'w' has 0 dimensions"),
    "five dimensions": (
        built(infos=(info("w", (1,) * 5, 0, 0),), data=NUMBERS),
        "'w' has 5 dimensions",
    ),
    "2**32 - 1 dimensions": (
        built(infos=(text("w") + struct.pack("<IQ", 2**32 - 1, 1),), data=bytes(64)),
        "'w' has 4294967295 dimensions",
    ),
    "huge shape": (
        built(infos=(info("w", (2**30, 2**20), 0, 0),), data=NUMBERS),
        "past the file's end",
    ),
    "huge size": (built(infos=(info("w", (2**63, 0), 0, 0),), data=NUMBERS), "than any memory"),
    "huge blocks": (built(infos=(info("w", (0, 2**62), 8, 0),), data=NUMBERS), "than any memory"),
    "offset": (
        built(infos=(info("w", (8,), 0, 2**62),), data=NUMBERS),
        "past the file's end",
    ),
    "unaligned": (built(infos=(info("w", (4,), 0, 16),), data=NUMBERS), "no multiple of the align"),
    "overlap": (
        built(infos=(info("v", (16,), 0, 0), info("w", (8,), 0, 32)), data=NUMBERS * 2),
        "'w' overlaps 'v'",
    ),
    "the same bytes": (
        built(infos=(info("v", (8,), 0, 0), info("w", (8,), 0, 0)), data=NUMBERS),
        "overlaps",
    ),
    "the same name": (
        built(infos=(info("w", (8,), 0, 0), info("w", (8,), 0, 32)), data=NUMBERS * 2),
        "a second tensor is named 'w'",
    ),
    "truncated": (built(infos=TENSOR, data=NUMBERS[:-1]), "ends 1 bytes past the file's end"),
    "half a block": (
        built(infos=(info("w", (40,), 8, 0),), data=bytes(64)),
        "no multiple of the 32 in a block of Q8_0",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed(name, tmp_path):
    data, message = MALFORMED[name]
    began = time.process_time()
    with pytest.raises(FileFormatError, match=message) as caught:
        opened(data, tmp_path)
    assert str(tmp_path / "built.gguf") in str(caught.value)
    assert time.process_time() - began < 20  # milliseconds, and hours without a bound


def test_every_cut_is_noticed(tmp_path):
    keys = (
        entry("n", U32, bytes(4)),
        entry("s", STRING, text("some text")),
        entry("l", ARRAY, array_of(STRING, 2, text("a") + text("bc"))),
        entry("f", ARRAY, array_of(F32, 3, bytes(12))),
    )
    whole = built(*keys, infos=TENSOR, data=NUMBERS)
    assert len(opened(whole, tmp_path)) == 1
    for length in range(len(whole)):
        with pytest.raises(FileFormatError):
            opened(whole[:length], tmp_path)


def test_types_that_are_not_read(tmp_path):
    kinds = {"iq": 21, "unknown": 99, "removed": 4}
    infos = tuple(info(name, (256,), kind, 256 * n) for n, (name, kind) in enumerate(kinds.items()))
    file = opened(built(*[], infos=infos, data=bytes(1024)), tmp_path)
    assert set(file) == set(kinds)  # known of, and refused when asked for
    for name, stored in {"iq": "IQ3_S", "unknown": "number 99", "removed": "number 4"}.items():
        with pytest.raises(FileFormatError, match=f"{name!r} has type {stored}.*does not read"):
            file[name]


def test_absent_files(tmp_path):
    for path in (tmp_path / "nothing.gguf", tmp_path):
        with pytest.raises(ModelNotFound, match="no GGUF file at"):
            GGUFFile(path)


# Writing --------------------------------------------------------------------------------------

VALUES = {
    "bool": True,
    "small": 7,
    "negative": -7,
    "large": 2**40,
    "very large": 2**63 + 5,
    "float": 0.5,
    "text": "naïve 🙂",
    "empty text": "",
    "bools": [True, False],
    "ints": [1, 2, 3],
    "mixed": [1, 0.5],
    "texts": ["a", "", "ü"],
    "nested": [[1, 2], [3]],
    "nested texts": [["a"], ["b", "c"]],
}


def test_python_values_come_back(tmp_path):
    gguf.write(tmp_path / "v.gguf", VALUES, {})
    assert GGUFFile(tmp_path / "v.gguf").metadata == VALUES


def test_numpy_types_come_back(tmp_path):
    names = ["u1", "i1", "u2", "i2", "u4", "i4", "f4", "?", "u8", "i8", "f8"]
    values = {name: np.dtype(name).type(1) for name in names}
    values |= {f"{name}s": np.array([0, 1, 1], name) for name in names}
    values["list"] = [np.uint16(3), np.uint16(4)]
    values |= {f"no {name}": np.empty(0, name) for name in [*names, "U1"]}
    gguf.write(tmp_path / "v.gguf", values, {})
    read = GGUFFile(tmp_path / "v.gguf").typed_metadata
    for key, value in values.items():
        value = np.asarray(value)
        assert read[key].dtype == value.dtype and np.array_equal(read[key], value), key
    gguf.write(tmp_path / "again.gguf", read, {})
    assert (tmp_path / "again.gguf").read_bytes() == (tmp_path / "v.gguf").read_bytes()


UNPACKED = ["float32", "float16", "bfloat16", "float64", "int8", "int16", "int32", "int64"]


@pytest.mark.parametrize("dtype", UNPACKED)
def test_plain_tensors_come_back(dtype, tmp_path):
    dtype = getattr(gradient, dtype)
    tensors = {
        "matrix": gradient.arange(15).reshape(3, 5).to(dtype),
        "transposed": gradient.arange(15).reshape(3, 5).to(dtype).mT,
        "four": gradient.arange(24).reshape(2, 3, 1, 4).to(dtype),
        "none": gradient.zeros(0, 3, dtype=dtype),
        "one": gradient.ones(1, dtype=dtype),
    }
    size = gguf.write(tmp_path / "t.gguf", {}, tensors)
    assert size == (tmp_path / "t.gguf").stat().st_size
    file = GGUFFile(tmp_path / "t.gguf")
    for name, tensor in tensors.items():
        assert file[name].dtype == dtype and tuple(file[name].shape) == tuple(tensor.shape)
        assert file[name].tolist() == tensor.tolist(), name
        assert file.entries[name].start % 32 == 0


def test_another_alignment(tmp_path):
    tensors = {name: gradient.ones(3) for name in "abc"}
    gguf.write(tmp_path / "t.gguf", {"general.alignment": 4096}, tensors)
    file = GGUFFile(tmp_path / "t.gguf")
    assert all(entry.start % 4096 == 0 for entry in file.entries.values())
    assert file["c"].tolist() == [1, 1, 1]
    # Numbers that lie askew in a file are copied to where kernels want them.
    path = tmp_path / "askew.gguf"
    gguf.write(path, {"general.alignment": 1, "x": "odd"}, {"a": gradient.tensor([1, 2, 3])})
    assert GGUFFile(path)["a"].tolist() == [1, 2, 3]


def test_pending_tensors_are_made_when_their_turn_comes(tmp_path):
    written: list[int] = []
    made: list[int] = []

    def make(number: int):
        assert len(written) == number  # those before it are in the file, none after it is made
        made.append(number)
        return gradient.full((1000,), float(number))

    tensors = {
        str(n): LazyTensor((1000,), gradient.float32, functools.partial(make, n)) for n in range(5)
    }
    path = tmp_path / "t.gguf"
    size = gguf.write(path, {}, tensors, progress=lambda done, total: written.append(done))
    assert made == [0, 1, 2, 3, 4] and written == [4000, 8000, 12000, 16000, 20000]
    assert size == path.stat().st_size
    file = GGUFFile(path)
    assert [file[str(n)][0].item() for n in range(5)] == [0, 1, 2, 3, 4]


def test_a_pending_tensor_that_comes_otherwise(tmp_path):
    wrong = LazyTensor((4,), gradient.float32, lambda: gradient.ones(5))
    with pytest.raises(ShapeError, match=r"announced as gradient.float32 \[4\] and came as"):
        gguf.write(tmp_path / "t.gguf", {}, {"w": wrong})
    assert not list(tmp_path.iterdir())


NOT_WRITTEN = {
    "dtype": ({}, {"w": gradient.ones(2, dtype=gradient.uint8)}, TypeMismatch, "uint8.*convert"),
    "no tensor": ({}, {"w": [1.0]}, TypeMismatch, "expected a Tensor as 'w', got list"),
    "scalar": ({}, {"w": gradient.tensor(1.0)}, ShapeError, r"shape \[\]"),
    "five dimensions": ({}, {"w": gradient.ones(1, 1, 1, 1, 1)}, ShapeError, "1 to 4 dimensions"),
    "long name": ({}, {"w" * 64: gradient.ones(1)}, ArgumentError, "too long"),
    "object": ({"k": object()}, {}, TypeMismatch, "'k' has a value of type object"),
    "None": ({"k": None}, {}, TypeMismatch, "'k' has a value of type NoneType"),
    "empty list": ({"k": []}, {}, ArgumentError, "'k' is an empty list"),
    "mixed list": ({"k": [1, "a"]}, {}, TypeMismatch, "'k' has a value of type int, str"),
    "numbers of NumPy's and others": ({"k": [np.int8(1), 2]}, {}, TypeMismatch, "int, int8"),
    "texts and numbers": ({"k": ["a", 1]}, {}, TypeMismatch, "expected a str as an element of 'k'"),
    "arrays and numbers": ({"k": [[1], 1]}, {}, TypeMismatch, "arrays beside"),
    "beyond 64 bits": ({"k": 2**64}, {}, ArgumentError, "'k' has 18446744073709551616"),
    "half floats": ({"k": np.ones(2, np.float16)}, {}, TypeMismatch, "array of float16"),
    "matrix": ({"k": np.ones((2, 2))}, {}, TypeMismatch, "2-dimensional"),
    "key": ({7: 1}, {}, TypeMismatch, "expected a str as a metadata key"),
    "surrogate": ({"k": "\ud800"}, {}, ArgumentError, "not valid Unicode"),
    "alignment": ({"general.alignment": 24}, {}, ArgumentError, "power of two"),
    "huge alignment": ({"general.alignment": 2**40}, {}, ArgumentError, "power of two up to"),
}


@pytest.mark.parametrize("name", NOT_WRITTEN)
def test_not_written(name, tmp_path):
    metadata, tensors, error, message = NOT_WRITTEN[name]
    with pytest.raises(error, match=message):
        gguf.write(tmp_path / "t.gguf", metadata, tensors)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "t.gguf"
    gguf.write(path, {"old": True}, {})
    free = type("Usage", (), {"free": 100})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: free)
    with pytest.raises(CheckpointError, match="bytes are needed"):
        gguf.write(path, {}, {"w": gradient.ones(1000)})
    assert GGUFFile(path).metadata == {"old": True}


# Split models ---------------------------------------------------------------------------------


def split_model(folder: Path, **changes) -> list[Path]:
    paths = []
    for number in range(3):
        metadata = {"split.no": np.uint16(number), "split.count": np.uint16(3)}
        if number == 0:
            metadata |= {"general.architecture": "llama", "split.tensors.count": np.int32(3)}
        metadata |= changes.get(f"part{number}", {})
        path = folder / f"model-{number + 1:05d}-of-00003.gguf"
        gguf.write(path, metadata, {f"t{number}": gradient.full((2,), float(number))})
        paths.append(path)
    return paths


def test_split_models_open_by_any_part(tmp_path):
    for path in split_model(tmp_path):
        file = GGUFFile(path)
        assert file.metadata["general.architecture"] == "llama"
        assert {name: tensor[0].item() for name, tensor in file.items()} == {
            "t0": 0,
            "t1": 1,
            "t2": 2,
        }


def test_split_models_that_are_not_whole(tmp_path):
    first, second, third = split_model(tmp_path)
    third.rename(tmp_path / "elsewhere")
    with pytest.raises(ModelNotFound, match="1 of its 3 parts are missing.*model-00003-of-00003"):
        GGUFFile(first)
    (tmp_path / "elsewhere").rename(third)
    third.write_bytes(second.read_bytes())
    with pytest.raises(FileFormatError, match=r"part 1 \(counted from 0\)"):
        GGUFFile(first)
    split_model(tmp_path, part0={"split.tensors.count": np.int32(5)})
    with pytest.raises(FileFormatError, match="5 tensors are announced, its parts hold 3"):
        GGUFFile(first)
    first.rename(tmp_path / "model.gguf")
    with pytest.raises(FileFormatError, match="rename it"):
        GGUFFile(tmp_path / "model.gguf")


# Real files -----------------------------------------------------------------------------------


def test_a_real_model(real_data):
    file = GGUFFile(real_data("stories260k/stories260K.gguf"))
    assert len(file) == 48 and file.metadata["general.architecture"] == "llama"
    assert len(file.metadata["tokenizer.ggml.tokens"]) == 512
    assert sum(tensor.numel() for tensor in file.values()) == 292_800
    llama2c = np.fromfile(real_data("stories260k/stories260K.bin"), "<f4", offset=28)
    assert np.array_equal(file.array("token_embd.weight").ravel(), llama2c[: 512 * 64])


def test_real_vocabularies(real_data):
    paths = sorted(real_data("ggml_vocab").glob("*.gguf"))
    assert paths
    for path in paths:
        file = GGUFFile(path)
        tokens = file.metadata["tokenizer.ggml.tokens"]
        assert len(tokens) == len(file.metadata["tokenizer.ggml.token_type"]) > 1000
        assert all(isinstance(token, str) for token in tokens) and len(file) == 0


def test_a_large_vocabulary_is_read_in_a_moment(tmp_path):
    tokens = [f"token {number}" for number in range(250_000)]
    gguf.write(tmp_path / "v.gguf", {"tokenizer.ggml.tokens": tokens}, {})
    began = time.process_time()
    file = GGUFFile(tmp_path / "v.gguf")
    assert time.process_time() - began < 20  # it takes a fraction of a second
    assert file.metadata["tokenizer.ggml.tokens"] == tokens


def test_a_copy_of_a_real_file_is_the_same(real_data, tmp_path):
    path = real_data("stories260k/stories260K.gguf")
    file = GGUFFile(path)
    gguf.write(tmp_path / "copy.gguf", file.typed_metadata, file)
    copy = GGUFFile(tmp_path / "copy.gguf")
    assert copy.metadata == file.metadata and list(copy) == list(file)
    assert all(np.array_equal(copy.array(name), file.array(name)) for name in file)
