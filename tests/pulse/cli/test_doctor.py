"""`pulse doctor` and the completion of the shell, as processes."""

import json
import os
import platform
from pathlib import Path

import psutil
import pytest
import torch

from pulse import __version__
from pulse.cli import doctor
from tests.command import fresh, pulse


def test_what_is_here(tmp_path: Path, home: Path) -> None:
    done = pulse("doctor", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["problems"] == []
    assert facts["pulse"] == __version__
    assert facts["python"] == platform.python_version()
    assert facts["packages"]["torch"].partition("+")[0] == torch.__version__.partition("+")[0]
    assert "faces" in facts["generators"]
    assert "srresnet-x4" in facts["networks"]
    processor = facts["devices"][-1]
    assert processor["device"] == "cpu"
    assert processor["bytes"] == psutil.virtual_memory().total
    assert processor["precision"] in ("float32", "bfloat16")
    assert facts["folders"]["cache"] == {"path": str(home), "writable": True, "error": None}
    assert facts["cache_bytes"] == sum(x.stat().st_size for x in home.rglob("*") if x.is_file()) > 0
    assert facts["folders"]["results"]["path"] == str(tmp_path / "results")
    assert not any(tmp_path.iterdir()), "It left something behind."
    shown = pulse("doctor", cwd=tmp_path)
    assert shown.returncode == 0
    for words in (str(home), "srresnet-x4", f"multiplies in {processor['precision']}"):
        assert words in shown.stdout


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    done = pulse("doctor", cwd=tmp_path, env={"PULSE_HOME": str(file / "cache")})
    assert done.returncode == 1
    assert f"The cache folder {file / 'cache'} cannot be written" in done.stdout
    assert "set PULSE_HOME to another" in done.stdout
    assert "Traceback" not in done.stderr


def test_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "NEEDED", (*doctor.NEEDED, "no-such-package"))
    monkeypatch.setitem(doctor.EXTRAS, "video", "no-such-package")
    facts = doctor.examine()
    (problem,) = facts["problems"]
    assert "no-such-package is missing" in problem
    assert facts["extras"]["video"] is None


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_completion_prints_a_script(shell: str, tmp_path: Path) -> None:
    # Without that typer looks which shell it runs in, and there need not be one.
    named = {"_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = fresh("--show-completion", shell, cwd=tmp_path, env=os.environ | named)
    assert done.returncode == 0, done.stderr
    assert "_PULSE_COMPLETE" in done.stdout


def test_the_script_completes(tmp_path: Path) -> None:
    asked = {"_PULSE_COMPLETE": "complete_bash", "COMP_WORDS": "pulse doc", "COMP_CWORD": "1"}
    done = fresh(cwd=tmp_path, env=os.environ | asked)
    assert done.stdout.split() == ["doctor"], done.stderr
