"""The Hub, played by a server on this machine: as much of its HTTP API as publishing and loading a model needs.

Repositories live in memory, with commits, branches and pull requests. That of a Space is called `spaces/owner/name`, as
in its address. Answers, refusals included, are those of the Hub,
with two exceptions: large files are served without a redirect to another host, and a 401 names its code, since the
client knows a bare one only from addresses that begin with https.
"""

import base64
import hashlib
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import ModelCard, SpaceCard, constants

OWNER_TOKEN, OTHER_TOKEN = "hf_owner", "hf_other"
USERS = {OWNER_TOKEN: "someone", OTHER_TOKEN: "another"}
NAME = r"(?:models/)?((?:spaces/)?[^/]+/[^/]+)"
SHORT = 60
"""Characters that the short description of a Space may have."""


@dataclass(frozen=True)
class File:
    """A file of a commit."""

    content: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @property
    def git_oid(self) -> str:
        return hashlib.sha1(b"blob %d\0" % len(self.content) + self.content).hexdigest()

    @property
    def etag(self) -> str:
        return self.sha256 if self.large else self.git_oid


@dataclass
class Repo:
    """A repository: what each commit holds, and which commit each branch is at."""

    name: str
    private: bool
    sdk: str | None = None
    """Of a Space."""
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, File]) -> str:
        names = "".join(f"{name} {file.etag}\n" for name, file in sorted(files.items()))
        oid = hashlib.sha1(f"{self.branches.get(branch)}\n{len(self.commits)}\n{names}".encode()).hexdigest()
        self.commits[oid] = files
        self.branches[branch] = oid
        return oid

    def oid(self, revision: str) -> str:
        oid = self.branches.get(revision, revision)
        if oid not in self.commits:
            raise RefusalError(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return oid

    @property
    def files(self) -> dict[str, bytes]:
        """What `main` holds."""
        return {name: file.content for name, file in self.commits[self.branches["main"]].items()}


FIRST_CARD = (
    "---\ntitle: {name}\nemoji: 🌍\nsdk: {sdk}\nsdk_version: 1.2.3\napp_file: app.py\n---\n\nSee the configuration.\n"
)
"""What the Hub writes into a new Space."""


def owner_of(name: str) -> str:
    """Return who a repository belongs to."""
    return name.removeprefix("spaces/").split("/")[0]


class RefusalError(Exception):
    """An answer that is an error."""

    def __init__(self, status: int, code: str | None, message: str):
        super().__init__(message)
        self.status, self.code = status, code


class Hub(ThreadingHTTPServer):
    """The server and all that it holds."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.large_files: dict[str, bytes] = {}
        self.cut_at: str | None = None
        """A part of a path: requests with a body to it are cut off in the middle."""
        self.cuts = 0
        self.refused_kinds: set[str] = set()
        """Kinds of repositories that this user must pay for."""

    def handle_error(self, request, client_address):
        """A client that goes away, or is cut off, is nothing to report."""


class Handler(BaseHTTPRequestHandler):
    """One request: finds the route, answers with JSON or bytes."""

    protocol_version = "HTTP/1.1"
    server: Hub

    routes = (
        ("GET", r"/api/whoami-v2", "whoami"),
        ("POST", r"/api/repos/create", "create_repo"),
        ("POST", r"/api/validate-yaml", "validate_yaml"),
        ("GET", rf"/api/{NAME}(?:/revision/([^/]+))?", "repo_info"),
        ("GET", rf"/api/{NAME}/tree/([^/]+)(?:/(.+))?", "tree"),
        ("POST", rf"/api/{NAME}/branch/([^/]+)", "create_branch"),
        ("POST", rf"/api/{NAME}/preupload/([^/]+)", "preupload"),
        ("POST", rf"/api/{NAME}/commit/([^/]+)", "commit"),
        ("POST", rf"/{NAME}\.git/info/lfs/objects/batch", "large_files"),
        ("PUT", r"/large-files/(\w+)", "put_large_file"),
        ("GET", rf"/{NAME}/resolve/([^/]+)/(.+)", "resolve"),
    )

    def do_GET(self):
        address = urlsplit(self.path)
        self.query = parse_qs(address.query)
        method = "GET" if self.command == "HEAD" else self.command
        length = int(self.headers.get("Content-Length", 0))
        if length and self.server.cut_at is not None and self.server.cut_at in address.path:
            self.rfile.read(length // 2)
            self.server.cuts += 1
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        self.body = self.rfile.read(length)
        for verb, pattern, name in self.routes:
            match = re.fullmatch(pattern, address.path)
            if verb == method and match:
                self.answer(name, [unquote(group) if group else group for group in match.groups()])
                return
        self.send(404, b"no such route", {})

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 (http.server gives these names)

    def answer(self, name: str, arguments: list[str]) -> None:
        try:
            if self.token is not None and self.token not in USERS:
                raise RefusalError(401, None, "Invalid credentials in Authorization header")
            result = getattr(self, name)(*arguments)
        except RefusalError as refusal:
            codes = {} if refusal.code is None else {"X-Error-Code": refusal.code}
            self.send(
                refusal.status, json.dumps({"error": str(refusal)}).encode(), {"X-Error-Message": str(refusal), **codes}
            )
        else:
            if result is not None:
                self.send(200, json.dumps(result).encode(), {"Content-Type": "application/json"})

    def send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args):
        pass

    @property
    def token(self) -> str | None:
        header = self.headers.get("Authorization")
        return header.removeprefix("Bearer ") if header else None

    @property
    def user(self) -> str:
        if self.token is None:
            raise RefusalError(401, None, "Invalid username or password.")
        return USERS[self.token]

    def readable(self, name: str) -> Repo:
        repo, user = self.server.repos.get(name), USERS.get(self.token or "")
        if repo is None or (repo.private and user != owner_of(name)):
            status = 401 if user is None else 404
            raise RefusalError(
                status, "RepoNotFound", "Repository not found" if user else "Invalid username or password."
            )
        return repo

    def writable(self, name: str) -> Repo:
        repo = self.readable(name)
        if self.user != owner_of(name):
            raise RefusalError(403, None, f"you do not have the right to write to {name}")
        return repo

    # --- routes

    def whoami(self):
        return {"type": "user", "name": self.user, "orgs": [], "auth": {"type": "access_token"}}

    def create_repo(self):
        wanted = json.loads(self.body)
        identity = f"{wanted.get('organization') or self.user}/{wanted['name']}"
        kind = wanted.get("type") or "model"
        name = f"spaces/{identity}" if kind == "space" else identity
        if owner_of(name) != self.user:
            raise RefusalError(403, None, f"you do not have the right to make {name}")
        if kind in self.server.refused_kinds:
            raise RefusalError(402, None, f"a {kind} must be paid for")
        answer = {"url": f"{self.server.address}/{name}", "name": identity, "id": identity}
        if name in self.server.repos:
            self.send(409, json.dumps({**answer, "error": f"You already created this {kind} repo"}).encode(), {})
            return None
        private = wanted.get("visibility") == "private" or bool(wanted.get("private"))
        self.server.repos[name] = Repo(name, private, wanted.get("sdk"))
        files = {".gitattributes": File(b"*.safetensors filter=lfs\n", False)}
        if kind == "space":
            files["README.md"] = File(FIRST_CARD.format(**wanted).encode(), False)
        self.server.repos[name].commit("main", files)
        return answer

    def validate_yaml(self):
        wanted = json.loads(self.body)
        try:
            if wanted.get("repoType") == "space":
                data = SpaceCard(wanted["content"]).data
                if len(data.get("short_description", "")) > SHORT:
                    raise ValueError(
                        f'"short_description" length must be less than or equal to {SHORT} characters long'
                    )
            else:
                ModelCard(wanted["content"])
        except ValueError as error:
            raise RefusalError(400, None, str(error)) from error
        return {"errors": [], "warnings": []}

    def repo_info(self, name, revision="main"):
        repo = self.readable(name)
        oid = repo.oid(revision or "main")
        siblings = [{"rfilename": path} for path in repo.commits[oid]]
        answer = {"sha": oid, "private": repo.private, "siblings": siblings, "tags": [], "downloads": 0}
        return {"id": name.removeprefix("spaces/"), "sdk": repo.sdk, **answer}

    def tree(self, name, revision, folder):
        repo = self.readable(name)
        files = {path: file for path, file in repo.commits[repo.oid(revision)].items() if _inside(path, folder)}
        if folder and not files:
            raise RefusalError(404, "EntryNotFound", f"{folder} does not exist on {revision}")
        return [
            {"type": "file", "path": path, "size": len(file.content), "oid": file.git_oid}
            for path, file in files.items()
        ]

    def create_branch(self, name, branch):
        repo = self.writable(name)
        if branch in repo.branches:
            raise RefusalError(409, None, f"Reference already exists: {branch}")
        repo.branches[branch] = repo.oid(json.loads(self.body).get("startingPoint", "main"))
        return {}

    def preupload(self, name, revision):
        there = self.commits_of(self.writable(name), revision)
        return {
            "files": [
                {
                    "path": wanted["path"],
                    "uploadMode": "lfs" if wanted["path"].endswith((".safetensors", ".png")) else "regular",
                    "shouldIgnore": False,
                    "oid": there[wanted["path"]].etag if wanted["path"] in there else None,
                }
                for wanted in json.loads(self.body)["files"]
            ]
        }

    def commits_of(self, repo, revision):
        return repo.commits[repo.oid(revision)]

    def large_files(self, name):
        self.writable(name)
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            action = {"upload": {"href": f"{self.server.address}/large-files/{wanted['oid']}"}}
            there = wanted["oid"] in self.server.large_files
            objects.append({**wanted} if there else {**wanted, "actions": action})
        return {"transfer": "basic", "objects": objects}

    def put_large_file(self, oid):
        if hashlib.sha256(self.body).hexdigest() != oid:
            raise RefusalError(400, None, "the content does not have this oid")
        self.server.large_files[oid] = self.body
        return {}

    def commit(self, name, revision):
        repo = self.writable(name)
        files = dict(self.commits_of(repo, revision))
        for line in self.body.splitlines():
            self.apply(files, **json.loads(line))
        pull_request = "create_pr" in self.query
        if pull_request:
            number = 1 + sum(branch.startswith("refs/pr/") for branch in repo.branches)
            repo.branches[f"refs/pr/{number}"] = repo.oid(revision)
            revision = f"refs/pr/{number}"
        oid = repo.commit(revision, files)
        url = f"{self.server.address}/{name}"
        answer = {"success": True, "commitOid": oid, "commitUrl": f"{url}/commit/{oid}"}
        return answer | ({"pullRequestUrl": f"{url}/discussions/{number}"} if pull_request else {})

    def apply(self, files, key, value):
        if key == "file":
            files[value["path"]] = File(base64.b64decode(value["content"]), False)
        elif key == "lfsFile":
            if value["oid"] not in self.server.large_files:
                raise RefusalError(400, None, f"the content of {value['path']} was not uploaded")
            files[value["path"]] = File(self.server.large_files[value["oid"]], True)
        elif key == "deletedFile":
            del files[value["path"]]
        elif key != "header":
            raise RefusalError(400, None, f"unknown operation {key}")

    def resolve(self, name, revision, path):
        repo = self.readable(name)
        oid = repo.oid(revision)
        if path not in repo.commits[oid]:
            headers = {"X-Error-Code": "EntryNotFound", "X-Error-Message": "Entry not found", "X-Repo-Commit": oid}
            self.send(404, b"Entry not found", headers)
            return
        file = repo.commits[oid][path]
        self.send(200, file.content, {"ETag": f'"{file.etag}"', "X-Repo-Commit": oid})


def _inside(path: str, folder: str | None) -> bool:
    return not folder or path.startswith(f"{folder}/")


@contextmanager
def playing_hub(home: Path) -> Iterator[Hub]:
    """Let this process reach the server as its Hub, with a cache and a token file of its own, and nothing else."""
    with Hub() as server, pytest.MonkeyPatch.context() as patch:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        patch.setattr(constants, "ENDPOINT", server.address)
        patch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.address + "/{repo_id}/resolve/{revision}/{filename}"
        )
        patch.setattr(constants, "HF_HUB_OFFLINE", False)
        patch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        patch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
        patch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
        patch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
        patch.setattr(huggingface_hub.hf_api.api, "endpoint", server.address)
        patch.setattr("transformers.utils.hub._hf_api", None, raising=False)
        patch.setattr(socket.socket, "connect", only_this_machine(socket.socket.connect))
        patch.setenv("NO_PROXY", "127.0.0.1")
        for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
            patch.delenv(name, raising=False)
        huggingface_hub.close_session()
        try:
            yield server
        finally:
            huggingface_hub.close_session()
            server.shutdown()
            thread.join()


def only_this_machine(connect):
    """Return a `connect` that refuses every other machine."""

    def connect_here(self, address):
        if self.family != socket.AF_UNIX and address[0] != "127.0.0.1":
            raise AssertionError(f"a test reached for {address}")
        return connect(self, address)

    return connect_here
