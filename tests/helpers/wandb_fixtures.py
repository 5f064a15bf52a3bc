"""Fixtures for W&B: no account, nothing outside the test's own folder, a server on loopback."""

import json
import subprocess
from pathlib import Path

import pytest
import wandb
from wandb.util import get_core_path

from tests.helpers.wandb_server import WandbServer

# What clients ask for, and go on without: the name of an artifact's type, and who hosts the server
CLIENTS_DO_WITHOUT = {"ArtifactType", "OrganizationCoreWeaveOrganizationID"}


@pytest.fixture
def no_account(monkeypatch, tmp_path):
    """Removes the key; everything that W&B writes lands in ``tmp_path``."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DATA_DIR", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.chdir(tmp_path)
    yield
    wandb.teardown()  # W&B reads the environment once per session


class RunOnDisk:
    """The folder of a run, as ``wandb leet inspect`` reads it but without its second to start."""

    def __init__(self, folder: Path):
        [file] = folder.glob("*.wandb")
        options = ["--no-observability", "--json", "--run-file", str(file)]
        command = [get_core_path(), "leet", "inspect", *options, str(folder)]
        answer = subprocess.run(command, capture_output=True, text=True, timeout=240, check=True)
        self.records = [json.loads(line) for line in answer.stdout.splitlines()]

    def of_type(self, kind):
        return [record[kind] for record in self.records if record["type"] == kind]

    @property
    def header(self):
        return self.of_type("run")[0]

    @property
    def config(self):
        return self.header["config"]["update"]

    @property
    def rows(self):
        """The logged rows, without what W&B adds to them."""
        items = [record["item"] for record in self.of_type("history")]
        return [{key: value for key, value in item.items() if not key.startswith("_")} for item in items]

    def series(self, key):
        return [(row["global_step"], row[key]) for row in self.rows if key in row]


@pytest.fixture
def read_run():
    """Reads the folder of a run."""
    return RunOnDisk


@pytest.fixture
def server(monkeypatch):
    """A W&B server, with which this test's clients connect."""
    with WandbServer() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield server
        assert set(server.unknown) <= CLIENTS_DO_WITHOUT


@pytest.fixture
def impatient(monkeypatch):
    """Makes clients give up on a server's answer about a model after seconds, not 19."""
    # WANDB_HTTP_TIMEOUT, as W&B has read it when it was imported
    monkeypatch.setattr("wandb.apis.public.api.Api._HTTP_TIMEOUT", 3)
