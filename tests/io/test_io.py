"""Files: safetensors read, checked and written; nested structures; shards; atomic writes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import pickle
import random
import subprocess
import sys
import textwrap

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy

import gradient
from gradient.errors import ArgumentError, CheckpointError, FileFormatError, ModelNotFound
from gradient.io import GGUFFile, TorchFile, atomic
from gradient.io.safetensors import SafetensorsFile, load_file, save_file
from gradient.io.serialization import load, save
from gradient.io.sharded import open_sharded, save_sharded
from gradient.io.signatures import format_of

DTYPES = ("float64", "float32", "float16", "bfloat16")
DTYPES += ("int64", "int32", "int16", "int8", "uint8", "bool")


def numbers(dtype, shape=(3, 4)):
    values = np.random.default_rng(0).integers(0, 100, shape)
    return values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)


def every_dtype():
    return {dtype: numbers(dtype) for dtype in DTYPES}


def write_raw(path, header, data=b"", length=None):
    """A safetensors file put together by hand, right or wrong."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    size = len(text) if length is None else length
    path.write_bytes(size.to_bytes(8, "little") + text + data)
    return path


def same(tensor, array):
    found = np.asarray(tensor.array)
    return found.dtype == array.dtype and found.shape == array.shape and (found == array).all()


# Safetensors -----------------------------------------------------------------------------------


def test_reads_what_the_safetensors_package_writes(tmp_path):
    arrays = every_dtype() | {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32)}
    path = tmp_path / "x.safetensors"
    safetensors.numpy.save_file(arrays, path, {"format": "np"})
    loaded = load_file(path)
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert same(loaded[name], array), name
        assert isinstance(loaded[name], gradient.Tensor)
    assert SafetensorsFile(path).metadata == {"format": "np"}


def test_the_safetensors_package_reads_what_we_write(tmp_path):
    arrays = every_dtype() | {"scalar": np.array(2.5), "empty": np.zeros((0, 3), np.float32)}
    path = tmp_path / "x.safetensors"
    save_file(
        {name: gradient.from_numpy(array) for name, array in arrays.items()}, path, {"a": "ü"}
    )
    theirs = safetensors.numpy.load_file(path)
    assert theirs.keys() == arrays.keys()
    for name, array in arrays.items():
        assert theirs[name].dtype == array.dtype, name
        assert (theirs[name] == array).all(), name
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata() == {"a": "ü"}
    assert list(load_file(path)) == list(arrays), "the order is kept"


@pytest.mark.parity
def test_torch_reads_what_we_write(tmp_path):
    torch = pytest.importorskip("torch")
    from safetensors.torch import load_file as load_torch

    save_file({"w": numbers("bfloat16")}, tmp_path / "x.safetensors")
    weights = load_torch(tmp_path / "x.safetensors")["w"]
    assert weights.dtype == torch.bfloat16
    assert weights.tolist() == numbers("bfloat16").tolist()


@pytest.mark.parametrize(
    "name", ["tensor-1d-int32", "tensor-2d-float64", "tensor-3d-float32", "tensor-4d-float32"]
)
def test_reads_published_files(real_data, name):
    path = real_data("safetensors_fixtures") / f"{name}.safetensors"
    expected = safetensors.numpy.load_file(path)
    loaded = load_file(path)
    assert loaded.keys() == expected.keys()
    assert all(same(loaded[key], expected[key]) for key in expected)


def test_any_layout_is_written(tmp_path):
    big = np.arange(5 * 1200 * 1000, dtype=np.float32).reshape(5, 1200, 1000)
    arrays = {
        "transposed": big.transpose(2, 0, 1),
        "one row": big.transpose(2, 0, 1)[:1],
        "strided": big[::2, ::3],
        "reversed": np.arange(6)[::-1],
        "broadcast": np.broadcast_to(np.float32(1), (3, 2)),
        "big endian": np.arange(4, dtype=">i4"),
    }
    path = tmp_path / "x.safetensors"
    save_file(arrays, path)
    loaded = load_file(path)
    for name, array in arrays.items():
        assert (np.asarray(loaded[name].array) == array).all(), name
        assert loaded[name].array.flags.aligned


