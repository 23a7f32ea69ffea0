"""The command lines in processes of their own, without importing torch for every call.

A server imports the programs once and forks for each call: the child has the call's own folder,
environment and files, runs `main` from its beginning, and ends. Only the seconds that Python takes
to import are saved. What is told of the start itself starts Python anew, as `fresh` does.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
FORKS = sys.platform == "linux"
"""Whether there is a server: Windows has no forks, macOS no packets over sockets of its own."""
PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL
Done = subprocess.CompletedProcess[str]
_STRICT = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
_server: _Server | None = None


def pulse(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """What `python -m pulse` does with such arguments, warnings being errors."""
    return _run("pulse", *arguments, cwd=cwd, env=env)


def stylegan(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """What `python -m stylegan` does."""
    return _run("stylegan", *arguments, cwd=cwd, env=env)


def _run(program: str, *arguments: object, cwd: Path, env: Mapping[str, str] | None) -> Done:
    words = [*map(str, arguments)]
    if not FORKS:
        return _fresh(program, *words, cwd=cwd, env=env)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        process = Started(words, program, cwd=cwd, env=env, stdout=out, stderr=err)
        code = process.wait()
        return Done([program, *words], code, _text(out), _text(err))


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def fresh(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """What `pulse` does, in a Python that has just been started."""
    return _fresh("pulse", *map(str, arguments), cwd=cwd, env=env)


def _fresh(program: str, *words: str, cwd: Path, env: Mapping[str, str] | None) -> Done:
    return subprocess.run(
        [sys.executable, "-m", program, *words], capture_output=True, text=True,
        cwd=cwd, env={**os.environ, **_STRICT, **(env or {})}, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


class Started:
    """A call in the background, with what tests need of `subprocess.Popen`.

    Attributes:
        stdout, stderr: what it writes, where that goes into a pipe.
    """

    def __init__(
        self,
        words: list[str],
        program: str = "pulse",
        *,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        stdin: int | IO[Any] = DEVNULL,
        stdout: int | IO[Any] = PIPE,
        stderr: int | IO[Any] = PIPE,
    ) -> None:
        global _server
        if not FORKS:
            import pytest  # Here, since the server runs this file and needs none of it.

            pytest.skip("calls in the background are forked, on Linux")
        if _server is None or _server.process.poll() is not None:
            _server = _Server()
        self._server, self.returncode = _server, None
        self.stdout, self.stderr = None, None
        given: list[int] = []
        ours: list[int] = []
        for name, file in (("stdin", stdin), ("stdout", stdout), ("stderr", stderr)):
            if file == DEVNULL:
                ours.append(os.open(os.devnull, os.O_RDWR))
            elif file == PIPE:
                source, sink = os.pipe()
                setattr(self, name, os.fdopen(source, encoding="utf-8"))
                ours.append(sink)
            else:
                given.append(file if isinstance(file, int) else file.fileno())
                continue
            given.append(ours[-1])
        wish = {"program": program, "argv": words, "cwd": str(cwd)}
        self.pid: int = self._server.ask(
            wish | {"env": {**os.environ, **_STRICT, **(env or {})}}, given
        )
        for number in ours:
            os.close(number)

    stdout: IO[str] | None
    stderr: IO[str] | None
    returncode: int | None

    def __enter__(self) -> Started:
        return self

    def __exit__(self, *error: object) -> None:
        self._close()
        self.wait()

    def poll(self) -> int | None:
        return self._ask(block=False)

    def wait(self, timeout: float | None = None) -> int:
        deadline = time.monotonic() + (timeout or 0)
        while (code := self._ask(block=timeout is None)) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired("pulse", timeout or 0)
            time.sleep(0.01)
        return code

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """What it still writes, and wait for its end."""
        said = ["", ""]

        def read(number: int, file: IO[str]) -> None:
            said[number] = file.read()

        readers = [
            threading.Thread(target=read, args=(number, file), daemon=True)
            for number, file in enumerate((self.stdout, self.stderr))
            if file is not None
        ]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        self._close()
        return said[0], said[1]

    def _ask(self, block: bool) -> int | None:
        if self.returncode is None:
            self.returncode = self._server.ask({"wait": self.pid, "block": block})
        return self.returncode

    def _close(self) -> None:
        for file in (self.stdout, self.stderr):
            if file is not None:
                file.close()


class _Server:
    """The process that forks. Calls and the files that they are to write into go over a socket."""

    def __init__(self) -> None:
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._lock = threading.Lock()
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(theirs.fileno())],
            pass_fds=[theirs.fileno()], cwd=ROOT, env=os.environ | _STRICT,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()
        atexit.register(self._end)

    def _end(self) -> None:
        self._channel.close()
        self.process.kill()
        self.process.wait()

    def ask(self, wish: Mapping[str, object], files: list[int] | None = None) -> Any:
        with self._lock:
            socket.send_fds(self._channel, [json.dumps(wish).encode()], files or [])
            return json.loads(self._channel.recv(1000))


def _serve(channel: socket.socket) -> None:
    import stylegan.__main__
    from pulse.cli import app

    mains = {"pulse": app.main, "stylegan": stylegan.__main__.main}
    while True:
        message, files, *_ = socket.recv_fds(channel, 2**20, 3)
        if not message:
            return
        wish = json.loads(message)
        if "wait" in wish:
            pid, status = os.waitpid(wish["wait"], 0 if wish["block"] else os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if pid else None
        else:
            answer = os.fork()
            if not answer:
                channel.close()
                _child(mains[wish["program"]], wish, files)
            for file in files:
                os.close(file)
        channel.send(json.dumps(answer).encode())


def _child(main: Any, wish: dict[str, Any], files: list[int]) -> None:
    """Take over the call's surroundings, run it, and end."""
    code = 1
    try:
        # A background job of a shell is told to ignore Ctrl-C, and would tell its children.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(wish["cwd"])
        os.environ.clear()
        os.environ.update(wish["env"])
        for number, file in enumerate(files):
            os.dup2(file, number)
            os.close(file)
        # The server's own tell of other files.
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
        sys.stderr = open(2, "w", 1, errors="backslashreplace", closefd=False)  # noqa: SIM115
        sys.argv[:] = [str(ROOT / wish["program"] / "__main__.py"), *wish["argv"]]
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except KeyboardInterrupt:  # Python itself would end by the signal.
        traceback.print_exc()
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    with socket.socket(fileno=int(sys.argv[1])) as channel:
        _serve(channel)
