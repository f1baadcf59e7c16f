"""Length and naming gates: the tail is what makes a code base hard to read."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "netsync"
MODULES = sorted(PACKAGE.rglob("*.py"))

MODULE_LINES = 400
FUNCTION_LINES = 60
PARAMETERS = 6
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def shown(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


@functools.cache
def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def functions(module: Path) -> Iterator[Function]:
    for node in ast.walk(parsed(module)):
        if isinstance(node, Function):
            yield node


def lines_without_docstring(function: Function) -> int:
    assert function.end_lineno is not None
    lines = function.end_lineno - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        assert first.end_lineno is not None
        lines -= first.end_lineno - first.lineno + 1
    return lines


def parameters(function: Function) -> int:
    """Count what a caller passes: without ``self`` and ``cls``."""
    given = function.args
    names = [argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"]))


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_no_module_is_over_400_lines(module: Path) -> None:
    assert len(module.read_text().splitlines()) <= MODULE_LINES


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_no_function_is_over_60_lines(module: Path) -> None:
    lengths = [(f.name, lines_without_docstring(f)) for f in functions(module)]
    assert [each for each in lengths if each[1] > FUNCTION_LINES] == []


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_no_function_takes_more_than_6_parameters(module: Path) -> None:
    counts = [(f.name, parameters(f)) for f in functions(module)]
    assert [each for each in counts if each[1] > PARAMETERS] == []


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_every_module_is_named_for_what_it_is(module: Path) -> None:
    names = {part.removesuffix(".py").lstrip("_") for part in module.relative_to(PACKAGE).parts}
    assert not names & NAMELESS


@pytest.mark.parametrize("module", [m for m in MODULES if m.read_text()], ids=shown)
def test_every_module_says_what_it_is(module: Path) -> None:
    docstring = ast.get_docstring(parsed(module))
    assert docstring
    assert docstring.partition("\n\n")[0].rstrip().endswith(".")


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_nothing_is_imported_with_a_star(module: Path) -> None:
    imports = [n for n in ast.walk(parsed(module)) if isinstance(n, ast.ImportFrom)]
    assert not [node.module for node in imports for alias in node.names if alias.name == "*"]


def test_a_functions_docstring_does_not_count() -> None:
    code = 'def f(self, a, *, b):\n    """One.\n\n    Two.\n    """\n    return a\n'
    (function,) = (n for n in ast.walk(ast.parse(code)) if isinstance(n, Function))
    assert lines_without_docstring(function) == 2
    assert parameters(function) == 2
