from pathlib import Path

import pytest

from stylegan.files import whole


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before")

    def fail() -> None:
        with whole(path) as file:
            file.write_text("half")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert path.read_text() == "before"
    with whole(path) as one, whole(path) as other:  # Two at once do not meet.
        one.write_text("one")
        other.write_text("other")
        assert path.read_text() == "before"
    assert path.read_text() == "one"
    assert list(tmp_path.iterdir()) == [path]
