"""PyTorch's zip files, read without unpickling."""

from __future__ import annotations

import os
import pickle
import struct
import zipfile

import numpy as np
import pytest

import gradient
from gradient.errors import FileFormatError, ModelNotFound
from gradient.io import torch_file
from gradient.io.pickle_program import Call, Symbol, read_program
from gradient.io.torch_file import TorchFile
from support.torch_files import Global, Module, Pickler, Reduce, Same, Storage, tensor, write

pytestmark = pytest.mark.cpu_only


NUMBERS = np.arange(12, dtype=np.float32)


def test_views_of_one_storage(tmp_path):
    content = {
        "rows": tensor(Storage("0"), (3, 4), (4, 1)),
        "columns": tensor(Storage("0"), (4, 3), (1, 4)),
        "last": tensor(Storage("0"), (2,), (1,), offset=10),
        "number": tensor(Storage("0"), (), (), offset=5),
        "none": tensor(Storage("0"), (0, 4), (4, 1)),
    }
    file = TorchFile(write(tmp_path / "a.pt", content, {"0": NUMBERS}))
    assert list(file) == list(content)
    assert file["rows"].tolist() == NUMBERS.reshape(3, 4).tolist()
    assert file["columns"].tolist() == NUMBERS.reshape(3, 4).T.tolist()
    assert file["last"].tolist() == [10, 11]
    assert file["number"].item() == 5
    assert file["none"].shape == (0, 4)


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("DoubleStorage", "float64"), ("HalfStorage", "float16"), ("BFloat16Storage", "bfloat16"),
        ("LongStorage", "int64"), ("IntStorage", "int32"), ("ShortStorage", "int16"),
        ("CharStorage", "int8"), ("ByteStorage", "uint8"), ("BoolStorage", "bool"),
    ],
)  # fmt: skip
def test_dtypes(kind, dtype, tmp_path):
    values = gradient.tensor([0, 1, 1, 0]).to(gradient.dtypes.dtype_of(dtype))
    path = write(
        tmp_path / "a.pt",
        {"x": tensor(Storage("k", kind), (4,), (1,))},
        {"k": np.ascontiguousarray(values.array).view(np.uint8)},
    )
    x = TorchFile(path)["x"]
    assert x.dtype == values.dtype and x.tolist() == values.tolist()


def test_booleans_of_other_values(tmp_path):
    content = {"mask": tensor(Storage("0", "BoolStorage"), (3,), (1,))}
    file = TorchFile(write(tmp_path / "a.pt", content, {"0": np.array([0, 1, 2], np.uint8)}))
    with pytest.raises(FileFormatError, match="booleans holds other values than 0 and 1"):
        file["mask"]


def test_weights_beside_other_state(tmp_path):
    weight = tensor(Storage("0"), (3, 4), (4, 1))
    content = {"epoch": 3, "optimizer": {"lr": 0.1}, "state_dict": {"layer.weight": weight}}
    path = write(tmp_path / "a.pt", content, {"0": NUMBERS})
    assert list(TorchFile(path)) == ["layer.weight"]
    content = {"ema": {"w": weight}, "other": {"w": weight}}
    path = write(tmp_path / "b.pt", content, {"0": NUMBERS})
    assert list(TorchFile(path)) == ["ema.w", "other.w"]
    assert list(TorchFile(path, key="ema")) == ["w"]
    with pytest.raises(FileFormatError, match="no 'absent'.*ema, other"):
        TorchFile(path, key="absent")


def test_gradient_load_reads_them(tmp_path):
    content = {"epoch": 3, "names": ("a", "b"), "w": tensor(Storage("0"), (12,), (1,))}
    path = write(tmp_path / "a.pt", content, {"0": NUMBERS})
    loaded = gradient.load(path)
    assert loaded["epoch"] == 3 and loaded["names"] == ("a", "b")
    assert loaded["w"].tolist() == NUMBERS.tolist()


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path):
    path = write(tmp_path / "a.pt", {"w": tensor(Storage("0"), (12,), (1,))}, {"0": NUMBERS})
    before = path.read_bytes()
    TorchFile(path)["w"].fill_(7)
    assert path.read_bytes() == before


