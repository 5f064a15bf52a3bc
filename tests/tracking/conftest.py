"""Every test here has W&B without an account; others read a run's folder or have a server."""

import pytest

from tests.helpers.wandb_fixtures import impatient, no_account, read_run, server  # noqa: F401 (fixtures)


@pytest.fixture(autouse=True)
def _without_account(no_account: None) -> None:  # noqa: F811 (a fixture)
    """Applies :func:`no_account` to every test."""
