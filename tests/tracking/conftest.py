"""Fixtures: no account, no prompt, nothing outside the test's own folder; and a W&B server on loopback."""

import gzip
import json
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import wandb


@pytest.fixture(autouse=True)
def no_account(monkeypatch, tmp_path):
    """A machine without a key, where everything that W&B writes lands in ``tmp_path``."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_DATA_DIR", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NETRC", str(tmp_path / "home" / "netrc"))
    monkeypatch.chdir(tmp_path)
    yield
    wandb.teardown()  # W&B reads the environment once per session


class RunOnDisk:
    """A run's folder as ``wandb leet inspect`` reads it."""

    def __init__(self, folder: Path):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(folder)]
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
    return RunOnDisk


class Server:
    """As much of a W&B server as a client needs to upload one run: it keeps the rows in the order of their offsets."""

    def __init__(self):
        self.rows: dict[int, dict] = {}
        self.operations: list[str] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *args):
                pass

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                if self.path == "/graphql":
                    answer = server.graphql(json.loads(body))
                else:
                    server.keep(self.path, body)
                    answer = {}
                content = json.dumps(answer).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def keep(self, path, body):
        if not path.endswith("/file_stream"):
            return
        history = json.loads(body).get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for i, line in enumerate(history["content"]):
            self.rows[history["offset"] + i] = json.loads(line)

    def graphql(self, request):
        operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]
        known = "UpsertBucket" in self.operations
        self.operations.append(operation)
        project = {"id": "P", "name": "p", "entity": {"id": "E", "name": "me"}}
        bucket = {"id": "B", "name": request["variables"].get("name"), "displayName": "d", "config": "{}", "project": project}
        tail = json.dumps([json.dumps({"_step": len(self.rows) - 1, "_runtime": 1})] if self.rows else [])
        resumed = {
            **bucket,
            "summaryMetrics": "{}",
            "historyLineCount": len(self.rows),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": tail,
            "eventsTail": "[]",
            "tags": [],
            "wandbConfig": '{"t": 1}',
        }
        data = {
            "Viewer": {"viewer": {"id": "V", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}},
            "ServerFeaturesQuery": {"serverInfo": {"features": []}},
            "UpsertBucket": {"upsertBucket": {"bucket": bucket, "inserted": not known}},
            "RunResumeStatus": {"model": {**project, "bucket": resumed if known else None}},
        }
        return {"data": data[operation]} if operation in data else {"errors": [{"message": f"unknown {operation}"}]}


@pytest.fixture
def server(monkeypatch):
    server = Server()
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "local-" + 40 * "a")
    yield server
    server.stop()
