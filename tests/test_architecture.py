"""Imports point one way (DESIGN: layout)."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
TOP = ("stylegan", "align", "pulse")
# What stands in one line does not know its neighbours, but where `AMONG` says so.
LEVELS = (
    ("imaging",),
    ("search", "superres", "faces", "devices"),
    ("known", "guide", "second_look", "upscale", "results", "settings", "photos"),
    ("video", "evaluation", "batch"),
    ("web", "cli"),
    ("__main__",),
)
AMONG = {
    ("guide", "known"),
    ("upscale", "known"),
    ("upscale", "guide"),
    ("upscale", "second_look"),
    ("results", "upscale"),
    ("settings", "upscale"),
    ("settings", "results"),
    ("photos", "results"),
    ("cli", "web"),
}
OF_STYLEGAN_IN_IMAGING = {"stylegan.files"}


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def unit(name: str) -> str | None:
    """The package or module of pulse that a full name lies in."""
    parts = name.split(".")
    return parts[1] if parts[0] == "pulse" and len(parts) > 1 else None


def files_of_pulse() -> list[Path]:
    return sorted((ROOT / "pulse").glob("**/*.py"))


@pytest.mark.parametrize("package", TOP[:2])
def test_stylegan_and_align_know_nothing_of_the_others(package: str) -> None:
    for path in (ROOT / package).glob("**/*.py"):
        others = {name.split(".")[0] for name in imported(path)} & set(TOP)
        assert others <= {package}, path


def test_packages_of_pulse_import_only_earlier_ones() -> None:
    rank = {name: number for number, level in enumerate(LEVELS) for name in level}
    for path in files_of_pulse():
        own = path.relative_to(ROOT / "pulse").parts[0].removesuffix(".py")
        if own == "__init__":
            assert not any(unit(name) for name in imported(path))
            continue
        others = {other for name in imported(path) if (other := unit(name)) in rank} - {own}
        for other in others:
            assert rank[other] < rank[own] or (own, other) in AMONG, f"{path} imports {other}"


def test_imaging_knows_nothing_of_generators() -> None:
    for path in (ROOT / "pulse" / "imaging").glob("*.py"):
        names = {".".join(n.split(".")[:2]) for n in imported(path) if n.startswith("stylegan.")}
        assert names <= OF_STYLEGAN_IN_IMAGING, path


@pytest.mark.parametrize("top", TOP)
def test_no_package_imports_in_a_circle(top: str) -> None:
    paths = (ROOT / top).glob("**/*.py")
    modules = {".".join(p.relative_to(ROOT).with_suffix("").parts): imported(p) for p in paths}
    modules = {name.removesuffix(".__init__"): names for name, names in modules.items()}
    # A package's own __init__ gathers what its modules have.
    graph = {
        name: {
            other for other in names if other in modules and not f"{name}.".startswith(f"{other}.")
        }
        for name, names in modules.items()
    }
    assert graph
    list(graphlib.TopologicalSorter(graph).static_order())


def test_files_stay_small() -> None:
    long = {p.name for top in TOP for p in (ROOT / top).glob("**/*.py") if lines(p) > 400}
    assert not long


def lines(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


@pytest.mark.parametrize(
    ("library", "homes"),
    [
        ("gradio", {"pulse/web"}),
        ("ray", {"pulse/batch/ray_engine.py"}),
        ("av", {"pulse/imaging"}),
        ("matplotlib", {"pulse/evaluation/figures.py"}),
    ],
)
def test_a_library_has_one_home(library: str, homes: set[str]) -> None:
    for path in [*files_of_pulse(), ROOT / "app.py"]:
        if library in {name.split(".")[0] for name in imported(path)}:
            place = path.relative_to(ROOT).as_posix()
            assert any(place == home or place.startswith(f"{home}/") for home in homes), place


def test_command_line_starts_without_what_is_not_always_there() -> None:
    """Nor, until a generator is open, without what takes long to import and is not needed."""
    absent = {"gradio", "ray", "fsspec", "av", "matplotlib", "sympy"}
    code = (
        "import sys, pulse.cli.app, pulse.upscale; pulse.upscale.Upscaler.load(); "
        f"sys.exit(bool({absent} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


def files_of_all() -> list[Path]:
    return sorted(path for top in TOP for path in (ROOT / top).glob("**/*.py"))


def names_encoding(call: ast.Call) -> bool:
    """Whether a call that reads or writes text says in which encoding; true of any other."""
    if not isinstance(call.func, ast.Attribute):
        return True
    given = len(call.args)
    match call.func.attr:
        case "read_text":
            there = given >= 1
        case "write_text":
            there = given >= 2
        case "open":
            mode = call.args[0] if call.args else None
            words = mode.value if isinstance(mode, ast.Constant) else ""
            of_text = isinstance(words, str) and words in {"r", "w", "a", "x", "r+", "w+", "a+"}
            there = not of_text and all(keyword.arg != "newline" for keyword in call.keywords)
        case _:
            return True
    return there or any(keyword.arg == "encoding" for keyword in call.keywords)


@pytest.mark.parametrize(
    "path",
    [*files_of_all(), *sorted((ROOT / "tests").glob("**/*.py"))],
    ids=lambda path: path.relative_to(ROOT).as_posix(),
)
def test_text_has_the_same_encoding_on_every_system(path: Path) -> None:
    """Windows would take another than UTF-8 where none is named."""
    calls = [x for x in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(x, ast.Call)]
    assert [call.lineno for call in calls if not names_encoding(call)] == []
