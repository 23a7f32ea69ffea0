import gzip
import hashlib
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import stylegan
from stylegan import CheckpointError, Generator, zoo
from stylegan.checkpoints import save
from stylegan.stylegan2 import StyleGAN2, StyleGAN2Config
from stylegan.zoo import Model, RemoteFile, fetch, is_here, path_of, size_of
from tests.server import FileServer, running


def generator_of(seed: int) -> bytes:
    """A generator's file of 0.9 MB: many blocks of a download."""
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "net"
        save(StyleGAN2(StyleGAN2Config((64, 64, 64, 32), 32, 32, 2)), file, dtype=torch.float32)
        return file.read_bytes()


CONTENT, OTHER = generator_of(0), generator_of(1)
CUT = 2**18  # Where a connection breaks off, after whole blocks.


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def server() -> Iterator[FileServer]:
    with running() as server:
        server.files["net.bin"] = CONTENT
        yield server


@pytest.fixture
def model(server: FileServer) -> Model:
    return Model("net", 32, "noise", "free", (RemoteFile(f"{server.url}/net.bin", "net.bin", 10),))


def held_to(model: Model, sha256: str) -> Model:
    return replace(model, files=(replace(model.files[0], sha256=sha256),))


def test_a_file_is_fetched_once(model: Model, server: FileServer, home: Path) -> None:
    assert not is_here(model)
    assert size_of(model) == 10
    path = fetch(model)
    assert path == path_of(model) == home / "models" / "net" / "net.bin"
    assert path.read_bytes() == CONTENT
    assert is_here(model)
    assert size_of(model) == len(CONTENT)
    assert fetch(model) == path
    assert server.asked == [""]
    # What `sha256sum --check` takes.
    assert (path.parent / "net.bin.sha256").read_text("utf-8") == f"{digest(CONTENT)}  net.bin\n"
    left = {file.name for file in path.parent.iterdir()} - {"net.bin.lock"}
    assert left == {"net.bin", "net.bin.sha256"}


def test_progress(model: Model) -> None:
    told: list[tuple[str, int, int | None]] = []
    fetch(model, lambda name, done, total: told.append((name, done, total)))
    assert told[-1] == ("net.bin", len(CONTENT), len(CONTENT))
    assert len(told) > 1
    assert sorted(told) == told


def test_what_was_fetched_opens(
    tiny: Generator, model: Model, server: FileServer, tmp_path: Path
) -> None:
    assert isinstance(tiny, StyleGAN2)
    save(tiny, tmp_path / "tiny.safetensors", dtype=torch.float32)
    server.files["net.bin"] = (tmp_path / "tiny.safetensors").read_bytes()
    generator = stylegan.load(fetch(model))
    assert generator.family == "StyleGAN2"
    z = torch.randn(1, 32)
    assert torch.equal(generator.mapping(z), tiny.mapping(z))


def test_a_model_of_two_files_is_a_folder(server: FileServer, home: Path) -> None:
    names = ("synthesis.pt", "mapping.pt")
    server.files |= {"synthesis.pt": b"large", "mapping.pt": b"small one"}
    files = tuple(
        RemoteFile(f"{server.url}/{name}", name, 5, digest(server.files[name])) for name in names
    )
    model = Model("pair", 32, "noise", "free", files)
    assert fetch(model) == home / "models" / "pair"
    assert (home / "models" / "pair" / "mapping.pt").read_bytes() == b"small one"
    assert size_of(model) == 14
    assert stylegan.locate(path_of(model)) == path_of(model)
    before = stylegan.identity(path_of(model))
    (path_of(model) / "mapping.pt").write_bytes(b"other")
    assert stylegan.identity(path_of(model)) != before
    (path_of(model) / "mapping.pt").unlink()
    assert not is_here(model)
    with pytest.raises(CheckpointError, match="0 pairs of files"):
        stylegan.identity(path_of(model))


def test_a_stated_checksum_is_held_to(model: Model, home: Path) -> None:
    assert fetch(held_to(model, digest(CONTENT))).exists()
    other = replace(held_to(model, "0" * 64), name="other")
    with pytest.raises(CheckpointError) as error:
        fetch(other)
    assert digest(CONTENT) in str(error.value)
    assert "0" * 64 in str(error.value)
    assert {file.name for file in (home / "models" / "other").iterdir()} <= {"net.bin.lock"}


