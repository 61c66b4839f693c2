"""Run one of these scripts under PyTorch: its import lines are replaced, nothing else.

python examples/under_torch.py char_gpt --steps 100
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

EXAMPLES = Path(__file__).resolve().parent
PORTED = (
    *("spiral_mlp", "char_gpt", "digits_cnn", "names_mlp", "own_op"),
    *("bars_vae", "ring_gan", "cartpole_reinforce"),
)

# All changes for PyTorch. A script with another import line of gradient cannot be ported.
TORCH_IMPORTS = {
    "import gradient": "import torch as gradient",
    "import gradient.nn as nn": "import torch.nn as nn",
    "import gradient.nn.functional as F": "import torch.nn.functional as F",
    "from gradient.autograd import Function, gradcheck": (
        "from torch.autograd import Function, gradcheck"
    ),
    "from gradient.optim import SGD": "from torch.optim import SGD",
    "from gradient.optim import Adam": "from torch.optim import Adam",
    "from gradient.optim import AdamW": "from torch.optim import AdamW",
    "from gradient.optim.lr_scheduler import CosineAnnealingLR": (
        "from torch.optim.lr_scheduler import CosineAnnealingLR"
    ),
    "from gradient.optim.lr_scheduler import LambdaLR": (
        "from torch.optim.lr_scheduler import LambdaLR"
    ),
    "from gradient.optim.lr_scheduler import OneCycleLR": (
        "from torch.optim.lr_scheduler import OneCycleLR"
    ),
    "from gradient.optim.lr_scheduler import StepLR": "from torch.optim.lr_scheduler import StepLR",
    "from gradient.utils.data import DataLoader, TensorDataset": (
        "from torch.utils.data import DataLoader, TensorDataset"
    ),
    "from gradient.utils.data import DataLoader, TensorDataset, random_split": (
        "from torch.utils.data import DataLoader, TensorDataset, random_split"
    ),
}


def torch_source(source: str) -> str:
    """The same script for PyTorch: its import lines replaced by the table, nothing else changed."""
    lines = source.splitlines()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            line = lines[node.lineno - 1]
            if "gradient" in line:
                lines[node.lineno - 1] = TORCH_IMPORTS[line]
    return "\n".join(lines) + "\n"


def load(name: str, package: str = "gradient") -> ModuleType:
    """Import ``examples/NAME.py`` under ``gradient`` or ``torch``, without running its `main`."""
    path = EXAMPLES / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    if package == "torch":
        source = torch_source(source)
    module = ModuleType(f"{name}_under_{package}")
    module.__file__ = str(path)
    sys.modules[module.__name__] = module  # dataclasses look up their module there
    exec(compile(source, str(path), "exec"), module.__dict__)
    return module


def main(argv: list[str]) -> None:
    if not argv or argv[0] not in PORTED:
        raise SystemExit(f"usage: python {Path(__file__).name} {{{','.join(PORTED)}}} [OPTION ...]")
    load(argv[0], "torch").main(argv[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
