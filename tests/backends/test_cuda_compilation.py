"""Every .cu file compiles for the GPUs that it is meant for.

Needs CuPy and NVRTC (extra "cuda13"), and no GPU. What a kernel needs of registers is read from
what the assembler reports: none may spill into memory.
"""

from __future__ import annotations

import errno
import os
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("cupy_backends.cuda.libs.nvrtc", exc_type=ImportError)

from gradient.backends.cuda import compilation, kernels
from gradient.backends.cuda.attention import DECODING_BLOCKS
from gradient.backends.cuda.flash_attention import HEADS, rows_of_decoding, tiles_bytes
from gradient.backends.cuda.row_products import PACKED
from gradient.errors import DeviceError
from support import nvrtc_results

pytestmark = pytest.mark.cpu_only
NEWER = {"sm_80": "sm_89", "sm_90a": "sm_120"}
"""An A100, and an H100 with the instructions that no later GPU has; behind each the one of GPUs for
desktops (RTX 40, RTX 50) that is most like it."""
NEAR = 2
"""Of a family the dtype whose kernels leave fewest registers is compiled for the newer GPU, too, if
that is so few: another order of instructions may spill then. (All dtypes of all families would take
each of them as long as the older one.)"""
MAX_REGISTERS, OF_THREE, OF_TWO = 255, 168, 128
"""Of a thread, as in two blocks of 128, or in three; and of a thread in two blocks of 256, or four
of 128, that fit a multiprocessor together."""
OF_ROWS = 64
"""Of a thread in a block of 1024 (`ROW_KERNEL`), which could not be launched with more. (Those of
`HELD_ROW_KERNEL` have 512.)"""
OF_PACKED = {
    kind: 65536 // (2 * 32 * (18 if kind in ("q4_0", "q4_k") else warps)) // 8 * 8
    for kind, (_, _, warps) in PACKED.items()
}
"""Of a thread in two blocks of a packed product, which share the registers of a multiprocessor; for
two formats on an H100, with room for blocks of the next kernel."""
OF_DECODING = (
    *("row_products", "packed_row_products", "rope", "rope_attention"),
    "decode_cached_attention",
)
"""Whose time is that of a few loads one after the other: none of them keeps an array in memory of
its own, which is no spill, but written and read like one."""
BOUNDS = (OF_ROWS, OF_TWO, OF_THREE, MAX_REGISTERS, *OF_PACKED.values())
ROW_FAMILIES = ("argmax", "softmax", "norms", "batch_norm", "scans")


def is_whole(code: bytes) -> bool:
    """Whether it is an ELF file up to the end of its tables, of segments and of sections."""
    places, sizes = struct.unpack_from("<QQ", code, 32), struct.unpack_from("<4H", code, 54)
    ends = (place + sizes[2 * i] * sizes[2 * i + 1] for i, place in enumerate(places))
    return code[:4] == b"\x7fELF" and max(ends) == len(code)


def most_registers(family: str, name: str, architecture: str) -> int:
    if family in ROW_FAMILIES and "_held_" not in name:
        return OF_ROWS
    if "depthwise_7" in name:
        return MAX_REGISTERS if architecture == "sm_120" else OF_THREE  # `STRIP_BOUNDS`
    if family == "packed_row_products":
        most = next(most for kind, most in OF_PACKED.items() if f"_product_{kind}_" in name)
        return most if architecture == "sm_90a" else max(most, 64)
    return MAX_REGISTERS if "attention" in name or "_wide_" in name else OF_TWO


def registers_left(family: str, dtype: str, architecture: str) -> int:
    """By the kernel that is nearest to the next of `BOUNDS`, in a family without spills."""
    source = compilation.source_of(family, dtype)
    code, log = nvrtc_results.compiled(*source, architecture)
    assert is_whole(code)
    names = re.findall(r"Compiling entry function '(\w+)'", log)
    registers = [int(n) for n in re.findall(r"Used (\d+) registers", log)]
    # Of kernels, and of functions that they call.
    spilled = re.findall(
        r"properties for (\w+)\n.*?(\d+) bytes spill stores, (\d+) bytes spill loads", log
    )
    assert {name for name, _, _ in spilled} >= set(names)
    assert [each for each in spilled if each[1:] != ("0", "0")] == []
    if family in OF_DECODING:
        assert set(re.findall(r"(\d+) bytes stack frame", log)) <= {"0"}
    assert len(names) == len(registers)
    for name, used in zip(names, registers, strict=True):
        assert name.endswith(f"_{dtype}")
        assert used <= most_registers(family, name, architecture), name
    return min(
        (min(bound - used for bound in BOUNDS if bound >= used) for used in registers),
        default=MAX_REGISTERS,
    )


