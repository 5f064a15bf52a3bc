"""The report of ``scripts/test_sb3.py``; ``make test-sb3`` runs SB3's tests themselves."""

from typing import Any

import pytest


def results(built: int = 1, **outcomes: str) -> dict[str, Any]:
    """The results of a side, in which each test has built so many PPOs."""
    return dict(
        outcomes=outcomes,
        built={test: built for test in outcomes if built},
        reasons=dict.fromkeys(outcomes, "no network"),
        left_out=5,
        files=["tests/test_run.py"],
    )


SB3S = results(a="passed", b="failed", c="skipped")


@pytest.mark.parametrize(
    ("ours", "status", "line"),
    [
        (SB3S, 0, "failed with SB3's PPO, too: b (no network)"),
        (results(a="failed", b="failed", c="skipped"), 1, "differs: a: passed with SB3's PPO, failed with ours"),
        (results(a="skipped", b="failed", c="skipped"), 1, "differs: a: passed with SB3's PPO, skipped with ours"),
        (results(a="passed", b="passed", c="skipped"), 1, "differs: b: failed with SB3's PPO, passed with ours"),
        (results(b="failed", c="skipped"), 1, "differs: a: passed with SB3's PPO, not collected with ours"),
        (results(2, **SB3S["outcomes"]), 1, "differs: a: builds 1 of SB3's PPO, 2 of ours"),
        (results(0, **SB3S["outcomes"]), 1, "no test built ours"),
    ],
)
def test_report(load_script, capsys, ours, status, line):
    assert load_script("test_sb3").report(SB3S, ours) == status
    assert line in capsys.readouterr().out


def test_the_last_line_counts_our_outcomes(load_script, capsys):
    load_script("test_sb3").report(SB3S, results(a="passed", b="passed", c="skipped"))
    assert capsys.readouterr().out.splitlines()[-1] == "SB3's tests with our PPO: 2 passed, 0 failed, 1 skipped"


def test_no_tests_is_an_error(load_script, monkeypatch, capsys):
    script = load_script("test_sb3")

    def fetch():
        raise OSError("no network")

    monkeypatch.setattr(script, "fetch_tests", fetch)
    assert script.main([]) == 2
    assert "cannot run the tests of stable-baselines3" in capsys.readouterr().err