def test_the_first_checksum_is_held_to(model: Model, server: FileServer) -> None:
    path = fetch(model)
    path.write_bytes(b"damaged")
    with pytest.raises(CheckpointError, match=r"damaged or was changed: delete it .* fetch net`"):
        fetch(model)
    assert path.read_bytes() == b"damaged"
    path.unlink()
    server.files["net.bin"] = b"something new"
    with pytest.raises(CheckpointError, match=digest(b"something new")):
        fetch(model)
    assert not path.exists()
    server.files["net.bin"] = CONTENT
    assert fetch(model).read_bytes() == CONTENT


def test_a_cut_connection_is_taken_up_again(model: Model, server: FileServer) -> None:
    server.cuts = [CUT, CUT]
    assert fetch(model).read_bytes() == CONTENT
    assert server.asked == ["", f"bytes={CUT}-", f"bytes={2 * CUT}-"]


def test_a_later_call_asks_only_for_the_rest(model: Model, server: FileServer) -> None:
    server.cuts = [CUT, 0]
    with pytest.raises(CheckpointError, match=r"lost after 0\.3 MB.*goes on where it stopped"):
        fetch(model)
    assert not is_here(model)
    server.asked.clear()
    done: list[int] = []
    assert fetch(model, lambda _, now, __: done.append(now)).read_bytes() == CONTENT
    assert server.asked == [f"bytes={CUT}-"]
    assert done[0] > CUT


@pytest.mark.parametrize("lacking", ["ranges", "tags"])
def test_where_nothing_can_be_continued_it_starts_over(
    model: Model, server: FileServer, lacking: str
) -> None:
    setattr(server, lacking, False)
    server.cuts = [CUT]
    assert fetch(model).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_part_that_is_too_long_is_dropped(model: Model, server: FileServer) -> None:
    server.cuts = [CUT, 0]
    with pytest.raises(CheckpointError):
        fetch(model)
    part = path_of(model).with_name("net.bin.part")
    part.write_bytes(CONTENT + b"more")
    assert fetch(model).read_bytes() == CONTENT


def test_two_versions_are_never_joined(model: Model, server: FileServer) -> None:
    server.cuts = [CUT, 0]
    with pytest.raises(CheckpointError):
        fetch(model)
    server.files["net.bin"] = OTHER
    assert fetch(model).read_bytes() == OTHER


@pytest.mark.parametrize("status", [403, 404, 429, 503])
def test_refusals(model: Model, server: FileServer, home: Path, status: int) -> None:
    server.cuts = [CUT, 0]
    with pytest.raises(CheckpointError):
        fetch(model)
    server.status = status
    with pytest.raises(CheckpointError) as error:
        fetch(model)
    for said in (f"answered {status}", server.url, str(home / "models" / "net")):
        assert said in str(error.value)
    server.status = 200  # What came before is not lost by it.
    server.asked.clear()
    assert fetch(model).read_bytes() == CONTENT
    assert server.asked == [f"bytes={CUT}-"]


def test_a_page_is_no_checkpoint(model: Model, server: FileServer) -> None:
    server.files["net.bin"] = b"<!DOCTYPE html><title>Quota exceeded</title>"
    server.kind = "text/html; charset=utf-8"
    with pytest.raises(CheckpointError, match=r"web page .* Google Drive"):
        fetch(model)
    assert not is_here(model)
    # Saved by a browser and put there by hand, it is none either.
    path_of(model).write_bytes(server.files["net.bin"])
    with pytest.raises(CheckpointError, match="is a web page"):
        fetch(model)


def test_no_route(model: Model, server: FileServer, home: Path) -> None:
    server.server_close()
    with pytest.raises(CheckpointError) as error:
        fetch(model)
    for said in ("no connection", f"{server.url}/net.bin", str(home / "models" / "net"), "by hand"):
        assert said in str(error.value)


def test_a_file_put_there_by_hand_is_taken(model: Model, server: FileServer) -> None:
    path = path_of(model)
    path.parent.mkdir(parents=True)
    path.write_bytes(CONTENT)
    assert fetch(model) == path
    assert server.asked == []
    path.write_bytes(OTHER)
    with pytest.raises(CheckpointError, match=digest(CONTENT)):
        fetch(model)


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is Linux's")
def test_a_full_disk(model: Model) -> None:
    path = path_of(model)
    path.parent.mkdir(parents=True)
    path.with_name("net.bin.part").symlink_to("/dev/full")
    with pytest.raises(CheckpointError, match=r"No space left on device.*PULSE_HOME"):
        fetch(model)


