"""The verdicts on all pairs of contenders."""

from pathlib import Path

from crashalgos.experiments.comparison import report
from crashalgos.experiments.comparison.contender_pairs import verdicts
from crashalgos.experiments.comparison.loading import load
from crashalgos.experiments.comparison.report_tables import score_row
from tests.helpers.comparison_folders import write_folder
from tests.helpers.report_pages import table_rows

ENV = "CartPole-v1"


def test_identical_contenders_are_reported_as_identical(two_envs: Path) -> None:
    lines = verdicts(load(two_envs))
    identical = [line for line in lines if "identical" in line]
    assert len(lines) == 3 + 1 and len(identical) == 2
    assert identical[0] == (
        "CartPole-v1, A & B <b> – _b_ $x^2$ | *c*: A & B <b> and _b_ $x^2$ | *c* are identical: "
        "every evaluation on all 6 seeds is the same."
    )


def test_equal_scores_alone_are_not_identical(tmp_path: Path) -> None:
    returns = {("a", ENV, seed): (20.0, 30.0, 40.0 + seed) for seed in range(6)}
    returns |= {("b", ENV, seed): (20.0, 31.0, 40.0 + seed) for seed in range(6)}
    (line,) = verdicts(load(write_folder(tmp_path, returns)))
    assert "identical" not in line and "No difference between A and B: 0 (95 % interval 0 to 0)" in line


def test_verdicts_say_who_is_better(tmp_path: Path) -> None:
    returns = {("a", ENV, seed): (20.0, 30.0, 40.0 + seed) for seed in range(8)}
    returns |= {("b", ENV, seed): (20.0, 30.0, 140.0 + seed) for seed in range(8)}
    (line,) = verdicts(load(write_folder(tmp_path, returns)))
    # All eight signs equal: p = 2/2^8
    assert line.startswith("CartPole-v1, A – B: B is better than A: by 100 (95 % interval 100 to 100), p = 0.00781")
    assert "8 paired seeds" in line


def test_contenders_of_other_seeds_are_compared_unpaired(tmp_path: Path) -> None:
    returns = {("a", ENV, seed): (20.0, 30.0, 40.0 + seed) for seed in range(5)}
    returns |= {("b", ENV, seed): (20.0, 30.0, 140.0 + seed) for seed in range(10, 15)}
    results = load(write_folder(tmp_path, returns))
    (line,) = verdicts(results)
    # One of the 10!/(5! 5!) = 252 ways to share the runs out, at either end: p = 2/252
    assert "B is better than A: by 110" in line and "p = 0.00794" in line and "5 and 5 seeds, not paired" in line
    assert [score_row(results, ENV, contender)[2] for contender in results.contenders] == ["0–4", "10–14"]


def test_three_seeds_are_too_few(tmp_path: Path) -> None:
    returns = {(name, ENV, seed): (20.0, 30.0, final + seed) for name, final in (("a", 40), ("b", 90)) for seed in range(3)}
    (line,) = verdicts(load(write_folder(tmp_path, returns)))
    assert line.startswith("CartPole-v1, A – B: Too few seeds to conclude: with 3, the smallest p possible is 0.25")


def test_verdicts_say_which_runs_are_left_out(tmp_path: Path) -> None:
    # Of ten runs six of a have finished, two failed, one is incomplete, one missing; of b one has failed; all of c's are there
    numbers = {"a": range(6), "b": range(9), "c": range(10)}
    returns = {(name, ENV, seed): (20.0, 30.0, 40.0 + seed) for name, seeds in numbers.items() for seed in seeds}
    other_rows = [
        *(("a", ENV, seed, "failed", "", "", f"a-{seed}", "ValueError: no") for seed in (6, 7)),
        ("a", ENV, 8, "finished", 200, 2.0, "a-8", ""),
        ("b", ENV, 9, "failed", "", "", "b-9", "ValueError: no"),
        ("d", ENV, "", "not applicable", "", "", "", "d has no place there"),
    ]
    results = load(write_folder(tmp_path, returns, other_rows=other_rows, labels={"a": "A*"}))
    of_a, of_b = "4 of {}'s 10 runs have not finished and are left out.", " 1 of B's 10 runs has not finished and is left out."
    a_and_b, a_and_c, b_and_c = verdicts(results)
    assert a_and_b.endswith(f"is the same. {of_a.format('A*')}{of_b}")
    assert a_and_c.endswith(f"is the same. {of_a.format('A*')}")
    assert b_and_c.endswith(f"is the same.{of_b}")
    found = [row[1] for row in table_rows(report.report_markdown(results, []), "### Verdicts in CartPole-v1")[2:]]
    assert found[0].endswith("is the same. " + of_a.format(r"A\*") + of_b)
    assert found[2].endswith(f"is the same.{of_b}")


def test_verdicts_say_nothing_about_runs_where_all_are_there(two_envs: Path) -> None:
    left_out = [line for line in verdicts(load(two_envs)) if "left out" in line]
    # c, of which one run has failed, against a and b; in the other environment c has no runs to compare
    assert len(left_out) == 2 and all(line.startswith(ENV) for line in left_out)
    assert all(line.endswith(". 1 of c's 6 runs has not finished and is left out.") for line in left_out)
