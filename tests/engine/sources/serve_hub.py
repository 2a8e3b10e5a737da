"""A Hub of one model, `org/tiny`, served from a folder; run as a script, it loads models from itself.

Usage: serve_hub.py <checkpoint folder> <cache folder>. Writes one line per id, then the files that were fetched.
"""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import sys
import threading
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROOT = Path(sys.argv[1])
FETCHED: set[str] = set()
REFUSALS = {"org/none": (404, "RepoNotFound"), "org/gated": (403, "GatedRepo"), "org/broken": (500, "")}


class Hub(http.server.BaseHTTPRequestHandler):
    """Answers what huggingface_hub asks for: a model's record, its tree, its files."""

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/org/tiny/tree"):
            self.answer(200, json.dumps([self.entry(f) for f in ROOT.rglob("*") if f.is_file()]).encode())
        elif path.startswith("/api/models/org/tiny"):
            self.answer(200, json.dumps({"id": "org/tiny", "sha": COMMIT, "siblings": []}).encode())
        elif path.startswith(f"/org/tiny/resolve/{COMMIT}/"):
            file = ROOT / path.split("/", 5)[5]
            FETCHED.add(file.relative_to(ROOT).as_posix())
            data = file.read_bytes()
            etag = hashlib.sha1(data).hexdigest()
            self.answer(200, data, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            code, name = next(refusal for repo, refusal in REFUSALS.items() if repo in path)
            self.answer(code, b"{}", {"X-Error-Code": name} if name else {})

    @staticmethod
    def entry(file: Path) -> dict[str, object]:
        name = file.relative_to(ROOT).as_posix()
        blob = hashlib.sha1(name.encode()).hexdigest()
        return {"type": "file", "path": name, "size": file.stat().st_size, "oid": blob}

    def answer(self, code: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(code)
        for key, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


if __name__ == "__main__":
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    os.environ.update(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_HOME=sys.argv[2], NO_PROXY="*")

    from onnx_magic.engine.sources.hub import hub_folder
    from onnx_magic.errors import SourceError

    for repo in ("org/tiny", *REFUSALS):
        try:
            print(repo, sorted(p.name for p in hub_folder(repo).iterdir()))
        except SourceError as error:
            print(error.what)
    print(sorted(FETCHED))
