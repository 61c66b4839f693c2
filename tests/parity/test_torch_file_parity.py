"""Files that PyTorch writes, read as PyTorch reads them."""

from __future__ import annotations

import numpy as np
import pytest

from gradient.io.torch_file import TorchFile

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.parity


def equal(ours, theirs) -> bool:
    return (
        str(theirs.dtype).removeprefix("torch.") == ours.dtype.name
        and tuple(ours.shape) == tuple(theirs.shape)
        and ours.float().tolist() == theirs.float().tolist()
    )


def test_a_module(tmp_path):
    module = torch.nn.TransformerEncoderLayer(16, 4, 32)
    torch.save(module.state_dict(), tmp_path / "m.pt")
    file = TorchFile(tmp_path / "m.pt")
    state = module.state_dict()
    assert list(file) == list(state)
    assert all(equal(file[name], state[name]) for name in state)


@pytest.mark.parametrize(
    "dtype", ["float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8",
              "uint8", "uint16", "uint32", "bool"],
)  # fmt: skip
def test_dtypes_and_layouts(dtype, tmp_path):
    x = torch.arange(24).reshape(2, 3, 4).to(getattr(torch, dtype))
    saved = {
        "x": x,
        "transposed": x.permute(2, 0, 1),
        "part": x[:, 1:, ::2],
        "number": x[1, 2, 3],
        "empty": x[:0],
        "parameter": torch.nn.Parameter(x, requires_grad=False),
    }
    torch.save(saved, tmp_path / "x.pt")
    file = TorchFile(tmp_path / "x.pt")
    assert list(file) == list(saved)
    assert all(equal(file[name], saved[name]) for name in saved)


def test_a_training_checkpoint(tmp_path):
    module = torch.nn.Linear(3, 4)
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(2, 3)).sum().backward()
    optimizer.step()
    checkpoint = {
        "epoch": 2,
        "model": module.state_dict(),
        "optimizer": optimizer.state_dict(),
        "rng": torch.get_rng_state(),
        "loss": np.float32(0.5),
        "shape": torch.Size([1, 2]),
        "dtype": torch.float16,
    }
    torch.save(checkpoint, tmp_path / "c.pt")
    structure = TorchFile(tmp_path / "c.pt").structure()
    assert structure["epoch"] == 2 and structure["shape"] == (1, 2)
    assert equal(structure["optimizer"]["state"][0]["exp_avg"],
                 optimizer.state_dict()["state"][0]["exp_avg"])  # fmt: skip
    assert str(structure["dtype"]) == "torch.float16"
    weights = TorchFile(tmp_path / "c.pt", key="model")
    assert list(weights) == ["weight", "bias"]
