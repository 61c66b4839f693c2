"""What every test shares: the device, the seed, the real data, and a word on what did not run.

pytest                  all tests, on the CPU; what needs PyTorch or absent data skips and is named
pytest -m "not slow"    the quick ones
pytest -m core          of these, rungs 0 to 4: dtypes, backends, autograd, ops, tensors; a minute
pytest --device cuda    the same tests, with their tensors on the GPU
pytest --parity         only the comparisons with PyTorch and transformers, which must be installed
"""

from __future__ import annotations

import faulthandler
import gc
import importlib.util
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before NumPy is loaded: the threads of its BLAS library go to sleep when their work is done, for
# tests that run in several processes, and what these start, have no processor to spare for waiting.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

import numpy as np
import pytest

from support import real_data as data_folder
from support.paths import CHECKOUT

# bench/ and examples/ are tested too, and are not installed. At the end of the path, so that
# `gradient` stays the installed one.
if str(CHECKOUT) not in sys.path:
    sys.path.append(str(CHECKOUT))

IN_CI = os.environ.get("CI", "").lower() in {"1", "true"}
PARITY_MODULES = ("torch", "transformers")
ABSENT_DATA = pytest.StashKey[set[str]]()
TOLD = pytest.StashKey[list[str]]()
STDERR = pytest.StashKey[int]()


CORE = {
    f"test_{subject}.py"
    for subject in (
        *("aliasing", "autograd", "backends", "compiler", "functional", "kinks", "locks", "ops"),
        *("random", "tensor"),
    )
}
"""Files of the rungs below `nn` (docs/design.md) that compile next to nothing."""


LONG = {
    f"test_{subject}.py": order
    for order, subject in enumerate(
        (
            *("overrides", "cuda_kernels", "bench", "cuda_compilation", "thread_pool", "cli"),
            *("numeric_models", "families_fuzz", "examples_parity", "op_db", "module_db"),
            *("functional_parity", "training", "examples", "types"),
        )
    )
}
"""Files that take longest: they are begun first, so that processes end at about the same time."""


HANGS_AFTER, SET_EACH = 900.0, 60.0
"""Seconds after which a test counts as hung, less at most those between two settings of the alarm.

pytest's own `faulthandler_timeout` starts a thread for every test and waits for its end: where all
processors have work, that took 3 ms a test.
"""
_set_at = -SET_EACH


FROZEN_EACH = 50
"""Tests after which what lives is taken out of what the garbage collector looks at."""
_until_frozen = FROZEN_EACH


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("gradient")
    group.addoption(
        "--device",
        default="cpu",
        help="device that the tests put their tensors on: cpu (default), cuda, cuda:1",
    )
    group.addoption("--nvrtc", help="folder of an NVRTC that the CUDA kernels are to compile by")
    group.addoption(
        "--races",
        action="store_true",
        help="find races in the CUDA kernels that are run on the CPU (slower)",
    )
    group.addoption(
        "--parity",
        action="store_true",
        help="run only the tests marked parity; without PyTorch or transformers that is an error",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ABSENT_DATA] = set()
    config.stash[TOLD] = []
    config.stash[STDERR] = os.dup(2)  # which tests do not capture
    if getattr(config.option, "maxworkerrestart", "") is None:
        # A process of tests that dies ends the run: xdist 3.8 hangs after it started another. (Not
        # among the options of pyproject.toml: a carried environment has pytest without xdist.)
        config.option.maxworkerrestart = "0"
        config.option.loadscopereorder = False  # begins what has most tests first, not what is LONG
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # As a shell starts what it runs in the background; tests that send one to their programs
        # would wait for ever.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if config.getoption("--parity"):
        missing = [module for module in PARITY_MODULES if not _installed(module)]
        if missing:
            raise pytest.UsageError(
                f'--parity needs {" and ".join(missing)}: pip install ".[parity]"'
            )


def pytest_sessionstart(session: pytest.Session) -> None:
    """Ends the run at once, with the reason, where the device asked for does not work."""
    if session.config.getoption("--races"):
        from support import cuda_emulation

        cuda_emulation.finds_races = True
    device = session.config.getoption("--device")
    if device == "cpu" or session.config.getoption("collectonly"):
        return
    import gradient

    try:
        gradient.zeros(1, device=device).cpu()
    except (RuntimeError, ImportError) as error:
        raise pytest.UsageError(f"--device {device} does not work here: {error}") from error


def pytest_report_header(config: pytest.Config) -> list[str]:
    spec = importlib.util.find_spec("gradient")
    place = Path(spec.origin).parent if spec and spec.origin else "not installed"
    return [f"gradient: {place}", f"device: {config.getoption('--device')}"]


