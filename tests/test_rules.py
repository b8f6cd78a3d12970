"""What keeps the package readable: limits on its size, and tests that need nothing private."""

from __future__ import annotations

import ast
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "handmesh").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))

MOST_FILES = 150
LONGEST_FUNCTION = 50  # lines
LARGEST_WHEEL_MB = 28  # two mesh networks, 10.9 MB each, and the detector
MOST_OF_ONE_NAME = 2

OWN = {"self", "cls"}  # what a test keeps for itself
PUBLIC = {"_replace", "_asdict", "_fields", "_make", "_exit"}  # of named tuples and os


def test_the_package_has_few_files():
    assert len(MODULES) <= MOST_FILES


def test_a_file_name_stands_for_one_thing_or_two():
    names = Counter(path.name for path in MODULES if path.name != "__init__.py")
    assert {name: count for name, count in names.items() if count > MOST_OF_ONE_NAME} == {}


def test_functions_fit_on_a_screen():
    assert [where for path in MODULES for where, lines in functions(path) if lines > LONGEST_FUNCTION] == []


def test_the_wheel_is_small():
    """What training alone needs is not in it."""
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["handmesh"]
    files = {path for pattern in patterns for path in (ROOT / "handmesh").glob(pattern)}
    assert sum(path.stat().st_size for path in files) < LARGEST_WHEEL_MB * 1e6
    assert not [path.name for path in files if path.suffix == ".safetensors"]


def test_imports_have_no_circles():
    """Those that run when a module is loaded; what only type checkers import does not count."""
    imports = {name_of(path): set(imported(path)) for path in MODULES}
    while leaves := {name for name, needed in imports.items() if not needed & imports.keys() - {name}}:
        imports = {name: needed for name, needed in imports.items() if name not in leaves}
    assert sorted(imports) == [], "these import each other, or import those that do"


def test_tests_need_no_private_names():
    assert [f"{path.name} {use}" for path in TESTS for use in private(ast.parse(path.read_text()))] == []


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


NAMES = {name_of(path) for path in MODULES}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Each function of a file and its lines."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name_of(path)}.{node.name}", node.end_lineno - node.lineno + 1


def imported(path: Path) -> Iterator[str]:
    """The package's modules that a file imports when it is loaded."""
    for node in at_load(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules = {f"{node.module}.{alias.name}" for alias in node.names} & NAMES
            yield from modules or {node.module}


def at_load(node: ast.AST) -> Iterator[ast.AST]:
    """What of a module runs when it is loaded."""
    for child in ast.iter_child_nodes(node):
        later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        typing = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        if not later and not typing:
            yield child
            yield from at_load(child)


def private(tree: ast.Module) -> Iterator[str]:
    """The private names of others that a test takes, reads or replaces."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"line {node.lineno}: {alias.name}" for alias in node.names if is_private(alias.name))
        elif isinstance(node, ast.Attribute) and is_private(node.attr):
            if not (isinstance(node.value, ast.Name) and node.value.id in OWN):
                yield f"line {node.lineno}: {node.attr}"
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "setitem")):
            texts = [argument.value for argument in node.args if isinstance(argument, ast.Constant)]
            yield from (f"line {node.lineno}: {text}" for text in texts if is_private(str(text)))


def is_private(name: str) -> bool:
    return re.match(r"_[A-Za-z]", name) is not None and name not in PUBLIC
