"""Large files over HTTP: a download that stopped goes on where it was."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import requests
import urllib3

DownloadProgress = Callable[[int, int | None], None]
"""Told the bytes that are here and the bytes of the whole file, `None` where the server does not
say."""

TIMEOUT = (15.0, 60.0)
"""Seconds to wait for a connection, and for the next bytes."""
PAUSE = 0.5  # Seconds before a lost connection is tried again.
BLOCK = 2**15  # Bytes; what came of a block that was cut is fetched again.


class DownloadError(Exception):
    """The file did not come; the message says why, to be continued."""


class _TooLongError(Exception):
    """More comes than the file can have."""


class _LostError(Exception):
    """The connection ended before the file did."""


def download(url: str, part: Path, most: int, progress: DownloadProgress | None = None) -> None:
    """Fetch a file into `part`, which is complete when this returns.

    What has come stays in `part` when something fails, and the next call asks only for the rest;
    `part` + ".tag" holds the server's name for this version of the file (its ETag or date), so
    that two versions are never joined. A lost connection is taken up again as long as each try
    gets further than all before.

    Args:
        most: bytes that the file may have; of a longer one nothing is kept.

    Raises:
        DownloadError: the server cannot be reached, or gives something else than the file.
        OSError: `part` cannot be written.
    """
    furthest = held(part)
    while True:
        try:
            _transfer(url, part, most, progress)
            break
        except _LostError as error:
            size = part.stat().st_size
            if size <= furthest:
                raise DownloadError(
                    f"the connection to {url} was lost after {size / 1e6:.1f} MB"
                ) from error
            furthest = size
            time.sleep(PAUSE)
    _tag(part).unlink(missing_ok=True)


def held(part: Path) -> int:
    """Bytes that an earlier call has left and the next goes on from."""
    return part.stat().st_size if part.exists() and _tag(part).exists() else 0


def _transfer(url: str, part: Path, most: int, progress: DownloadProgress | None) -> None:
    """One request for what is missing, read to its end."""
    tag = _tag(part)
    size = held(part)
    with _ask(url, size, tag.read_text("utf-8") if size else "") as response:
        partial = response.status_code == requests.codes.partial
        start = response.headers.get("Content-Range", "").partition("-")[0]
        if response.status_code == requests.codes.range_not_satisfiable or (
            partial and start != f"bytes {size}"
        ):
            if not size:
                raise DownloadError(f"{url} does not answer with the whole file")
            part.unlink()
            _transfer(url, part, most, progress)
            return
        if not response.ok:
            raise DownloadError(f"{url} answered {response.status_code} ({response.reason})")
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise DownloadError(
                f"{url} answered with a web page in place of the file, as Google Drive does when "
                "a file was fetched too often that day"
            )
        encoding = response.headers.get("Content-Encoding", "identity")
        if encoding != "identity":
            raise DownloadError(f"{url} answered with a file that is packed ({encoding[:20]!a})")
        if not partial:
            size = 0
        length = response.headers.get("Content-Length", "")
        total = size + int(length[:20]) if length.isascii() and length.isdecimal() else None
        if total is not None and total > most:
            raise DownloadError(_too_long(url, most))
        with part.open("ab" if partial else "wb") as file:
            if not partial:
                _write_tag(tag, response)
            try:
                for block in response.iter_content(BLOCK):
                    size += len(block)
                    if size > most:
                        raise _TooLongError
                    file.write(block)
                    if progress is not None:
                        progress(size, total)
            except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
                raise _LostError from error
            except _TooLongError:
                part.unlink()
                tag.unlink(missing_ok=True)
                raise DownloadError(_too_long(url, most)) from None
        if total is not None and size < total:
            raise _LostError


def _too_long(url: str, most: int) -> str:
    return f"{url} gives more than {most / 1e6:.0f} MB, which the file does not have"


def _ask(url: str, size: int, tag: str) -> requests.Response:
    # Compressed on the way, the bytes could not be counted.
    headers = {"Accept-Encoding": "identity"}
    if size:
        headers |= {"Range": f"bytes={size}-", "If-Range": tag}
    try:
        return requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except requests.exceptions.SSLError as error:
        raise DownloadError(f"the certificate of {url} is not trusted here") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        raise DownloadError(f"there is no connection to {url}") from error
    except (requests.RequestException, urllib3.exceptions.HTTPError, ValueError) as error:
        raise DownloadError(f"{url} cannot be asked for ({type(error).__name__})") from error


def _tag(part: Path) -> Path:
    return part.with_name(part.name + ".tag")


def _write_tag(tag: Path, response: requests.Response) -> None:
    """Remember the version; without a strong name for it the file cannot be continued."""
    name = response.headers.get("ETag", "W/")
    if name.startswith("W/"):
        name = response.headers.get("Last-Modified", "")
    if name:
        tag.write_text(name, "utf-8")
    else:
        tag.unlink(missing_ok=True)
