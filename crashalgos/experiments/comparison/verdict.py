"""The verdict on two contenders: their statistics in one sentence."""

import math
from dataclasses import replace

from crashalgos.experiments.comparison.statistics import (
    ALPHA,
    MAX_SEEDS,
    Estimate,
    Pair,
    can_reach_alpha,
    seeds_needed,
    smallest_p,
)


def verdict(pair: Pair, name_a: str, name_b: str) -> str:
    """
    Writes the verdict on two contenders.

    :param pair: their statistics, adjusted for all pairs of the report (``adjust_pairs``)
    :param name_a: a's name
    :param name_b: b's name
    :return: one sentence
    """
    if pair.identical:
        evaluations = "every evaluation on " + ("the one seed" if pair.n_a == 1 else f"all {pair.n_a} seeds")
        return f"{name_a} and {name_b} are identical: {evaluations} is the same."
    if not can_reach_alpha(pair.n_a, None if pair.paired else pair.n_b):
        return _too_few(pair)
    if pair.p < ALPHA:
        ordered = (pair, name_a, name_b) if pair.difference > 0 else (_reversed(pair), name_b, name_a)
        return _better(*ordered) if pair.q < ALPHA else _not_significant(*ordered)
    seen = f"{_number(pair.difference)} (95 % {_interval(pair.low, pair.high)})"
    if _within_margin(pair):
        return f"No difference between {name_a} and {name_b}: {seen}, within {_margin(pair)}; {_p(pair)}."
    largest = _number(max(abs(pair.low), abs(pair.high)))
    return (
        f"No difference found between {name_a} and {name_b}: {seen}, {_p(pair)}; the interval does not exclude differences "
        f"up to {largest}; {_advice_on_seeds(pair)}."
    )


def _reversed(pair: Pair) -> Pair:
    improvement = Estimate(1 - pair.improvement.value, 1 - pair.improvement.high, 1 - pair.improvement.low)
    return replace(
        pair,
        difference=-pair.difference,
        low=-pair.high,
        high=-pair.low,
        improvement=improvement,
        n_a=pair.n_b,
        n_b=pair.n_a,
    )


def _within_margin(pair: Pair) -> bool:
    return -pair.margin <= pair.low and pair.high <= pair.margin


def _too_few(pair: Pair) -> str:
    seeds, smallest = (
        (f"{pair.n_a}", smallest_p(pair.n_a))
        if pair.paired
        else (f"{pair.n_a} and {pair.n_b}", smallest_p(pair.n_a, pair.n_b))
    )
    start = f"Too few seeds to conclude: with {seeds}, the smallest p possible is {smallest:.3g}"
    if pair.difference == 0:
        return f"{start}; no difference was seen."
    seen = _number(abs(pair.difference))
    if math.isnan(pair.deviation):
        return f"{start}; the difference seen is {seen}."
    return f"{start}; a difference as large as the one seen ({seen}) would need {_needed(pair, pair.difference)}."


def _better(pair: Pair, name_a: str, name_b: str) -> str:
    seeds = f"{pair.n_a} paired seeds" if pair.paired else f"{pair.n_a} and {pair.n_b} seeds, not paired"
    chance = pair.improvement
    return (
        f"{name_a} is better than {name_b}: {_size(pair)}, {_p(pair)}, {seeds}; "
        f"probability of improvement {chance.value:.2f} ({chance.low:.2f} to {chance.high:.2f}){_note_if_small(pair)}."
    )


def _not_significant(pair: Pair, name_a: str, name_b: str) -> str:
    return (
        f"{name_a} scores higher than {name_b} {_size(pair)}, {_p_value('p', pair.p)}, but that is not sure among "
        f"{pair.comparisons} comparisons ({_p_value('adjusted p', pair.q)}); "
        f"{_more_seeds(pair, pair.difference, 'do')}{_note_if_small(pair)}."
    )


def _size(pair: Pair) -> str:
    return f"by {_number(pair.difference)} (95 % {_interval(pair.low, pair.high)})"


def _note_if_small(pair: Pair) -> str:
    return f"; all of the interval is within {_margin(pair)}" if _within_margin(pair) else ""


def _advice_on_seeds(pair: Pair) -> str:
    difference, shown = pair.difference, "one as large as the one seen"
    if abs(difference) < pair.margin:
        difference, shown = pair.margin, f"one of {_number(pair.margin)} (5 % of the reference range)"
    if difference == 0:
        return "the means are equal"
    return _more_seeds(pair, difference, f"show {shown}")


def _more_seeds(pair: Pair, difference: float, end: str) -> str:
    if seeds_needed(difference, pair.deviation, pair.paired, pair.comparisons) <= min(pair.n_a, pair.n_b):
        return f"a few more seeds may {end}"
    return f"{_needed(pair, difference)} would {end}"


def _needed(pair: Pair, difference: float) -> str:
    needed = seeds_needed(difference, pair.deviation, pair.paired, pair.comparisons)
    number = f"more than {MAX_SEEDS:,}" if math.isinf(needed) else f"about {needed:,.0f}"
    return f"{number} seeds" + ("" if pair.paired else " each")


def _margin(pair: Pair) -> str:
    return f"±{_number(pair.margin)} (5 % of the reference range)"


def _interval(low: float, high: float) -> str:
    return f"interval {_number(low)} to {_number(high)}"


def _p(pair: Pair) -> str:
    p = _p_value("p", pair.p)
    return p if pair.q == pair.p else f"{p} ({_p_value('adjusted p', pair.q)})"


def _p_value(name: str, value: float) -> str:
    return f"{name} < 0.001" if value < 0.001 else f"{name} = {value:.3g}"


def _number(value: float) -> str:
    """Writes three significant digits, or the whole integer part if that is longer; without an exponent."""
    if abs(value) < 1e-6:
        return "0"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:,.{decimals}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
