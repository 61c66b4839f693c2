"""`gradient doctor`: what this machine has, what is missing or slow, and how to fix it."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from gradient.cli import options as opt
from gradient.cli.output import byte_size, print_json, print_table
from gradient.cli.slowness import print_slowness, slowness


@dataclass(frozen=True)
class Package:
    """A distribution that gradient can use: its purpose, and whether it is required."""

    name: str
    purpose: str
    required: bool = False
    #: The extra of gradient that installs it, in a supported version.
    extra: str | None = None

    @property
    def requirement(self) -> str:
        """The requirement for pip."""
        return self.name if self.extra is None else f'"gradient-dl[{self.extra}]"'

    @property
    def version(self) -> str | None:
        try:
            return importlib.metadata.version(self.name)
        except importlib.metadata.PackageNotFoundError:
            return None


PACKAGES = (
    Package("numpy", "arrays on the CPU", required=True),
    Package("ml_dtypes", "bfloat16", required=True),
    Package("numba", "fast CPU kernels (without it all works, slower)", required=True),
    Package("safetensors", "weight files", required=True),
    Package("tokenizers", "text to tokens", required=True),
    Package("jinja2", "chat templates", required=True),
    Package("huggingface_hub", "downloading models", required=True),
    Package("typer", "this command line", required=True),
    Package("rich", "tables and progress bars", required=True),
    Package("llguidance", "text within a JSON schema, a regex or a grammar", extra="constraints"),
    Package("matplotlib", "the loss curve of gradient train", extra="train"),
    Package("tensorboard", "event files of gradient train", extra="train"),
    Package("torch", "parity tests and benchmarks", extra="parity"),
    Package("transformers", "parity tests", extra="parity"),
)

CUPY = ("cupy-cuda12x", "cupy-cuda13x", "cupy")
NVRTC = ("nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12")


def doctor(as_json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Show what is installed, the devices, threads and caches, and how to fix what is missing or
    slow.

    The exit code is 1 if something that gradient needs is missing.
    """
    found = examine()
    if as_json:
        print_json(found)
    else:
        _print(found)
    if any(problem["required"] for problem in found["problems"]):
        raise typer.Exit(1)


