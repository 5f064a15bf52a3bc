"""Every test here has W&B without an account and our algorithms in the Zoo, whose commands run in this process."""

import sys
from collections.abc import Callable

import pytest

from crashalgos.zoo import register
from crashalgos.zoo.__main__ import main
from tests.helpers.wandb_fixtures import no_account, read_run, server  # noqa: F401 (fixtures)


@pytest.fixture
def zoo(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """A function that runs a command line, given as text and words."""

    def run(text: str, *words: str) -> int:
        monkeypatch.setattr(sys, "argv", sys.argv)
        return main([*text.split(), *words])

    return run


@pytest.fixture(autouse=True)
def _registered(no_account: None) -> None:  # noqa: F811 (a fixture)
    """Adds our algorithms to the Zoo's."""
    register()
