"""Compile CUDA C to machine code by NVRTC, with a cache on disk.

The key of a cached file covers all that it depends on: the source with its included headers, the
architecture, the compiler's version and the options.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from gradient.backends.cuda.kernels import FAMILIES, FOLDER
from gradient.errors import DeviceError

OPTIONS = ("-std=c++17", "--extra-device-vectorization")


C_TYPES = {
    "float32": "float",
    "float64": "double",
    "float16": "__half",
    "bfloat16": "__nv_bfloat16",
}


def cubin(family: str, dtype: str, architecture: str) -> bytes:
    """Return the machine code of kernels/FAMILY.cu for a dtype and an architecture such as "sm_90",
    from the disk cache, or compiled now (0.3 to 4 s)."""
    return compiled(*source_of(family, dtype), architecture)


def source_of(family: str, dtype: str) -> tuple[str, str]:
    """The source of a family's kernels for one dtype, and its name in errors."""
    head = f"#define DTYPE {dtype}\n#define NUMBER {C_TYPES[dtype]}\n"
    text = (FOLDER / f"{family}.cu").read_text()
    return f"{head}#line 1\n{text}", f"{family}_{dtype}.cu"


def compile_all(architecture: str, dtype: str) -> None:
    """Compile all families for a dtype that are not in the disk cache, in parallel, as NVRTC
    releases the GIL. Progress goes to standard error: a progress line on a terminal, else one
    message per process. If a family does not compile, the error is raised when it is needed."""
    sources = [source_of(family, dtype) for family in FAMILIES]
    if not _missing(sources, architecture):
        return
    with _alone():
        missing, done = _missing(sources, architecture), 0  # not compiled by others meanwhile
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            running = {pool.submit(compiled, *each, architecture): each[1] for each in missing}
            for finished in as_completed(running):
                done += 1
                with contextlib.suppress(DeviceError):
                    finished.result()
                _say(done, len(missing), running[finished])


def _missing(sources: list[tuple[str, str]], architecture: str) -> list[tuple[str, str]]:
    return [each for each in sources if not _path(*each, architecture).exists()]


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """A context in which no other process compiles: otherwise several that start together
    (pytest -n, torchrun) would all compile everything. Without file locks in the system, it has no
    effect."""
    folder = cache_folder()
    with contextlib.ExitStack() as ends:
        # ImportError on Windows; OSError if the disk cannot be written, or has no locks.
        with contextlib.suppress(ImportError, OSError):
            import fcntl

            folder.mkdir(parents=True, exist_ok=True)
            file = ends.enter_context(open(folder.with_suffix(".lock"), "a"))
            fcntl.flock(file, fcntl.LOCK_EX)  # until it is unlocked, or the process ends
            # To close it would not do: a process that another thread forks meanwhile has it open.
            ends.callback(fcntl.flock, file, fcntl.LOCK_UN)
        yield


def _say(done: int, count: int, name: str) -> None:
    if sys.stderr is None:
        return
    with contextlib.suppress(OSError, ValueError):  # closed, or nobody reads it
        if sys.stderr.isatty():
            line = f"compiling CUDA kernels once: {done} of {count}, {name}"
            sys.stderr.write(f"\r\x1b[K{line if done < count else ''}")
        else:
            _say_once()
        sys.stderr.flush()


@functools.cache
def _say_once() -> None:
    sys.stderr.write("compiling CUDA kernels, cached for later runs\n")


def compiled(source: str, name: str, architecture: str) -> bytes:
    """Return the machine code of CUDA C, from the disk cache if it is there."""
    path = _path(source, name, architecture)
    with contextlib.suppress(OSError):
        return path.read_bytes()
    code, _ = _compile(source, name, architecture)
    _keep(path, code)
    return code


def _path(source: str, name: str, architecture: str) -> Path:
    return cache_folder() / f"{name}-{architecture}-{_key(source, architecture)}.cubin"


def cache_folder() -> Path:
    """The folder of the disk cache, in the user's cache folder."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
    return Path(root).expanduser() / "gradient" / "cuda"


def _key(source: str, architecture: str) -> str:
    from cupy_backends.cuda.libs import nvrtc

    digest = hashlib.sha256(repr((source, architecture, OPTIONS, nvrtc.getVersion())).encode())
    digest.update(_headers())
    return digest.hexdigest()[:20]


@functools.cache
def _headers() -> bytes:
    return b"".join(path.read_bytes() for path in sorted(FOLDER.glob("*.cuh")))


def _keep(path: Path, code: bytes) -> None:
    """Write a file completely or not at all; if it fails, the next process compiles again."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = tempfile.NamedTemporaryFile(dir=path.parent, delete=False)  # noqa: SIM115
        try:
            with file:  # Windows renames and deletes no open file
                file.write(code)
                file.flush()
                os.fsync(file.fileno())  # else a power cut may leave an empty file of this name
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def compile_verbosely(source: str, name: str, architecture: str) -> tuple[bytes, str]:
    """Compile now; return the machine code, and the assembler's report on registers."""
    return _compile(source, name, architecture, "--ptxas-options=-v")


def _compile(source: str, name: str, architecture: str, *more: str) -> tuple[bytes, str]:
    """Compile by CuPy's binding of NVRTC. `cupy.cuda.compiler` would need a GPU, and tests have
    none."""
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(source, name, (), ())
    options = (f"--gpu-architecture={architecture}", f"-I{FOLDER}", *_include_options())
    try:
        nvrtc.compileProgram(program, (*OPTIONS, *options, *more))
    except nvrtc.NVRTCError as error:
        log = nvrtc.getProgramLog(program)
        version = ".".join(map(str, nvrtc.getVersion()))
        raise DeviceError(
            f"{name} does not compile for {architecture} by NVRTC {version}:\n{log}"
        ) from error
    else:
        # The binding cuts off the last byte, as the end of a string. It is a 0.
        return nvrtc.getCUBIN(program) + b"\0", nvrtc.getProgramLog(program)
    finally:
        nvrtc.destroyProgram(program)


@functools.cache
def _include_options() -> tuple[str, ...]:
    """The folders of CUDA's headers (`cuda_fp16.h`), which NVRTC does not contain."""
    from cuda import pathfinder

    found = pathfinder.find_nvidia_header_directory("cudart")
    if found is None:
        raise DeviceError(
            "CUDA's headers were not found; pip install 'gradient-dl[cuda13]' (or cuda12)"
        )
    return (f"-I{found}",)
