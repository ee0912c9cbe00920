"""What setup.py declares against what is imported, and the lowest versions against .ci/lowest.txt."""

import ast
import re
import sys
from pathlib import Path
from unittest import mock

import pytest
import setuptools

ROOT = Path(__file__).resolve().parents[1]
LIBRARY, TESTS = ("nnunet_xlstm", "trainers", "planners"), ("tests", "benchmarks", "docs")
OWN = {"nnunet_xlstm"} | {path.stem for folder in TESTS for path in (ROOT / folder).rglob("*")}
# name on PyPI -> name in imports, where they differ
IMPORTED_AS = {"scikit-learn": "sklearn", "pillow": "PIL", "vtk": "vtkmodules", "PyYAML": "yaml"}
ORACLES = {"lightly"}  # tests compare with it where it is installed
# declared and not imported by name
TOOLS = {"setuptools", "pytest-xdist", "ruff", "mypy", "onnx", "onnxscript"}  # the last two: by torch.onnx


def declared() -> dict[str, list[str]]:
    """Extra ("" for the package itself) -> requirements as setup.py gives them to setuptools."""
    found = {}
    with mock.patch.object(setuptools, "setup", lambda **kwargs: found.update(kwargs)):
        source = (ROOT / "setup.py").read_text(encoding="utf-8")
        exec(compile(source, "setup.py", "exec"), {"__name__": "__main__", "__file__": str(ROOT / "setup.py")})
    return {"": found["install_requires"], **found["extras_require"]}


def name_of(requirement: str) -> str:
    return re.match(r"[A-Za-z0-9._-]+", requirement)[0]


def module_of(name: str) -> str:
    return IMPORTED_AS.get(name, name.replace("-", "_"))


def imported(folders: tuple[str, ...]) -> set[str]:
    """Third-party packages: of import statements, and of pytest.importorskip."""
    roots = set()
    for path in (path for folder in folders for path in (ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                roots |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                roots.add(node.module.split(".")[0])
            elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("importorskip"):
                roots.add(node.args[0].value.split(".")[0])
    return roots - set(sys.stdlib_module_names) - OWN - ORACLES


def test_every_import_of_the_library_is_declared_and_every_declaration_imported():
    requirements = declared()
    optional = {module_of(name_of(r)) for extra in ("mesh", "kernels") for r in requirements[extra]}
    needed = {module_of(name_of(r)) for r in requirements[""] if name_of(r) not in TOOLS}
    assert imported(LIBRARY) - optional == needed
    assert optional <= imported(LIBRARY)


def test_every_import_of_the_tests_is_declared_and_every_declaration_imported():
    requirements = declared()
    known = {module_of(name_of(r)) for extra in ("", "mesh", "kernels", "docs") for r in requirements[extra]}
    needed = {module_of(name_of(r)) for r in requirements["test"] if name_of(r) not in TOOLS}
    of_torch = {"triton"}  # comes with torch's CUDA build; tests/meshes loads it where it is
    assert imported(TESTS) - known - of_torch == needed - known


@pytest.mark.parametrize("requirement", declared()[""])
def test_lowest_versions_are_those_that_ci_tries(requirement):
    if name_of(requirement) in TOOLS:
        return
    lowest = re.search(r">=([0-9.]+)", requirement)
    assert lowest, f"{requirement}: no lowest version"
    lines = (ROOT / ".ci" / "lowest.txt").read_text(encoding="utf-8").splitlines()
    pins = dict(line.split("==") for line in lines if line and not line.startswith("#"))
    pin = pins[name_of(requirement)]
    assert (pin + ".0.0").startswith(lowest[1] + ".") and set(pin[len(lowest[1]) :]) <= set(".0")


def test_no_requirement_is_given_twice():
    for requirements in declared().values():
        names = [name_of(r).lower() for r in requirements]
        assert len(names) == len(set(names))
