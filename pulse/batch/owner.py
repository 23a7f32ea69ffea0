"""Who is at work in a folder, as written down for others to read."""

from __future__ import annotations

import json
import os
import secrets
import socket
import time
from typing import Any

import psutil


def new_owner() -> bytes:
    facts = {
        "host": socket.gethostname(),
        "process": os.getpid(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "token": secrets.token_hex(8),
    }
    return json.dumps(facts).encode()


def known_owner(data: bytes | None) -> dict[str, Any]:
    try:
        facts = json.loads(data or b"")
        return {name: facts[name] for name in ("host", "process", "since")}
    except (ValueError, LookupError, TypeError):
        return {}


def is_alive(data: bytes) -> bool:
    owner = known_owner(data)
    if owner.get("host") != socket.gethostname():
        return True  # Nobody here can tell.
    try:
        # Not `os.kill(process, 0)`, which on Windows sends Ctrl-C.
        return psutil.pid_exists(int(owner["process"]))
    except (OverflowError, ValueError):
        return True
