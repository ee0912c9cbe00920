"""What may import what: light start-up, direction of imports, and names that resolve."""

import ast
import graphlib
import importlib
import importlib.metadata
import inspect
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from nnunet_xlstm.cli.commands import COMMANDS
from nnunet_xlstm.registry import PLANNERS, TRAINERS

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "nnunet_xlstm"

# package -> (packages of nnunet_xlstm that it imports, third-party packages that it may import). The first set is
# exact: an arrow that no file needs is taken out, a new one is added on purpose. nnunet counts by its rooms; a module
# beside the packages counts as one.
ARRAYS = {"numpy", "scipy", "SimpleITK"}
TORCH = {"torch", "numpy", "einops", "dynamic_network_architectures"}
NNUNET = TORCH | {"nnunetv2", "batchgenerators", "batchgeneratorsv2", "acvl_utils", "threadpoolctl", "tqdm"}
FILES = {"io", "imaging"}
SHARED = ("errors", "choices")  # may be imported by all
ALLOWED = {
    # files, and what stands in them
    "errors": (set(), set()),
    "choices": (set(), set()),
    "registry": (set(), set()),
    "machine": (set(), set()),
    "subprocesses": ({"io"}, set()),
    "parallel": (set(), {"tqdm"}),
    "io": (set(), set()),
    "html": ({"io"}, set()),
    "imaging": ({"io"}, ARRAYS | {"nibabel", "tifffile", "PIL", "pydicom"}),
    # data sets
    "datasets": (FILES | {"parallel"}, {"numpy", "SimpleITK", "tqdm"}),
    "catalogue": (FILES | {"datasets", "parallel"}, {"numpy", "SimpleITK"}),
    "pools": (FILES | {"datasets", "catalogue", "parallel"}, ARRAYS | {"tqdm"}),
    "phantoms": (FILES | {"catalogue"}, ARRAYS),
    # networks, and what they learn from
    "config": ({"io"}, set()),
    "layers": (set(), TORCH | {"mlstm_kernels"}),
    "networks": ({"layers"}, TORCH),
    "losses": ({"layers"}, {"torch"}),
    "semi": ({"config", "pretraining"}, {"torch", "numpy", "scipy"}),
    "pretraining": ({"config", "layers"}, TORCH | {"batchgeneratorsv2", "sklearn"}),  # sklearn: the linear probe
    # inside nnU-Net
    "nnunet.install": ({"io", "machine", "registry"}, NNUNET),
    "nnunet.planning": (FILES | {"datasets", "machine", "networks"}, NNUNET),
    "nnunet.checkpoints": ({"config", "datasets", "io"}, TORCH),
    "nnunet.loading": ({"datasets", "networks", "nnunet.planning", "pretraining"}, NNUNET),
    "nnunet.transfer": ({"datasets", "io", "layers", "networks", "nnunet.checkpoints", "nnunet.planning"}, NNUNET),
    "nnunet.training": (
        {"config", "datasets", "figures", "io", "layers", "losses", "networks", "pools", "pretraining", "registry"}
        | {"semi", "nnunet.checkpoints", "nnunet.loading"},
        NNUNET,
    ),
    "nnunet.probing": (
        FILES
        | {"datasets", "evaluation", "figures", "pretraining"}
        | {f"nnunet.{p}" for p in ("checkpoints", "loading", "planning", "transfer")},
        NNUNET | ARRAYS,
    ),
    # scores and pictures
    "statistics": (set(), {"numpy", "scipy"}),
    "figures": (FILES | {"statistics"}, {"numpy", "SimpleITK", "matplotlib"}),
    "evaluation": (FILES | {"datasets", "html", "parallel", "statistics"}, ARRAYS | {"tqdm"}),
    "comparison": (
        {"datasets", "evaluation", "figures", "html", "io", "statistics"},
        {"numpy", "matplotlib", "tqdm"},
    ),
    "meshes": (
        FILES | {"datasets", "evaluation", "figures", "parallel"},
        ARRAYS | {"matplotlib", "tqdm", "vtkmodules", "pyvista"},
    ),
    "view": (FILES | {"datasets", "evaluation", "figures", "meshes", "parallel"}, set()),
    # whole runs
    "demo": (
        FILES | {"datasets", "figures", "html", "nnunet.install", "phantoms", "subprocesses"},
        {"numpy", "SimpleITK", "tqdm"},
    ),
    "studies": (
        {
            "comparison",
            "config",
            "datasets",
            "evaluation",
            "figures",
            "html",
            "imaging",
            "io",
            "pools",
            "registry",
            "statistics",
        }
        | {"nnunet.install", "nnunet.loading", "nnunet.training", "subprocesses"},
        {"numpy", "tqdm"},
    ),
    # At the top of a module; inside functions a command imports what it needs (but see test_who_imports_nnunetv2).
    "cli": (set(), set()),
    "__main__": ({"cli"}, set()),
    "trainers": ({"config", "nnunet.training"}, {"torch"} | NNUNET),
    "planners": ({"nnunet.planning"}, NNUNET),
    "shim": ({"registry"}, set()),
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


def package_of(module: str) -> str:
    """Key of ALLOWED for a dotted name: "" for nnunet_xlstm itself, "nnunet" for the package above its rooms."""
    _, *parts = module.split(".")
    return ".".join(parts[:2] if parts[:1] == ["nnunet"] else parts[:1])


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
    """Run code in a fresh interpreter; return the heavy modules that it left in sys.modules, and its CPU seconds."""
    heavy = "('torch', 'numpy', 'nnunetv2', 'SimpleITK', 'matplotlib', 'batchgenerators')"
    report = f"[m for m in {heavy} if m in sys.modules], time.process_time()"
    report = f"import sys, json, time; print(json.dumps([{report}]), file=sys.stderr)"
    process = subprocess.run([sys.executable, "-c", f"{code}\n{report}"], capture_output=True, text=True, cwd=ROOT)
    assert process.returncode == 0, process.stderr
    modules, seconds = json.loads(process.stderr)
    return {"heavy": modules, "seconds": seconds}


@pytest.mark.parametrize(
    "code",
    [
        "import nnunet_xlstm",
        "import nnunet_xlstm.registry",
        "from nnunet_xlstm.cli.main import main\ntry: main(['--help'])\nexcept SystemExit: pass",
        "import nnunet_xlstm.nnunet.install.registration, nnunet_xlstm.nnunet.install.status",
        "from nnunet_xlstm.cli.main import main\nmain(['status', '--no-torch'])",
    ],
    ids=["package", "registry", "help", "registration", "status"],
)
def test_light_imports(code):
    seen = run_light(code)
    assert seen["heavy"] == []
    assert seen["seconds"] < 0.3  # of the CPU, so that a busy machine does not count; 0.04 to 0.2


def own_imports(module: str, top_level_only: bool = False) -> set[str]:
    """The modules of ours that a module imports: "a.b.c" is the module a.b.c, or the name c of the module a.b."""
    names = imports(module, SOURCES[module], top_level_only)
    modules = {name if name in SOURCES else name.rpartition(".")[0] for name in names}
    return {name for name in modules if name in SOURCES and name not in (module, PACKAGE)}


@pytest.mark.parametrize("module", SOURCES)
def test_import_direction(module):
    package = package_of(module)
    own, third_party = ALLOWED.get(package, (set(), set()))
    if package != "cli":
        for name in own_imports(module):
            if package_of(name) not in own | {package, *SHARED}:
                pytest.fail(f"{module} must not import {name}")
    for name in imports(module, SOURCES[module], top_level_only=package == "cli"):
        root = name.split(".")[0]
        allowed = root in {PACKAGE, *third_party} or root in sys.stdlib_module_names
        assert allowed, f"{module} must not import {name}"


def test_a_command_imports_nothing_of_ours_before_it_runs():
    for module in SOURCES:
        if package_of(module) == "cli":
            assert {package_of(name) for name in own_imports(module, top_level_only=True)} <= {"cli", *SHARED}, module


def test_every_package_is_listed_with_the_arrows_that_it_has():
    found: dict[str, set[str]] = {package_of(module): set() for module in SOURCES if "." in module}
    for module in SOURCES:
        targets = {package_of(name) for name in own_imports(module)}
        found.setdefault(package_of(module), set()).update(targets - {package_of(module), *SHARED})
    del found[""], found["nnunet"], found["cli"]  # the empty package above; a command may import anything
    assert found == {package: own for package, (own, _) in ALLOWED.items() if package != "cli"}


def test_the_map_is_true():
    """docs/explanation/architecture.md has a row for every package, with the arrows of ALLOWED."""
    rows = {}
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    for line in page.splitlines():
        if line.startswith("| `"):
            names, _, arrows = (cell.strip() for cell in line.strip("|").split("|"))
            for name, own in zip(names.split(", "), arrows.split("; ") * len(names.split(", ")), strict=False):
                rows[name.strip("`")] = set() if own == "nothing" else set(own.split(", "))
    del rows["cli"]
    left_out = (*SHARED, "__main__", "cli")  # in the text, or without a subject of its own
    assert rows == {package: own for package, (own, _) in ALLOWED.items() if package not in left_out}


def test_packages_have_an_order():
    graphlib.TopologicalSorter({package: own for package, (own, _) in ALLOWED.items()}).prepare()


def test_no_file_imports_another_in_a_circle():
    """Imports inside functions count, and those for types alone."""
    graph = {m: own_imports(m) for m in SOURCES}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


@pytest.mark.parametrize("folder", ["tests", "benchmarks"])
def test_tests_import_helpers_from_support_alone(folder):
    for path in (ROOT / folder).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for name in names:
                last = name.rpartition(".")[2]
                assert last != "conftest" and not last.startswith("test_"), f"{path} imports {name}"
            if isinstance(node, ast.ImportFrom) and node.level:
                assert path.parent.name == "support", (
                    f"{path} imports from .{node.module}: helpers lie in tests/support"
                )


def test_tests_mirror_the_package():
    """A folder of tests is named as the package that it tests; what concerns several is in tests/robustness."""
    packages = {path.parent.relative_to(ROOT / PACKAGE).as_posix() for path in (ROOT / PACKAGE).rglob("*.py")}
    for path in (ROOT / "tests").rglob("test_*.py"):
        folder = path.parent.relative_to(ROOT / "tests").as_posix()
        assert folder in packages | {".", "robustness"}, f"{path}: nnunet_xlstm has no package {folder}"


def test_no_file_is_long():
    long = {module for module, path in SOURCES.items() if path.read_text("utf-8").count("\n") > 300}
    assert not long, f"{long}: more than 300 lines; move what has a subject of its own"


def test_who_imports_nnunetv2():
    files = {**SOURCES, **{f"benchmarks.{path.stem}": path for path in (ROOT / "benchmarks").rglob("*.py")}}
    importing = {
        module
        for module, path in files.items()
        if any(name.split(".")[0] == "nnunetv2" for name in imports(module, path))
    }
    assert {package_of(module).split(".")[0] for module in importing} <= {
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
            target = package_of(name) if name.startswith(f"{PACKAGE}.") else ""
            assert target not in ("trainers", "planners") or target == package_of(module), f"{module} imports {name}"


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