def test_tensors_are_writable_views_that_leave_the_file_alone(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"w": np.zeros(4, np.float32)}, path)
    before = path.read_bytes()
    file = SafetensorsFile(path)
    weights = file["w"]
    weights.array[:] = 7
    assert weights.tolist() == [7, 7, 7, 7]
    assert path.read_bytes() == before
    # Writing the file anew does not disturb a reader of the old one.
    reader = load_file(path)["w"]
    save_file({"w": np.ones(4, np.float32)}, path)
    assert reader.tolist() == [0, 0, 0, 0]
    assert load_file(path)["w"].tolist() == [1, 1, 1, 1]


def test_a_file_is_a_mapping_without_reading(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({"a": np.zeros((2, 3)), "b": np.ones(1, np.int8)}, path)
    file = SafetensorsFile(path)
    assert (list(file), len(file), "a" in file, "c" in file) == (["a", "b"], 2, True, False)
    assert file.entries["a"].shape == (2, 3)
    assert file.entries["b"].dtype == "I8"
    with pytest.raises(KeyError):
        file["c"]
    assert repr(file) == f"SafetensorsFile({str(path)!r}, 2 tensors)"


def test_unaligned_and_unordered_files_are_read(tmp_path):
    """Legal, if unusual: any header length, names in any order, 1-byte data before wide ones."""
    header = {
        "wide": {"dtype": "F32", "shape": [2], "data_offsets": [1, 9]},
        "byte": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]},
    }
    data = b"\x05" + np.array([1.5, 2.5], np.float32).tobytes()
    loaded = load_file(write_raw(tmp_path / "x", header, data))
    assert loaded["wide"].tolist() == [1.5, 2.5]
    assert loaded["wide"].array.flags.aligned
    assert loaded["byte"].tolist() == [5]


def entry(dtype="F32", shape=(2,), offsets=(0, 8), **more):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)} | more


DAMAGED = {
    "empty file": (b"", None, "it has 0 bytes, too few for the 8 bytes of the header's length"),
    "claims too much": (
        {},
        1 << 62,
        "its header claims 4,611,686,018,427,387,904 bytes; the limit",
    ),
    "truncated header": (
        b'{"a"',
        90,
        "its header claims 90 bytes and 12 follow: the file is trunc",
    ),
    "not UTF-8": (b'{"\xff": 1}', None, r"its header is not UTF-8 \(byte 2\)"),
    "not JSON": (b"{]", None, "its header is not proper JSON"),
    "not an object": (b"[1, 2]", None, "its header is a JSON list, not an object"),
    "deeply nested": (b"[" * 100_000, None, "nested too deeply|not proper JSON"),
    "absurd number": (b'{"a": ' + b"9" * 5000 + b"}", None, "its header is not proper JSON"),
    "name twice": (b'{"a": 1, "a": 2}', None, "the name 'a' appears twice"),
    "metadata not strings": ({"__metadata__": {"a": 1}}, None, "not an object of strings"),
    "entry not an object": (
        {"a": 3},
        None,
        "tensor 'a' must have exactly dtype, shape and data_off",
    ),
    "entry too large": ({"a": entry(more=1)}, None, "'a' must have exactly"),
    "unknown dtype": ({"a": entry("F31")}, None, "tensor 'a' has the unknown dtype 'F31'"),
    "no elements, along a huge axis": (
        {"x": {"dtype": "F32", "shape": [0, 2**61], "data_offsets": [0, 0]}},
        None,
        r"tensor 'x' has shape \[0, 2305843009213693952\], larger than any memory",
    ),
    "a size of thousands of digits": (
        {"x": {"dtype": "F32", "shape": [10**4000] * 64, "data_offsets": [0, 0]}},
        None,
        r"tensor 'x' has shape .*\.\.\., larger than any memory",
    ),
    "negative size": (
        {"a": entry(shape=[-2])},
        None,
        r"has shape \[-2\]; expected a list of at mo",
    ),
    "size of 1.0": ({"a": entry(shape=[2.0])}, None, r"has shape \[2.0\]"),
    "size of true": ({"a": entry(shape=[2, True])}, None, r"has shape \[2, True\]"),
    "too many axes": ({"a": entry(shape=[1] * 99)}, None, "at most 64 integers"),
    "offsets backwards": (
        {"a": entry(offsets=[8, 0])},
        None,
        r"data_offsets \[8, 0\]; expected \[",
    ),
    "offsets too few": ({"a": entry(offsets=[8])}, None, r"has data_offsets \[8\]"),
    "wrong byte count": (
        {"a": entry(shape=[3])},
        None,
        r"shape \[3\] and dtype F32 needs 12 bytes",
    ),
    "absurd shape": ({"a": entry(shape=[1 << 62] * 9)}, None, "larger than any memory"),
    "overlap": (
        {"a": entry(), "b": entry(offsets=[4, 12])},
        None,
        "tensor 'b' overlaps 'a' by 4 bytes",
    ),
    "gap": (
        {"a": entry(), "b": entry(offsets=[9, 17])},
        None,
        "1 unused bytes lie before tensor 'b'",
    ),
    "truncated data": ({"a": entry(shape=[100], offsets=[0, 400])}, None, "truncated by 392 bytes"),
    "data too long": ({"a": entry("U8", [1], [0, 1])}, None, "7 bytes follow the last tensor"),
}


