"""What the package is as a whole: cheap to import, one-way imports, every public name documented."""

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

ROOT = Path(crashalgos.__file__).parent
MODULES = sorted(module.name for module in pkgutil.walk_packages([str(ROOT)], "crashalgos."))


@cache
def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(found.stdout.split())


def test_import_loads_nothing_that_sb3_does_not():
    more = loaded_by("import crashalgos") - loaded_by("import stable_baselines3")
    assert {name for name in more if not name.startswith("crashalgos")} == set()


@pytest.mark.parametrize("module", ["crashalgos.tracking", "crashalgos.experiments.run.runner", "crashalgos.zoo"])
def test_heavy_libraries_load_when_used(module):
    assert not {"wandb", "matplotlib.pyplot", "scipy", "yaml", "moviepy", "rl_zoo3", "optuna"} & (
        loaded_by(f"import {module}") - loaded_by("import stable_baselines3")
    )


def imports_of(module: str) -> set[str]:
    path = ROOT.parent / module.replace(".", "/")
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found


ALGORITHMS = ("crashalgos.reinforce", "crashalgos.baseline_pg", "crashalgos.ppo")


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module):
    """zoo → experiments → tracking, algorithms, vec_envs → common; an algorithm knows no other, and no W&B."""
    room = ".".join(module.split(".")[:2])
    forbidden = {
        "crashalgos.common": (*ALGORITHMS, "crashalgos.tracking", "crashalgos.experiments", "wandb"),
        "crashalgos.tracking": (*ALGORITHMS, "crashalgos.experiments"),
        "crashalgos.vec_envs": (*ALGORITHMS, "crashalgos.tracking", "crashalgos.experiments", "wandb"),
        **{
            one: (*(other for other in ALGORITHMS if other != one), "crashalgos.tracking", "crashalgos.experiments", "wandb")
            for one in ALGORITHMS
        },
    }.get(room, ())
    crossed = {name for name in imports_of(module) if name.startswith(forbidden)} if forbidden else set()
    assert not crossed


def public_callables():
    for name in MODULES:
        module = importlib.import_module(name)
        for owner_name, owner in vars(module).items():
            if owner_name.startswith("_") or getattr(owner, "__module__", None) != name:
                continue
            if inspect.isfunction(owner):
                yield f"{name}.{owner_name}", owner, inspect.getdoc(owner)
            elif inspect.isclass(owner):
                yield f"{name}.{owner_name}", None, inspect.getdoc(owner)
                for method_name, method in vars(owner).items():
                    overrides = any(hasattr(base, method_name) for base in owner.__mro__[1:])
                    if (
                        inspect.isfunction(method)
                        and not method_name.startswith("_")
                        and not (overrides and not method.__doc__)
                    ):
                        yield f"{name}.{owner_name}.{method_name}", method, inspect.getdoc(method)
                if "__init__" in vars(owner) and not getattr(owner, "_is_protocol", False):
                    yield f"{name}.{owner_name}()", vars(owner)["__init__"], inspect.getdoc(owner)


@pytest.mark.parametrize(("name", "function", "doc"), [pytest.param(*case, id=case[0]) for case in public_callables()])
def test_every_public_name_is_documented(name, function, doc):
    assert doc, f"{name} has no docstring"
    if function is None:
        return
    signature = inspect.signature(function)
    for parameter in signature.parameters.values():
        if parameter.name != "self":
            assert re.search(rf":param {parameter.name}:", doc), f"{name}: `{parameter.name}` is not documented"


def test_version_is_in_the_changelog():
    changelog = (ROOT.parent / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(rf"^## Release {re.escape(crashalgos.__version__)}\b", changelog, re.MULTILINE)
