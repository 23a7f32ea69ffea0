"""The command line in a process of its own, without importing torch for every call.

A server imports the program once and forks for each call: the child has the call's own folder,
environment and output, runs `main` from its beginning, and ends. Only the seconds that Python takes
to import are saved. What is told of the start itself starts Python anew, as `fresh` does.
"""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[1]
Done = subprocess.CompletedProcess[str]
_STRICT = {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
_server: subprocess.Popen[str] | None = None


def pulse(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """What `python -m pulse` does with such arguments, warnings being errors."""
    global _server
    if not hasattr(os, "fork"):  # On Windows.
        return fresh(*arguments, cwd=cwd, env=env)
    if _server is None or _server.poll() is not None:
        _server = subprocess.Popen(
            [sys.executable, str(Path(__file__))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT,
            env=os.environ | _STRICT,
        )  # fmt: skip
        atexit.register(_server.kill)
    assert _server.stdin is not None
    assert _server.stdout is not None
    words = [*map(str, arguments)]
    with tempfile.NamedTemporaryFile() as out, tempfile.NamedTemporaryFile() as err:
        files = [out.name, err.name]
        wish = {"argv": words, "cwd": str(cwd), "env": {**os.environ, **_STRICT, **(env or {})}}
        _server.stdin.write(json.dumps(wish | {"files": files}) + "\n")
        _server.stdin.flush()
        code = int(_server.stdout.readline())
        stdout, stderr = (_text(file) for file in (out, err))
    return Done(["pulse", *words], code, stdout, stderr)


def fresh(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> Done:
    """The same in a Python that has just been started."""
    return subprocess.run(
        [sys.executable, "-m", "pulse", *map(str, arguments)], capture_output=True, text=True,
        cwd=cwd, env={**os.environ, **_STRICT, **(env or {})}, check=False,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode()


def _serve() -> None:
    from pulse.cli import app

    sys.argv[0] = str(ROOT / "pulse" / "__main__.py")
    for line in sys.stdin:
        child = os.fork()
        if not child:
            _run(app.main, json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(main: Any, wish: dict[str, Any]) -> None:
    """In the child: take over the call's surroundings, run it, and end."""
    code = 1
    try:
        os.chdir(wish["cwd"])
        os.environ.clear()
        os.environ.update(wish["env"])
        files = (os.devnull, *wish["files"])
        for number, file in enumerate(files):
            opened = os.open(file, os.O_RDWR)
            os.dup2(opened, number)
            os.close(opened)
        sys.argv[1:] = wish["argv"]
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve()
