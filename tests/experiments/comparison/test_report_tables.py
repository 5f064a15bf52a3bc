"""The report's tables: scores, aggregates, missing runs, versions."""

from pathlib import Path

import pytest

from crashalgos.experiments.comparison import report
from crashalgos.experiments.comparison.loading import load
from crashalgos.experiments.comparison.report_tables import versions_line
from tests.helpers.comparison_folders import write_folder
from tests.helpers.report_pages import table_rows

ENV = "CartPole-v1"


def test_scores_worked_out_on_paper(one_env: Path) -> None:
    text = (one_env / "report.md").read_text(encoding="utf-8")
    tables = table_rows(text, "### Scores in CartPole-v1")
    # a: (100 + 200 + 300 + 500)/4 = 275, without the ends (200 + 300)/2 = 250; steps/s: 200/2, 200/2, 200/4, 200/4
    a, b = tables[2:4]
    assert [*a[:5], *a[6:]] == ["A", "4", "0–3", "275.0", "250.0", "265.0", "100.0 200.0 300.0 500.0"]
    # b: (500 + 500 + 500 + 460)/4 = 490, without the ends 500
    assert [*b[:5], *b[6:]] == ["B", "4", "0–3", "490.0", "500.0", "480.0", "500.0 500.0 500.0 460.0"]
    # a reaches 500 once, in four runs; b at steps 100, 100, 200, and never, so after 1, 1, 2 seconds, and never
    assert tables[6:] == [["A", "75", "3.0", "1 of 4", "never", "never"], ["B", "100", "2.0", "3 of 4", "150", "1.5"]]
    assert "first reached a mean return of 500.0" in text
    low, high = map(float, a[5].split(" to "))
    assert 100 <= low < 250 < high <= 500


def test_a_normalised_aggregate_over_environments(two_envs: Path) -> None:
    text = (two_envs / "report.md").read_text(encoding="utf-8")
    table = table_rows(text, "## Aggregate scores")
    # 0.6 + 2 seed/477.8 and 0.6 + 2 seed/399.1, the mean seed is 2.5: 0.6 + 2.5/477.8 + 2.5/399.1 = 0.61150
    assert [row[0] for row in table[2:]] == [r"A \& B \<b\>", r"\_b\_ \$x^2\$ \| \*c\*"]
    assert table[2][1] == "12" and [field.split(" ")[0] for field in table[2][2:]] == ["0.611", "0.611", "0.611", "0.389"]
    assert "1: high reference) in 2 environments, with 95 % intervals. " in text
    assert "Left out, without a finished run in one environment or more: c." in text


def test_a_normalised_aggregate_in_one_environment(one_env: Path) -> None:
    text = (one_env / "report.md").read_text(encoding="utf-8")
    a, b = ([field.split(" ")[0] for field in row] for row in table_rows(text, "## Aggregate scores")[2:])
    # (275 − 22.2)/477.8 = 0.5291, without the ends (250 − 22.2)/477.8 = 0.4768; 1 − 0.5291 = 0.4709
    assert a == ["A", "4", "0.477", "0.529", "0.529", "0.471"]
    # (490 − 22.2)/477.8 = 0.9791, without the ends 1
    assert b == ["B", "4", "1.000", "0.979", "0.979", "0.021"]
    assert "1: high reference) in one environment, with 95 % intervals. " in text and "Left out" not in text


def test_who_is_left_out_of_the_aggregate_in_one_environment(tmp_path: Path) -> None:
    other_rows = [("b", ENV, 0, "failed", "", "", "b-0", "ValueError: no")]
    results = load(write_folder(tmp_path, {("a", ENV, 0): (20.0, 30.0, 40.0)}, other_rows=other_rows))
    section = report.report_markdown(results, []).split("## Aggregate scores")[1].split("\n## ")[0]
    assert section.strip().splitlines()[-1] == "Left out, without a finished run: B."


def test_failed_and_not_applicable_runs_are_listed(two_envs: Path) -> None:
    text = (two_envs / "report.md").read_text(encoding="utf-8")
    assert "| c | CartPole-v1 | 0 | failed | RuntimeError: \\<script\\>alert(1)\\</script\\> \\| \\`x\\` \\& " in text
    assert "| c | Acrobot-v1 | – | not applicable | c has no place there |" in text
    assert "Not compared, without a finished run: c." in text.split("### Verdicts in Acrobot-v1")[1].split("## Scores")[0]
    # Of six seeds five finished.
    assert "| c | 5 of 6 | 1–5 | 43.0 | 43.0 |" in text


def test_an_environment_without_a_reference_of_its_own(tmp_path: Path) -> None:
    returns = {("a", "nowhere:Small-v0", seed): (0.1, 0.2, 0.3 + seed / 10) for seed in range(2)}
    text = report.report_markdown(load(write_folder(tmp_path, returns)), [])
    assert "| nowhere:Small-v0 | 0.100 | 0.400 | low: mean return at step 0; high: best mean return seen |" in text
    assert "| A | 2 | 0–1 | 0.350 | 0.350 | 0.300 to 0.400 | -9.650 | 0.300 0.400 |" in text


@pytest.mark.parametrize(("jobs", "text"), [(4, ", 4 runs at a time."), (1, ", 1 run at a time."), (None, ".")])
def test_how_many_runs_there_were_at_a_time(jobs: int | None, text: str) -> None:
    versions = {"versions": {"python": "3.11"}, "git_commit": "abc123", "machine": "x86_64", "cores": 2}
    line = versions_line(versions | ({"jobs": jobs} if jobs else {}))
    assert line == f"python 3.11; commit abc123; x86_64, 2 cores{text}"
