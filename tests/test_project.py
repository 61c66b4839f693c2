"""The promises about the whole project: what imports what, and what `import gradient` costs."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import gradient
from gradient.autograd.op import registry
from support.paths import CHECKOUT
from support.public import public

pytestmark = pytest.mark.cpu_only

IMPORTED_MODULES = 88  # of the package, by `import gradient`

# Directories that exist on one machine only. A file that names one works on that machine only.
MACHINE_PATH = re.compile(r"(?:^|[^\w.])/(?:work|root|home|Users)/\w")


def run_python(code: str, cwd: Path) -> str:
    """What ``code`` prints in a fresh interpreter that may keep bytecode, as a user's would."""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=cwd,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_import_contracts_hold(tmp_path: Path) -> None:
    pytest.importorskip("importlinter")
    config = CHECKOUT / "pyproject.toml"
    run_python(
        "import sys\n"
        "from importlinter.cli import lint_imports_command\n"
        f"sys.argv[1:] = ['--config', {str(config)!r}, '--no-cache', '--no-logo']\n"
        "lint_imports_command()",
        cwd=tmp_path,
    )


def imports(path: Path, modules: set[str]) -> Iterator[str]:
    """The modules of the package that one imports, in functions too, but not for type checkers.

    The package itself is left out: `gradient` is a facade, whose submodules it imports when named.
    """

    def known(name: str) -> str:
        while name not in modules:
            name = name.rpartition(".")[0]
        return name

    def found(node: ast.AST) -> Iterator[str]:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            return
        if isinstance(node, ast.Import):
            yield from (known(alias.name) for alias in node.names if is_ours(alias.name))
        if isinstance(node, ast.ImportFrom) and is_ours(node.module or ""):
            assert node.level == 0, f"{path}: a relative import"
            yield from (known(f"{node.module}.{alias.name}") for alias in node.names)
        for child in ast.iter_child_nodes(node):
            yield from found(child)

    def is_ours(name: str) -> bool:
        return name.partition(".")[0] == "gradient"

    yield from (name for name in found(ast.parse(path.read_text())) if name != "gradient")


def circles(graph: dict[str, set[str]]) -> list[str]:
    """What is left of a graph once all that stands in no circle, nor behind one, is taken away."""
    graph = dict(graph)
    while ends := [name for name, after in graph.items() if not after & graph.keys()]:
        for name in ends:
            del graph[name]
    return sorted(graph)


def test_circles_are_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"d"}}
    assert circles(graph) == ["a", "b", "c"]
    assert circles(graph | {"c": {"d"}}) == []


def test_the_engine_names_no_op() -> None:
    """What is particular to an op stands with it, as an argument of `@op`."""
    named = {
        (path.name, node.value)
        for path in (Path(gradient.__file__).parent / "autograd").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in registry
    }
    assert named - {("gradcheck.py", "contiguous")} == set()  # there a layout of memory


#: Whose subject packed tensors are, or all that a tensor may hold.
ASK_WHETHER_PACKED = {
    *("autograd/moving.py", "checkpoints/gguf/weights.py", "checkpoints/gptq.py"),
    *(
        "compat/storage.py",
        "io/arrays.py",
        "io/gguf/reader.py",
        "io/packed.py",
        "ops/linalg.py",
        "plan/comparing.py",
    ),
    *("plan/recorder.py", "quantization/quantize.py", "tensor/arithmetic.py", "tensor/bits.py"),
    *("tensor/conversion.py", "tensor/core.py", "tensor/float8.py", "tensor/indexing.py"),
    *("tensor/inplace.py", "tensor/interop.py", "tensor/joining.py", "tensor/packed.py"),
    *("tensor/printing.py", "testing/matrix_rows.py"),
}


def test_few_ask_whether_an_array_is_packed() -> None:
    """An op says what it does with packed arrays, as an argument of `@op`."""
    root = Path(gradient.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if path.relative_to(root).parts[0] not in ("backends", "dtypes")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.alias) and node.name in ("PackedArray", "is_packed")
    }
    assert found == ASK_WHETHER_PACKED


#: What users and files give may be NumPy's scalars, and a plan meets those of the host.
ASK_FOR_SCALARS = {
    *("autograd/promotion.py", "data/collate.py", "text/chat_template.py", "io/structure.py"),
    *("io/gguf/reader.py", "io/gguf/writer.py", "plan/arguments.py", "plan/lifting.py"),
    *("plan/executors/copied.py", "plan/parts.py", "plan/passes/constants.py"),
    *("plan/recorder.py", "plan/watch.py", "tensor/arguments.py", "tensor/arithmetic.py"),
    *("tensor/indexing.py", "tensor/ufuncs.py"),
}