@pytest.hookimpl(tryfirst=True)  # before -m chooses by the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--parity"):
        _deselect(config, items, lambda item: item.get_closest_marker("parity") is None)
    if config.getoption("--device") != "cpu":
        _deselect(config, items, lambda item: item.get_closest_marker("cpu_only") is not None)
    for item in items:
        closest = item.get_closest_marker
        if item.path.name in CORE and not (closest("slow") or closest("parity")):
            item.add_marker("core")
    items.sort(key=lambda item: LONG.get(item.path.name, len(LONG)))
    missing = [module for module in PARITY_MODULES if not _installed(module)]
    if missing:
        skip = pytest.mark.skip(reason=f'{" and ".join(missing)} not installed (extra "parity")')
        for item in items:
            if item.get_closest_marker("parity"):
                item.add_marker(skip)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Thousands of tests are a million objects, which every `gc.collect()` would look at."""
    gc.collect()
    gc.freeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A hung test prints each thread's stack and ends the run, rather than eat CI's whole time."""
    global _set_at
    now = time.monotonic()
    if now - _set_at >= SET_EACH:
        _set_at = now
        file = item.config.stash[STDERR]
        faulthandler.dump_traceback_later(HANGS_AFTER, exit=True, file=file)


def pytest_unconfigure(config: pytest.Config) -> None:
    faulthandler.cancel_dump_traceback_later()
    os.close(config.stash[STDERR])


def pytest_runtest_logfinish(nodeid: str) -> None:
    """So are what numba keeps of the kernels that it compiled, and modules, as they come: looking
    at them took a tenth of the time of the run."""
    global _until_frozen
    _until_frozen -= 1
    if _until_frozen == 0:
        _until_frozen = FROZEN_EACH
        gc.collect()
        gc.freeze()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `-m core`, or `--parity`, the other files need not even be imported."""
    name = collection_path.name
    if not (name.startswith("test_") and name.endswith(".py")):
        return None
    if config.getoption("markexpr") == "core" and name not in CORE:
        return True
    if config.getoption("--parity") and "mark.parity" not in collection_path.read_text("utf-8"):
        return True
    return None


def _deselect(
    config: pytest.Config, items: list[pytest.Item], unwanted: Callable[[pytest.Item], bool]
) -> None:
    dropped = [item for item in items if unwanted(item)]
    if dropped:
        config.hook.pytest_deselected(items=dropped)
        items[:] = [item for item in items if not unwanted(item)]


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of pytest-xdist tells the process that reports which data was absent."""
    output = getattr(session.config, "workeroutput", None)
    if output is not None:
        output["absent data"] = sorted(session.config.stash[ABSENT_DATA])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    told = getattr(node, "workeroutput", {})  # a worker that crashed told nothing
    node.config.stash[ABSENT_DATA].update(told.get("absent data", ()))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for line in config.stash[TOLD]:
        terminalreporter.write_line(line)
    absent = sorted(config.stash[ABSENT_DATA])
    if absent:
        terminalreporter.write_line(
            f"real data absent, its tests did not run: {', '.join(absent)} "
            f"(looked in {data_folder.root()}; set GRADIENT_TEST_DATA)",
            yellow=True,
        )
    if not all(map(_installed, PARITY_MODULES)):
        terminalreporter.write_line(
            'not compared with PyTorch and transformers: pip install ".[parity]"', yellow=True
        )


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """The device under test: a parameter of the run, so that one suite serves every backend."""
    return request.config.getoption("--device")


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Writes a line at the end of the run."""
    return request.config.stash[TOLD].append


@pytest.fixture(scope="session")
def real_data(request: pytest.FixtureRequest) -> Callable[[str], Path]:
    """``real_data("mnist")`` is that file or folder of the data; without it the test skips."""

    def find(name: str) -> Path:
        path = data_folder.find(name)
        if path is not None:
            return path
        request.config.stash[ABSENT_DATA].add(name)
        reason = f"{data_folder.root() / name} is absent"
        if IN_CI:
            pytest.fail(f"{reason}, and in CI every test must run")
        pytest.skip(reason)

    return find


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Every test draws the same numbers, alone or in any order."""
    random.seed(0)
    np.random.seed(0)
    import gradient

    gradient.manual_seed(0)
    if "torch" in sys.modules:
        # Not `torch.manual_seed`: it formats a stack for a GPU that may be used later.
        sys.modules["torch"].default_generator.manual_seed(0)


@pytest.fixture
def without_inference_mode() -> Iterator[None]:
    """As in a process that never used it: ops ask for it from its first use on."""
    from gradient.autograd.modes import inference_used

    used = list(inference_used)
    inference_used.clear()
    yield
    inference_used[:] = used


@pytest.fixture
def exact_products() -> Iterator[None]:
    """Products with packed weights in float32, without rounding their other factor."""
    import gradient

    gradient.set_quantized_matmul_precision("exact")
    yield
    gradient.set_quantized_matmul_precision("default")