@pytest.mark.parametrize("header, length, message", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_with_the_reason(tmp_path, header, length, message):
    path = write_raw(tmp_path / "x.safetensors", header, b"\0" * 8, length)
    if header == b"":
        path.write_bytes(b"")
    with pytest.raises(FileFormatError, match=message) as caught:
        load_file(path)
    assert str(caught.value).startswith(f"{path} is not a valid safetensors file: ")


@pytest.mark.parametrize(
    "start, message",
    [
        (b"PK\x03\x04", "it is a zip file, such as PyTorch's .pt, which gradient.load reads"),
        (b"\x93NUMPY\x01\0", "it is a NumPy array .*numpy.load opens it, gradient.from_numpy"),
        (b"PK\x03\x04" + b"\0" * 26 + b"weight.npy", "it is a NumPy archive .*numpy.load"),
        (b"\x89HDF\r\n\x1a\n", "it is an HDF5 file .*h5py.File opens it"),
        (b"\x80\x04\x95\xa8", "it is a pickle.*not run here.*torch.save of PyTorch 1.6"),
        (b"", "all zeros where it begins.*download it again"),
        (b"\x80\x02\x8a\x0al", "it is a pickle"),
        (b"GGUF", "it is a GGUF file"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer.*git lfs pull"),
        (b"<!DOCTYPE html>", "it is a web page"),
    ],
)
def test_another_format_is_named(tmp_path, start, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(start + b"\0" * 100)
    with pytest.raises(FileFormatError, match=message):
        SafetensorsFile(path)


def test_what_numpy_and_pickle_write_is_named(tmp_path):
    np.save(tmp_path / "a.npy", np.ones(3))
    np.savez(tmp_path / "b.npz", w=np.ones(3))
    np.savez_compressed(tmp_path / "c.npz", w=np.ones(3))
    (tmp_path / "d.pkl").write_bytes(pickle.dumps({"weights": 1}))
    (tmp_path / "e.json").write_text('{"w": "\u00e9"}' * 60)
    for path in sorted(tmp_path.iterdir()):
        for read in (gradient.load, load_file, TorchFile, GGUFFile, gradient.hub.load):
            with pytest.raises(FileFormatError) as error:
                read(path)
            word = {".npy": "NumPy array", ".npz": "NumPy archive", ".pkl": "pickle"}
            assert f"it is a {word.get(path.suffix, 'JSON file')}" in str(error.value)


def test_a_header_may_have_a_length_that_begins_like_a_pickle(tmp_path):
    header = {"a": entry("F32", [2])}
    padding = " " * (640 - len(json.dumps(header)))
    path = tmp_path / "x.safetensors"
    text = (json.dumps(header) + padding).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"\0" * 8)
    assert path.read_bytes().startswith(b"\x80\x02")
    assert SafetensorsFile(path)["a"].tolist() == [0.0, 0.0]


def test_a_dtype_without_a_twin_can_be_listed_but_not_read(tmp_path):
    path = write_raw(tmp_path / "x", {"a": entry("F8_E8M0", [8])}, b"\0" * 8)
    file = SafetensorsFile(path)
    assert file.entries["a"].dtype == "F8_E8M0"
    with pytest.raises(
        FileFormatError, match="'a' has dtype F8_E8M0, which gradient does not read"
    ):
        file["a"]


def test_every_truncation_is_refused(tmp_path):
    save_file({"w": np.arange(5, dtype=np.float32), "b": np.arange(3)}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    for size in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:size])
        with pytest.raises(FileFormatError):
            load_file(tmp_path / "cut")


def test_mutated_files_load_or_raise_our_error(tmp_path):
    """Seeded; no crash, no other exception, no allocation beyond the file."""
    save({"w": gradient.ones(3, 2), "s": [1, (2.5, None)]}, tmp_path / "whole")
    whole = (tmp_path / "whole").read_bytes()
    generator = random.Random(0)
    loaded = 0
    for _ in range(500):
        mutant = bytearray(whole)
        for _ in range(generator.randrange(1, 4)):
            where = generator.randrange(len(mutant))
            mutant[where : where + generator.randrange(3)] = generator.randbytes(
                generator.randrange(3)
            )
        (tmp_path / "mutant").write_bytes(mutant)
        try:
            load(tmp_path / "mutant")
            loaded += 1
        except FileFormatError:
            pass
    assert 0 < loaded < 500


def test_wrong_arguments_of_save_file_are_explained(tmp_path):
    path = tmp_path / "x"
    with pytest.raises(TypeError, match="expected a Tensor or array under 'a', got int"):
        save_file({"a": 3}, path)
    with pytest.raises(TypeError, match="'a' has dtype complex128; the format takes"):
        save_file({"a": np.zeros(2, np.complex128)}, path)
    with pytest.raises(ArgumentError, match="'__metadata__' cannot name a tensor"):
        save_file({"__metadata__": np.zeros(2)}, path)
    with pytest.raises(TypeError, match="metadata must be a dict of strings"):
        save_file({}, path, {"step": 3})
    with pytest.raises(ModelNotFound, match="no file at .*absent"):
        load_file(tmp_path / "absent")
    with pytest.raises(ModelNotFound, match=r"is a folder, expected a file; gradient\.hub\.load"):
        load_file(tmp_path)
    assert os.listdir(tmp_path) == []


# Memory ----------------------------------------------------------------------------------------


def peak_bytes(program, *arguments):
    """How much the peak memory of a fresh process rises over `program`, after its imports."""
    code = (
        textwrap.dedent(
            """
        import resource, sys
        import numpy as np, gradient
        from gradient.io import load_file, save_file, open_sharded
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        unit = 1 if sys.platform == "darwin" else 1024
        gradient.zeros(1)
        before = peak()
        """
        )
        + textwrap.dedent(program)
        + "\nprint((peak() - before) * unit)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(run.stdout)


def test_loading_takes_at_most_1_1_times_the_file(tmp_path):
    rows = np.ones((40, 256, 1024), np.float32)  # 40 MB
    save_file({f"layer.{n}": row for n, row in enumerate(rows)}, tmp_path / "model.safetensors")
    size = (tmp_path / "model.safetensors").stat().st_size
    touched = """
        weights = load_file(sys.argv[1])
        assert sum(float(w.array.sum()) for w in weights.values()) == 40 * 256 * 1024
    """
    assert peak_bytes(touched, tmp_path / "model.safetensors") <= 1.1 * size
    only_opened = "weights = dict(open_sharded(sys.argv[1]))"
    assert peak_bytes(only_opened, tmp_path) <= 0.1 * size


def test_saving_makes_no_second_copy(tmp_path):
    program = """
        weights = {str(n): gradient.from_numpy(np.ones((256, 1024), np.float32)) for n in range(40)}
        weights["t"] = gradient.from_numpy(np.ones((2048, 10240), np.float32).T)  # 80 MB
        held = peak()
        save_file(weights, sys.argv[1])
        before = held
    """
    assert peak_bytes(program, tmp_path / "x.safetensors") <= 40e6


# gradient.save and gradient.load --------------------------------------------------------------


def test_structures_come_back_as_they_were(tmp_path):
    state = {
        "epoch": 3,
        "lr": 0.1 + 0.2,
        "tiny": 5e-324,
        "big": 2**80,
        "not finite": [float("inf"), -float("inf")],
        "flags": [True, False, None],
        "text": 'ünïcödé \n "quoted" $tensor',
        "bytes": b"\x00\xff",
        "tuple": (1, (2.5, "x"), []),
        "by number": {0: {"m": gradient.ones(2)}, (1, 2): "pair"},
        "$dollar": {"$tensor": "not a tensor"},
        "array": np.arange(3, dtype=np.int16),
        "numpy scalar": np.float64(2.5),
        "dtype": gradient.bfloat16,
        "nested": {"a": {"b": [gradient.zeros(2, 3), gradient.tensor(5)]}},
    }
    path = tmp_path / "state.safetensors"
    gradient.save(state, path)
    loaded = gradient.load(path)
    assert list(loaded) == list(state)
    for key in ("epoch", "lr", "tiny", "big", "not finite", "flags", "text", "bytes", "tuple"):
        assert loaded[key] == state[key], key
        assert type(loaded[key]) is type(state[key]), key
    assert loaded["by number"][0]["m"].tolist() == [1, 1]
    assert loaded["by number"][1, 2] == "pair"
    assert loaded["$dollar"] == {"$tensor": "not a tensor"}
    assert isinstance(loaded["array"], np.ndarray)
    assert loaded["array"].dtype == np.int16
    assert loaded["numpy scalar"] == 2.5
    assert loaded["dtype"] is gradient.bfloat16
    assert loaded["nested"]["a"]["b"][0].shape == (2, 3)
    assert loaded["nested"]["a"]["b"][1].item() == 5
    gradient.save({"x": float("nan")}, path)
    assert np.isnan(gradient.load(path)["x"])


def test_a_tensor_is_saved_once_and_comes_back_as_one(tmp_path):
    tied = gradient.ones(1000)
    path = tmp_path / "x.safetensors"
    gradient.save({"embedding": tied, "head": tied.detach(), "other": gradient.ones(1000)}, path)
    loaded = gradient.load(path)
    assert loaded["embedding"] is loaded["head"]
    assert loaded["embedding"] is not loaded["other"]
    assert path.stat().st_size < 2.5 * 4000


def test_scalars_that_numpy_shares_stay_apart(tmp_path):
    gradient.save({"a": gradient.tensor(True), "b": gradient.tensor(True)}, tmp_path / "x")
    loaded = gradient.load(tmp_path / "x")
    assert loaded["a"] is not loaded["b"]
    assert loaded["a"].item() is True


def test_one_tensor_and_plain_dicts(tmp_path):
    path = tmp_path / "x.safetensors"
    gradient.save(gradient.arange(3), path)
    assert gradient.load(path).tolist() == [0, 1, 2]
    gradient.save({"b.w": gradient.ones(1), "a": gradient.zeros(1)}, path)
    assert SafetensorsFile(path).metadata == {"format": "pt"}, "others see an ordinary file"
    assert list(gradient.load(path)) == ["b.w", "a"]
    # Two places that would have one name.
    gradient.save({"a": {"b": gradient.ones(1)}, "a.b": gradient.zeros(1)}, path)
    assert gradient.load(path)["a"]["b"].item() == 1
    assert gradient.load(path)["a.b"].item() == 0


def test_parameters_lose_their_history_not_their_values(tmp_path):
    x = gradient.ones(2, requires_grad=True)
    gradient.save({"y": x * 3}, tmp_path / "x")
    loaded = gradient.load(tmp_path / "x")["y"]
    assert loaded.tolist() == [3, 3]
    assert not loaded.requires_grad


def test_a_whole_module_is_saved_as_its_state_dict(tmp_path):
    model = gradient.nn.Linear(2, 3)
    optimizer = gradient.optim.SGD(model.parameters(), lr=0.5)
    with pytest.warns(UserWarning, match="save: the value is a whole Linear; its state_dict"):
        gradient.save(model, tmp_path / "model.pt")
    with pytest.warns(UserWarning) as warned:
        gradient.save({"run": [model, optimizer], "epoch": 3}, tmp_path / "run.pt")
    assert [str(w.message).split(" is a")[0] for w in warned] == ["save: run.0", "save: run.1"]
    assert all(w.filename == __file__ for w in warned)
    run = gradient.load(tmp_path / "run.pt")
    for state in (gradient.load(tmp_path / "model.pt"), run["run"][0]):
        other = gradient.nn.Linear(2, 3)
        other.load_state_dict(state)
        assert other.weight.tolist() == model.weight.tolist()
    assert run["run"][1]["param_groups"][0]["lr"] == 0.5 and run["epoch"] == 3


def test_a_class_of_modules_is_refused(tmp_path):
    with pytest.raises(TypeError, match="cannot save model: a builtins.type"):
        gradient.save({"model": gradient.nn.Linear}, tmp_path / "model.pt")


def cycle():
    value = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "value, message",
    [
        ({"a": [1, {"b": object()}]}, r"cannot save a.1.b: a builtins.object. .*state_dict\(\)"),
        ({"f": print}, "cannot save f: a builtins.builtin_function_or_method"),
        ({"s": {1, 2}}, "cannot save s: a builtins.set"),
        (cycle(), "nested more than 100 deep"),
    ],
)
def test_what_cannot_be_saved_is_named(tmp_path, value, message):
    with pytest.raises(TypeError, match=message):
        gradient.save(value, tmp_path / "x")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "structure, message",
    [
        ("{", "not proper JSON"),
        ('{"a": {"$tensor": "absent"}}', "the tensor 'absent' is missing"),
        ('{"a": {"$tensor": [1]}}', "malformed structure"),
        ('{"a": {"$object": "os.system"}}', "unknown form '\\$object'"),
        ('{"a": {"$tuple": 3}}', "malformed structure"),
        ('{"a": {"$dict": [[1]]}}', "malformed structure"),
        ('{"a": {"$bytes": "?"}}', "malformed structure"),
        ('{"a": {"$dtype": "object"}}', "malformed structure"),
        ("[" * 5000 + "]" * 5000, "malformed|not proper JSON"),
    ],
)
def test_a_damaged_structure_is_refused(tmp_path, structure, message):
    save_file({}, tmp_path / "x", {"gradient.structure": structure})
    with pytest.raises(FileFormatError, match=message):
        gradient.load(tmp_path / "x")


