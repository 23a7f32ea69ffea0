import errno
import json
import os
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from pulse.batch.manifest import MANIFEST, Entry, Manifest
from pulse.batch.storage import StorageError, open_folder
from pulse.imaging.pictures import InputError

KEY, OTHER = "a" * 64, "b" * 64


def entry(output: str, face: int | None = 0, key: str | None = KEY, faces: int = 1) -> Entry:
    folder = None if face is None else output if face == 0 else f"{output}-{face}"
    reason = "bad" if face is None else None
    status = "error" if face is None else "found"
    return Entry(output, folder, "in.png", key, key, face, faces, status, reason=reason)


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else f"memory://{tmp_path.name}"


def lines(place: str) -> list[bytes]:
    return (open_folder(place).read(MANIFEST) or b"").splitlines()


def test_lines_replace_those_of_the_same_face(place: str) -> None:
    folder = open_folder(place)
    with folder.owned():
        manifest = Manifest(folder)
        for output, face in (("b", 1), ("b", 0), ("a", 0), ("b", 1)):
            manifest.append(replace(entry(output, face), faces=2 if output == "b" else 1))
        assert [e.face for e in manifest.of("b")] == [0, 1]
        assert manifest.of("c") == []
        assert len(manifest) == 3
        manifest.close()
        assert [Entry.parse(line).folder for line in lines(place)] == ["a", "b", "b-1"]
        manifest = Manifest(folder)
        assert [e.folder for e in manifest] == ["a", "b", "b-1"]
        # Other contents of the picture: all its lines go.
        manifest.append(entry("b", 0, OTHER))
        assert [e.key for e in manifest] == [KEY, OTHER]
        manifest.close()
        assert len(lines(place)) == 2


def test_what_windows_cannot_do_is_not_asked_for(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads at no place of a file but where it is, and replaces no file that is open."""
    in_place, replaced = os.replace, []

    def strict(source: Path, target: Path) -> None:
        if str(target.resolve()) in {file.path for file in psutil.Process().open_files()}:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        replaced.append(target.name)
        in_place(source, target)

    monkeypatch.setattr(os, "replace", strict)
    monkeypatch.delattr(os, "pread", raising=False)
    folder = open_folder(place)
    with folder.owned():
        manifest = Manifest(folder)
        for output in ("b", "a", "b"):
            manifest.append(entry(output))
            assert [e.output for e in manifest.of(output)] == [output]
        manifest.close()
        assert MANIFEST in replaced
        assert [Entry.parse(line).output for line in lines(place)] == ["a", "b"]


def test_a_picture_that_cannot_be_read_for_the_moment_loses_nothing(place: str) -> None:
    folder = open_folder(place)
    with folder.owned():
        manifest = Manifest(folder)
        manifest.append(entry("a"))
        for _ in range(2):
            manifest.append(entry("a", None, None))
        assert [e.face for e in manifest] == [0, None]
        manifest.settle("a")
        manifest.append(entry("b", None))
        manifest.append(entry("b", 0))
        manifest.close()
        manifest = Manifest(folder)
        assert [e.face for e in manifest] == [0, 0]
        manifest.close()


def test_what_a_killed_run_leaves(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    with folder.owned():
        text = entry("a").line() + entry("a").line() + entry("b").line()
        for cut in range(len(text) + 1):
            (tmp_path / MANIFEST).write_bytes(text[:cut])
            manifest = Manifest(folder)
            whole = text[:cut].count(b"\n")
            assert len(manifest) == min(whole, 1) + (whole == 3)
            manifest.append(entry("c"))
            manifest.close()
            found = [Entry.parse(line).output for line in lines(str(tmp_path))]
            assert found == ["a", "b", "c"][3 - len(found) :] or found in (["c"], ["a", "c"])
            assert len(found) == len(set(found))


def test_lines_that_were_sent_but_not_joined(tmp_path: Path) -> None:
    folder = open_folder("memory://parts")
    with folder.owned():
        folder.write(MANIFEST, entry("a").line())
        folder.write("manifest/00000000.jsonl", entry("a").line() + entry("b").line())
        manifest = Manifest(folder)
        assert [e.output for e in manifest] == ["a", "b"]
        manifest.close()
        assert folder.names("manifest") == set()
        assert len(lines("memory://parts")) == 2


def test_long_lines(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    with folder.owned():
        manifest = Manifest(folder)
        long = replace(entry("a"), files=tuple(f"candidate-{i:02d}.png" for i in range(1000)))
        manifest.append(long)
        manifest.append(entry("b"))
        assert manifest.of("a") == [long]
        manifest.close()


def test_a_foreign_file_is_left_alone(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    for text in ("hello\nyou\n", '{"a": 1}\n'):
        (tmp_path / MANIFEST).write_text(text, "utf-8")
        with folder.owned(), pytest.raises(InputError, match="is not a manifest of this program"):
            Manifest(folder)
        assert (tmp_path / MANIFEST).read_text("utf-8") == text


def test_a_full_disk_leaves_it_valid(tmp_path: Path) -> None:
    folder = open_folder(str(tmp_path))
    with folder.owned():
        manifest = Manifest(folder)
        manifest.append(entry("a"))
        whole = manifest._file

        class Full:
            def __getattr__(self, name: str) -> object:
                return getattr(whole, name)

            def write(self, data: bytes) -> int:
                return whole.write(data[:20])

        manifest._file = Full()  # type: ignore[assignment]
        with pytest.raises(StorageError, match="No space left"):
            manifest.append(entry("b"))
        manifest.close(whole=False)
        assert (tmp_path / MANIFEST).read_bytes() == entry("a").line()


def test_lines_of_earlier_versions_are_read() -> None:
    new = replace(entry("a"), plausibility=(0.5, None), ranked=(0, 1))
    assert Entry.parse(new.line()) == new
    facts = json.loads(entry("a").line())
    del facts["plausibility"], facts["ranked"]
    assert Entry.parse(json.dumps(facts).encode()) == entry("a")
    del facts["mse"]
    with pytest.raises(ValueError, match="not a line of a manifest"):
        Entry.parse(json.dumps(facts).encode())
