"""Every .cu file compiles by the oldest NVRTC that the extra "cuda12" may bring.

    pip install --target FOLDER --no-deps "nvidia-cuda-nvrtc-cu12==12.0.*" \\
        "nvidia-cuda-runtime-cu12==12.0.*"
    pytest --nvrtc FOLDER tests/backends/test_cuda_oldest_compiler.py

One dtype says enough: what an old compiler refuses is in the text that all of them share. It is
called by its C interface, for CuPy's binding finds the newest.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from gradient.backends.cuda import compilation, kernels
from support import nvrtc_results

pytestmark = pytest.mark.cpu_only
ARCHITECTURE = "sm_90a"


class Nvrtc:
    """An NVRTC of CUDA 12 as its wheels lay it into a folder, beside the headers of its version."""

    def __init__(self, folder: Path):
        self.headers = folder / "nvidia" / "cuda_runtime" / "include"
        self.library = ctypes.CDLL(str(folder / "nvidia" / "cuda_nvrtc" / "lib" / "libnvrtc.so.12"))
        self.packages = sorted(path.name for path in folder.glob("*.dist-info"))

    def refuses(self, family: str) -> str:
        """What it says of a family that it does not compile, or said in an earlier run."""
        source, name = compilation.source_of(family, "bfloat16")
        options = (*compilation.OPTIONS, ARCHITECTURE)
        key = source, name, compilation._headers(), options, self.packages
        return nvrtc_results.kept(key, lambda: self.log_of(source, name).encode()).decode()

    def log_of(self, source: str, name: str) -> str:
        """What it says of a source that it does not compile; nothing where it does."""
        options = [
            *compilation.OPTIONS,
            f"--gpu-architecture={ARCHITECTURE}",
            f"-I{kernels.FOLDER}",
            f"-I{self.headers}",
        ]
        program, size = ctypes.c_void_p(), ctypes.c_size_t()
        library = self.library
        assert not library.nvrtcCreateProgram(
            ctypes.byref(program), source.encode(), name.encode(), 0, None, None
        )
        given = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
        status = library.nvrtcCompileProgram(program, len(options), given)
        library.nvrtcGetProgramLogSize(program, ctypes.byref(size))
        log = ctypes.create_string_buffer(size.value)
        library.nvrtcGetProgramLog(program, log)
        library.nvrtcDestroyProgram(ctypes.byref(program))
        return log.value.decode() if status else ""


@pytest.fixture(scope="session")
def nvrtc(request: pytest.FixtureRequest) -> Nvrtc:
    folder = request.config.getoption("--nvrtc")
    if folder is None:
        pytest.skip("no other NVRTC is named (--nvrtc)")
    return Nvrtc(Path(folder))


@pytest.mark.parametrize("family", kernels.FAMILIES)
def test_a_family_compiles(family: str, nvrtc: Nvrtc) -> None:
    assert nvrtc.refuses(family) == ""


def test_what_does_not_compile_is_told(nvrtc: Nvrtc) -> None:
    assert "undeclared" in nvrtc.log_of("__global__ void f() { undeclared(); }", "wrong.cu")
