"""What may import what: light start-up, direction of imports, and names that resolve."""

import ast
import graphlib
import importlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_xlstm.cli.commands import COMMANDS
from nnunet_xlstm.registry import PLANNERS, TRAINERS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "nnunet_xlstm"

# part -> (parts of nnunet_xlstm it may import, third-party packages it may import). A part is a folder or a module
# of nnunet_xlstm, or one of the two folders beside it.
ARRAYS = {"numpy", "scipy", "SimpleITK"}
TORCH = {"torch", "numpy", "einops", "dynamic_network_architectures"}
NNUNET = {"nnunetv2", "batchgenerators", "batchgeneratorsv2", "acvl_utils", "threadpoolctl"}  # come with nnunetv2
FILES = {"io", "imaging"}
ALLOWED = {
    "names": (set(), set()),
    "errors": (set(), set()),
    "config": ({"io"}, set()),
    "io": (set(), set()),
    "imaging": ({"io"}, ARRAYS | {"nibabel", "tifffile", "PIL", "pydicom"}),
    "shim": ({"names"}, set()),
    "layers": (set(), TORCH | {"mlstm_kernels"}),
    "networks": ({"layers"}, TORCH),
    "pretraining": ({"config", "layers"}, TORCH | {"batchgeneratorsv2", "sklearn"}),  # sklearn: the linear probe
    "transfer": ({"config", "layers"}, TORCH),
    "losses": ({"layers"}, {"torch"}),
    "data": (FILES, ARRAYS | {"tqdm"}),
    "figures": (FILES | {"data"}, ARRAYS | {"matplotlib"}),
    "nnunet": (
        {
            "io",
            "imaging",
            "names",
            "config",
            "layers",
            "networks",
            "pretraining",
            "transfer",
            "losses",
            "data",
            "figures",
        },
        TORCH | ARRAYS | NNUNET | {"tqdm"},
    ),
    "report": ({"io"}, set()),
    "evaluation": (FILES | {"report", "data"}, ARRAYS | {"tqdm"}),
    "statistics": (set(), {"numpy", "scipy"}),
    "comparison": (
        FILES | {"data", "evaluation", "statistics", "figures", "report"},
        {"numpy", "matplotlib", "tqdm"},
    ),
    "meshes": (
        FILES | {"evaluation", "figures", "data"},
        ARRAYS | {"matplotlib", "tqdm", "vtkmodules", "pyvista"},
    ),
    "commands": ({"nnunet"}, set()),
    "demo": (
        FILES | {"commands", "data", "evaluation", "figures", "nnunet", "names", "report"},
        ARRAYS | {"matplotlib", "tqdm"},
    ),
    "studies": (
        FILES
        | {"commands", "comparison", "config", "data", "evaluation", "figures", "names", "nnunet"}
        | {"pretraining", "report", "statistics"},
        {"numpy", "matplotlib", "tqdm"},
    ),
    # At the top of a module; inside functions a command imports what it needs (but see test_who_imports_nnunetv2).
    "cli": (set(), set()),
    "__main__": ({"cli"}, set()),
    "trainers": ({"nnunet", "config", "pretraining", "transfer"}, {"torch"} | NNUNET),
    "planners": ({"nnunet", "config"}, NNUNET),
}


def sources() -> dict[str, Path]:
    """Dotted name -> file of every module of the project."""
    files = {}
    for folder, prefix in ((PACKAGE, ()), ("trainers", (PACKAGE,)), ("planners", (PACKAGE,))):
        for path in sorted((ROOT / folder).rglob("*.py")):
            parts = (*prefix, *path.relative_to(ROOT).with_suffix("").parts)
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


SOURCES = sources()


