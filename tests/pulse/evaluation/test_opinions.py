import json
from pathlib import Path

import pytest

from pulse.evaluation.opinions import ANSWERS, Shown, keep, opinions, to_rate
from pulse.imaging.pictures import InputError


def test_means_over_faces_of_what_was_said_last(tmp_path: Path) -> None:
    a, b = Shown("x", "a"), Shown("x", "b")
    for shown, score, rater in ((a, 1, "me"), (a, 5, "me"), (a, 3, "you"), (b, 2, "me")):
        keep(tmp_path, shown, score, rater)
    with (tmp_path / ANSWERS).open("a", encoding="utf-8") as file:
        file.write('{"method": "x", "face": "b", "sco')  # Killed while writing.
    (value,) = opinions(tmp_path).values()
    assert value.mean == (4 + 2) / 2
    assert (value.low, value.high) == (2, 4)
    with pytest.raises(ValueError, match="not from 1 to 5"):
        keep(tmp_path, a, 6, "me")
    assert opinions(tmp_path / "nowhere") == {}


def test_an_answer_after_one_that_was_cut_off_counts(tmp_path: Path) -> None:
    (tmp_path / ANSWERS).write_text('{"method": "x"', "utf-8")
    keep(tmp_path, Shown("x", "a"), 4, "me")
    assert opinions(tmp_path)["x"].mean == 4


def test_only_finished_comparisons_are_rated(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no finished comparison"):
        to_rate(tmp_path)
    table = {"faces": [{"name": "a"}], "methods": [{"name": "x"}]}
    (tmp_path / "table.json").write_text(json.dumps(table), "utf-8")
    with pytest.raises(InputError, match=r"a-00\.png is gone"):
        to_rate(tmp_path)