def examine() -> dict[str, Any]:
    """Everything that doctor shows, as plain values; slow modules are not imported for it."""
    problems = [
        {
            "what": f"{package.name} is not installed ({package.purpose})",
            "required": package.required,
            "fix": f"{sys.executable} -m pip install {package.requirement}",
        }
        for package in PACKAGES
        if package.version is None
    ]
    devices = _devices(problems)
    embedded = _embedded_model(problems)
    caches = _caches()
    kernels = caches["kernels (numba)"]
    kept = None if kernels["path"] is None else Path(kernels["path"])
    return {
        "gradient": _version(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {package.name: package.version for package in PACKAGES},
        "devices": devices,
        "threads": _threads(),
        "caches": caches,
        "embedded_model": embedded,
        "problems": problems,
        "slow": slowness(kept, kernels["bytes"]),
    }


def _print(found: dict[str, Any]) -> None:
    rows = [("gradient", found["gradient"], ""), ("python", found["python"], found["platform"])]
    for package in PACKAGES:
        version = found["packages"][package.name]
        absent = "missing" if package.required else "not installed"
        rows.append((package.name, version or absent, package.purpose))
    print_table(("package", "version", "for"), rows)
    typer.echo()
    print_table(
        ("device", "state", ""),
        [(name, d["state"], d["detail"]) for name, d in found["devices"].items()],
    )
    typer.echo()
    print_table(("threads", ""), [(key, str(value)) for key, value in found["threads"].items()])
    typer.echo()
    caches = [
        (name, cache["path"] or "none can be written", byte_size(cache["bytes"]))
        for name, cache in found["caches"].items()
    ]
    print_table(("cache", "folder", "size"), caches)
    typer.echo()
    print_slowness(found["slow"])
    if not found["problems"]:
        typer.echo("Nothing is missing.")
    for problem in found["problems"]:
        kind = "needed" if problem["required"] else "optional"
        typer.echo(f"{kind}: {problem['what']}\n    {problem['fix']}")


def _version() -> str:
    from gradient import __version__

    return str(__version__)


def _devices(problems: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    from gradient.backends.cuda.driver import architecture, cuda_version, device_count, device_name

    devices = {"cpu": {"state": "ok", "detail": _processor()}}
    driver = cuda_version()
    cupy = next((name for name in CUPY if Package(name, "").version), None)
    if driver is None:
        devices["cuda"] = {"state": "none", "detail": "no NVIDIA driver (libcuda.so.1) found"}
    elif cupy is None:
        major = driver // 1000
        devices["cuda"] = {
            "state": "missing",
            "detail": f"a driver for CUDA {major}.{driver % 1000 // 10}, but no CuPy",
        }
        extra = "cuda13" if major >= 13 else "cuda12"
        problems.append(
            {
                "what": "there is an NVIDIA GPU, but CuPy is not installed",
                "required": False,
                "fix": f'{sys.executable} -m pip install "gradient-dl[{extra}]"',
            }
        )
    else:
        parts = [f"{cupy} {Package(cupy, '').version}"]
        parts += [f"NVRTC {v}" for name in NVRTC if (v := Package(name, "").version)][:1]
        parts += [f"{device_name(i)} ({architecture(i)})" for i in range(device_count())]
        devices["cuda"] = {"state": "ok", "detail": ", ".join(parts)}
    return devices


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _threads() -> dict[str, Any]:
    import numpy as np

    from gradient.backends.numpy.cpu_count import usable_cpus
    from gradient.backends.numpy.threads import get_num_threads

    libraries = np.show_config(mode="dicts")["Build Dependencies"]
    blas = libraries["blas"]
    limits = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
    return {
        "cores this process may use": usable_cpus(),
        "threads of gradient's kernels": get_num_threads(),
        "NumPy's BLAS": f"{blas.get('name')} {blas.get('version')}",
        **{name: os.environ[name] for name in limits if name in os.environ},
    }


def _caches() -> dict[str, dict[str, Any]]:
    from gradient.backends.cuda.compilation import cache_folder

    cubins = cache_folder()
    caches = Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache")
    home = Path(os.environ.get("HF_HOME", caches / "huggingface"))
    models, kernels = Path(os.environ.get("HF_HUB_CACHE", home / "hub")), _kernel_cache()
    return {
        "models (Hugging Face)": {"path": str(models), "bytes": _folder_bytes(models)},
        "kernels (numba)": {
            "path": kernels and str(kernels),
            "bytes": _folder_bytes(kernels, (".nbi", ".nbc")) if kernels else 0,
        },
        "kernels (CUDA)": {"path": str(cubins), "bytes": _folder_bytes(cubins)},
    }


def _home() -> Path:
    return Path(os.path.expanduser("~"))  # Path.home() raises if there is none


def _kernel_cache() -> Path | None:
    """numba's folder for compiled kernels, by its rules: the first one that can be written.

    numba itself is not used, as importing it takes a second.
    """
    import gradient

    sources = Path(gradient.__file__).parent / "backends" / "numpy" / "kernels"
    below = f"{sources.name}_{hashlib.sha1(str(sources).encode()).hexdigest()}"
    given, caches = os.environ.get("NUMBA_CACHE_DIR"), os.environ.get("XDG_CACHE_HOME")
    library = "Library/Caches" if sys.platform == "darwin" else ".cache"
    folders = [Path(given, below)] if given else []
    folders.append(sources / "__pycache__")
    if caches or _home().is_absolute():
        folders.append(Path(caches or _home() / library, "numba", below))
    return next(filter(_writable, folders), None)


def _writable(folder: Path) -> bool:
    """Whether files can be made in a folder, or in its first existing parent."""
    try:
        with tempfile.TemporaryFile(dir=next(p for p in (folder, *folder.parents) if p.exists())):
            return True
    except OSError:
        return False


def _folder_bytes(folder: Path, suffixes: tuple[str, ...] = ()) -> int:
    """Total bytes of files with these suffixes; symbolic links (the hub's) are not followed."""
    return sum(
        os.lstat(os.path.join(root, name)).st_size
        for root, _, names in os.walk(folder)
        for name in names
        if not suffixes or name.endswith(suffixes)
    )


def _embedded_model(problems: list[dict[str, Any]]) -> str | None:
    import gradient

    folder = Path(gradient.__file__).parent / "hub_data" / "tinyworld"
    if (folder / "model.safetensors").exists():
        return str(folder)
    problems.append(
        {
            "what": "the model that comes with gradient is not there",
            "required": False,
            "fix": f"{sys.executable} -m pip install --force-reinstall gradient-dl",
        }
    )
    return None
