"""2,000 random programs, run under PyTorch and under gradient; fuzz_programs.py runs any number."""

from __future__ import annotations

import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")

from fuzzing import generator, known  # noqa: E402
from fuzzing.comparison import Comparer  # noqa: E402
from fuzzing.program import script  # noqa: E402
from fuzzing.shrinking import shrink  # noqa: E402

PROGRAMS, PIECE = 2000, 100


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("start", range(0, PROGRAMS, PIECE))
def test_programs_as_pytorch(start: int):
    told = []
    for seed in range(start, start + PIECE):
        found = Comparer(generator.program(seed)).compare()
        if found and not known.reason(found[0]):
            small, difference = shrink(found[0].program, found[0])
            if not known.reason(difference):
                told.append(f"program {seed}\n{script(small)}\n# {difference}")
    assert not told, "\n\n".join(told)


def test_every_public_function_is_drawn():
    """A new function is drawn from PyTorch's declaration of it, or needs a row in fuzzing/rows.py,
    or a reason in `generator.EXCLUDED`."""
    missing = set(generator.catalogue()) - set(generator.drawable()) - set(generator.EXCLUDED)
    assert not missing


def test_excluded_functions_exist():
    assert set(generator.EXCLUDED) <= set(generator.catalogue())
