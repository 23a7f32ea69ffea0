"""Documents outside the site, whose links nothing else checks, and the pictures of all."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from PIL import Image

from pulse import __version__
from stylegan.marks import COMPOSITE, SOURCE_TYPE, XMP_KEY

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted([*ROOT.glob("*.md"), ROOT / "benchmarks" / "README.md"])
MADE = (
    *(f"docs/{name}.png" for name in ("result", "does-well", "falls-apart", "mending")),
    *(f"docs/{name}.png" for name in ("paste", "page")),
    "examples/imaginary.png",
    "examples/two.jpg",
)


def anchors(path: Path) -> set[str]:
    """As GitHub makes them of headings."""
    titles = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8")):
        if "://" in link:
            continue
        name, _, anchor = unquote(link).partition("#")
        target = document.parent / name if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_is_one_screen() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 60


@pytest.mark.parametrize("name", MADE)
def test_pictures_of_made_faces_say_so(name: str) -> None:
    data = (ROOT / name).read_bytes()
    assert SOURCE_TYPE.encode() in data or COMPOSITE.encode() in data
    with Image.open(ROOT / name) as image:  # Where programs look for it.
        image.load()
        assert "DigitalSourceType" in str(image.info.get("xmp") or image.info[XMP_KEY])


def test_the_version_is_the_same_everywhere() -> None:
    for file, line in (
        ("pyproject.toml", f'version = "{__version__}"'),
        ("CITATION.cff", f"version: {__version__}"),
    ):
        assert line in (ROOT / file).read_text("utf-8").splitlines(), file
