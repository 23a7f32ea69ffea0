"""What pictures of a comparison say of themselves."""

from pathlib import Path

import pytest
import torch

from pulse.evaluation.faces import Original
from pulse.evaluation.methods import TRUTH, Enlarged, Method, Network, Search
from pulse.evaluation.store import Drawn, Store
from pulse.upscale import UpscaleConfig
from stylegan.marks import COMPOSITE, SOURCE_TYPE

PIXELS = torch.zeros(3, 16, 16, dtype=torch.uint8)


def marks_in(file: Path) -> set[str]:
    data = file.read_bytes()
    return {mark for mark in (SOURCE_TYPE, COMPOSITE) if mark.encode() in data}


@pytest.mark.parametrize(
    ("method", "mark"),
    [
        (Search("default", "tiny", "0", UpscaleConfig()), SOURCE_TYPE),
        (Network("x", "0"), COMPOSITE),
        (Enlarged("bicubic"), None),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_pictures_are_marked_by_what_made_them(
    method: Method, mark: str | None, tmp_path: Path
) -> None:
    store = Store(tmp_path, 16, 4)
    entry = store.add(Original("face", PIXELS))
    store.put_drawn(method, entry, torch.zeros(2, 3, 16, 16), Drawn(2))
    for index in range(2):
        file = store.file(method, entry, index)
        assert marks_in(file) == ({mark} if mark else set())
        assert (method.name.encode() in file.read_bytes()) == (mark is not None)


def test_originals_are_marked_where_a_generator_drew_them(tmp_path: Path) -> None:
    store = Store(tmp_path, 16, 4)
    taken = store.add(Original("taken", PIXELS))
    drawn = store.add(Original("drawn", PIXELS, made=True))
    assert marks_in(store.file(TRUTH, taken)) == set()
    assert marks_in(store.file(TRUTH, drawn)) == {SOURCE_TYPE}