def test_few_ask_for_scalars_of_numpy() -> None:
    """An int of any library is a `numbers.Integral`."""
    root = Path(gradient.__file__).parent
    found = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if path.relative_to(root).parts[0] != "backends"
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("generic", "integer", "number")
        if isinstance(node.value, ast.Name) and node.value.id == "np"
    }
    assert found == ASK_FOR_SCALARS


def test_no_imports_go_round_in_circles() -> None:
    """Neither between modules nor between packages; an import in a function counts as any."""
    root = Path(gradient.__file__).parent
    paths = {
        ".".join(path.relative_to(root.parent).with_suffix("").parts).removesuffix(
            ".__init__"
        ): path
        for path in root.rglob("*.py")
    }
    graph = {
        name: set(imports(path, set(paths))) - {name}
        for name, path in paths.items()
        if name != "gradient"
    }
    assert circles(graph) == []
    packages: dict[str, set[str]] = {}
    for name, others in graph.items():
        package = name.split(".")[1]
        packages.setdefault(package, set()).update(o.split(".")[1] for o in others)
    assert circles({name: others - {name} for name, others in packages.items()}) == []


def test_import_gradient_loads_numpy_and_ml_dtypes_alone(tmp_path: Path) -> None:
    extra = run_python(
        "import sys, numpy, ml_dtypes\n"
        "before = set(sys.modules)\n"
        "import gradient\n"
        "roots = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(roots - set(sys.stdlib_module_names) - {'gradient', 'numpy', 'ml_dtypes'}))",
        cwd=tmp_path,
    )
    assert extra.split() == []


def test_import_gradient_loads_little(tmp_path: Path) -> None:
    """Nothing of the standard library that takes long, and those of our modules that are needed.

    The time, 40 ms of CPU beyond NumPy's, is for `python -m bench import`: here it would depend on
    what else the machine does.
    """
    modules = run_python(
        "import __future__, sys, copy, threading, traceback, numpy, ml_dtypes\n"
        "before = set(sys.modules)\n"
        "import gradient\n"
        "print(*sorted(set(sys.modules) - before))",
        cwd=tmp_path,
    ).split()
    assert [name for name in modules if name.partition(".")[0] != "gradient"] == []
    assert len(modules) < IMPORTED_MODULES


def test_files_of_names_on_demand_are_attributes_of_their_package() -> None:
    program = "import gradient; gradient.autograd.function.Function; gradient.autograd.anomaly"
    subprocess.run([sys.executable, "-c", program], check=True)


def packages_of_stars() -> list[str]:
    """The packages, and modules, that derive what they export, at once or when asked."""
    package = Path(gradient.__file__).parent
    derived = re.compile(r"_public\(globals\(\)\)|_on_demand\(__name__")
    files = [path for path in package.rglob("*.py") if derived.search(path.read_text())]
    return [
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(files)
    ]


@pytest.mark.parametrize("name", packages_of_stars())
def test_packages_export_what_their_files_do(name: str) -> None:
    """`__all__` is that of the files, which are no names of it themselves."""
    names: dict[str, object] = {}
    exec(f"from {name} import *", names)
    assert [key for key, value in names.items() if inspect.ismodule(value)] == []
    exported = names.keys() - {"__builtins__"}
    assert exported and not {each for each in exported if each.startswith("_")}
    assert not {"TYPE_CHECKING", "Any", "public"} & exported
    module = importlib.import_module(name)
    assert not hasattr(module, "public")


def packages_that_say_what_they_show() -> list[str]:
    package = Path(gradient.__file__).parent
    files = [
        path for path in package.rglob("__init__.py") if "__dir__ = _shown(" in path.read_text()
    ]
    return sorted(".".join(path.parent.relative_to(package.parent).parts) for path in files)


SHOWN_MODULES = {
    "gradient.backends": {"cuda"},
    "gradient.distributions": {"constraints", "transforms"},
    "gradient.generation": {"logits"},
    "gradient.nn": {"functional", "init", "utils"},
    "gradient.nn.utils": {"parametrizations", "parametrize", "prune", "rnn"},
    "gradient.optim": {"lr_scheduler"},
}
"""Modules that are for users, beside those of `gradient` itself."""


@pytest.mark.parametrize("name", packages_that_say_what_they_show())
def test_dir_is_what_is_public(name: str) -> None:
    """Neither what a package imports for itself, nor the modules that its names are from."""
    module = importlib.import_module(name)
    shown = [each for each in dir(module) if not each.startswith("__")]
    assert [each for each in shown if each.startswith("_") or not hasattr(module, each)] == []
    assert not {"TYPE_CHECKING", "Any", "absent", "importlib", "name_constructors"} & set(shown)
    values = {each: getattr(module, each) for each in shown}
    modules = {each for each, value in values.items() if inspect.ismodule(value)}
    if name == "gradient":
        pages = {path.stem for path in (CHECKOUT / "docs" / "reference").glob("*.md")}
        assert modules == pages - {"index", "tensor"} | {"cuda", "random", "utils"}
    else:
        assert modules == SHOWN_MODULES.get(name, set())


