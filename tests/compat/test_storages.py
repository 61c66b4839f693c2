"""Storages: the memory of tensors as bytes, and what reads files by them."""

from __future__ import annotations

import subprocess
import sys

import pytest

import gradient
from gradient import nn

SCRIPT = """
import sys, torch
from torch import nn
from safetensors.torch import load, load_file, load_model, save, save_file, save_model
from safetensors import safe_open

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.l = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.l.weight, self.norm = self.e.weight, nn.BatchNorm1d(3)

given = {"a": torch.randn(3, 4), "b": torch.arange(5), "c": torch.randn(2, 2).bfloat16(),
         "e": torch.zeros(0, 3), "s": torch.tensor(3.5), "t": torch.tensor([True, False, True])}
path = sys.argv[1]
save_file(given, path)
for found in (load_file(path), load_file(path, backend="pread"), load(save(given))):
    assert all(torch.equal(found[k], given[k]) and found[k].dtype is given[k].dtype for k in given)
with safe_open(path, "pt") as file:
    assert torch.equal(file.get_slice("a")[0:2, 1:], given["a"][:2, 1:])
for shared in ({"a": given["a"], "b": given["a"]}, {"a": given["a"].t()}):
    try:
        save_file(shared, path)
    except (RuntimeError, ValueError):
        continue
    raise SystemExit("saved shared memory, or what is not contiguous")
one, two = Tied(), Tied()
save_model(one, path)
load_model(two, path)
assert torch.equal(one.l.weight, two.e.weight)
"""


def test_safetensors_reads_and_writes_our_tensors(tmp_path):
    pytest.importorskip("safetensors")
    (tmp_path / "run.py").write_text(SCRIPT)
    command = [sys.executable, "-m", "gradient.compat.torch", "run.py", "x.safetensors"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_storage_is_the_memory_of_all_its_views():
    x = gradient.arange(12.0).reshape(3, 4).clone()
    for view in (x, x[1:], x.t(), x.detach(), x.expand(2, 3, 4), x[:, 1:3].T, x.view(-1)[5:]):
        storage = view.untyped_storage()
        assert (storage.data_ptr(), storage.nbytes()) == (x.data_ptr(), 48)
        assert len(storage) == storage.size() == 48 and storage.element_size() == 1
    assert x.clone().untyped_storage().data_ptr() != x.data_ptr()
    assert x.storage().tolist() == x.flatten().tolist() and x.storage().size() == 12
    assert x.storage().dtype is gradient.float32
    assert gradient.is_storage(x.storage()) and gradient.is_storage(x.untyped_storage())


def test_what_is_written_to_a_storage_is_in_the_tensor():
    x = gradient.zeros(2, 2)
    x.storage()[3] = 5.0
    assert x[1, 1] == 5 and x.storage()[3] == 5
    x.untyped_storage().fill_(0)
    assert not x.any()
    y = gradient.empty(0).set_(x.untyped_storage(), 1, (3,), (1,))
    y.fill_(2.0)
    assert x.tolist() == [[0, 2], [2, 2]]
    part = x.untyped_storage()[4:8]
    assert part.nbytes() == 4 and part.data_ptr() == x.data_ptr() + 4


@pytest.mark.parametrize("dtype", ["bool", "int64", "bfloat16", "complex64", "float8_e5m2"])
def test_storages_of_other_dtypes(dtype):
    x = gradient.ones(3, dtype=gradient.float32).to(getattr(gradient, dtype))
    assert x.untyped_storage().nbytes() == 3 * x.itemsize
    assert x.untyped_storage().data_ptr() == x.data_ptr()


def test_storages_of_nothing_and_of_one():
    empty = gradient.zeros(0, 3)
    assert empty.untyped_storage().nbytes() == 0
    assert empty.untyped_storage().data_ptr() == empty.data_ptr() == 0
    assert gradient.tensor(3.0).storage().tolist() == [3.0]
    assert nn.Linear(3, 4).weight.untyped_storage().nbytes() == 48


def test_storages_keep_their_size():
    with pytest.raises(RuntimeError, match="keep their size"):
        gradient.ones(3).untyped_storage().resize_(0)


def test_storages_of_files(tmp_path):
    path = tmp_path / "numbers"
    path.write_bytes(bytes(range(8)))
    private = gradient.UntypedStorage.from_file(str(path), False, 8)
    private[0] = 9
    assert path.read_bytes()[0] == 0 and private.tolist()[:2] == [9, 1]
    shared = gradient.UntypedStorage.from_file(str(path), True, 12)
    shared[0] = 7
    assert path.read_bytes() == bytes([7, *range(1, 8), 0, 0, 0, 0])
    typed = gradient.TypedStorage(wrap_storage=shared, dtype=gradient.int32)
    assert typed.size() == 3 and typed.untyped().nbytes() == 12
