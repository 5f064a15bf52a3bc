"""Contenders read from a command line, and the runs that follow from them."""

from crashalgos.experiments.comparison.contenders import Contender, read_contenders, runs_of


def test_algorithms_and_variants_are_read_once_each() -> None:
    texts = ["ppo", "fast=ppo{n_steps: 16, first_seed: 5}", "ppo"]
    assert read_contenders(texts) == [
        Contender("ppo", "PPO", "ppo"),
        Contender("fast", "fast (PPO)", "ppo", {"n_steps": 16}, first_seed=5, index=1),
    ]


def test_a_variant_runs_with_its_overrides_and_seeds() -> None:
    [contender] = read_contenders(["fast=ppo{n_steps: 16, batch_size: 64, first_seed: 5}"])
    runs = runs_of(contender, "CartPole-v1", n_timesteps=100, seeds=2, common={"track": False})
    assert [(run.name, run.seed, run.settings.n_timesteps, run.track) for run in runs] == [
        ("fast-CartPole-v1-seed5", 5, 100, False),
        ("fast-CartPole-v1-seed6", 6, 100, False),
    ]
    assert runs[0].settings.hyperparameters["n_steps"] == 16
