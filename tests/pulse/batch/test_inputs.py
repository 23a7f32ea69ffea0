import os
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from pulse.batch import paths
from pulse.batch.inputs import Inputs, Names
from pulse.batch.storage import open_folder
from pulse.imaging.pictures import InputError
from pulse.settings import Settings
from tests.systems import UNIX


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")


def outputs(place: str | Path, face: str = "largest", **how: object) -> dict[str, str]:
    inputs = Inputs(str(place), Settings(face=face), **how)  # type: ignore[arg-type]
    found = {item.source: item.output for item in inputs}
    assert found == {item.source: item.output for item in inputs}
    assert len(set(found.values())) == len(found)
    return found


def test_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "b.png", "a.jpg", "a.png", ".hidden.png", "notes.md", "x/a.png", "x/y/c.WEBP")
    touch(tmp_path, ".git/d.png", "out/a/candidate-00.png")
    top = {"a.jpg": "a", "a.png": "a.png", "b.png": "b"}
    assert outputs(tmp_path) == top
    deep = {"x/a.png": "x/a", "x/y/c.WEBP": "x/y/c"}
    assert outputs(tmp_path, recursive=True, without=str(tmp_path / "out")) == top | deep
    inputs = Inputs(str(tmp_path), Settings(), True)
    assert [item.place for item in inputs][:1] == [f"{tmp_path}/a.jpg"]
    assert inputs.skipped == 1
    with pytest.raises(InputError, match="is the folder of the inputs"):
        Inputs(str(tmp_path), Settings(), without=f"{tmp_path}/out/..")


def test_names_are_nobody_elses() -> None:
    def names(*files: str, several: bool = False) -> list[str]:
        taken = Names()
        return [taken.find(PurePosixPath(file), several) for file in files]

    assert names("a.png", "A.jpg", "a.gif") == ["a", "A.jpg", "a.gif"]
    assert names("x/a.png", "y/a.png") == ["x/a", "y/a"]
    assert names("a.png", "a.png", "a.png") == ["a", "a.png", "a.png~2"]
    assert names("face-1.png", "face.png") == ["face-1", "face"]
    # face-1 could be the second face of face.png.
    assert names("face-1.png", "face.png", several=True) == ["face-1", "face.png"]
    assert names("face.png", "face-1.png", several=True) == ["face", "face-1.png"]
    assert names("img-001.png", "img.png", several=True) == ["img-001", "img"]
    assert names("manifest.jsonl.png", "index-2.html.png", "...png") == [
        "manifest.jsonl.png", "index-2.html.png", "...png",
    ]  # fmt: skip


def test_a_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/a.png", "y/deep/a.png", "out/a.png", "y/b.txt")
    assert outputs(tmp_path / "*" / "a.png", without=str(tmp_path / "out")) == {
        "x/a.png": "x/a",
        "y/a.png": "y/a",
    }
    assert "y/deep/a.png" in outputs(tmp_path / "**" / "a.png")
    touch(tmp_path, "[1].png")
    assert outputs(tmp_path / "[1].png") == {"[1].png": "[1]"}


def test_a_text_list(tmp_path: Path) -> None:
    text = "\ufeff# pictures\nx/a b.png\r\n\n../c.png\n/abs/d.png\nx/a b.png\ns3://bucket/e.png\n"
    (tmp_path / "list.txt").write_text(text, newline="", encoding="utf-8")
    items = list(Inputs(str(tmp_path / "list.txt"), Settings()))
    assert [(item.source, item.output) for item in items] == [
        ("x/a b.png", "x/a b"),
        ("../c.png", "c"),
        ("/abs/d.png", "d"),
        ("x/a b.png", "x/a b.png"),
        ("s3://bucket/e.png", "e"),
    ]
    assert items[0].place == f"{tmp_path}/x/a b.png"
    assert items[2].place == "/abs/d.png"
    assert items[4].place == "s3://bucket/e.png"


