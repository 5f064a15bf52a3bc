"""Numbers as the reports write them."""

import pytest

from crashalgos.experiments.comparison.number_format import decimals, format_number, format_seeds


@pytest.mark.parametrize(
    ("seeds", "text"), [([0, 1, 2], "0–2"), ([5, 0, 2, 1], "0–2, 5"), ([7], "7"), ([1, 3, 5, 6], "1, 3, 5–6")]
)
def test_ranges_of_seeds(seeds: list[int], text: str) -> None:
    assert format_seeds(seeds) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [(1234.56, 1, "1,234.6"), (-0.04, 1, "0.0"), (-0.06, 1, "-0.1"), (float("nan"), 1, "–"), (float("inf"), 0, "–")],
)
def test_numbers(value: float, digits: int, text: str) -> None:
    assert format_number(value, digits) == text


@pytest.mark.parametrize(("scale", "digits"), [(0.0, 1), (478.0, 1), (20.0, 1), (1.0, 2), (0.3, 3)])
def test_decimals_make_a_hundredth_of_the_range_visible(scale: float, digits: int) -> None:
    assert decimals(scale) == digits