def test_nothing_is_called(tmp_path):
    """What unpickling would run, a command here, stays a description."""
    witness = tmp_path / "witness"
    content = {
        "evil": Reduce(Global("os", "system"), f"touch {witness}"),
        "w": tensor(Storage("0"), (12,), (1,)),
    }
    file = TorchFile(write(tmp_path / "a.pt", content, {"0": NUMBERS}))
    assert file["w"].shape == (12,)
    evil = file.structure()["evil"]
    assert isinstance(evil, Call) and evil.function == Symbol("os", "system")
    assert not witness.exists()


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_of_every_protocol(protocol):
    values = {
        "numbers": [0, 1, -1, 255, 65536, -(2**31), 2**70, 0.5, float("inf")],
        "texts": ["", "a", "é" * 300, b"bytes"],
        "others": (None, True, False, (), (1,), (1, 2), (1, 2, 3), {}, []),
    }
    if protocol < 3:
        values["texts"].pop()  # bytes are a call there
    assert read_program(pickle.dumps(values, protocol), "it") == values


OUT_OF_BOUNDS = {
    "beyond the storage": tensor(Storage("0"), (13,), (1,)),
    "an offset beyond it": tensor(Storage("0"), (1,), (1,), offset=12),
    "strides beyond it": tensor(Storage("0"), (2, 2), (12, 1)),
    "more elements than it": tensor(Storage("0"), (2**40, 2**20), (0, 0)),
    "a negative offset": tensor(Storage("0"), (1,), (1,), offset=-1),
    "a negative stride": tensor(Storage("0"), (2,), (-1,)),
    "a shape of texts": tensor(Storage("0"), ("a",), (1,)),
    "no such storage": tensor(Storage("9"), (1,), (1,)),
    "a path as storage": tensor(Storage("../../etc/passwd"), (1,), (1,)),
    "an unknown type": tensor(Storage("0", "QInt8Storage"), (1,), (1,)),
    "no storage": tensor(7, (1,), (1,)),
    "too few arguments": Reduce(Global("torch._utils", "_rebuild_tensor_v2"), Storage("0")),
    "too many dimensions": tensor(Storage("0"), (1,) * 33, (1,) * 33),
    "unequal dimensions": tensor(Storage("0"), (1, 1), (1,)),
    "no elements, along a huge axis": tensor(Storage("0"), (0, 2**61), (1, 1)),
    "a type without end": tensor(Storage("0", Same(60)), (1,), (1,)),
}


@pytest.mark.parametrize("case", OUT_OF_BOUNDS)
def test_tensors_outside_of_their_storage(case, tmp_path):
    path = write(tmp_path / "a.pt", {"w": OUT_OF_BOUNDS[case]}, {"0": NUMBERS})
    with pytest.raises(FileFormatError, match=r"a\.pt"):
        TorchFile(path)


def test_an_axis_of_one_element_has_any_stride(tmp_path):
    content = {"w": tensor(Storage("0"), (1, 12), (2**61, 1))}
    path = write(tmp_path / "a.pt", content, {"0": NUMBERS})
    assert TorchFile(path)["w"].tolist() == [NUMBERS.tolist()]


def other(function: str, *args: object) -> Reduce:
    return Reduce(Global("torch._utils", function), *args)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (Module(), r"no tensors.*whole module, models\.Net.*torch\.save\(module\.state_dict"),
        ({"epoch": 3, "model": Module()}, r"whole module, models\.Net"),
        (
            {"w": other("_rebuild_sparse_tensor", 1), "v": other("_rebuild_qtensor", 1)},
            r"\(qtensor, sparse_tensor\): w, v; save dense ones",
        ),
        ({"w": tensor(Storage("0"), (5, 12), (0, 1))}, "'w'.*it is expanded; save a copy"),
        (
            {"w": other("_rebuild_tensor_v2", Storage("0"), 0, (1,), (1,), False, {}, {"neg": 1})},
            "'w' is the conjugate or the negative",
        ),
        ({"n" * 501: tensor(Storage("0"), (1,), (1,))}, "a name has more than 500 characters: nnn"),
        (
            {str(number): tensor(Storage("0"), (12,), (1,)) for number in range(2000)},
            "its tensors have 96,000 bytes and the file",
        ),
    ],
    ids=["module", "module inside", "kinds", "expanded", "negative", "long name", "same"],
)
def test_what_is_not_read_is_named_with_what_to_do(content, words, tmp_path, monkeypatch):
    monkeypatch.setattr(torch_file, "MAX_SHARING", 0.1)  # their descriptions are larger here
    with pytest.raises(FileFormatError, match=words):
        TorchFile(write(tmp_path / "a.pt", content, {"0": NUMBERS}))


def nested(levels: int, width: int) -> bytes:
    """A pickle of few bytes that stands for width**levels values."""
    out = b"\x80\x02)"
    for level in range(levels):
        out += b"r" + struct.pack("<I", level) + b"0"
        out += b"(" + (b"j" + struct.pack("<I", level)) * width + b"t"
    return out + b"."


