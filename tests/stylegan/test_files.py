from pathlib import Path

import pytest

from stylegan.files import whole


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("before", "utf-8")

    def fail() -> None:
        with whole(path) as file:
            file.write_text("half", "utf-8")
            raise RuntimeError("halfway")

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    assert path.read_text("utf-8") == "before"
    with whole(path) as one, whole(path) as other:  # Two at once do not meet.
        one.write_text("one", "utf-8")
        other.write_text("other", "utf-8")
        assert path.read_text("utf-8") == "before"
    assert path.read_text("utf-8") == "one"
    assert list(tmp_path.iterdir()) == [path]
