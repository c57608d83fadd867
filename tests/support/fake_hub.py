"""The part of the Hub's protocol that downloads of models and data sets take, on loopback."""

import hashlib
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

MAIN, TABLES = "c" * 40, "d" * 40  # commits: of every repository, and of the plain tables that the Hub makes
REVISIONS = {"main": MAIN, "refs/convert/parquet": TABLES}
Files = Mapping[str, bytes]


@dataclass
class FakeHub:
    url: str = ""
    downloads: list[str] = field(default_factory=list)  # files that were asked for and exist


@contextmanager
def serve_hub(repositories: Mapping[str, Mapping[str, Files] | None]) -> Iterator[FakeHub]:
    """`repositories`: `models/me/model` or `datasets/me/rows`, with the files of each commit. None: its licence must be accepted."""
    hub = FakeHub()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = unquote(self.path.partition("?")[0]).strip("/")
            kind = "datasets/" if path.removeprefix("api/").startswith("datasets/") else "models/"
            parts = path.removeprefix("api/").removeprefix(kind).split("/", 3)
            repository = repositories.get(kind + "/".join(parts[:2]))
            tail = parts[3] if len(parts) > 3 else "main"
            revision = next((ref for ref in (*REVISIONS, MAIN, TABLES) if f"{tail}/".startswith(f"{ref}/")), "main")
            commit, name = REVISIONS.get(revision, revision), tail.removeprefix(revision).strip("/")
            if repository is None and kind + "/".join(parts[:2]) in repositories:
                return self._refuse(403, "GatedRepo")
            if repository is None or commit not in repository:
                return self._refuse(404, "RevisionNotFound" if repository else "RepoNotFound")
            files = repository[commit]
            if not path.startswith("api/"):
                if name not in files:
                    return self._refuse(404, "EntryNotFound", commit)
                if self.command == "GET":
                    hub.downloads.append(name)
                return self._respond(files[name], commit)
            if parts[2:3] in (["tree"], ["paths-info"]):
                return self._respond(json.dumps(_entries(files, name, self._body())).encode(), commit)
            siblings = [{"rfilename": file} for file in files]
            info = {"id": "/".join(parts[:2]), "sha": commit, "siblings": siblings}
            return self._respond(json.dumps(info).encode(), commit)

        do_HEAD = do_POST = do_GET

        def _body(self) -> list[str] | None:
            """The paths that are asked about; None: all."""
            length = int(self.headers.get("Content-Length") or 0)
            return json.loads(self.rfile.read(length))["paths"] if length else None

        def _refuse(self, status: int, code: str, commit: str = MAIN) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def _respond(self, data: bytes, commit: str) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("ETag", f'"{hashlib.sha1(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", commit)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


def _entries(files: Files, folder: str, paths: list[str] | None) -> list[dict[str, object]]:
    """Files and folders below `folder`, or those of `paths`."""
    folders = {name.rsplit("/", depth)[0] for name in files for depth in range(1, name.count("/") + 1)}
    entries: list[dict[str, object]] = [
        {"type": "directory", "path": name, "oid": "0" * 40} for name in sorted(folders)
    ]
    for name, data in files.items():
        entries.append({"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()})
    if paths is not None:
        return [entry for entry in entries if entry["path"] in paths]
    return [entry for entry in entries if not folder or str(entry["path"]).startswith(f"{folder}/")]