MALFORMED = {
    "empty": b"",
    "truncated": b"\x80\x02}(X\x05\x00\x00\x00ab",
    "no end": b"\x80\x02}",
    "an empty stack": b"\x80\x02.",
    "an unopened group": b"\x80\x02Nt.",
    "an unknown memo": b"\x80\x02h\x09.",
    "a dict as key": b"\x80\x02}}Ns.",
    "items of a number": b"\x80\x02K\x01(K\x01K\x02u.",
    "an extension": b"\x80\x02\x82\x01.",
    "a huge length": b"\x80\x04\x8d" + b"\xff" * 8 + b".",
    "shared without end": nested(40, 40),
    "deep": b"\x80\x02" + b")" + b"\x85" * 100_000 + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
    "a global named without end": b"\x80\x04N" + b"2\x86" * 60 + b"\x8c\x01a\x93.",
    "an integer of many digits as key": b"\x80\x02}\x8b\x88\x13\0\0" + b"\1" * 5000 + b"Ns.",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_pickles(case, tmp_path):
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", MALFORMED[case])
    with pytest.raises(FileFormatError, match=r"a\.pt"):
        TorchFile(path)


def test_other_files(tmp_path):
    with pytest.raises(ModelNotFound, match=r"no file at .*absent"):
        TorchFile(tmp_path / "absent.pt")
    legacy = tmp_path / "legacy.pt"
    legacy.write_bytes(pickle.dumps({"w": 1}))
    with pytest.raises(FileFormatError, match=r"it is a pickle.*PyTorch 1\.6 or later"):
        TorchFile(legacy)
    gradient.save({"w": gradient.ones(2)}, legacy)
    with pytest.raises(FileFormatError, match="it is in safetensors' format; gradient.load reads"):
        TorchFile(legacy)
    with zipfile.ZipFile(tmp_path / "texts.zip", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(FileFormatError, match=r"without PyTorch's data\.pkl; it holds 'a\.txt'"):
        TorchFile(tmp_path / "texts.zip")
    with pytest.raises(FileFormatError, match="compressed"):
        TorchFile(write(tmp_path / "z.pt", {}, {}, compression=zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as archive:
        archive.writestr("script/data.pkl", b"N.")
        archive.writestr("script/code/__torch__.py", b"def forward(self): pass")
    with pytest.raises(FileFormatError, match=r"script\.pt.*TorchScript program; save its weights"):
        TorchFile(tmp_path / "script.pt")
    with zipfile.ZipFile(tmp_path / "twice.pt", "w") as archive:
        archive.writestr("a/data.pkl", b"N.")
        archive.writestr("b/data.pkl", b"N.")
    with pytest.raises(FileFormatError, match="two records 'data.pkl'"):
        TorchFile(tmp_path / "twice.pt")
    with pytest.raises(FileFormatError, match="no tensors"):
        TorchFile(write(tmp_path / "e.pt", {"epoch": 3}, {}))
    whole = write(tmp_path / "w.pt", {"w": tensor(Storage("0"), (12,), (1,))}, {"0": NUMBERS})
    cut = tmp_path / "cut.pt"
    for size in range(4, os.path.getsize(whole), 7):
        cut.write_bytes(whole.read_bytes()[:size])
        with pytest.raises(FileFormatError, match=r"cut\.pt"):
            TorchFile(cut)


def test_a_real_file_with_fortran_strides(real_data):
    folder = real_data("candle_pt_fixtures")
    x = TorchFile(folder / "fortran_tensor_3d.pth")["tensor_fortran"]
    assert x.tolist() == np.arange(1, 25).reshape(2, 3, 4).tolist()
    assert TorchFile(folder / "test.pt")["test"].tolist() == [[1, 2, 3, 4], [5, 6, 7, 8]]
    assert list(TorchFile(folder / "test_with_key.pt")) == ["test"]
    assert list(TorchFile(folder / "test_with_key.pt", key="model_state_dict")) == ["test"]


def test_opening_reads_no_tensor(tmp_path):
    content = {"w": tensor(Storage("0"), (50_000_000,), (1,))}
    path = tmp_path / "large.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(Pickler().write(content).out) + b".")
        with archive.open("archive/data/0", "w", force_zip64=True) as record:
            for _ in range(50):
                record.write(bytes(4_000_000))
    file = TorchFile(path)
    assert file["w"].shape == (50_000_000,)
