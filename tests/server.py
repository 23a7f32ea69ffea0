"""A web server on this machine that can be told to misbehave."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class FileServer(ThreadingHTTPServer):
    """Serves what is in `files` by name.

    Attributes:
        asked: the `Range` of each request so far, "" where there was none.
        cuts: after how many bytes each of the next answers breaks off.
        ranges: whether parts of a file are given.
        tags: whether answers name the version of the file (ETag).
        status: what to answer instead of the file, if not 200.
        kind: Content-Type.
        headers: further ones, in place of those that it would send.
        endless: whether the answer goes on after the file.
        wait: answers are held back while it is cleared.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.cuts: list[int] = []
        self.ranges = self.tags = True
        self.status = 200
        self.kind = "application/octet-stream"
        self.headers: dict[str, str] = {}
        self.endless = False
        self.wait = threading.Event()
        self.wait.set()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, FileServer)
        server.asked.append(self.headers.get("Range", ""))
        server.wait.wait(30)
        content = server.files.get(self.path.lstrip("/"))
        if content is None or server.status != 200:
            self.send_error(404 if server.status == 200 else server.status)
            return
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        start = 0
        if server.ranges and self.headers.get("Range") and self.headers.get("If-Range") == tag:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(content) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if server.tags:
            self.send_header("ETag", tag)
        self.send_header("Content-Type", server.kind)
        if not server.endless and "Content-Length" not in server.headers:
            self.send_header("Content-Length", str(len(content) - start))
        for name, value in server.headers.items():
            self.send_header(name, value)
        self.end_headers()
        rest = content[start:]
        self.wfile.write(rest[: server.cuts.pop(0)] if server.cuts else rest)
        with suppress(OSError):  # Until nobody reads any more.
            while server.endless:
                self.wfile.write(bytes(2**16))

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def running() -> Iterator[FileServer]:
    """A server for as long as the context lasts; its port is closed afterwards."""
    with FileServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server
        finally:
            server.wait.set()
            server.shutdown()
            thread.join()
