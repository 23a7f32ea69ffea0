"""What is learned from may come from anywhere."""

import zipfile
from pathlib import Path

import pytest

from pulse.imaging.pictures import InputError
from pulse.superres.pairs import PairConfig
from pulse.superres.sources import read_pairs


def test_a_zip_file_that_grows_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.superres.sources.MOST_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("a.png", "b.png", "c.png"):
            file.writestr(name, bytes(1_000_001))
    assert (tmp_path / "x.zip").stat().st_size < 10_000
    with pytest.raises(InputError, match=r"[abc]\.png is too large for a picture"):
        read_pairs([tmp_path / "x.zip"], PairConfig())
