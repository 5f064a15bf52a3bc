from collections.abc import Callable
from types import ModuleType

import pytest


def test_ratios_are_those_of_each_round(
    load_script: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark = load_script("benchmark")
    order: list[tuple[str, int]] = []

    def steps_per_second(algo: str, n_timesteps: int, seed: int) -> float:
        order.append((algo, seed))
        # The machine is twice as fast in each round; the first one warms up and does not count.
        return {"sb3-ppo": 100.0, "ppo": [0.0, 300.0, 200.0, 250.0][seed]}[algo] * 2**seed

    monkeypatch.setattr(benchmark, "steps_per_second", steps_per_second)
    assert benchmark.main(["--algos", "ppo", "--repeats", "3"]) == 0
    assert order == [(algo, seed) for seed in range(4) for algo in ("sb3-ppo", "ppo")]
    output = capsys.readouterr().out
    assert "2.50 (2.00 to 3.00)" in output and "1.00 (1.00 to 1.00)" in output


def test_a_training_is_timed(load_script: Callable[[str], ModuleType]) -> None:
    assert load_script("benchmark").steps_per_second("reinforce", 100, seed=0) > 0


def test_an_unknown_algorithm(load_script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]) -> None:
    assert load_script("benchmark").main(["--algos", "nope", "--n-timesteps", "10", "--repeats", "1"]) == 2
    assert capsys.readouterr().err.startswith("benchmark.py: error: unknown algorithm 'nope'")