def test_a_json_list(tmp_path: Path) -> None:
    lines = [
        '{"input": "a.png", "output": "deep/one", "seed": 7, "candidates": 2, "lr_size": 24}',
        '{"input": "a.png", "face": 1, "degrade": "grey,mask:m.png", "lr_size": "auto"}',
        '{"input": "b.png", "degrade": null, "paste": true, "tolerance": 1, "face": "all"}',
    ]
    (tmp_path / "list.jsonl").write_text("\n".join(lines), "utf-8")
    one, two, three = Inputs(str(tmp_path / "list.jsonl"), Settings(seed=3, degrade="box"))
    assert (one.output, two.output, three.output) == ("deep/one", "a", "b")
    assert one.settings == Settings(2, seed=7, lr_size="24", degrade="box")
    assert two.settings.faces.which == 1
    assert two.settings.config.lr_size == "auto"
    assert two.settings.config.degrade is not None
    assert two.settings.config.degrade.mask == tmp_path / "m.png"
    assert three.settings == Settings(seed=3, paste=True, tolerance=1, face="all")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("face.png", "It is not JSON"),
        ("[1]", "is not an object"),
        ('{"seed": 1}', "does not say which picture"),
        ('{"input": "a.png", "sede": 1}', "no setting sede; known are candidates, steps"),
        ('{"input": "a.png", "seed": "1"}', 'seed takes a whole number, not "1"'),
        ('{"input": "a.png", "seed": true}', "seed takes a whole number, not true"),
        ('{"input": "a.png", "seed": -1}', "seed must be a whole number from 0"),
        ('{"input": "a.png", "candidates": 0}', "candidates must be between 1 and 1000"),
        ('{"input": "a.png", "format": "bmp"}', "format takes png, jpg, webp; not"),
        ('{"input": "a.png", "lr_size": 3}', "from 4 on, or auto; not 3"),
        ('{"input": "a.png", "face": "first"}', "largest, all or a number"),
        ('{"input": "a.png", "degrade": "melt"}', "cannot take 'melt'"),
        ('{"input": "a.png", "output": "../up"}', "name of a folder inside the output folder"),
        ('{"input": "a.png", "output": "/up"}', "name of a folder inside the output folder"),
        ('{"input": "a.png", "output": 3}', "name of a folder inside the output folder"),
        ('{"input": "a.png", "output": "B"}', "Another picture is written to B already"),
        ('{"input": "\\ud800.png"}', "characters that no file's name can have"),
        ('{"input": "a\\u0000.png"}', "characters that no file's name can have"),
        ('{"input": "a.png", "output": "\\ud800"}', "name of a folder inside the output folder"),
        ('{"input": "a.png", "output": "' + 300 * "x" + '"}', "output is too long"),
        ('{"input": "a.png", "output": "' + 3000 * "x/" + '"}', "output is too long"),
        ('{"input": "a.png", "output": "index.html/x"}', "index.html is a file of the batch's own"),
        ("[" * 200_000, "too much in each other"),
        ('{"input": ' + "[" * 500 + "]" * 500 + "}", "does not say which picture"),
        ('{"input": "a.png", "steps": ' + 5000 * "9" + "}", "It is not JSON"),
        ('{"input": "a.png", "tolerance": NaN}', ""),
        ('{"input": "a.png", "time_limit": -1e999}', ""),
    ],
)
def test_wrong_lines(line: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text(f'{{"input": "b.png"}}\n\n{line}\n', "utf-8")
    sound, wrong = Inputs(str(tmp_path / "list.jsonl"), Settings())
    assert (sound.output, sound.wrong) == ("b", None)
    assert (wrong.source, wrong.output) == ("list.jsonl, line 3", "line 3")
    assert wrong.wrong is not None
    assert wrong.wrong.startswith("list.jsonl, line 3: ")
    assert message in wrong.wrong


@pytest.mark.parametrize(
    "folder", ["index.html", "manifest", ".pulse", "summary.json", "index-7.html"]
)
def test_folders_like_the_batchs_own_files_keep_apart(folder: str, tmp_path: Path) -> None:
    names = Names()
    assert names.find(PurePosixPath(f"{folder}/a.png"), False) == f"{folder}~/a"
    assert names.find(PurePosixPath(f"{folder}/a.jpg"), False) == f"{folder}~/a.jpg"
    with pytest.raises(InputError, match="of the batch's own"):
        names.take(f"{folder}/a", False)


@UNIX
def test_links_to_themselves_and_deep_folders(tmp_path: Path) -> None:
    touch(tmp_path / "in", "a.png")
    (tmp_path / "in" / "b.png").symlink_to("b.png")
    (tmp_path / "in" / "c").symlink_to(".")
    assert outputs(tmp_path / "in", recursive=True) == {"a.png": "a", "b.png": "b"}
    place = os.open(tmp_path / "in", os.O_DIRECTORY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=place)
        place, before = os.open("d", os.O_DIRECTORY, dir_fd=place), place
        os.close(before)
    os.close(os.open("e.png", os.O_CREAT, dir_fd=place))
    os.close(place)
    try:
        assert outputs(tmp_path / "in", recursive=True)["d/" * 1500 + "e.png"] == "d/" * 1500 + "e"
    finally:  # Python itself cannot remove so deep a folder.
        subprocess.run(["rm", "-rf", tmp_path / "in"], check=True)


def test_places_elsewhere(tmp_path: Path) -> None:
    folder = open_folder("memory://pictures")
    for name in ("b.png", "x/a.png", "out/a/candidate-00.png", "x/readme.txt"):
        folder.write(name, b"")
    items = Inputs("memory://pictures/", Settings(), True, "memory://pictures/out")
    assert [(item.source, item.place) for item in items] == [
        ("b.png", "memory://pictures/b.png"),
        ("x/a.png", "memory://pictures/x/a.png"),
    ]
    assert outputs("memory://pictures/x/*.png") == {"a.png": "a"}
    folder.write("list.txt", b"x/a.png\n")
    (item,) = Inputs("memory://pictures/list.txt", Settings())
    assert item.place == "memory://pictures/x/a.png"


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        Inputs(str(tmp_path / "none"), Settings())
    assert outputs(tmp_path / "*.png") == {}


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are read as on Windows; the disks stay this system's."""
    monkeypatch.setattr(paths, "WINDOWS", True)


@pytest.mark.usefixtures("windows")
def test_backslashes_of_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "in/x/a.png", "in/b.png", "in/out/c.png")
    monkeypatch.chdir(tmp_path)
    without = {"without": "in/out"}
    assert outputs("in\\", recursive=True, **without) == {"b.png": "b", "x/a.png": "x/a"}
    assert outputs("in\\*\\*.png", **without) == {"x/a.png": "x/a"}
    assert outputs("in\\b.png") == {"b.png": "b"}
    lines = ["x\\a.png", "..\\in\\b.png", "C:\\c\\d.png", "\\\\host\\share\\e.png"]
    (tmp_path / "in" / "list.txt").write_text("\n".join(lines), "utf-8")
    items = list(Inputs("in\\list.txt", Settings()))
    assert [(item.source, item.place, item.output) for item in items] == [
        (lines[0], "in/x/a.png", "x/a"),
        (lines[1], "in/../in/b.png", "b"),
        (lines[2], "C:/c/d.png", "d"),
        (lines[3], "//host/share/e.png", "e"),
    ]


@pytest.mark.usefixtures("windows")
def test_outputs_stay_inside_on_windows() -> None:
    names = Names()
    assert names.take("a\\b", False) == "a/b"
    for wrong in ("..\\up", "a\\..\\..\\up", "C:\\up", "C:up", "\\up", "a:b", "what?", "dot."):
        with pytest.raises(InputError, match="name of a folder inside"):
            names.take(wrong, False)


@pytest.mark.usefixtures("windows")
def test_disks_of_windows() -> None:
    assert paths.trimmed("C:/") == "C:/"
    assert paths.trimmed("C:/in//") == "C:/in"
    assert paths.slashed("C:\\in\\*.png") == "C:/in/*.png"
    assert paths.slashed("s3://bucket/a\\b.png") == "s3://bucket/a\\b.png"
    assert str(paths.local_path("file:///C:/in/a.png")) == "C:/in/a.png"


@UNIX
def test_a_backslash_is_a_letter_elsewhere(tmp_path: Path) -> None:
    touch(tmp_path, "in/a\\b.png", "in/c:d.png")
    assert outputs(tmp_path / "in") == {"a\\b.png": "a\\b", "c:d.png": "c:d"}
    assert Names().take("a\\b:c", False) == "a\\b:c"