def test_streams_of_bytes_are_written_and_read(tmp_path):
    import io

    value = {"w": gradient.arange(6).reshape(2, 3).T, "empty": gradient.ones(0, 3), "step": 3}
    stream = io.BytesIO(b"before")
    stream.seek(6)
    gradient.save(value, stream)
    with pytest.raises(FileFormatError, match=r"<BytesIO> has no bytes left.*seek\(0\)"):
        gradient.load(stream)
    stream.seek(6)
    loaded = gradient.load(stream)
    assert gradient.equal(loaded["w"], value["w"])
    assert (loaded["empty"].shape, loaded["step"]) == ((0, 3), 3)
    loaded["w"].add_(1)  # memory of its own
    stream.seek(6)
    assert gradient.equal(gradient.load(stream)["w"], value["w"])
    with (tmp_path / "x.pt").open("wb") as file:
        gradient.save([value["w"]], file)
    assert format_of((tmp_path / "x.pt").read_bytes()) == "safetensors"
    with (tmp_path / "x.pt").open("rb") as file:
        assert gradient.equal(gradient.load(file)[0], value["w"])


@pytest.mark.parametrize("damage", [slice(0, -1), slice(0, 7), slice(8, None)])
def test_a_damaged_stream_is_refused(damage):
    import io

    stream = io.BytesIO()
    gradient.save({"w": gradient.ones(3)}, stream)
    with pytest.raises(FileFormatError, match="<BytesIO> is not a valid safetensors file"):
        gradient.load(io.BytesIO(stream.getvalue()[damage]))


