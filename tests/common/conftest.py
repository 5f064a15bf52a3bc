"""Fixtures for the tests of ``compile=True``."""

from collections.abc import Iterator

import pytest

from tests.helpers import compiling


@pytest.fixture(scope="module")
def without_code() -> Iterator[None]:
    """Traces the graphs of a module's tests and runs them by ATen: seconds instead of half a minute."""
    with compiling.without_code():
        yield