def test_a_cache_that_cannot_be_made(model: Model, bare_home: Path) -> None:
    bare_home.write_text("a file", "utf-8")
    assert not is_here(model)
    with pytest.raises(CheckpointError, match=f"{bare_home}.*PULSE_HOME"):
        fetch(model)


def test_a_mirror_takes_the_place_of_the_address(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = RemoteFile("https://example.invalid/v1/net.bin", "net.bin", 10)
    monkeypatch.setenv("PULSE_MIRROR", server.url + "/")
    assert fetch(Model("net", 32, "noise", "free", (file,))).read_bytes() == CONTENT


def test_an_address_that_is_none(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSE_MIRROR", "somewhere")
    with pytest.raises(CheckpointError, match=r"somewhere/net.bin cannot be asked for"):
        fetch(model)


def test_the_cache_is_the_platforms(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PULSE_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    path = path_of(model)
    assert path.parts[-4:] == ("pulse", "models", "net", "net.bin")
    if sys.platform == "linux":
        assert path == Path("/somewhere/pulse/models/net/net.bin")


def test_names() -> None:
    names = [model.name for model in zoo.MODELS]
    assert len(set(names)) == len(names) == 16
    for name in names:
        model = zoo.find(name)
        assert model is not None
        assert model.resolution in (128, 256, 512, 1024)
        assert all(file.url.startswith("https://") and file.size > 1e6 for file in model.files)
        assert model.files or name == stylegan.EMBEDDED
    assert zoo.find("stylegan2-ffhq") is None
    with pytest.raises(CheckpointError, match="nearest: stylegan3-t-ffhq-1024"):
        stylegan.locate("stylegan3t-ffhq-1024")
    with pytest.raises(CheckpointError, match="nearest: stylegan2-celebahq-256"):
        stylegan.locate("celeba")


def test_locate_fetches(server: FileServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULSE_MIRROR", server.url)
    server.files["ffhq.pkl"] = CONTENT
    assert stylegan.locate("stylegan2-ada-ffhq-1024").read_bytes() == CONTENT


@pytest.mark.parametrize("length", ["none", "-5", "", "9" * 30 + "x"])
def test_a_length_that_is_none_is_no_reason_to_fail(
    model: Model, server: FileServer, length: str
) -> None:
    server.headers = {"Content-Length": length, "Connection": "close"}
    assert fetch(model).read_bytes() == CONTENT


@pytest.mark.parametrize("length", ["999999999999", "9" * 20])
def test_a_file_said_to_be_too_long_is_not_asked_for(
    model: Model, server: FileServer, home: Path, length: str
) -> None:
    server.headers = {"Content-Length": length}
    with pytest.raises(CheckpointError, match="gives more than 17 MB"):
        fetch(model)
    assert not list((home / "models" / "net").glob("net.bin*.part"))


def test_an_endless_file_is_given_up_and_not_kept(
    model: Model, server: FileServer, home: Path
) -> None:
    server.endless = True
    with pytest.raises(CheckpointError, match="gives more than 17 MB, which the file does not"):
        fetch(model)
    assert {file.name for file in (home / "models" / "net").iterdir()} <= {"net.bin.lock"}


def test_a_packed_answer_is_not_expanded(model: Model, server: FileServer, home: Path) -> None:
    server.files["net.bin"] = gzip.compress(bytes(200_000_000))
    server.headers = {"Content-Encoding": "gzip"}
    with pytest.raises(CheckpointError, match=r"answered with a file that is packed \('gzip'\)"):
        fetch(model)
    assert {file.name for file in (home / "models" / "net").iterdir()} <= {"net.bin.lock"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n<HTML><title>Quota exceeded</title>", "is a web page"),
        (b"\x80\x04N.", "no StyleGAN generator of a known kind"),
        (CONTENT[:-7], "that its weights do not fit|safetensors file that can be read"),
    ],
)
def test_what_is_no_generator_is_never_trusted(
    model: Model, server: FileServer, home: Path, content: bytes, reason: str
) -> None:
    server.files["net.bin"] = content
    with pytest.raises(CheckpointError, match=f"({reason}).*removed; fetch net again"):
        fetch(model)
    assert {file.name for file in (home / "models" / "net").iterdir()} <= {"net.bin.lock"}
    server.files["net.bin"] = CONTENT
    assert fetch(model).read_bytes() == CONTENT