def test_what_is_neither_a_path_nor_a_stream_is_refused():
    import io

    with pytest.raises(TypeError, match="expected a path, or a stream to write bytes to, got int"):
        gradient.save({}, 3)
    with pytest.raises(TypeError, match="expected a path or a stream of bytes, got int"):
        gradient.load(3)
    with pytest.raises(TypeError, match="got one of text; open it with mode 'rb'"):
        gradient.load(io.StringIO("text"))


# Shards ---------------------------------------------------------------------------------------


def test_shards_are_written_and_read(tmp_path):
    weights = {f"layer.{n}": gradient.full((100,), float(n)) for n in range(7)}
    paths = save_sharded(weights, tmp_path, max_shard_bytes=1000)
    assert [path.name for path in paths] == [
        *(f"model-{n:05d}-of-00004.safetensors" for n in range(1, 5)),
        "model.safetensors.index.json",
    ]
    index = json.loads(paths[-1].read_text())
    assert index["metadata"] == {"total_size": 2800}
    loaded = open_sharded(tmp_path)
    assert list(loaded) == list(weights)
    assert len(loaded) == 7
    assert loaded["layer.3"].tolist() == [3.0] * 100
    assert loaded.metadata == {"format": "pt"}
    assert [path.name for path in save_sharded(weights, tmp_path)] == ["model.safetensors"]
    assert isinstance(open_sharded(tmp_path), SafetensorsFile)


