"""Returns at common times, and times to a threshold."""

import math

import numpy as np
import pytest

from crashalgos.experiments.comparison.statistics import (
    TimeSummary,
    returns_at_common_times,
    summarize_times,
    time_to_threshold,
)
from tests.helpers.scores import arrays

pytestmark = pytest.mark.filterwarnings("error")


def test_common_times_read_the_last_evaluation_so_far() -> None:
    times, values = returns_at_common_times(
        [np.array([0.0, 2.0, 4.0]), np.array([0.5, 1.0, 1.0, 9.0])],
        [np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 7.0, 8.0])],
        5,
    )
    np.testing.assert_array_equal(times, [0, 1, 2, 3, 4])
    # The second run's first evaluation is at 0.5: its value holds before, too; of the two at 1 the later one holds
    np.testing.assert_array_equal(values, [[1, 1, 2, 2, 3], [5, 7, 7, 7, 7]])


@pytest.mark.parametrize(
    ("seconds", "returns", "message"),
    [
        ([], [], "`seconds` and `returns` must hold flat arrays"),
        ([[0.0]], [[1.0], [2.0]], "`seconds` and `returns` must hold flat arrays"),
        ([[0.0, 1.0]], [[1.0]], "`seconds` and `returns` must hold flat arrays"),
        ([[]], [[]], "`seconds` and `returns` must hold flat arrays"),
        ([[0.0, math.nan]], [[1.0, 2.0]], "`seconds` and `returns` must be finite"),
        ([[2.0, 1.0]], [[1.0, 2.0]], "`seconds` must not fall within a run"),
    ],
)
def test_unusable_runs_are_refused(seconds: list, returns: list, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        returns_at_common_times(seconds, returns)


def test_time_to_threshold_is_the_first_crossing() -> None:
    at = [np.array([0.0, 10.0, 20.0])] * 4
    returns = arrays([[0.0, 5.0, 4.0], [5.0, 0.0, 0.0], [0.0, 4.9, 4.9], [0.0, 0.0, 6.0]])
    times = time_to_threshold(at, returns, 5.0)
    np.testing.assert_array_equal(times, [10.0, 0.0, math.inf, 20.0])
    assert summarize_times(times) == TimeSummary(3, 4, 15.0)
    assert summarize_times(np.array([1.0, math.inf, math.inf])) == TimeSummary(1, 3, math.inf)
    # Half of the runs: the median lies between a time and infinity
    assert summarize_times(np.array([1.0, math.inf])) == TimeSummary(1, 2, math.inf)
    with pytest.raises(ValueError, match="`times` must be flat and not empty"):
        summarize_times(np.array([]))
