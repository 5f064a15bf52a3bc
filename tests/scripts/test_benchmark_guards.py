"""The measurement of what guards cost."""

from scripts.benchmark import guards
from tests.helpers.compiling import without_code


def test_it_measures_a_step_and_a_forward_pass_in_three_ways(monkeypatch, capsys) -> None:
    monkeypatch.setattr(guards, "CALLS", 2)
    monkeypatch.setattr(guards, "REPEATS", 1)
    with without_code():
        guards.main()
    lines = capsys.readouterr().out.splitlines()
    ways = ("without guards", "with guards", "skip_guard_eval_unsafe")
    assert [line.split(":")[0] for line in lines] == [
        f"{what}, {way}" for what in ("gradient step", "forward pass") for way in ways
    ]
    assert lines[0].endswith("1.00 × without guards") and all(float(line.split()[-4]) > 0 for line in lines)
