"""A W&B server on loopback, with what real clients need of it, and with its failures."""

import gzip
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "local-" + 40 * "a"


@dataclass
class RunOnServer:
    """
    What has arrived of one run.

    ``fields`` are the variables of its UpsertBucket: groupName, jobType, tags, config, …
    """

    fields: dict[str, Any] = field(default_factory=dict)
    lines: dict[int, dict[str, Any]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The logged rows, without what W&B adds to them."""
        return [{k: v for k, v in row.items() if not k.startswith("_")} for _, row in sorted(self.lines.items())]

    @property
    def config(self) -> dict[str, Any]:
        return {name: entry["value"] for name, entry in json.loads(self.fields["config"]).items() if "value" in entry}


@dataclass
class ArtifactOnServer:
    run: str
    name: str
    type: str
    aliases: list[str]
    metadata: dict[str, Any]
    digest: str
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False


class WandbServer:
    """
    A server that keeps what clients send.

    :ivar runs: by id
    :ivar artifacts: in the order of their creation
    :ivar sweeps: configurations (YAML texts) in the order of their creation
    :ivar trials: arguments of the runs that sweep agents have not started yet
    :ivar operations: the GraphQL operations that clients asked for
    :ivar unknown: those of them that the server does not know
    :ivar refuses_key: it answers 401 to everything
    :ivar seconds_to_answer: how long it waits before each answer
    :ivar fails: it answers 500 to everything
    """

    def __init__(self) -> None:
        self.runs: dict[str, RunOnServer] = {}
        self.artifacts: list[ArtifactOnServer] = []
        self.sweeps: list[str] = []
        self.trials: list[dict[str, Any]] = []
        self.trials_begun = 0
        self.operations: list[str] = []
        self.unknown: list[str] = []
        self.refuses_key = False
        self.seconds_to_answer = 0.0
        self.fails = False
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self._thread = threading.Thread(target=self.http.serve_forever, daemon=True)
        self._thread.start()

    @property
    def run(self) -> RunOnServer:
        """The only run."""
        [run] = self.runs.values()
        return run

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which a client's process finds the server."""
        return {"WANDB_BASE_URL": self.url, "WANDB_API_KEY": KEY}

    def __enter__(self) -> "WandbServer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stops answering; may be called again."""
        self._stopped.set()
        self.http.shutdown()
        self.http.server_close()
        self._thread.join()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, dict[str, Any]]:
        self._stopped.wait(self.seconds_to_answer)
        with self._lock:
            if self.refuses_key:
                return 401, {"errors": [{"message": "user is not logged in"}]}
            if self.fails:
                return 500, {"errors": [{"message": "the server is broken"}]}
            if path == "/graphql":
                return 200, self._graphql(json.loads(body))
            if path.endswith("/file_stream"):
                self._stream(self._run(path.split("/")[4]), json.loads(body))
            elif path.startswith("/run/"):
                _, _, name, file = path.split("/", 3)
                self._run(name).files[file] = body
            elif path.startswith("/artifact/"):
                _, _, index, file = path.split("/", 3)
                self.artifacts[int(index)].files[file] = body
            return 200, {}

    def _run(self, name: str) -> RunOnServer:
        return self.runs.setdefault(name, RunOnServer())

    def _stream(self, run: RunOnServer, body: dict[str, Any]) -> None:
        history = body.get("files", {}).get("wandb-history.jsonl", {"offset": 0, "content": []})
        for i, line in enumerate(history["content"]):
            run.lines[history["offset"] + i] = json.loads(line)
        if body.get("complete"):
            run.exit_code = body["exitcode"]

    def _graphql(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = re.search(r"(?:query|mutation)\s+(\w+)", request["query"])[1]  # type: ignore[index]
        self.operations.append(operation)
        method = getattr(self, f"_{operation}", None)
        if method is None:
            self.unknown.append(operation)
            return {"errors": [{"message": f"unknown {operation}"}]}
        return {"data": method(request.get("variables") or {})}

    # GraphQL: one method an operation, with its name.

    def _bucket(self, name: str) -> dict[str, Any]:
        fields = self._run(name).fields
        return {
            "id": f"id-{name}",
            "name": name,
            "displayName": fields.get("displayName", "some-name"),
            "config": "{}",
            "sweepName": fields.get("sweep"),
            "project": _project(fields.get("project", "p")),
        }

    def _Viewer(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"viewer": {"id": "V", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}

    def _ServerFeaturesQuery(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        new = variables["name"] not in self.runs
        given = {name: value for name, value in variables.items() if value not in (None, [])}
        self._run(variables["name"]).fields.update(given)
        return {"upsertBucket": {"bucket": self._bucket(variables["name"]), "inserted": new}}

    def _RunResumeStatus(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        if name not in self.runs:
            return {"model": {**_project("p"), "bucket": None}}
        lines = self.runs[name].lines
        last = {"_step": len(lines) - 1, "_runtime": 1}
        status = {
            "summaryMetrics": "{}",
            "historyLineCount": len(lines),
            "logLineCount": 0,
            "eventsLineCount": 0,
            "historyTail": json.dumps([json.dumps(last)] if lines else []),
            "eventsTail": "[]",
            "tags": self.runs[name].fields.get("tags", []),
            "wandbConfig": '{"t": 1}',
        }
        return {"model": {**_project("p"), "bucket": self._bucket(name) | status}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        files = [{"name": name, "uploadUrl": f"{self.url}/run/{variables['run']}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": f"id-{variables['run']}", "uploadHeaders": [], "files": files}}

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        given = variables["input"]
        aliases = sorted(alias["alias"] for alias in given["aliases"])
        metadata = json.loads(given["metadata"] or "{}")
        name, kind = given["artifactCollectionName"], given["artifactTypeName"]
        for earlier in self.artifacts:  # an alias is that of one version
            if earlier.name == name:
                earlier.aliases = [alias for alias in earlier.aliases if alias not in aliases]
        self.artifacts.append(ArtifactOnServer(given["runName"], name, kind, aliases, metadata, given["digest"]))
        sequence = {"id": name, "latestArtifact": None}
        artifact = {"id": str(len(self.artifacts) - 1), "state": "PENDING", "artifactSequence": sequence}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        upload = {"uploadUrl": f"{self.url}/artifact/{variables['artifactID']}/{name}", "uploadHeaders": []}
        file = {"id": "F", "name": name, "displayName": name, **upload}
        manifest = {"id": variables["artifactID"], "file": file}
        return {"createArtifactManifest": {"artifactManifest": manifest}}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        nodes = [
            {
                "id": str(i),
                "name": file["name"],
                "displayName": file["name"],
                "uploadUrl": f"{self.url}/artifact/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "artifact": {"id": file["artifactID"]},
                "storagePath": file["name"],
            }
            for i, file in enumerate(variables["input"]["artifactFiles"])
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CommitArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = self.artifacts[int(variables["artifactID"])]
        artifact.committed = True
        return {"commitArtifact": {"artifact": {"id": variables["artifactID"], "digest": artifact.digest}}}

    def _UpsertSweep(self, variables: dict[str, Any]) -> dict[str, Any]:
        self.sweeps.append(variables["config"])
        sweep = {"id": "S", "name": "sweep0", "project": _project("p")}
        return {"upsertSweep": {"sweep": sweep, "configValidationWarnings": []}}

    def _SweepWithRuns(self, variables: dict[str, Any]) -> dict[str, Any]:
        sweep = {"id": "S", "name": "sweep0", "state": "RUNNING", "config": self.sweeps[-1], "runs": {"edges": []}}
        return {"project": {"sweep": sweep}}

    def _CreateAgent(self, variables: dict[str, Any]) -> dict[str, Any]:
        return {"createAgent": {"agent": {"id": "agent0"}}}

    def _Heartbeat(self, variables: dict[str, Any]) -> dict[str, Any]:
        commands: list[dict[str, Any]] = []
        if self.trials:
            arguments = {name: {"value": value} for name, value in self.trials.pop(0).items()}
            program = re.search(r"^program: (.*)$", self.sweeps[-1], re.MULTILINE)[1]  # type: ignore[index]
            self.trials_begun += 1
            commands = [{"type": "run", "run_id": f"trial{self.trials_begun}", "args": arguments, "program": program}]
        return {"agentHeartbeat": {"agent": {"id": "agent0"}, "commands": json.dumps(commands)}}


def _project(name: str) -> dict[str, Any]:
    return {"id": "P", "name": name, "entity": {"id": "E", "name": "me"}}


def _handler(server: WandbServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            status, answer = server.answer(self.command, self.path, body)
            content = json.dumps(answer).encode()
            try:
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
            except (BrokenPipeError, ConnectionResetError):
                pass  # the client did not wait

        do_GET = do_PUT = do_POST

    return Handler
