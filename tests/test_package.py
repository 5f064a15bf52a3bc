"""The package as a whole: cheap to import, one-way imports, every public name documented."""

import ast
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import crashalgos
from tests.helpers.algorithms import ALGORITHMS

PACKAGE = Path(crashalgos.__file__).parent
HARNESS = sorted(f"scripts.benchmark.{path.stem}" for path in (PACKAGE.parent / "scripts/benchmark").glob("[!_]*.py"))
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(PACKAGE)], "crashalgos."))


@cache
def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=PACKAGE.parent)
    return set(found.stdout.split())


def test_import_loads_nothing_that_sb3_does_not():
    more = loaded_by("import crashalgos") - loaded_by("import stable_baselines3")
    assert {name for name in more if not name.startswith("crashalgos")} == set()


HEAVY_WHEN_USED = ["resume", "tracking", "vec_envs", "experiments.run.runner", "experiments.grid", "zoo"]


@pytest.mark.parametrize("module", [f"crashalgos.{name}" for name in HEAVY_WHEN_USED])
def test_heavy_libraries_load_when_used(module):
    assert not {"wandb", "matplotlib.pyplot", "scipy", "yaml", "moviepy", "rl_zoo3", "optuna"} & (
        loaded_by(f"import {module}") - loaded_by("import stable_baselines3")
    )


def imports_of(module: str) -> set[str]:
    path = PACKAGE.parent / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found: set[str] = set()
    if not path.exists():  # a folder of data
        return found
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


ALGORITHM_ROOMS = {algorithm.__module__.split(".")[1] for algorithm in ALGORITHMS}
#: Which rooms a room may import, beside itself
MAY_IMPORT: dict[str, set[str]] = {
    "common": set(),
    **{room: {"common"} for room in (*ALGORITHM_ROOMS, "resume", "tracking", "vec_envs", "laboratory")},
    "experiments.run": {"common", "resume", "tracking"},
    "experiments.grid": {"common", "experiments.run"},
    "experiments.comparison": {"common", "tracking", "experiments.run", "experiments.grid"},
    "zoo": {"tracking", "experiments.run", *ALGORITHM_ROOMS},
}
#: The rooms that know Weights & Biases
KNOW_WANDB = {"tracking", "experiments.grid", "experiments.comparison"}


def room_of(name: str) -> str | None:
    """The room of a module, or of a name in it; ``None`` for what is in no room."""
    algorithms = {f"crashalgos.{algorithm.__name__}": algorithm.__module__.split(".")[1] for algorithm in ALGORITHMS}
    if name in algorithms:
        return algorithms[name]
    rooms = [room for room in MAY_IMPORT if f"{name}.".startswith(f"crashalgos.{room}.")]
    return rooms[0] if rooms else None


def test_every_module_is_in_a_room():
    without = {module for module in MODULES if room_of(module) is None}
    assert without == {"crashalgos.experiments", "crashalgos.experiments.hyperparams"} & set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    """An algorithm knows no other, and no W&B; what the algorithms share knows no algorithm."""
    room = room_of(module)
    if room is None:
        return
    imported = {other: room_of(other) for other in imports_of(module)}
    assert {name for name, other in imported.items() if other not in {None, room, *MAY_IMPORT[room]}} == set()
    assert room in KNOW_WANDB or not any(name.split(".")[0] == "wandb" for name in imported)


FILES = sorted(
    path for folder in ("crashalgos", "scripts", "tests", "docs") for path in (PACKAGE.parent / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE.parent)))
def test_files_are_short_and_docstrings_begin_with_a_summary(path):
    """At most 400 lines; no docstring that begins with a parameter."""
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= 400
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    documented = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds) and ast.get_docstring(node)]
    assert [node for node in documented if ast.get_docstring(node).startswith(":")] == []


def public_callables():
    for name in (*MODULES, *HARNESS):
        module = importlib.import_module(name)
        for owner_name, owner in vars(module).items():
            if owner_name.startswith("_") or getattr(owner, "__module__", None) != name:
                continue
            if inspect.isfunction(owner):
                yield f"{name}.{owner_name}", owner, inspect.getdoc(owner)
            elif inspect.isclass(owner):
                yield f"{name}.{owner_name}", None, inspect.getdoc(owner)
                for method_name, method in vars(owner).items():
                    if inspect.isfunction(method) and not method_name.startswith("_"):
                        yield f"{name}.{owner_name}.{method_name}", method, inspect.getdoc(method)
                if "__init__" in vars(owner) and not getattr(owner, "_is_protocol", False):
                    yield f"{name}.{owner_name}()", vars(owner)["__init__"], inspect.getdoc(owner)


@pytest.mark.parametrize(("name", "function", "doc"), [pytest.param(*case, id=case[0]) for case in public_callables()])
def test_every_public_name_is_documented(name, function, doc):
    assert doc, f"{name} has no docstring"
    if function is None:
        return
    # A name that means the same all through a module may be explained once, in the module's docstring
    module = inspect.getmodule(function).__doc__ or ""
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name != "self":
            meaning = rf"``{parameter.name}`` (?:is|are|makes)\s"
            explained = re.search(rf":param {parameter.name}:", doc) or re.search(meaning, module)
            assert explained, f"{name}: `{parameter.name}` is not documented"


def test_version_is_in_the_changelog():
    changelog = (PACKAGE.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## Release {re.escape(crashalgos.__version__)}\b", changelog, re.MULTILINE)
