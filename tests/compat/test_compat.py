"""Old and foreign spellings, reached only when they are asked for."""

from __future__ import annotations

import importlib
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradient
from gradient.compat import hints, tables

pytestmark = pytest.mark.cpu_only


def ran(code: str, *arguments: str, cwd: Path | None = None) -> str:
    command = [sys.executable, *(arguments or ("-c", code))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_nothing_of_it_is_loaded_before_it_is_named() -> None:
    found = ran(
        "import sys, gradient, gradient.nn, gradient.optim, gradient.cuda, gradient.utils.data\n"
        "print([name for name in sys.modules if name.startswith('gradient.compat')])"
    )
    assert found.strip() == "[]"


def test_every_file_has_the_names_that_it_says() -> None:
    for module in {*tables.FILES.values(), *tables.MODULES.values()}:
        found = importlib.import_module(module)
        for name in getattr(found, "__all__", ()):
            getattr(found, name)


@pytest.mark.parametrize("path", tables.MODULES)
def test_modules_are_imported_by_pytorchs_names(path: str) -> None:
    module = importlib.import_module(path)
    parent, _, name = path.rpartition(".")
    assert getattr(importlib.import_module(parent), name) is module


@pytest.mark.parametrize("path", [*tables.FILES, *tables.RENAMED])
def test_names_are_found_in_their_modules(path: str) -> None:
    if path in tables.RENAMED:
        module, _, name = path.rpartition(".")
        assert getattr(importlib.import_module(module), name) is not None
    else:
        module = importlib.import_module(path)
        for name in importlib.import_module(tables.FILES[path]).__all__:
            if not name.startswith("_"):
                getattr(module, name)


@pytest.mark.parametrize("path", hints.HINTS)
def test_absent_names_say_what_to_do(path: str) -> None:
    parent, _, name = path.rpartition(".")
    with pytest.raises(AttributeError) as caught:
        getattr(importlib.import_module(parent), name)
    assert str(caught.value).endswith(hints.HINTS[path])
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        importlib.import_module(path)


def test_other_names_are_absent_as_ever() -> None:
    for module in (gradient, gradient.nn, gradient.utils.data, gradient.backends):
        assert not hasattr(module, "no_such_name")
        with pytest.raises(AttributeError, match=f"{module.__name__}.*has no.*no_such_name"):
            module.no_such_name  # noqa: B018
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gradient.no_such_module")


def test_modules_of_layers_have_those_that_stand_in_other_files_here() -> None:
    found = ran(  # by attributes alone, and by import statements
        "import gradient\n"
        "from gradient import nn\n"
        "m = nn.modules\n"
        "assert m.activation.MultiheadAttention is nn.MultiheadAttention\n"
        "assert m.linear.NonDynamicallyQuantizableLinear is nn.Linear\n"
        "assert m.linear.LazyLinear is m.lazy.LazyLinear is nn.LazyLinear\n"
        "assert m.transformer.Transformer is nn.Transformer\n"
        "from gradient.nn.modules.batchnorm import LazyBatchNorm2d\n"
        "from gradient.optim.nadam import NAdam\n"
        "assert NAdam is gradient.optim.NAdam\n"
        "print(hasattr(m.linear, 'no_such_name'), hasattr(nn.linear, 'LazyLinear'))"
    )
    assert found.strip() == "False False"


def test_names_of_the_extension() -> None:
    bindings: Any = importlib.import_module("gradient._C")
    with pytest.raises(bindings._LinAlgError):
        gradient.linalg.inv(gradient.zeros(2, 2))
    bindings._jit_set_profiling_mode(False)


def test_no_tensor_is_one_of_several_processes() -> None:
    tensors: Any = importlib.import_module("gradient.distributed.tensor")
    assert not isinstance(gradient.ones(2), tensors.DTensor)
    with pytest.raises(NotImplementedError, match="a group is of one process"):
        tensors.DTensor()


def test_numbers_and_types() -> None:
    t: Any = gradient
    assert (t.inf, t.pi, t.e, t.newaxis) == (math.inf, math.pi, math.e, None)
    assert math.isnan(t.nan)
    assert isinstance(t.float32, t.dtype)
    x = t.FloatTensor([1, 2])
    assert x.dtype is t.float32
    assert x.tolist() == [1.0, 2.0]
    assert isinstance(x, t.FloatTensor)
    assert not isinstance(x, t.LongTensor)
    assert t.LongTensor(2, 3).shape == (2, 3)
    assert t.DoubleTensor(np.ones(2, np.float32)).dtype is t.float64
    assert x.type(t.LongTensor).dtype is t.int64
    assert t.ByteTensor().shape == (0,)
    with pytest.raises(TypeError, match="FloatTensor: expected a sequence"):
        t.FloatTensor(1.5)


def test_every_type_of_old_is_there_for_both_devices() -> None:
    from gradient.compat import cuda, types
    from gradient.tensor.old_forms import OLD_TYPES

    for name, dtype in OLD_TYPES.items():
        for module, device in ((types, "cpu"), (cuda, "cuda")):
            kind = getattr(module, name)
            assert (kind.__name__, kind.dtype, kind.device) == (name, dtype.numpy, device)


def test_default_tensor_type() -> None:
    t: Any = gradient
    try:
        t.set_default_tensor_type(t.DoubleTensor)
        assert t.ones(1).dtype is t.float64
        t.set_default_tensor_type("torch.FloatTensor")
        assert t.ones(1).dtype is t.float32
    finally:
        gradient.set_default_dtype(gradient.float32)
    with pytest.raises(TypeError, match="a type such as FloatTensor"):
        t.set_default_tensor_type("torch.NoTensor")


def test_a_variable_is_a_tensor() -> None:
    from gradient.autograd import Variable  # type: ignore[attr-defined]

    x = gradient.ones(2)
    assert Variable(x) is x
    assert isinstance(x, Variable)
    leaf = Variable(x, requires_grad=True)
    assert leaf.requires_grad
    assert not x.requires_grad


def test_data_parallel_calls_its_module() -> None:
    nn: Any = gradient.nn
    layer = nn.Linear(2, 3)
    parallel = nn.DataParallel(layer, device_ids=[0])
    x = gradient.ones(1, 2)
    assert gradient.equal(parallel(x), layer(x))
    state = parallel.state_dict()
    assert list(state) == ["module.weight", "module.bias"]
    nn.modules.utils.consume_prefix_in_state_dict_if_present(state, "module.")
    assert layer.load_state_dict(state) == ([], [])
    assert isinstance(parallel, nn.parallel.DataParallel)
    with pytest.raises(ValueError, match="expected one device"):
        nn.DataParallel(layer, device_ids=[0, 1])


def test_an_optimiser_whose_state_is_divided_among_one_process() -> None:
    optim = importlib.import_module("gradient.distributed.optim")
    weight = gradient.nn.Parameter(gradient.ones(2))
    optimizer = optim.ZeroRedundancyOptimizer([weight], gradient.optim.SGD, lr=0.5)
    weight.sum().backward()
    optimizer.step()
    optimizer.consolidate_state_dict(to=0)
    assert isinstance(optimizer, gradient.optim.SGD) and weight.tolist() == [0.5, 0.5]


def test_a_script_for_torchrun_runs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    t: Any = gradient
    dist = importlib.import_module("gradient.distributed")
    with pytest.raises(RuntimeError, match="call init_process_group first"):
        dist.barrier()
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(RuntimeError, match="a group of 1 process, got 2"):
        dist.init_process_group("nccl")
    monkeypatch.setenv("WORLD_SIZE", "1")
    dist.init_process_group("gloo")
    try:
        assert dist.is_initialized()
        assert (dist.get_rank(), dist.get_world_size(), dist.get_backend()) == (0, 1, "gloo")
        with pytest.raises(RuntimeError, match="exists already"):
            dist.init_process_group("gloo")
        x, copies = gradient.tensor([1.0, 2.0]), [gradient.zeros(2)]
        assert dist.all_reduce(x, op=dist.ReduceOp.SUM) is None
        assert dist.all_gather(copies, x, async_op=True).wait()
        dist.broadcast(x, src=0)
        assert x.tolist() == copies[0].tolist() == [1.0, 2.0]
        for call in (
            lambda out: dist.all_gather_into_tensor(out, x),
            lambda out: dist.reduce_scatter_tensor(out, x, op=dist.ReduceOp.AVG),
            lambda out: dist.gather(x, [out]),
            lambda out: dist.scatter(out, [x], src=0),
        ):
            out = gradient.zeros(2)
            assert call(out) is None
            assert out.tolist() == [1.0, 2.0]
        objects = [None]
        dist.all_gather_object(objects, "mine")
        dist.broadcast_object_list(objects)
        assert objects == ["mine"]
        assert dist.new_group([0]).size() == dist.group.WORLD.size() == 1
        with pytest.raises(ValueError, match="ranks = .0., the only process"):
            dist.new_group([0, 1])
        with pytest.raises(ValueError, match="scatter: expected a list of 1 tensor"):
            dist.scatter(x)
        with pytest.raises(ValueError, match="src = 0, the only process"):
            dist.broadcast(x, src=1)
    finally:
        dist.destroy_process_group()
    layer = t.nn.Linear(2, 3)
    model = t.nn.parallel.DistributedDataParallel(layer, device_ids=None)
    with model.join(), model.no_sync():
        model(gradient.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None
    assert list(model.state_dict()) == ["module.weight", "module.bias"]


def test_processes_share_out_a_dataset() -> None:
    Sampler = importlib.import_module("gradient.utils.data.distributed").DistributedSampler
    data = range(10)
    assert list(Sampler(data, shuffle=False)) == list(data)
    for drop, expected in ((False, 12), (True, 9)):
        parts = [Sampler(data, 3, rank, drop_last=drop) for rank in range(3)]
        first = [i for part in parts for i in part]
        assert sum(map(len, parts)) == len(first) == expected
        assert len(set(first)) == min(expected, 10)
        for part in parts:
            part.set_epoch(1)
        assert [i for part in parts for i in part] != first
    assert list(Sampler([], 2, 1)) == []
    with pytest.raises(ValueError, match="a rank from 0 to below num_replicas = 2"):
        Sampler(data, 2, 2)


def test_switches_can_be_set() -> None:
    t: Any = gradient
    t.backends.cudnn.benchmark = True
    t.backends.cudnn.deterministic = False
    t.backends.cuda.matmul.allow_tf32 = True
    assert t.get_float32_matmul_precision() == "high"
    t.backends.cuda.matmul.allow_tf32 = False
    assert t.get_float32_matmul_precision() == "highest"
    t.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = False
    assert t.backends.cudnn.benchmark
    assert not t.backends.mps.is_available()
    t.use_deterministic_algorithms(True)
    t.set_float32_matmul_precision("high")
    assert t.get_float32_matmul_precision() == "high"
    assert t.backends.cuda.matmul.allow_tf32
    with pytest.raises(ValueError, match="'highest', 'high' or 'medium'"):
        t.set_float32_matmul_precision("low")
    t.set_float32_matmul_precision("highest")


def test_switches_can_be_set_before_all_else() -> None:
    said = ran(
        "import gradient as torch\n"
        "torch.backends.cuda.matmul.allow_tf32 = True\n"
        "print(torch.get_float32_matmul_precision())"
    )
    assert said.strip() == "high"


def test_questions_about_devices() -> None:
    t: Any = gradient
    there = t.cuda.is_available()
    assert t.accelerator.is_available() is there
    assert (t.accelerator.current_accelerator() is None) is not there
    if not there:
        assert t.cuda.max_memory_allocated() == t.cuda.memory_reserved() == 0
    t.cuda.empty_cache()
    with t.cuda.device(0):
        pass
    assert not t.distributed.is_initialized()
    assert t.version.__version__ == gradient.__version__
    assert t.version.cuda is None


def test_amp_by_its_old_name() -> None:
    from gradient.cuda.amp import GradScaler, autocast  # type: ignore[import-not-found]

    scaler = GradScaler(4.0, 3.0, enabled=False)
    assert isinstance(scaler, gradient.amp.GradScaler) and not scaler.is_enabled()
    assert scaler.get_growth_factor() == 3.0
    with autocast(enabled=False):
        assert (gradient.ones(2, 2) @ gradient.ones(2, 2)).dtype is gradient.float32


def test_jit_leaves_functions_what_they_are() -> None:
    jit: Any = gradient.jit  # type: ignore[attr-defined]

    @jit.script
    def double(x: Any) -> Any:
        return x if jit.is_scripting() else 2 * x

    @jit.ignore
    def same(x: Any) -> Any:
        return x

    assert double(3) == 6
    assert same(3) == 3
    assert jit.trace(double, gradient.ones(1)) is double
    with pytest.raises(RuntimeError, match="gradient.save"):
        jit.save(double, "file")


def test_onnx_is_imported_and_does_not_export(tmp_path: Path) -> None:
    """As scripts do that can export what they train."""
    onnx = importlib.import_module("gradient.onnx")
    assert not onnx.is_in_onnx_export()
    with pytest.raises(RuntimeError, match="onnx.export: there is no export to ONNX; save"):
        onnx.export(gradient.nn.Linear(2, 2), (gradient.ones(2),), tmp_path / "model.onnx")


def test_old_names_of_initialisers() -> None:
    w = gradient.empty(2, 3)
    gradient.nn.init.constant(w, 2.0)  # type: ignore[attr-defined]
    assert w.sum().item() == 12.0


def test_numbers_as_tuples() -> None:
    from gradient.nn.modules.utils import _pair, _triple  # type: ignore[import-not-found]

    assert (_pair(3), _pair([1, 2]), _triple(1)) == ((3, 3), (1, 2), (1, 1, 1))


SCRIPT = """
import sys
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.autograd import Variable
from torch.optim.lr_scheduler import StepLR
from torch.utils.data.dataloader import DataLoader

assert tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 0)
torch.manual_seed(0)
x = Variable(torch.randn(64, 3))
y = (x.sum(axis=1, keepdims=True) > 0).float()
model = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
scheduler = StepLR(optimizer, 100)
for epoch in range(int(sys.argv[1])):
    for a, b in DataLoader(list(zip(x, y)), batch_size=16):
        loss = F.binary_cross_entropy_with_logits(model(a), b)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    scheduler.step()
print(torch.Tensor.__module__, isinstance(x, torch.Tensor), loss.item() < 0.3, __name__)
"""


def test_an_unedited_script_runs(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    said = ran("", "-m", "gradient.compat.torch", str(script), "20", cwd=tmp_path)
    assert said.split() == ["gradient.tensor.core", "True", "True", "__main__"]


SPAWNING = """
import torch
from torch import multiprocessing, nn
from torch.utils.data import DataLoader, Dataset


class Squares(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, i):
        return torch.tensor(i * i)


def count(model):
    with torch.no_grad():
        model.weight += 1


if __name__ == "__main__":
    model = nn.Linear(1, 1).share_memory()
    before = model.weight.item()
    process = multiprocessing.get_context("spawn").Process(target=count, args=(model,))
    process.start()
    process.join()
    print(round(model.weight.item() - before, 5))
    print([batch.tolist() for batch in DataLoader(Squares(), 2, num_workers=1)])
"""


def test_processes_that_an_unedited_script_spawns(tmp_path: Path) -> None:
    script = tmp_path / "spawning.py"
    script.write_text(SPAWNING)
    said = ran("", "-m", "gradient.compat.torch", str(script), cwd=tmp_path)
    assert said.splitlines()[-2:] == ["1.0", "[[0, 1], [4, 9]]"]


def test_modules_stay_what_they_are_under_the_other_name() -> None:
    said = ran(
        "from gradient.compat import torch as compat\n"
        "compat.install(); compat.install()\n"
        "import torch, torch.nn, gradient, importlib\n"
        "print(torch.nn is gradient.nn, gradient.nn.__spec__.name, torch.nn.Linear.__module__)\n"
        "try: import torch.no_such_module\n"
        "except ModuleNotFoundError as error: print(error)\n"
    )
    assert said.splitlines() == [
        "True gradient.nn gradient.nn.linear",
        "No module named 'torch.no_such_module'",
    ]


def test_installing_beside_pytorch_is_refused() -> None:
    said = ran(
        "import sys, types\n"
        "sys.modules['torch'] = types.ModuleType('torch')\n"
        "from gradient.compat.torch import install\n"
        "try: install()\n"
        "except ValueError as error: print(error)\n"
    )
    assert "PyTorch is imported already" in said


def test_choices_of_an_attention_kernel_are_taken_and_change_nothing():
    from gradient.nn.attention import SDPBackend, sdpa_kernel

    q = gradient.randn(1, 2, 3, 4)
    plain = gradient.nn.functional.scaled_dot_product_attention(q, q, q)
    for context in (
        sdpa_kernel(SDPBackend.FLASH_ATTENTION),
        sdpa_kernel([SDPBackend.MATH, SDPBackend.EFFICIENT_ATTENTION], set_priority=True),
        gradient.backends.cuda.sdp_kernel(enable_math=False),
    ):
        with context:
            chosen = gradient.nn.functional.scaled_dot_product_attention(q, q, q)
        assert gradient.equal(chosen, plain)
    with pytest.raises(TypeError, match="an SDPBackend or a list of them"), sdpa_kernel(["math"]):
        pass
    with pytest.raises(ValueError, match="at least one SDPBackend"), sdpa_kernel([]):
        pass
