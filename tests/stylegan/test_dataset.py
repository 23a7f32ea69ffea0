import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from stylegan.dataset import DataError, load_pictures, uncaptioned


def png(colour: tuple[int, int, int], size: tuple[int, int] = (20, 20)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def test_reads_folders_and_zips_in_the_tables_order(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("x.png", png((10, 0, 0)))
        archive.writestr("y.png", png((20, 0, 0)))
        archive.writestr("notes.txt", "no picture")
    (tmp_path / "z.png").write_bytes(png((30, 0, 0)))
    (tmp_path / "t.csv").write_text(
        "file,source\ny.png,s\nz.png,s\nx.png,s\nabsent.png,s\n", "utf-8"
    )
    train, held_out = load_pictures(tmp_path, 8, 1)
    assert train.pixels[:, 0, 0, 0].tolist() == [20, 30]
    assert held_out.pixels[:, 0, 0, 0].tolist() == [10]


def test_rarer_sources_and_groups_are_drawn_more_often(tmp_path: Path) -> None:
    rows = ["file,source,original"]
    rows += [f"a{i}.png,big,p__{i}" for i in range(16)]
    rows += [f"b{i}.png,small,q{i}__x" for i in range(4)]  # Digits make no groups.
    (tmp_path / "t.csv").write_text("\n".join(rows), "utf-8")
    for row in rows[1:]:
        (tmp_path / row.split(",")[0]).write_bytes(png((1, 2, 3)))
    train, _ = load_pictures(tmp_path, 8)
    # The share of a stratum goes with the root of its size.
    assert train.weights[:16].sum() == pytest.approx(4.0)
    assert train.weights[16:].sum() == pytest.approx(2.0)
    rng = torch.Generator().manual_seed(0)
    train.pixels[16:] = 9
    first = torch.cat([train.draw(1, rng).pixels for _ in range(3000)])
    assert (first[:, 0, 0, 0] == 9).float().mean() == pytest.approx(1 / 3, abs=0.05)
    everyone = train.draw(20, rng).pixels
    assert (everyone[:, 0, 0, 0] == 9).sum() == 4


def test_natural_sources_get_their_share(tmp_path: Path) -> None:
    names = [*(f"s{i}.png" for i in range(16)), "n0.png", "n1.png"]
    rows = [f"{name},{'radically' if name[0] == 'n' else 'studio'}" for name in names]
    (tmp_path / "t.csv").write_text("\n".join(["file,source", *rows]), "utf-8")
    for name in names:
        (tmp_path / name).write_bytes(png((1, 2, 3)))
    for least, share in ((0.5, 0.5), (0.8, 0.8), (0.1, 2**0.5 / (4 + 2**0.5))):
        train, _ = load_pictures(tmp_path, 8, natural_share=least)
        assert train.natural.tolist() == [False] * 16 + [True] * 2
        drawn = (train.weights * train.natural).sum() / train.weights.sum()
        assert drawn == pytest.approx(share, rel=1e-5)


def test_chosen_pictures_get_their_share_and_captioned_ones_none(tmp_path: Path) -> None:
    sources = ["a", "noahdavison", "b", "b", "c"]
    rows = [f"{i}.png,{source}" for i, source in enumerate(sources)]
    (tmp_path / "t.csv").write_text("\n".join(["file,source", *rows]), "utf-8")
    for i in range(len(sources)):
        (tmp_path / f"{i}.png").write_bytes(png((i, 0, 0)))
    learn, _ = load_pictures(tmp_path, 8, held_out=1)
    plain = uncaptioned(learn, tmp_path)
    assert plain.weights.tolist() == [learn.weights[0], 0, *learn.weights[2:]]
    chosen = plain.with_share(torch.tensor([3, 0]), 0.4)
    share = chosen.weights / chosen.weights.sum()
    assert share[1] == 0
    assert share[[0, 3]].sum() == pytest.approx(0.4)
    # Among themselves they are drawn as before.
    assert share[0] / share[3] == pytest.approx(float(learn.weights[0] / learn.weights[3]))
    assert torch.equal(chosen.pixels, learn.pixels)


def test_takes_the_middle_square(tmp_path: Path) -> None:
    image = Image.new("RGB", (60, 20), "red")
    image.paste("blue", (20, 0, 40, 20))
    image.save(tmp_path / "x.png")
    image.save(tmp_path / "y.png")
    train, _ = load_pictures(tmp_path, 8)
    assert (train.pixels[0, 2, :, 1:-1] > 250).all()
    assert (train.pixels[0, 0, :, 1:-1] < 5).all()


def test_refuses_what_is_no_data(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a folder"):
        load_pictures(tmp_path / "absent", 8)
    with pytest.raises(DataError, match="holds 0 pictures"):
        load_pictures(tmp_path, 8)
    (tmp_path / "x.png").write_bytes(b"broken")
    (tmp_path / "y.png").write_bytes(png((0, 0, 0)))
    with pytest.raises(DataError, match=r"x\.png is not a picture"):
        load_pictures(tmp_path, 8)


def test_refuses_damaged_zips_and_names_given_twice(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    with pytest.raises(DataError, match="not a zip file"):
        load_pictures(tmp_path, 8)
    for name in ("a.zip", "b.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x.png", png((10, 0, 0)))
    with pytest.raises(DataError, match="have the same name"):
        load_pictures(tmp_path, 8)


@pytest.mark.slow
def test_the_data_of_the_embedded_generator(shared: Path) -> None:
    train, held_out = load_pictures(shared / "faces", 8, 300)
    assert (len(train), len(held_out)) == (9889, 300)
    assert (train.weights * train.natural).sum() / train.weights.sum() > 0.5 - 1e-4
    # The rarest group is drawn most often.
    assert train.weights.max() / train.weights.min() > 3
