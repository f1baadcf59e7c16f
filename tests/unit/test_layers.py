"""Imports only go down: the table of the design's layers, read from the code itself."""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "netsync"
MODULES = sorted(PACKAGE.rglob("*.py"))

LAYERS = {
    "names": 0, "defaults": 0, "errors": 0, "choice": 0, "model": 0, "operation": 0, "__init__": 0,
    "wire": 1, "delta": 1, "plan": 1,
    "net": 2, "tree": 2, "identity": 2, "state": 2,
    "transfer": 3, "oplog": 3,
    "modes": 4, "server": 4, "monitor": 4,
    "mirror": 5,
    "cli": 6, "daemon": 6, "config": 6, "__main__": 6,
}  # fmt: skip
"""Folders and modules by layer; sideways is allowed inside one folder, and among words and
programs, which are single modules."""

STRANGERS = [{"wire", "delta"}, {"wire", "plan"}, {"delta", "plan"}, {"net", "tree"}]
"""Folders that never meet, not even in one module of their layer or below."""

TOP = {0, 6}
"""Layers of single modules, which may know each other."""

IMPURE = {"trio", "ssl", "os", "socket", "random", "time", "datetime", "secrets", "threading"}
PURE_FOLDERS = ["wire", "delta", "plan"]
MAY_READ_THE_ENVIRONMENT = {"choice.py"}
"""The choice of a kernel must be made while importing, before any configuration exists."""
MAY_USE_DATES = {"plan/schedule.py"}
"""A calendar is no clock: dates are values, as long as nobody asks which one it is."""
ASKS_THE_CLOCK = {"now", "utcnow", "today"}


def imported(tree: ast.Module) -> Iterator[str]:
    """Yield the dotted names that a module imports, wherever in it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they lead"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(dotted: str) -> str | None:
    """Return the folder or top-level module of netsync that ``dotted`` lies in."""
    parts = dotted.split(".")
    if parts[0] != "netsync":
        return None
    if len(parts) > 1 and parts[1] in LAYERS:
        return parts[1]
    return "__init__"


@functools.cache
def parsed(module: Path) -> ast.Module:
    return ast.parse(module.read_text())


def own_part(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def parts_imported(module: Path) -> set[str]:
    found = map(part_of, imported(parsed(module)))
    return {part for part in found if part is not None}


def shown(module: Path) -> str:
    return str(module.relative_to(PACKAGE))


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_every_module_belongs_to_a_layer(module: Path) -> None:
    assert own_part(module) in LAYERS


@pytest.mark.parametrize("module", MODULES, ids=shown)
def test_an_import_goes_down_or_sideways_inside_one_folder(module: Path) -> None:
    own = own_part(module)
    for part in parts_imported(module) - {own}:
        above, below = LAYERS[own], LAYERS[part]
        sideways = below == above and above in TOP
        assert below < above or sideways, f"{own} (layer {above}) imports {part} (layer {below})"


@pytest.mark.parametrize(
    "module", [m for m in MODULES if LAYERS.get(own_part(m), 9) < 3], ids=shown
)
def test_wire_delta_and_plan_never_meet_nor_do_net_and_tree(module: Path) -> None:
    met = parts_imported(module) | {own_part(module)}
    for strangers in STRANGERS:
        assert not strangers <= met


@pytest.mark.parametrize("module", [m for m in MODULES if own_part(m) in PURE_FOLDERS], ids=shown)
def test_pure_folders_import_no_world(module: Path) -> None:
    roots = {name.partition(".")[0] for name in imported(parsed(module))}
    impure = roots & IMPURE
    if shown(module) in MAY_READ_THE_ENVIRONMENT:
        impure -= {"os"}
    if shown(module) in MAY_USE_DATES:
        impure -= {"datetime"}
    assert not impure


@pytest.mark.parametrize("module", [m for m in MODULES if own_part(m) != "mirror"], ids=shown)
def test_work_on_files_counts_in_the_threads_of_its_module_or_job(module: Path) -> None:
    """A disk that hangs keeps its threads: no others may be missing. A mirror has its process."""
    names = {
        each.asname or each.name
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.ImportFrom) and part_of(node.module or "") in {"tree", "transfer"}
        for each in node.names
    }
    anything = own_part(module) in {"tree", "transfer"} and shown(module) != "tree/threads.py"
    work = [
        ast.unparse(node.args[0])
        for node in ast.walk(parsed(module))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "trio.to_thread.run_sync"
    ]
    assert [each for each in work if anything or each in names] == []


@pytest.mark.parametrize("name", sorted(MAY_USE_DATES))
def test_who_uses_dates_does_not_ask_for_the_time(name: str) -> None:
    attributes = {
        node.attr for node in ast.walk(parsed(PACKAGE / name)) if isinstance(node, ast.Attribute)
    }
    assert not attributes & ASKS_THE_CLOCK


def test_the_kernels_choice_uses_os_for_the_environment_only() -> None:
    for name in MAY_READ_THE_ENVIRONMENT:
        tree = ast.parse((PACKAGE / name).read_text())
        used = {
            node.attr
            for node in ast.walk(tree)
            if isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        }
        assert used == {"environ"}


def test_the_walk_sees_imports_inside_functions_and_from_packages() -> None:
    code = (
        "def f():\n    import os.path\nfrom netsync import delta\nfrom netsync.wire import codec\n"
    )
    found = list(imported(ast.parse(code)))
    assert "os.path" in found
    assert {part_of(name) for name in found} == {None, "__init__", "delta", "wire"}