@pytest.mark.parity
def test_reads_shards_that_transformers_wrote(tmp_path):
    transformers = pytest.importorskip("transformers")
    config = transformers.GPT2Config(n_layer=2, n_head=2, n_embd=32, vocab_size=64, n_positions=16)
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    weights = open_sharded(tmp_path)
    theirs = model.state_dict()
    assert len(weights.files) > 1
    assert weights.keys() == theirs.keys() - {"lm_head.weight"}
    assert all(weights[name].tolist() == theirs[name].tolist() for name in weights)


def test_misfits_of_an_index_are_listed(tmp_path):
    weights = {f"layer.{n}": gradient.ones(100) for n in range(3)}
    paths = save_sharded(weights, tmp_path, max_shard_bytes=500)
    index = json.loads(paths[-1].read_text())

    def rewritten(weight_map):
        paths[-1].write_text(json.dumps({"weight_map": weight_map}))
        return tmp_path

    names = index["weight_map"]
    with pytest.raises(FileFormatError, match=r"1 tensors that .*: bias \(in model-00001"):
        open_sharded(rewritten(names | {"bias": paths[0].name}))
    with pytest.raises(ModelNotFound, match="2 of 5 shards are missing: a.safetensors, b.safet"):
        open_sharded(rewritten(names | {"a": "a.safetensors", "b": "b.safetensors"}))
    for outside in ("../x", "/etc/passwd", "a/b", "..", "", 3, "a\\b", "C:x"):
        with pytest.raises(FileFormatError, match="is not the name of a file beside it"):
            open_sharded(rewritten({"a": outside}))
    for wrong in ([], {}, None):
        with pytest.raises(FileFormatError, match="'weight_map' that is not empty"):
            open_sharded(rewritten(wrong))
    with pytest.raises(ModelNotFound, match="no weights; looked for other.safetensors and other.s"):
        open_sharded(tmp_path, "other")
    with pytest.raises(ModelNotFound, match="there is no such folder"):
        open_sharded(tmp_path / "absent")


