import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import tyro
import yaml

from crashalgos.experiments.comparison.contenders import read_contenders
from tests.experiments.comparison.folders import write_folder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def study(load_script: Callable[[str], ModuleType]) -> ModuleType:
    return load_script("study")


def test_the_published_study_is_one_that_can_be_made() -> None:
    config = yaml.safe_load((ROOT / "scripts" / "study.yaml").read_text(encoding="utf-8"))
    names = [contender.name for contender in read_contenders(config["contenders"])]
    rungs = [name for ladder in config["ladder"] for name in ladder]
    assert set(rungs) < set(names)
    assert {"sb3-ppo", "sb3-a2c", "trpo", "ars"} == set(names) - set(rungs)
    seeds = {env: entry["seeds"] for entry in config["comparisons"].values() for env in entry["envs"]}
    assert seeds == {"CartPole-v1": 10, "Acrobot-v1": 10, "LunarLander-v3": 5, "Pendulum-v1": 5}


def test_a_study_from_its_file_to_its_page(
    study: ModuleType, load_script: Callable[[str], ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compare = load_script("compare")
    content = {
        "contenders": ["low=reinforce{n_trajectories: 8}", "baseline-pg"],
        "ladder": [["low", "baseline-pg"]],
        "comparisons": {"the first": {"envs": ["CartPole-v1"], "seeds": 3, "n_timesteps": 200}},
    }
    config = tmp_path / "study.yaml"
    config.write_text(yaml.safe_dump(content), encoding="utf-8")
    asked = []

    def run(command: list[str]) -> SimpleNamespace:
        """In the place of compare.py: what it would be asked for, and a folder as it leaves it."""
        assert command[:2] == [sys.executable, str(ROOT / "scripts" / "compare.py")]
        asked.append(tyro.cli(compare.CompareOptions, args=command[2:]))
        low = {("low", "CartPole-v1", seed): (0.0, 10.0, 20.0) for seed in range(3)}
        high = {("baseline-pg", "CartPole-v1", seed): (0.0, 40.0, 100.0) for seed in range(3)}
        write_folder(asked[-1].output, low | high)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(study.subprocess, "run", run)
    arguments = ["--config", str(config), "--output", str(tmp_path / "out"), "--jobs", "2"]
    assert study.main(arguments) == 0
    [options] = asked
    assert options.algos == tuple(content["contenders"]) and options.envs == ("CartPole-v1",) and not options.track
    assert (options.seeds, options.n_timesteps, options.jobs) == (3, 200, 2)
    page = (tmp_path / "out" / "ladder.md").read_text(encoding="utf-8")
    assert "| LOW → BASELINE-PG | +80.0" in page
    assert all((tmp_path / "out" / name).exists() for name in ("ladder.png", "peers.png"))

    (tmp_path / "out" / "ladder.md").unlink()
    assert study.main([*arguments, "--no-train"]) == 0 and len(asked) == 1
    assert (tmp_path / "out" / "ladder.md").read_text(encoding="utf-8") == page
    monkeypatch.setattr(study.subprocess, "run", lambda command: SimpleNamespace(returncode=1))
    assert study.main(arguments) == 1


def test_mistakes_are_one_line(study: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty.yaml").write_text("contenders: []", encoding="utf-8")
    for config in ("empty.yaml", "missing.yaml"):
        assert study.main(["--config", str(tmp_path / config), "--output", str(tmp_path)]) == 2
    assert study.main(["--output", str(tmp_path), "--no-train"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3 and all(line.startswith("study.py: error: ") for line in lines)
    assert "empty.yaml" in lines[0] and "missing.yaml" in lines[1] and "no comparison" in lines[2]