def part_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def imports(module: str, path: Path, top_level_only: bool = False) -> Iterator[str]:
    """Dotted names that a module imports, `from a import b` as "a.b"."""

    def walk(node: ast.AST) -> Iterator[ast.AST]:
        for child in ast.iter_child_nodes(node):
            if top_level_only and (isinstance(child, ast.FunctionDef) or is_type_checking(child)):
                continue
            yield child
            yield from walk(child)

    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            up = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*up, *([node.module] if node.module else [])])
            yield from (f"{source}.{alias.name}" for alias in node.names)


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def run_light(code: str) -> dict:
    """Runs code in a fresh interpreter; returns the heavy modules that it left in sys.modules, and the seconds."""
    heavy = "('torch', 'numpy', 'nnunetv2', 'SimpleITK', 'matplotlib', 'batchgenerators')"
    report = f"import sys, json; print(json.dumps([m for m in {heavy} if m in sys.modules]), file=sys.stderr)"
    start = time.perf_counter()
    process = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, cwd=ROOT)
    seconds = time.perf_counter() - start
    assert process.returncode == 0, process.stderr
    return {"heavy": json.loads(process.stderr), "seconds": seconds}


@pytest.mark.parametrize(
    "code",
    [
        "import nnunet_xlstm",
        "import nnunet_xlstm.registry",
        "from nnunet_xlstm.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "import nnunet_xlstm.nnunet.install.registration, nnunet_xlstm.nnunet.install.status",
        "from nnunet_xlstm.cli.main import main\nmain(['status', '--no-torch'])",
    ],
    ids=["package", "names", "help", "registration", "status"],
)
def test_light_imports(code):
    seen = run_light(code)
    assert seen["heavy"] == []
    assert seen["seconds"] < 3  # 0.1 on a quiet machine; torch alone takes longer than that


@pytest.mark.parametrize("module", SOURCES)
def test_import_direction(module):
    part = part_of(module)
    own, third_party = ALLOWED[part] if part else (set(), set())
    for name in imports(module, SOURCES[module], top_level_only=part == "cli"):
        root = name.split(".")[0]
        if root == PACKAGE:
            is_version = name == f"{PACKAGE}.__version__"
            assert is_version or part_of(name) in own | {part, "errors"}, f"{module} must not import {name}"
        else:
            allowed = root in sys.stdlib_module_names or root in third_party
            assert allowed, f"{module} must not import {name}"


def test_import_direction_knows_every_part():
    assert {part_of(module) for module in SOURCES} - {""} <= set(ALLOWED)


def test_parts_have_an_order():
    graphlib.TopologicalSorter({part: own for part, (own, _) in ALLOWED.items()}).prepare()


def test_no_import_cycles():
    graph = {}
    for module, path in SOURCES.items():
        targets = imports(module, path, top_level_only=True)
        # "a.b.c" is the module a.b.c, or the name c of the module a.b.
        modules = (name if name in SOURCES else name.rpartition(".")[0] for name in targets)
        graph[module] = {name for name in modules if name in SOURCES and name != module}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_who_imports_nnunetv2():
    files = {**SOURCES, **{f"benchmarks.{path.stem}": path for path in (ROOT / "benchmarks").rglob("*.py")}}
    importing = {
        module
        for module, path in files.items()
        if any(name.split(".")[0] == "nnunetv2" for name in imports(module, path))
    }
    assert {part_of(module) for module in importing} <= {
        "nnunet",
        "trainers",
        "planners",
        "ssl_step",  # benchmarks against nnU-Net's own loader and losses, and with its choice of strides
        "pool",
        "pool_real",
    }, importing


def test_nobody_imports_trainers_or_planners_by_statement():
    for module, path in SOURCES.items():
        for name in imports(module, path):
            target = part_of(name) if name.startswith(f"{PACKAGE}.") else ""
            assert target not in ("trainers", "planners") or target == part_of(module), f"{module} imports {name}"


@pytest.mark.slow
def test_names_are_the_public_classes():
    for table, package in ((TRAINERS, "trainers"), (PLANNERS, "planners")):
        defined = {}
        for module in (name for name in SOURCES if name.startswith(f"{PACKAGE}.{package}.")):
            for name, item in vars(importlib.import_module(module)).items():
                if inspect.isclass(item) and item.__module__ == module and not name.startswith("_"):
                    defined[item.__name__] = module
        assert defined == table


def test_every_command_resolves():
    for command in COMMANDS:
        add_arguments, run = command.load()
        assert callable(run)
        assert command.passthrough or callable(add_arguments), command.name


def test_entry_point_resolves():
    (entry,) = importlib.metadata.entry_points(group="console_scripts", name=PACKAGE)
    assert entry.load() is importlib.import_module("nnunet_xlstm.cli.main").main
