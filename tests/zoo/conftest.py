"""Fixtures: no W&B account, nothing outside the test's own folder, and the Zoo's command lines in this process."""

import sys
from collections.abc import Callable

import pytest

from crashalgos.zoo import register
from crashalgos.zoo.__main__ import main
from tests.tracking.conftest import no_account, read_run, server  # noqa: F401 (fixtures of this folder, too)


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A function that runs a command line, given as text and words."""

    def run(text: str, *words: str) -> int:
        monkeypatch.setattr(sys, "argv", sys.argv)
        return main([*text.split(), *words])

    return run


@pytest.fixture(autouse=True)
def registered() -> None:
    register()
