import os
import socket
import time
from dataclasses import replace
from pathlib import Path

import pytest

from crashalgos.experiments.grid import RunFailure
from crashalgos.experiments.run import RunConfig, RunResult
from crashalgos.experiments.settings import Settings
from crashalgos.experiments.wandb_runs import choose_wandb_mode, wandb_place
from tests.tracking.conftest import no_account, server  # noqa: F401 (fixtures of this file, too)
from tests.wandb_server import WandbServer

CONFIGS = [RunConfig("ppo", "CartPole-v1", Settings(), Path("out") / str(seed), seed=seed) for seed in (0, 1)]


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
    assert wandb_place(results) == place


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
    assert wandb_place(results) == f"2 runs online, {page}; copies in out/*/wandb"


def test_a_failed_runs_wandb_folder_counts_and_paths_are_quoted(tmp_path: Path) -> None:
    config = replace(CONFIGS[0], folder=tmp_path / "my out" / "0")
    failure = RunFailure(config, "ValueError: no luck")
    assert wandb_place([failure]) == "none"
    (config.folder / "wandb" / "offline-run-1-a").mkdir(parents=True)
    (config.folder / "wandb" / "latest-run").symlink_to("offline-run-1-a")
    pattern = f"'{tmp_path / 'my out'}'/*/wandb"
    expected = f"1 runs in {pattern}; to upload those made offline: wandb sync {pattern}/offline-run-*"
    assert wandb_place([failure]) == expected


@pytest.fixture
def no_mode(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the test sets is undone after it."""
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.delenv("WANDB_MODE")


@pytest.fixture(params=[None, "online"])
def mode(request: pytest.FixtureRequest, no_mode: None, monkeypatch: pytest.MonkeyPatch) -> str | None:
    if request.param is not None:
        monkeypatch.setenv("WANDB_MODE", request.param)
    return request.param


def offline_because(capsys: pytest.CaptureFixture[str]) -> str:
    choose_wandb_mode()
    assert os.environ["WANDB_MODE"] == "offline"
    [line] = capsys.readouterr().out.splitlines()
    return line


def test_runs_are_online_where_the_server_takes_the_key(
    mode: str | None,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],  # noqa: F811
) -> None:
    choose_wandb_mode()
    assert os.environ.get("WANDB_MODE") == mode and capsys.readouterr().out == ""


def test_runs_are_offline_if_the_server_cannot_be_reached(
    mode: str | None,
    monkeypatch: pytest.MonkeyPatch,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],  # noqa: F811
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("WANDB_BASE_URL", url)
    assert offline_because(capsys).startswith(f"W&B: {url} cannot be reached (")


def test_runs_are_offline_without_a_key(
    mode: str | None,
    monkeypatch: pytest.MonkeyPatch,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],  # noqa: F811
) -> None:
    monkeypatch.delenv("WANDB_API_KEY")
    assert "no API key (`wandb login`" in offline_because(capsys)


def test_runs_are_offline_if_the_server_refuses_the_key(
    no_mode: None,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],  # noqa: F811
) -> None:
    server.refuses_key = True
    line = offline_because(capsys)
    assert server.url in line and "`wandb login --relogin`" in line


def test_runs_are_offline_if_the_key_has_the_wrong_form(
    no_mode: None,
    monkeypatch: pytest.MonkeyPatch,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],  # noqa: F811
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    assert "`wandb login --relogin`" in offline_because(capsys)


def test_runs_are_offline_if_the_server_takes_connections_and_does_not_answer(
    no_mode: None,
    monkeypatch: pytest.MonkeyPatch,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],  # noqa: F811
) -> None:
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    server.seconds_to_answer = 60.0
    begun = time.monotonic()
    assert server.url in offline_because(capsys) and time.monotonic() - begun < 50.0


@pytest.mark.parametrize("wanted", ["offline", "disabled"])
def test_where_nothing_goes_online_no_server_is_looked_for(
    wanted: str,
    monkeypatch: pytest.MonkeyPatch,
    server: WandbServer,
    capsys: pytest.CaptureFixture[str],  # noqa: F811
) -> None:
    monkeypatch.setenv("WANDB_MODE", wanted)
    choose_wandb_mode()
    assert os.environ["WANDB_MODE"] == wanted and capsys.readouterr().out == "" and server.operations == []
