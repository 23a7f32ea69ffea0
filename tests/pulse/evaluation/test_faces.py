import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pulse.evaluation.faces import Choice, lowered, read_faces, read_labels, sampled_faces
from pulse.imaging.pictures import InputError
from stylegan import Generator


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Ten squares of 40 pixels, of which the last three are in a zip file, and two that are bad."""
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(10):
        Image.new("RGB", (40, 40), (number * 20, 0, 0)).save(folder / f"{number}.png")
    with zipfile.ZipFile(folder / "more.zip", "w") as archive:
        for number in (7, 8, 9):
            archive.write(folder / f"{number}.png", f"{number}.png")
            (folder / f"{number}.png").unlink()
    Image.new("RGB", (50, 20)).save(folder / "0-small.png")
    (folder / "0-broken.png").write_bytes(b"no picture")
    rows = [
        f"{n}.png,images__{'woman' if n % 2 else 'man'}__green__x{n}.jpg,{n}" for n in range(10)
    ]
    (folder.parent / "table.csv").write_text("file,original,digit\n" + "\n".join(rows), "utf-8")
    return folder


def test_faces_of_a_folder_and_its_zip_files(data: Path) -> None:
    refused: list[str] = []
    labels = f"{data.parent / 'table.csv'}"
    faces = list(read_faces(data, 32, Choice(labels=labels), refused.append))
    assert [face.pixels[0, 5, 5].item() // 20 for face in faces] == list(range(10))
    assert {tuple(face.pixels.shape) for face in faces} == {(3, 32, 32)}
    assert [face.groups for face in faces[:2]] == [("man", "green"), ("woman", "green")]
    assert len({face.name for face in faces}) == 10
    assert len({face.digest for face in faces}) == 10
    assert len(refused) == 2
    assert "0-broken.png is not a picture" in refused[0]
    assert "0-small.png has a face of 20 pixels" in refused[1]


def test_count_spreads_and_held_out_are_the_last(data: Path) -> None:
    def digits(choice: Choice) -> list[int]:
        return [int(f.pixels[0, 0, 0]) // 20 for f in read_faces(data, 32, choice, lambda _: None)]

    assert digits(Choice(held_out=4)) == [6, 7, 8, 9]
    assert digits(Choice(count=2, held_out=8)) == [2, 6]
    assert digits(Choice(count=99)) == list(range(10))


def test_labels(data: Path) -> None:
    table = data.parent / "table.csv"
    assert read_labels(f"{table}:digit")["3.png"] == ("3",)
    with pytest.raises(InputError, match="no columns file and shoe; it has file, original, digit"):
        read_labels(f"{table}:shoe")
    with pytest.raises(InputError, match="cannot be read"):
        read_labels(str(data / "none.csv"))


def test_photos_are_framed(shared: Path, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for name in ("examples__two_people.jpg", "test__assets__grass.jpg"):
        (tmp_path / "photos" / name).write_bytes((shared / "photos" / name).read_bytes())
    refused: list[str] = []
    faces = list(read_faces(tmp_path / "photos", 64, Choice(align=True), refused.append))
    assert len(faces) == 1
    assert len(refused) == 1
    assert "No face was found in test__assets__grass.jpg" in refused[0]


def test_small_pictures_are_those_that_pillow_makes(tiny: Generator) -> None:
    (face,) = sampled_faces(tiny, 1)
    pixels = face.pixels // 2 + 64  # Pillow clips between its two passes.
    low = lowered(pixels, 8)
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy())
    theirs = np.asarray(image.resize((8, 8), Image.Resampling.BICUBIC))
    ours = (low * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
    assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 1
    assert torch.equal((low * 255).round() / 255, low)