@pytest.mark.parametrize("architecture", NEWER)
@pytest.mark.parametrize("family", kernels.FAMILIES)
def test_a_family_compiles_without_spills(family: str, architecture: str) -> None:
    left = {dtype: registers_left(family, dtype, architecture) for dtype in compilation.C_TYPES}
    fewest = min(left, key=left.__getitem__)
    if left[fewest] <= NEAR:
        registers_left(family, fewest, NEWER[architecture])


@pytest.mark.parametrize("family", ["decode_cached_attention", "rope_attention"])
def test_blocks_of_decoding_fit_an_h100_together(family: str) -> None:
    """As many as keys are divided among, up to 128 columns; else two."""
    log = nvrtc_results.compiled(*compilation.source_of(family, "bfloat16"), "sm_90a")[1]
    kernel = r"Compiling entry function '\w+_(\d+)_bfloat16'.*?Used \d+ registers([^\n]*)"
    sizes = re.findall(kernel, log, re.DOTALL)
    assert len(sizes) == len(HEADS)
    for head, rest in ((int(head), rest) for head, rest in sizes):
        own = sum(int(n) for n in re.findall(r"(\d+) bytes smem", rest))
        shared = own + tiles_bytes(head, rows_of_decoding(head)) + (1 << 10)  # what each block has
        assert (DECODING_BLOCKS if head <= 128 else 2) * shared <= 228 << 10, head


@pytest.mark.parametrize(
    "family", ["grouped", "convolution", "depthwise", "quantized", "small_batch"]
)
def test_products_compile_for_gpus_without_these_tensor_cores(family: str) -> None:
    assert nvrtc_results.compiled(*compilation.source_of(family, "bfloat16"), "sm_75")[0]


def test_results_of_these_tests_are_kept_by_all_that_they_depend_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    compiles, compile_now = [], compilation.compile_verbosely

    def compile_and_note(*given: str) -> tuple[bytes, str]:
        compiles.append(given)
        return compile_now(*given)

    monkeypatch.setattr(compilation, "compile_verbosely", compile_and_note)
    source = 'extern "C" __global__ void twice_float32(float* x) { x[threadIdx.x] *= 2; }'
    first = nvrtc_results.compiled(source, "twice.cu", "sm_90")
    assert first[0] == compile_now(source, "twice.cu", "sm_90")[0] and "Used" in first[1]
    assert nvrtc_results.compiled(source, "twice.cu", "sm_90") == first
    assert len(compiles) == 1
    nvrtc_results.compiled(source + " ", "twice.cu", "sm_90")
    nvrtc_results.compiled(source, "twice.cu", "sm_80")
    monkeypatch.setattr(compilation, "_headers", lambda: b"others")
    nvrtc_results.compiled(source, "twice.cu", "sm_90")
    monkeypatch.setattr(compilation, "OPTIONS", compilation.OPTIONS[:1])
    nvrtc_results.compiled(source, "twice.cu", "sm_90")
    monkeypatch.setattr(nvrtc_results, "_packages", lambda: ["nvidia-cuda-nvrtc 99"])
    nvrtc_results.compiled(source, "twice.cu", "sm_90")
    assert len(compiles) == 6


def test_machine_code_is_kept_and_found_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= 2; }'
    code = compilation.compiled(source, "twice.cu", "sm_90")
    [kept] = (tmp_path / "gradient" / "cuda").iterdir()
    assert kept.name.startswith("twice.cu-sm_90-")
    kept.write_bytes(b"what was kept")
    assert compilation.compiled(source, "twice.cu", "sm_90") == b"what was kept"
    assert compilation.compiled(source + " ", "twice.cu", "sm_90") == code
    assert len(list((tmp_path / "gradient" / "cuda").iterdir())) == 2


def test_a_folder_that_cannot_be_written_costs_time_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    (tmp_path / "file").write_text("in the way")
    source = 'extern "C" __global__ void thrice(float* x) { x[threadIdx.x] *= 3; }'
    assert compilation.compiled(source, "thrice.cu", "sm_80")[:4] == b"\x7fELF"


