"""
All pairs of contenders that a comparison's report compares, and a verdict for each.

``results`` are always a comparison's results.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations

from crashalgos.experiments.comparison import statistics
from crashalgos.experiments.comparison.contenders import Contender
from crashalgos.experiments.comparison.results import Results
from crashalgos.experiments.comparison.statistics import Pair
from crashalgos.experiments.comparison.verdict import verdict


@dataclass(frozen=True)
class ComparedPair:
    """
    Two contenders in one environment.

    :param env: the environment's id
    :param a: one contender
    :param b: the other
    :param pair: their statistics
    """

    env: str
    a: Contender
    b: Contender
    pair: Pair


@lru_cache(maxsize=1)
def compare_pairs(results: Results) -> tuple[ComparedPair, ...]:
    """
    Compares all contenders in all environments.

    The result is kept, because the report, the terminal and W&B all show it.

    :return: every two contenders with a finished run in an environment; their p-values are adjusted for all tested pairs
    """
    keys = [(env, a, b) for env in results.envs for a, b in combinations(results.contenders_in(env), 2)]
    pairs = statistics.adjust_pairs([_compare_pair(results, *key) for key in keys])
    return tuple(ComparedPair(*key, pair) for key, pair in zip(keys, pairs, strict=True))


def _compare_pair(results: Results, env: str, a: Contender, b: Contender) -> Pair:
    runs_a, runs_b = ({run.seed: run for run in results.runs_of(contender, env)} for contender in (a, b))
    common = runs_a.keys() & runs_b.keys()
    return statistics.compare_scores(
        {seed: run.score for seed, run in runs_a.items()},
        {seed: run.score for seed, run in runs_b.items()},
        scale=results.references[env].scale,
        identical=bool(common) and all(runs_a[seed].equals(runs_b[seed]) for seed in common),
    )


def pair_verdict(results: Results, compared: ComparedPair, write_label: Callable[[str], str] = str) -> str:
    """
    Writes the verdict on two contenders, and the number of their unfinished runs.

    :param compared: the two contenders
    :param write_label: function that writes a label, such as ``escape`` for Markdown
    :return: one sentence, and one more for each contender with unfinished runs
    """
    sentences = [verdict(compared.pair, write_label(compared.a.label), write_label(compared.b.label))]
    for contender in (compared.a, compared.b):
        unfinished = results.count_unfinished(contender, compared.env)
        if unfinished:
            total = unfinished + len(results.runs_of(contender, compared.env))
            have, are = ("has", "is") if unfinished == 1 else ("have", "are")
            sentences.append(
                f"{unfinished} of {write_label(contender.label)}'s {total} runs {have} not finished and {are} left out."
            )
    return " ".join(sentences)


def verdicts(results: Results) -> list[str]:
    """
    Writes all verdicts of a comparison, as plain text.

    :return: one line for each pair of contenders in each environment
    """
    return [f"{one.env}, {one.a.label} – {one.b.label}: {pair_verdict(results, one)}" for one in compare_pairs(results)]