# Atomic writes ----------------------------------------------------------------------------------


def test_a_file_appears_whole(tmp_path):
    path = tmp_path / "file"
    with atomic.atomic_write(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_an_error_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    atomic.write_text(path, "old")
    for error in (ValueError("mine"), KeyboardInterrupt(), ConnectionResetError(104, "mine")):
        with pytest.raises(type(error)) as caught, atomic.atomic_write(path) as file:
            file.write(b"half")
            raise error
        assert caught.value is error, "not disguised as a disk error"
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["write", "fsync", "replace", "free space"])
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch, call, code):
    path = tmp_path / "w.safetensors"
    save_file({"w": np.zeros(3)}, path)
    before = path.read_bytes()

    def fail(*args, **kwargs):
        raise OSError(code, os.strerror(code))

    if call == "write":
        monkeypatch.setattr("gradient.io.safetensors._write_array", fail)
    elif call == "free space":
        usage = type("Usage", (), {"free": 10})
        monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    else:
        monkeypatch.setattr(os, call, fail)
    with pytest.raises(CheckpointError, match="What was there before is unchanged") as caught:
        save_file({"w": np.ones(3)}, path)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == (errno.ENOSPC if call == "free space" else code)
    assert str(tmp_path) in str(caught.value)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["w.safetensors"]


