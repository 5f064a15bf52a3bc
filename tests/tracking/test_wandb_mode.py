"""Before its first run, a grid checks whether its runs can be online."""

import os
import socket
import time

import pytest

from crashalgos.tracking.wandb_mode import choose_wandb_mode


@pytest.fixture
def no_mode(monkeypatch):
    """Removes ``WANDB_MODE``; what the test sets is undone after it."""
    monkeypatch.setenv("WANDB_MODE", "")
    monkeypatch.delenv("WANDB_MODE")


@pytest.fixture(params=[None, "online"])
def mode(request, no_mode, monkeypatch):
    if request.param is not None:
        monkeypatch.setenv("WANDB_MODE", request.param)
    return request.param


def offline_because(capsys):
    choose_wandb_mode()
    assert os.environ["WANDB_MODE"] == "offline"
    [line] = capsys.readouterr().out.splitlines()
    return line


def test_runs_are_online_where_the_server_takes_the_key(mode, server, capsys):
    choose_wandb_mode()
    assert os.environ.get("WANDB_MODE") == mode and capsys.readouterr().out == ""


def test_runs_are_offline_if_the_server_cannot_be_reached(mode, monkeypatch, server, capsys):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
    monkeypatch.setenv("WANDB_BASE_URL", url)
    assert offline_because(capsys).startswith(f"W&B: {url} cannot be reached (")


def test_runs_are_offline_without_a_key(mode, monkeypatch, server, capsys):
    monkeypatch.delenv("WANDB_API_KEY")
    assert "no API key (`wandb login`" in offline_because(capsys)


def test_runs_are_offline_if_the_server_refuses_the_key(no_mode, server, capsys):
    server.refuses_key = True
    line = offline_because(capsys)
    assert server.url in line and "`wandb login --relogin`" in line


def test_runs_are_offline_if_the_key_has_the_wrong_form(no_mode, monkeypatch, server, capsys):
    monkeypatch.setenv("WANDB_API_KEY", "too-short")
    assert "`wandb login --relogin`" in offline_because(capsys)


def test_runs_are_offline_if_the_server_takes_connections_and_does_not_answer(no_mode, monkeypatch, server, capsys):
    monkeypatch.setenv("WANDB_HTTP_TIMEOUT", "1")
    server.seconds_to_answer = 60.0
    begun = time.monotonic()
    assert server.url in offline_because(capsys) and time.monotonic() - begun < 50.0


@pytest.mark.parametrize("wanted", ["offline", "disabled"])
def test_where_nothing_goes_online_no_server_is_looked_for(wanted, monkeypatch, server, capsys):
    monkeypatch.setenv("WANDB_MODE", wanted)
    choose_wandb_mode()
    assert os.environ["WANDB_MODE"] == wanted and capsys.readouterr().out == "" and server.operations == []
