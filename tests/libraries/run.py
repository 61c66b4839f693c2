"""Run libraries that are written for PyTorch with PyTorch, and with gradient in its place.

    python tests/libraries/run.py                  every case of every library that is installed
    python tests/libraries/run.py timm pyro        those with one of these words in their names

Each case (`cases/`) runs in two processes, on the same weights and inputs; outputs and gradients of
parameters are compared. The exit status is 1 if one differs. This is no part of the test suite, as
the libraries are many; CONTRIBUTING.md says how to install them.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
FILES = ("graphs", "language", "probability", "tools", "vision")
RELATIVE, ABSOLUTE = 2e-3, 2e-4  # of the largest number; kinks may be crossed by rounding


def cases() -> dict[str, Any]:
    """The cases by name, "library: what"."""
    sys.path.insert(0, str(HERE))
    found: dict[str, Any] = {}
    for file in FILES:
        found.update(importlib.import_module(f"cases.{file}").CASES)
    return found


def tensors_of(value: Any, torch: Any) -> list[Any]:
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [each for part in parts for each in tensors_of(part, torch)]


def numbers(tensor: Any, torch: Any) -> Any:
    tensor = torch.view_as_real(tensor) if tensor.is_complex() else tensor
    return tensor.detach().cpu().double().numpy()


def compute(name: str, folder: Path, torch: Any) -> dict[str, Any]:
    """The outputs of a case and its gradients. With PyTorch, weights are written to the folder,
    from which the other package reads them."""
    torch.manual_seed(0)
    made = cases()[name]()
    model, call = made if isinstance(made, tuple) else (None, made)
    if model is None:
        outputs = tensors_of(call(), torch)
    else:
        model.eval()
        weights = folder / "weights.npz"
        if weights.exists():
            kept = np.load(weights)
            state = model.state_dict()
            for key, value in state.items():
                state[key] = torch.as_tensor(kept[key]).to(value.dtype).reshape(value.shape)
            model.load_state_dict(state)
        else:
            state = {key: numbers(value, torch) for key, value in model.state_dict().items()}
            np.savez(weights, **state)
        outputs = tensors_of(call(model), torch)
    results = {f"output {i}": numbers(x, torch) for i, x in enumerate(outputs)}
    differentiable = [x for x in outputs if x.requires_grad]
    if model is not None and differentiable:
        sum(x.abs().square().mean() for x in differentiable).backward()
        for key, parameter in model.named_parameters():
            if parameter.grad is not None:
                results[f"gradient of {key}"] = numbers(parameter.grad, torch)
    return results


def run_one(package: str, name: str, folder: Path) -> None:
    """Compute a case in this process, with PyTorch or with gradient in its place."""
    warnings.simplefilter("ignore")
    if package == "gradient":
        importlib.import_module("gradient.compat.torch").install()
    results = compute(name, folder, importlib.import_module("torch"))
    np.savez(folder / f"{package}.npz", **results)


def difference(folder: Path) -> str:
    """What differs between the results of two packages; "" if nothing does."""
    theirs, ours = np.load(folder / "torch.npz"), np.load(folder / "gradient.npz")
    if set(theirs.files) != set(ours.files):
        return f"other results: {sorted(set(theirs.files) ^ set(ours.files))[:5]}"
    for key in theirs.files:
        x, y = theirs[key], ours[key]
        if x.shape != y.shape:
            return f"{key}: {y.shape} instead of {x.shape}"
        finite = np.abs(x[np.isfinite(x)])
        absolute = ABSOLUTE * max(finite.max(initial=0.0), 1e-3)
        if not np.allclose(x, y, RELATIVE, absolute, equal_nan=True):
            return f"{key}: differs by {np.nanmax(np.abs(x - y)):.3g}, of {finite.max():.3g}"
    return ""


def compare(name: str) -> str:
    """The outcome of a case: ok, what differs, or the last line of an error."""
    library = name.partition(":")[0]
    if importlib.util.find_spec(library) is None:
        return "not installed"
    with tempfile.TemporaryDirectory() as folder:
        for package in ("torch", "gradient"):
            command = [sys.executable, __file__, "--package", package, "--folder", folder, name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                return f"{package} raised {done.stderr.strip().splitlines()[-1][:200]}"
        return difference(Path(folder)) or "ok"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--package", choices=("torch", "gradient"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.package:
        run_one(options.package, options.names[0], options.folder)
        return 0
    importlib.import_module("torch")  # the cases name its functions
    failed = 0
    for name in cases():
        if not options.names or any(word in name for word in options.names):
            outcome = compare(name)
            failed += outcome not in ("ok", "not installed")
            print(f"{name:45} {outcome}", flush=True)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
