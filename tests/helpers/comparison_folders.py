"""Folders of small comparisons, whose numbers can be computed by hand."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RUNS_HEADER = "contender,env,seed,status,num_timesteps,seconds,folder,reason"
EVALUATIONS_HEADER = "contender,env,seed,step,num_timesteps,seconds,mode,episode,return,length"
STEPS = (0, 100, 200)

Key = tuple[str, str, int]


def write_folder(
    folder: Path,
    returns: Mapping[Key, Sequence[float]],
    *,
    seconds: Mapping[Key, float] | None = None,
    stochastic: Mapping[Key, Sequence[float]] | None = None,
    other_rows: Sequence[Sequence[Any]] = (),
    labels: Mapping[str, str] | None = None,
    seeds: int | None = None,
    config: Mapping[str, Any] | None = None,
) -> Path:
    """
    Writes the folder of a comparison.

    :param returns: for each finished run the mean returns at ``STEPS``; its two episodes are 1 below and 1 above it
    :param seconds: training seconds of a run, by default 2
    :param stochastic: as ``returns``, for the stochastic policy; by default 10 less
    :param other_rows: rows of ``runs.csv`` for other runs
    :param labels: labels of the contenders, by default their names in capitals
    :param seeds: planned number of seeds, by default that of the contender with most runs
    :param config: other content of ``config.json``
    :return: the folder
    """
    folder.mkdir(parents=True, exist_ok=True)
    keys = [*returns, *((row[0], row[1], row[2]) for row in other_rows)]
    names, envs = (list(dict.fromkeys(key[i] for key in keys)) for i in (0, 1))
    counts = [sum((key[0], key[1]) == (name, env) for key in keys) for name in names for env in envs]
    content = {
        "contenders": [
            {"name": name, "label": (labels or {}).get(name, name.upper()), "algo": "ppo", "overrides": {}} for name in names
        ],
        "envs": envs,
        "seeds": max(counts) if seeds is None else seeds,
        "n_timesteps": STEPS[-1],
        "eval_freq": STEPS[1],
        "eval_episodes": 2,
        "checkpoint_freq": STEPS[1],
        "device": "cpu",
        "command": f"python scripts/compare.py --algos {' '.join(names)}",
        "settings": {name: {env: {"n_envs": 1, "policy": "MlpPolicy"} for env in envs} for name in names},
        "untuned": "",
    }
    (folder / "config.json").write_text(json.dumps(content | dict(config or {})), encoding="utf-8")
    versions = {"versions": {"python": "3.11"}, "git_commit": "abc123", "machine": "x86_64", "cores": 2}
    (folder / "versions.json").write_text(json.dumps(versions), encoding="utf-8")

    runs: list[Sequence[Any]] = []
    evaluations: list[Sequence[Any]] = []
    for key, means in returns.items():
        took = (seconds or {}).get(key, 2.0)
        runs.append((*key, "finished", STEPS[-1], took, "-".join(map(str, key)), ""))
        of_modes = {"deterministic": means, "stochastic": (stochastic or {}).get(key, [mean - 10 for mean in means])}
        for mode, values in of_modes.items():
            for step, mean in zip(STEPS, values, strict=True):
                for episode, value in enumerate((mean - 1, mean + 1)):
                    evaluations.append((*key, step, step, took * step / STEPS[-1], mode, episode, value, 7))
    write_csv(folder / "runs.csv", RUNS_HEADER, [*runs, *other_rows])
    write_csv(folder / "evaluations.csv", EVALUATIONS_HEADER, evaluations)
    return folder


def write_csv(path: Path, header: str, rows: Sequence[Sequence[Any]]) -> None:
    """Writes a CSV file; the header has commas between its columns."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header.split(","))
        writer.writerows(rows)


def four_seeds(folder: Path) -> Path:
    """
    Writes two contenders on CartPole-v1, with four seeds each.

    The reference is 22.2 to 500. One run of a reaches 500, three runs of b do.
    """
    env = "CartPole-v1"
    a = {("a", env, seed): (20.0, 50.0, final) for seed, final in enumerate((100.0, 200.0, 300.0, 500.0))}
    b = {("b", env, seed): (20.0, middle, 500.0) for seed, middle in enumerate((500.0, 500.0, 400.0))}
    b[("b", env, 3)] = (20.0, 30.0, 460.0)
    seconds = {("a", env, 2): 4.0, ("a", env, 3): 4.0}
    return write_folder(folder, a | b, seconds=seconds)


def three_contenders(folder: Path) -> Path:
    """
    Writes three contenders in two environments.

    b has the evaluations of a. c has failed once in one environment, and is not applicable in the other. The labels and the
    reason have signs with a meaning in Markdown and HTML.
    """
    cart_pole, acrobot = "CartPole-v1", "Acrobot-v1"
    returns = {
        (name, env, seed): (low, low + 0.4 * span + seed, low + 0.6 * span + 2 * seed)
        for name in ("a", "b")
        for env, low, span in ((cart_pole, 22.2, 477.8), (acrobot, -499.1, 399.1))
        for seed in range(6)
    }
    returns |= {("c", cart_pole, seed): (22.2, 30.0, 40.0 + seed) for seed in range(1, 6)}
    other_rows = [
        (
            "c",
            cart_pole,
            0,
            "failed",
            "",
            "",
            "c-0",
            "RuntimeError: <script>alert(1)</script> | `x` & [y](http://example.org)",
        ),
        ("c", acrobot, "", "not applicable", "", "", "", "c has no place there"),
    ]
    labels = {"a": "A & B <b>", "b": "_b_ $x^2$ | *c*", "c": "c"}
    return write_folder(folder, returns, other_rows=other_rows, labels=labels, seeds=6)
