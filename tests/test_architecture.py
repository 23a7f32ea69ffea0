"""Imports point one way (DESIGN: layout)."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("pulse", "stylegan", "align")
MAY_IMPORT = {"stylegan": set(), "align": set(), "pulse": {"stylegan", "align"}}
ORDER = (
    "__init__", "images", "framing", "jpeg", "degrade", "exact", "cache", "latent", "losses",
    "chunks", "coarse", "curvature", "recipe", "optimise", "descent", "search", "upscale",
    "results", "web", "view", "page", "outputs", "settings", "storage", "inputs", "manifest",
    "sheet", "batch", "cluster", "options", "models_cli", "align_cli", "web_cli", "batch_cli",
    "cli", "__main__",
)  # fmt: skip


def imported(path: Path) -> set[str]:
    """Full names of all modules that a file imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_only_what_they_may(package: str) -> None:
    for path in (ROOT / package).glob("**/*.py"):
        others = {name.split(".")[0] for name in imported(path)} & set(PACKAGES)
        assert others <= MAY_IMPORT[package] | {package}, path


def test_modules_of_pulse_import_only_earlier_ones() -> None:
    files = sorted((ROOT / "pulse").glob("*.py"))
    assert {path.stem for path in files} == set(ORDER)
    for path in files:
        later = {f"pulse.{name}" for name in ORDER[ORDER.index(path.stem) :]}
        assert not imported(path) & later, path


def test_only_the_page_imports_gradio() -> None:
    files = [*(ROOT / "pulse").glob("*.py"), ROOT / "app.py"]
    importing = {p.stem for p in files if any(n.startswith("gradio") for n in imported(p))}
    assert importing == {"page"}


def test_only_the_cluster_imports_ray() -> None:
    files = [*(ROOT / "pulse").glob("*.py"), ROOT / "app.py"]
    importing = {p.stem for p in files if any(n.split(".")[0] == "ray" for n in imported(p))}
    assert importing == {"cluster"}


def test_command_line_starts_without_gradio_and_ray() -> None:
    code = "import sys, pulse.cli; sys.exit(bool({'gradio', 'ray', 'fsspec'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