def test_every_public_function_and_class_says_what_it_does() -> None:
    silent = [
        name
        for name, value in public(gradient).items()
        if (inspect.isroutine(value) or inspect.isclass(value)) and not inspect.getdoc(value)
    ]
    assert silent == []


def test_version_is_the_distributions() -> None:
    assert gradient.__version__ == importlib.metadata.version("gradient-dl")


def test_no_file_names_a_directory_of_one_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=CHECKOUT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    found = []
    for name in filter(None, listed.stdout.split("\0")):
        path = CHECKOUT / name
        if not path.is_file():
            continue
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # weights, images
        found += [
            f"{name}:{n}: {line}" for n, line in enumerate(lines, 1) if MACHINE_PATH.search(line)
        ]
    assert found == []


#: Functions that take any keyword and use none, and why.
TAKES_ANYTHING = {
    "gradient/nn/linear.py:Identity.__init__": "stands in for layers with arguments, as PyTorch's",
    "gradient/nn/module.py:Module.forward": "raises: a subclass has not written it",
    "gradient/tensor/core.py:Tensor.__init__": "__new__ has taken the arguments",
    "gradient/autograd/function.py:Function.forward": "raises: a subclass has not written it",
    "gradient/autograd/function.py:Function.backward": "raises: a subclass has not written it",
    "gradient/compat/onnx.py:export": "raises: there is no export",
    "gradient/compat/ao.py:prepare": "raises: nothing is quantised",
    "gradient/compat/distributed_tensor.py:DTensor.__init__": "raises: there are no DTensors",
    "gradient/compat/distributed_tensor.py:DTensor.from_local": "raises: there are no DTensors",
    "gradient/compat/distributed_tensor.py:distribute_tensor": "raises: there are no DTensors",
    "gradient/compat/export.py:ExportedProgram.__init__": "raises: nothing is traced",
    "gradient/compat/export.py:export": "raises: nothing is traced",
    "gradient/compat/fx.py:GraphModule.__init__": "raises: nothing is traced",
    "gradient/compat/fx.py:_Traced.__init__": "raises: nothing is traced",
    "gradient/tensor/interop.py:Interop._make_wrapper_subclass": "raises whatever it is given",
    "gradient/compat/cpp_extension.py:load": "raises: no extension is compiled",
    "gradient/compat/cpp_extension.py:load_inline": "raises: no extension is compiled",
    "gradient/compat/onnx.py:ONNXProgram.__init__": "raises: there is no export",
    "gradient/backends/packed.py:PackedArray._refuse": "raises whatever it is given",
    "gradient/backends/batched/array.py:BatchedArray._refuse": "raises whatever it is given",
}


def swallowing(tree: ast.AST, prefix: str = "") -> Iterator[str]:
    """Functions of a module that never use their `**keywords`; overloads and protocols' apart."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef) and ast.unparse(node.body[0]) == "...":
            continue
        if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None:
            name = node.args.kwarg.arg
            used = {n.id for part in node.body for n in ast.walk(part) if isinstance(n, ast.Name)}
            if name not in used:
                yield prefix + node.name
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)):
            yield from swallowing(node, f"{prefix}{node.name}.")


def test_no_function_swallows_unknown_keywords() -> None:
    package = Path(gradient.__file__).parent
    found = {
        f"{path.relative_to(package.parent).as_posix()}:{name}"
        for path in package.rglob("*.py")
        for name in swallowing(ast.parse(path.read_text()))
    }
    assert found == set(TAKES_ANYTHING)


def test_folders_of_tests_are_those_of_the_package() -> None:
    """What is no package's: shared code, data, and what crosses all of the package."""
    others = {"support", "fuzzing", "golden", "parity", "examples"}
    folders = {path.parent.name for path in (CHECKOUT / "tests").glob("*/test_*.py")}
    packages = {path.parent.name for path in (CHECKOUT / "gradient").glob("*/__init__.py")}
    assert folders - others <= packages


def test_files_of_parity_are_marked_so() -> None:
    """`--parity` leaves a file without the mark out; the suite, where PyTorch is not, skips it."""
    files = (CHECKOUT / "tests" / "parity").glob("test_*.py")
    unmarked = [file.name for file in files if "pytest.mark.parity" not in file.read_text()]
    assert unmarked == []


def test_ci_runs_what_needs_cupy_where_cupy_is() -> None:
    """The environment of the suite has no CuPy, so that it skips these tests."""
    ci = (CHECKOUT / ".ci" / "run").read_text()
    files = (CHECKOUT / "tests" / "backends").glob("test_*.py")
    needing = [file.name for file in files if 'importorskip("cupy' in file.read_text()]
    assert needing
    assert [name for name in needing if f"tests/backends/{name}" not in ci] == []
