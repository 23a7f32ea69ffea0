"""The server as strangers, other sites and odd programs meet it."""

import io
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

ROOT = Path(__file__).parents[3]
FACE = ROOT / "examples" / "face.png"
WAIT = 120
LOGIN = {"username": "ann", "password": "secret"}


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("guard") / "log"


@pytest.fixture(scope="module")
def page(log: Path) -> Iterator[str]:
    """The address of a page that asks for a login."""
    environment = {**os.environ, "TMPDIR": str(log.parent), "PULSE_HOME": str(log.parent / "home")}
    command = [sys.executable, "app.py", "--port", "0", "--no-fetch", "--auth", "ann:secret"]
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=file, stderr=file)
    try:
        end = time.monotonic() + WAIT
        while not (found := re.search(r"PULSE is at (http://127\S+)/ ", log.read_text("utf-8"))):
            assert process.poll() is None, log.read_text("utf-8")
            assert time.monotonic() < end, log.read_text("utf-8")
            time.sleep(0.1)
        # Until then it is not silent.
        assert log.read_text("utf-8").startswith(
            "Opening the generator faces and the page, which takes"
        )
        yield found[1]
    finally:
        process.terminate()
        process.wait(WAIT)


@pytest.fixture
def visitor(page: str) -> Iterator[requests.Session]:
    with requests.Session() as session:
        assert session.post(f"{page}/login", data=LOGIN, timeout=WAIT).status_code == 200
        yield session


def upload(url: str, who: requests.Session, **headers: str) -> requests.Response:
    files = {"files": ("face.png", io.BytesIO(FACE.read_bytes()))}
    return who.post(f"{url}/gradio_api/upload", files=files, headers=headers, timeout=WAIT)


def test_without_login_there_is_nothing_but_the_login_page(page: str) -> None:
    with requests.Session() as stranger:
        start = stranger.get(f"{page}/", timeout=WAIT)
        assert start.status_code == 200
        assert "auth_required" in start.text
        api = f"{page}/gradio_api"
        body = {"event_id": "x", "session_hash": "y", "fn_index": 0, "data": []}
        for path in ("reset", "cancel", "queue/join", "run/upscale", "call/upscale", "stream/x"):
            answer = stranger.post(f"{api}/{path}", json=body, timeout=WAIT)
            assert answer.status_code == 401, path
        for path in ("heartbeat/x", "info", "queue/data?session_hash=x", "file=/etc/passwd"):
            assert stranger.get(f"{api}/{path}", timeout=WAIT).status_code == 401, path
        assert upload(page, stranger).status_code == 401
        wrong = {**LOGIN, "password": "guess"}
        assert stranger.post(f"{page}/login", data=wrong, timeout=WAIT).status_code == 400
        assert upload(page, stranger).status_code == 401
        assert stranger.post(f"{page}/login", data=LOGIN, timeout=WAIT).status_code == 200
        assert upload(page, stranger).status_code == 200
        assert stranger.get(f"{api}/info", timeout=WAIT).status_code == 200


def test_other_sites_may_not_use_it(page: str, visitor: requests.Session) -> None:
    assert upload(page, visitor).status_code == 200
    assert upload(page, visitor, origin=page).status_code == 200
    for origin in ("https://evil.example", "null", page.replace("127.0.0.1", "localhost")):
        answer = upload(page, visitor, origin=origin)
        assert answer.status_code == 403
        assert answer.text == "Another site may not use this page."
    # Behind a proxy, the page is where the proxy says.
    proxied = {"origin": "https://faces.example", "x-forwarded-host": "faces.example"}
    assert upload(page, visitor, **proxied).status_code == 200


@pytest.mark.parametrize(
    ("picture", "words"),
    [
        ("a string", "not what the page's controls give"),
        (5, "not what the page's controls give"),
        ({"path": 5}, "not what the page's controls give"),
        ({"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}, "not what the page's"),
        ("https://example.com/a.png", "Links are not fetched"),
        (
            {"path": "https://example.com/a.png", "meta": {"_type": "gradio.FileData"}},
            "Links are not fetched",
        ),
        (None, "Choose a picture first"),
    ],
)
def test_odd_programs_get_a_sentence(
    picture: object, words: str, page: str, visitor: requests.Session, log: Path
) -> None:
    rest = [0, 1, 1, 0, "faces", 0, 1e-3, "default", False, False, 0, False, 0, 0, 0, "auto"]
    call = f"{page}/gradio_api/call/upscale"
    body: Any = {"data": [picture, *rest]}
    event = visitor.post(call, json=body, timeout=WAIT).json()["event_id"]
    said = visitor.get(f"{call}/{event}", timeout=WAIT).text
    assert "event: error" in said
    assert words in said
    assert "pydantic" not in said
    assert "Traceback" not in log.read_text("utf-8")
