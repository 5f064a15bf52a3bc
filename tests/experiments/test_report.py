import csv
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from crashalgos.experiments import plots, report
from crashalgos.experiments.evaluation import Evaluation
from crashalgos.experiments.grid import RunFailure
from crashalgos.experiments.registry import ALGORITHMS
from crashalgos.experiments.run import RunConfig, RunResult
from crashalgos.experiments.settings import Settings

# Two seeds of PPO, whose last evaluations have the means 15 and 25, and a failed run.
SETTINGS = Settings(n_timesteps=100, n_envs=2, hyperparameters={"gamma": 0.9}, tuned=True)
CONFIGS = [RunConfig("ppo", "CartPole-v1", SETTINGS, Path("out") / str(seed), seed=seed, eval_episodes=2) for seed in (0, 1)]
RESULTS = [
    RunResult(
        CONFIGS[0], 120, 2.0, [Evaluation(0, 0, [1.0, 3.0], [1, 3]), Evaluation(100, 100, [10.0, 20.0], [10, 20])], None
    ),
    RunResult(
        CONFIGS[1], 120, 4.0, [Evaluation(0, 0, [5.0, 5.0], [5, 5]), Evaluation(100, 102, [25.0, 25.0], [25, 25])], None
    ),
]
FAILURE = RunFailure(RunConfig("trpo", "CartPole-v1", SETTINGS, Path("out/trpo")), "Traceback …\nValueError: no luck\n")


def read(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_summary_has_mean_seeds_speed_and_time() -> None:
    # Returns 15 and 25; 120 steps in 2 and in 4 s
    assert report.summary_rows(RESULTS) == [("CartPole-v1", "PPO", "20.0", "15.0 25.0", "45", "3.0")]


def test_evaluations_are_tidy(tmp_path: Path) -> None:
    report.write_evaluations(RESULTS, tmp_path / "e.csv")
    rows = read(tmp_path / "e.csv")
    assert len(rows) == 4
    assert rows[1] == {
        "algorithm": "ppo",
        "env": "CartPole-v1",
        "seed": "0",
        "step": "100",
        "num_timesteps": "100",
        "return": "15.0",
        "return_std": "5.0",
        "length": "15.0",
        "n_episodes": "2",
    }


def test_runs_include_the_failed(tmp_path: Path) -> None:
    report.write_runs([*RESULTS, FAILURE], tmp_path / "r.csv")
    rows = read(tmp_path / "r.csv")
    assert [(row["algorithm"], row["status"], row["final_return"]) for row in rows] == [
        ("ppo", "finished", "15.0"),
        ("ppo", "finished", "25.0"),
        ("trpo", "failed", ""),
    ]
    assert rows[0]["steps_per_second"] == "60.0" and rows[0]["folder"] == "0"


def test_report_has_table_command_settings_and_failures(tmp_path: Path) -> None:
    table = report.markdown_table(report.COLUMNS, report.summary_rows(RESULTS))
    report.write_report(
        [*RESULTS, FAILURE], tmp_path / "report.md", "Title", "make it", table, "A note.", Path("x/figure.png")
    )
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "| CartPole-v1 | PPO | 20.0 | 15.0 25.0 | 45 | 3.0 |" in text
    assert "![Title](figure.png)" in text
    assert "```\nmake it\n```" in text
    assert "- trpo-CartPole-v1-seed0: ValueError: no luck" in text
    assert "untuned" not in text
    assert "ppo:\n  CartPole-v1:\n    n_envs: 2\n    n_timesteps: 100\n    policy: MlpPolicy\n    gamma: 0.9\n" in text


def test_report_names_what_is_not_tuned(tmp_path: Path) -> None:
    failure = replace(FAILURE, config=replace(FAILURE.config, settings=Settings()))
    report.write_report([*RESULTS, failure], tmp_path / "report.md", "Title", "make it", "", "", None)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "## Settings\n\nclass defaults (untuned): trpo on CartPole-v1.\n" in text


@pytest.mark.parametrize(
    ("folders", "place"),
    [
        ([None, None], "none"),
        (["run-1-a", "run-1-b"], "2 runs online, project crashalgos; copies in out/*/wandb"),
        (
            ["offline-run-1-a", "offline-run-1-b"],
            "2 runs in out/*/wandb; to upload those made offline: wandb sync out/*/wandb/offline-run-*",
        ),
    ],
)
def test_where_the_wandb_runs_are(folders: list[str | None], place: str) -> None:
    results = [
        RunResult(config, 1, 1.0, [], None if folder is None else config.folder / "wandb" / folder)
        for config, folder in zip(CONFIGS, folders, strict=True)
    ]
    assert report.wandb_place(results) == place


@pytest.mark.parametrize(
    ("urls", "page"),
    [
        (["https://host/me/project/runs/a", "https://host/me/project/runs/b"], "https://host/me/project"),
        (["https://host/me/project/runs/a", "https://host/you/project/runs/b"], "https://host/me/project/runs/a"),
        (["https://host/me/project/runs/a", None], "https://host/me/project"),
    ],
)
def test_where_the_wandb_runs_are_online(urls: list[str | None], page: str) -> None:
    results = [
        RunResult(config, 1, 1.0, [], config.folder / "wandb" / "run-1", url)
        for config, url in zip(CONFIGS, urls, strict=True)
    ]
    assert report.wandb_place(results) == f"2 runs online, {page}; copies in out/*/wandb"


def test_a_failed_runs_wandb_folder_counts_and_paths_are_quoted(tmp_path: Path) -> None:
    config = replace(CONFIGS[0], folder=tmp_path / "my out" / "0")
    failure = RunFailure(config, "ValueError: no luck")
    assert report.wandb_place([failure]) == "none"
    (config.folder / "wandb" / "offline-run-1-a").mkdir(parents=True)
    (config.folder / "wandb" / "latest-run").symlink_to("offline-run-1-a")
    pattern = f"'{tmp_path / 'my out'}'/*/wandb"
    expected = f"1 runs in {pattern}; to upload those made offline: wandb sync {pattern}/offline-run-*"
    assert report.wandb_place([failure]) == expected


def test_reproducing_command_has_what_is_given() -> None:
    options = SimpleNamespace(algos=("ppo", "a b"), seeds=None, n_updates=3)
    command = report.reproducing_command("scripts/x.py", options, ("algos", "seeds", "n_updates"))
    assert command == "python scripts/x.py --algos ppo 'a b' --n-updates 3"


def test_figure_shows_every_seed_and_the_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[Any] = []
    savefig = Figure.savefig
    monkeypatch.setattr(
        Figure, "savefig", lambda figure, *args, **kwargs: [drawn.append(figure), savefig(figure, *args, **kwargs)]
    )
    plots.learning_curves(RESULTS, tmp_path / "figure.png")
    (panel,) = drawn[0].axes
    lines = [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in panel.lines]
    assert lines == [([0, 100], [2.0, 15.0]), ([0, 100], [5.0, 25.0]), ([0, 100], [3.5, 20.0])]
    assert panel.get_xlabel() == "environment steps"
    assert panel.get_ylabel() == "episode return [reward], mean of 2 episodes"
    assert [text.get_text() for text in panel.get_legend().get_texts()] == ["PPO, 2 seeds", "one seed"]
    assert (tmp_path / "figure.png").stat().st_size > 10_000


def test_algorithms_look_different() -> None:
    assert len(set(plots.COLORS.values())) == len(set(ALGORITHMS)) == len(plots.LINES)
