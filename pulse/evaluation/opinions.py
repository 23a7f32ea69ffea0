"""What people say of the pictures: 1 to 5, not knowing what made them."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from pulse.evaluation.statistics import Value, mean_of
from pulse.evaluation.store import FOLDER
from pulse.imaging.pictures import InputError

ANSWERS = "ratings.jsonl"
WORST, BEST = 1, 5


@dataclass(frozen=True)
class Shown:
    """A picture that is to be rated: a method's first candidate for a face."""

    method: str
    face: str

    def file(self, folder: Path) -> Path:
        return folder / FOLDER / Path(self.method).name / f"{self.face}-00.png"


def to_rate(folder: Path) -> list[Shown]:
    """All pictures of a comparison that is finished.

    Raises:
        InputError: there is none in the folder.
    """
    try:
        table = json.loads((folder / "table.json").read_bytes())
        methods = [method["name"] for method in table["methods"]]
        shown = [Shown(method, face["name"]) for face in table["faces"] for method in methods]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(
            f"{folder} holds no finished comparison; run pulse evaluate -o {folder} first."
        ) from error
    gone = next((one for one in shown if not one.file(folder).is_file()), None)
    if gone is not None:
        raise InputError(
            f"{gone.file(folder)} is gone; run pulse evaluate -o {folder} again, which makes it."
        )
    return shown


def keep(folder: Path, shown: Shown, score: int, rater: str) -> None:
    """Put an answer behind the others, so that no one is lost.

    Raises:
        InputError: it cannot be written.
    """
    if not WORST <= score <= BEST:
        raise ValueError(f"A score of {score} is not from {WORST} to {BEST}.")
    line = json.dumps({**asdict(shown), "score": score, "rater": rater})
    try:
        with (folder / ANSWERS).open("a", encoding="utf-8") as file:
            # It begins on a line of its own, also behind one that was cut off by a kill.
            file.write(f"\n{line}\n")
    except OSError as error:
        raise InputError(
            f"{folder / ANSWERS} cannot be written ({error.strerror or error}); make room there."
        ) from error


def opinions(folder: Path) -> dict[str, Value]:
    """Mean opinion score of each method that was rated; its interval is over faces.

    A rater who saw a picture twice counts with what he said last.
    """
    last: dict[tuple[str, str, str], int] = {}
    try:
        lines = (folder / ANSWERS).read_text("utf-8").splitlines()
    except FileNotFoundError:
        lines = []
    for line in lines:
        try:
            answer = json.loads(line)
            last[answer["method"], answer["face"], answer["rater"]] = int(answer["score"])
        except (ValueError, LookupError, TypeError):
            continue  # A line that was cut off when the program was killed.
    faces: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for (method, face, _), score in last.items():
        faces[method][face].append(score)
    return {
        method: value
        for method, scores in faces.items()
        if (value := mean_of([float(np.mean(some)) for some in scores.values()])) is not None
    }


def lines_of(said: dict[str, Value]) -> list[str]:
    """Mean opinion scores as text, the best first."""
    width = max(map(len, said), default=0)
    return [
        f"{method.ljust(width)}  {value.mean:.2f}"
        + (
            ""
            if value.low is None or value.high is None
            else f"  ({value.low:.2f} to {value.high:.2f})"
        )
        for method, value in sorted(said.items(), key=lambda item: -item[1].mean)
    ]