def test_a_real_limit_on_the_file_size_leaves_the_old_file(tmp_path):
    program = """
        import resource, sys, numpy as np
        from gradient.io import save_file
        save_file({"w": np.zeros(10)}, sys.argv[1])
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
        try:
            save_file({"w": np.zeros(100_000)}, sys.argv[1])
        except OSError as error:
            print(type(error).__name__, error)
    """
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), tmp_path / "x"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert run.stdout.startswith(
        f"CheckpointError could not write {tmp_path / 'x'}: File too large"
    )
    assert load_file(tmp_path / "x")["w"].shape == (10,)
    assert os.listdir(tmp_path) == ["x"]


def test_links_permissions_and_missing_folders(tmp_path):
    atomic.write_text(tmp_path / "target", "old")
    os.chmod(tmp_path / "target", 0o640)
    os.symlink("target", tmp_path / "link")
    atomic.write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    assert (tmp_path / "target").stat().st_mode & 0o777 == 0o640
    with pytest.raises(
        CheckpointError, match="could not write .*absent/x: there is no folder .*absent; make it"
    ):
        atomic.write_text(tmp_path / "absent" / "x", "")


def test_a_folder_appears_whole(tmp_path):
    with atomic.atomic_folder(tmp_path / "a" / "new") as folder:
        (folder / "file").write_text("1")
        assert not (tmp_path / "a" / "new").exists()
    assert (tmp_path / "a" / "new" / "file").read_text() == "1"
    with pytest.raises(ZeroDivisionError), atomic.atomic_folder(tmp_path / "a" / "other"):
        1 / 0  # noqa: B018
    with (
        pytest.raises(CheckpointError, match="already exists"),
        atomic.atomic_folder(tmp_path / "a" / "new"),
    ):
        pass
    assert os.listdir(tmp_path / "a") == ["new"]


def test_a_dataclass_is_saved_as_its_fields(tmp_path):
    @dataclasses.dataclass
    class Part:
        rate: float

    @dataclasses.dataclass
    class Settings:
        parts: list
        weight: gradient.Tensor

    settings = Settings([Part(0.5)], gradient.ones(2))
    with pytest.warns(UserWarning, match="its fields are saved, as a dict"):
        gradient.save({"settings": settings}, tmp_path / "saved")
    found = gradient.load(tmp_path / "saved")["settings"]
    assert found["parts"] == [{"rate": 0.5}] and found["weight"].tolist() == [1.0, 1.0]
    with pytest.raises(TypeError, match="a builtins.type"):
        gradient.save(Settings, tmp_path / "saved")


@pytest.mark.parametrize("where", [lambda storage, location: storage, {"cuda:0": "cpu"}])
def test_a_function_or_dict_as_map_location_leaves_tensors_on_the_cpu(tmp_path, where):
    gradient.save({"w": gradient.ones(2)}, tmp_path / "saved")
    found = gradient.load(tmp_path / "saved", map_location=where)["w"]
    assert found.tolist() == [1.0, 1.0] and str(found.device) == "cpu"