def test_families_are_compiled_side_by_side_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What does not compile keeps nobody else from being compiled; a log gets one line."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(compilation, "FAMILIES", ("random", "rope", "wrong"))
    source_of = compilation.source_of

    def with_a_wrong_one(family: str, dtype: str) -> tuple[str, str]:
        return ("wrong", "wrong.cu") if family == "wrong" else source_of(family, dtype)

    monkeypatch.setattr(compilation, "source_of", with_a_wrong_one)
    compilation._say_once.cache_clear()
    for dtype in ("float32", "float16", "float32"):  # another dtype, and what failed again
        compilation.compile_all("sm_80", dtype)
    found = sorted(p.name.partition(".")[0] for p in (tmp_path / "gradient" / "cuda").iterdir())
    kept = [
        f"{family}_{dtype}" for family in ("random", "rope") for dtype in ("float16", "float32")
    ]
    assert found == kept
    assert capsys.readouterr().err == "compiling CUDA kernels, cached for later runs\n"
    monkeypatch.setattr(compilation, "FAMILIES", ("random", "rope"))
    monkeypatch.setattr(compilation, "_compile", None)
    compilation.compile_all("sm_80", "float32")
    assert capsys.readouterr().err == ""


def test_processes_that_begin_together_compile_each_family_once(tmp_path: Path) -> None:
    """As pytest -n has several: one compiles, and the others find what it kept."""
    program = """if True:
        import sys
        from gradient.backends.cuda import compilation
        text = 'extern "C" __global__ void f(float* x) { x[threadIdx.x] = 1; }'
        compilation.FAMILIES = ("one", "two")
        compilation.source_of = lambda family, dtype: (text, f"{family}_{dtype}.cu")
        compile, compiled = compilation._compile, []
        compilation._compile = lambda *given: [compiled.append(given[1]), compile(*given)][1]
        print("begins", flush=True)
        sys.stdin.readline()
        compilation.compile_all("sm_80", "float32")
        print(*compiled)
        """
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program], env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(3)
    ]  # fmt: skip
    for each in processes:
        assert each.stdout is not None and each.stdout.readline() == "begins\n"
    done: list[str] = []
    for each in processes:
        assert each.stdin is not None
        each.stdin.write("go\n")
        each.stdin.flush()
    for each in processes:
        done += each.communicate(timeout=120)[0].split()
        assert each.returncode == 0
    assert sorted(done) == ["one_float32.cu", "two_float32.cu"]
    kept = [path.suffix for path in (tmp_path / "gradient" / "cuda").iterdir()]
    assert kept == [".cubin"] * 2


def test_a_process_forked_meanwhile_keeps_no_lock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a loader's worker, forked by another thread: this process would wait for it to end."""
    fcntl = pytest.importorskip("fcntl")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    flock, inherited = fcntl.flock, []

    def flock_and_fork(file: Any, how: int) -> None:
        inherited.append(os.dup(file.fileno()))  # what a fork has
        flock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock_and_fork)
    (tmp_path / "gradient").mkdir()
    with open(tmp_path / "gradient" / "cuda.lock", "a") as other:
        with compilation._alone(), pytest.raises(BlockingIOError):
            flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
        flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
    for each in inherited:
        os.close(each)


def test_a_disk_that_is_full_keeps_no_halves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    compilation._keep(tmp_path / "cuda" / "x.cubin", b"code")
    assert list((tmp_path / "cuda").iterdir()) == []
    monkeypatch.undo()
    compilation._keep(tmp_path / "cuda" / "x.cubin", b"code")
    assert [path.read_bytes() for path in (tmp_path / "cuda").iterdir()] == [b"code"]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="open files are not listed")
@pytest.mark.parametrize("fails", [False, True])
def test_files_are_closed_before_they_are_renamed_or_deleted(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows refuses both while they are open."""
    written: list[int] = []

    def note(descriptor: int) -> None:
        written.append(descriptor)
        if fails:
            raise OSError(errno.ENOSPC, "No space left on device")

    def closed(function: Any) -> Any:
        def run(name: str, *more: Any) -> None:
            open_files = [each.resolve() for each in Path("/proc/self/fd").iterdir()]
            assert Path(name).resolve() not in open_files
            function(name, *more)

        return run

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "replace", closed(os.replace))
    monkeypatch.setattr(os, "unlink", closed(os.unlink))
    compilation._keep(tmp_path / "x.cubin", b"code")
    assert written and len(list(tmp_path.iterdir())) == (not fails)


def test_an_error_names_the_file_and_shows_the_compilers_words() -> None:
    with pytest.raises(
        DeviceError, match=r"wrong.cu .* for sm_90 by NVRTC \d+\.\d+:(.|\n)*undeclared"
    ):
        compilation.compiled(
            'extern "C" __global__ void f() { undeclared(); }', "wrong.cu", "sm_90"
        )
