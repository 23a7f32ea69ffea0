import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pulse.batch.listing import files_in, kind_of, matching
from pulse.batch.storage import OWNER, Folder, StorageError, open_folder, read_file
from pulse.imaging.pictures import InputError
from tests.systems import UNIX


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "out") if request.param == "local" else f"memory://{tmp_path.name}"


def names_in(place: str, recursive: bool = True, without: str | None = None) -> list[str]:
    found = list(files_in(place, recursive, without))
    assert not any(file.wrong for file in found)
    return [file.name for file in found]


def put(folder: Folder, *names: str) -> None:
    for name in names:
        folder.write(name, name.encode())


def test_files_come_and_go(place: str) -> None:
    folder = open_folder(place)
    assert kind_of(place) is None
    with folder.owned():
        put(folder, "a.png", "sub/b c%20.png", "sub/deep/ü.png")
        assert folder.read("sub/b c%20.png") == b"sub/b c%20.png"
        assert folder.read("nothing") is None
        assert folder.names("sub") == {"b c%20.png"}
        assert folder.names("nothing") == set()
        folder.write("a.png", b"new")
        assert folder.read("a.png") == b"new"
        assert names_in(place) == ["a.png", "sub/b c%20.png", "sub/deep/ü.png"]
        assert names_in(place, recursive=False) == ["a.png"]
        assert names_in(place, without="sub/deep") == ["a.png", "sub/b c%20.png"]
        assert matching(f"{place}/**/*.png")[-1].endswith("/sub/deep/ü.png")
        assert [name.rpartition("/")[2] for name in matching(f"{place}/*.png")] == ["a.png"]
        assert read_file(f"{place}/a.png", "a.png") == b"new"
        assert (kind_of(place), kind_of(f"{place}/a.png")) == ("folder", "file")
        folder.remove("sub/deep/ü.png")
        folder.remove("sub/deep/ü.png")
        assert names_in(place) == ["a.png", "sub/b c%20.png"]
    with pytest.raises(InputError, match=r"b\.png does not exist"):
        read_file(f"{place}/b.png", "b.png")


def test_two_owners(place: str) -> None:
    folder = open_folder(place)
    with folder.owned() as token:
        assert folder.read(OWNER) == token
        with pytest.raises(StorageError, match=f"process {os.getpid()} on {socket.gethostname()}"):
            open_folder(place).owned().__enter__()
    with open_folder(place).owned() as other:
        assert other != token


def test_a_lock_that_nobody_frees() -> None:
    place = "memory://locked"
    folder = open_folder(place)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    facts = {"host": socket.gethostname(), "process": ended.pid, "since": "noon"}
    folder.write(OWNER, json.dumps(facts).encode())
    with folder.owned():  # Its process has ended, which can be known here.
        pass
    folder.write(OWNER, json.dumps(facts | {"host": "elsewhere"}).encode())
    with pytest.raises(StorageError, match=r"on elsewhere since noon.*break_lock"):
        folder.owned().__enter__()
    with folder.owned(break_lock=True):
        pass
    assert folder.read(OWNER) is None


def test_leftovers_of_a_killed_writer_go(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    with folder.owned():
        (tmp_path / ".pulse" / "dead.part").write_bytes(b"half")
    with folder.owned():
        assert {path.name for path in (tmp_path / ".pulse").iterdir()} == {"lock", "owner"}


def test_what_one_name_does_wrong_is_not_the_folders_fault(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    with folder.owned():
        put(folder, "face")
        for name in ("face/result.json", "n" * 300):
            with pytest.raises(InputError, match="in the way, or the name is too long") as caught:
                folder.write(name, b"")
            assert not isinstance(caught.value, StorageError)
        assert not list((tmp_path / ".pulse").glob("*.part"))


def test_a_folder_that_vanished_is_not_made_again(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path / "out"))
    with folder.owned():
        (tmp_path / "out").rename(tmp_path / "gone")
        with pytest.raises(StorageError, match="out has vanished"):
            folder.write("a/b", b"")
        assert not (tmp_path / "out").exists()


@UNIX
def test_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder"):
        read_file(str(tmp_path), "it")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="is not a file"):
        read_file(str(tmp_path / "pipe"), "it")
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(2**31)
    with pytest.raises(InputError, match=r"2\.0 GiB, too many"):
        read_file(str(tmp_path / "huge"), "it")
    with pytest.raises(StorageError, match=r"nowhere://x cannot be opened"):
        open_folder("nowhere://x")
    with pytest.raises(InputError, match="cannot be listed"):
        list(files_in(str(tmp_path / "nothing"), True))


def test_one_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Others beside it and behind it are listed; who may read everything is told so here."""
    for name in ("a.png", "x/b.png", "y/c.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    scandir = os.scandir

    def guarded(path: Path) -> object:
        if path == shut:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    shut = tmp_path / "x"
    found = [(file.name, file.wrong) for file in files_in(str(tmp_path), True)]
    wrong = f"{shut} cannot be listed (Permission denied)."
    assert found == [("a.png", None), ("x", wrong), ("y/c.png", None)]
    shut = tmp_path
    with pytest.raises(InputError, match=r"cannot be listed \(Permission denied\)"):
        list(files_in(str(tmp_path), True))


@pytest.mark.parametrize("place", ["https://example.com/a", "HTTP://h/a", "filecache::https://h/a"])
def test_links_are_not_fetched(place: str) -> None:
    """fsspec would, where it finds what it needs for it."""
    for look in (kind_of, matching, lambda place: read_file(place, place)):
        with pytest.raises(InputError, match="links are not fetched") as caught:
            look(place)
        assert not isinstance(caught.value, StorageError)  # It is one picture's fault.
    with pytest.raises(StorageError, match="is a link, to which nothing can be written"):
        open_folder(place)


def test_local_places_need_no_fsspec(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fsspec'] = None\n"
        "from pulse.batch.storage import open_folder, StorageError\n"
        f"folder = open_folder({str(tmp_path)!r})\n"
        "with folder.owned(): folder.write('a/b', b'c')\n"
        "assert folder.read('a/b') == b'c'\n"
        "try: open_folder('s3://bucket')\n"
        "except StorageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[3],
    )  # fmt: skip
    assert "pip install fsspec" in done.stdout
