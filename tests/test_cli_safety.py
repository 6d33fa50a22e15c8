"""Commands on the user's own folders, with data and models of all kinds: nothing lost, and one sentence each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from zfkernels.cli import options
from zfkernels.cli.app import app

MODEL = ("--model", f"{__name__}:tiny")


def tiny() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Conv2d(3, 4, 9, 8), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers).eval()


def broken() -> nn.Module:
    raise KeyError("weights are not here")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def draw(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    for name in names or ("a.png", "b.png"):
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / name)
    return folder


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("command", "mine"),
    [
        (["gallery", *MODEL], "images"),
        (["gallery", *MODEL], "maps"),
        (["project", *MODEL, "--layer", "1"], "figures"),
        (["invariance", *MODEL], "invariance.csv"),
        (["occlude", *MODEL], "occlusion.json"),
        (["diagnose", *MODEL], "diagnosis.png"),
        (["transfer"], "transfer.csv"),
        (["probe"], "probe.json"),
        (["correspondence", "--landmarks", "none"], "correspondence.json"),
        (["evolve", "--run", "none"], "evolution.csv"),
        (["train"], "learning_curve.png"),
        (["ablate"], "ablation.png"),
    ],
)
@pytest.mark.parametrize("where", ["the data", "beside mine"])
def test_no_command_touches_what_is_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str], mine: str, where: str
) -> None:
    """In the folder that holds the data, and in one with something of a result's name."""
    home = tmp_path / "home"
    home.mkdir()
    if where == "the data":
        data = draw(home / Path(mine).stem)
    else:
        data = draw(tmp_path / "photos")
        if "." in mine:
            (home / mine).write_text("mine")
        else:
            draw(home / mine)
    before = contents(tmp_path)
    monkeypatch.chdir(home)
    source = [data / "a.png"] if command[0] == "occlude" else ["--data", data]
    result = run(*command, *source, "--out", ".")
    assert result.exit_code == 1, result.output
    expected = "a folder apart from the data" if where == "the data" else f"that zfkernels did not write.* with {mine}"
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    for part in expected.split(".*"):
        assert part in result.stderr
    assert contents(tmp_path) == before


@pytest.mark.parametrize("command", ["gallery", "project", "demo", "train", "occlude"])
def test_an_empty_name_is_not_the_current_folder(command: str) -> None:
    result = run(command, "--out", "")
    assert result.exit_code == 2
    assert "expected the name of a folder, got ''" in result.stderr


def test_the_demo_keeps_what_is_the_users(tmp_path: Path) -> None:
    (tmp_path / "gallery.png").write_text("mine")
    result = run("demo", "--out", tmp_path)
    assert result.exit_code == 1
    assert "with gallery.png" in result.stderr
    assert contents(tmp_path) == {tmp_path / "gallery.png": b"mine"}


def test_an_invariance_of_one_image_has_no_unit(tmp_path: Path) -> None:
    data = draw(tmp_path / "photos")
    result = run("invariance", *MODEL, "--data", data, "--limit", 1, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr.endswith("expected at least two images, whose distance is the unit of all others, got one\n")
    (data / "b.png").write_bytes((data / "a.png").read_bytes())
    result = run("invariance", *MODEL, "--data", data, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert "expected images that differ in 1, whose distance is the unit" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_raises_and_one_that_does_not_parse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "wrong_syntax.py").write_text("def model(:\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, reason in ((f"{__name__}:broken", "KeyError: 'weights are not here'"),
                         ("wrong_syntax:model", "SyntaxError: invalid syntax (wrong_syntax.py, line 1)")):  # fmt: skip
        result = run("gallery", "--model", name, "--data", "embedded", "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: get_model: expected model package.module:function")
        assert result.stderr.endswith(f", got {name!r} ({reason})\n")


def test_no_image_that_can_be_used_is_exit_code_1(tmp_path: Path) -> None:
    data = tmp_path / "photos"
    data.mkdir()
    for n in range(40):
        (data / f"{n}.png").write_text("no picture")
    for command in (["gallery"], ["project", "--layer", "1"], ["invariance"], ["diagnose"]):
        result = run(*command, *MODEL, "--data", data, "--out", tmp_path / "out")
        assert result.exit_code == 1
        assert "images that can be read, got none" in result.stderr
        assert not (tmp_path / "out").exists()


def test_what_no_one_foresaw_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("division by zero\nsecond line")

    monkeypatch.setattr(options, "load_any_model", fail)
    arguments = ["gallery", "--data", "embedded", "--out", str(tmp_path / "out")]
    result = run(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: unforeseen: ZeroDivisionError: division by zero (please report it ")
    assert result.stderr.count("\n") == 1
    assert "--debug" in result.stderr
    with pytest.raises(ZeroDivisionError):
        CliRunner().invoke(app, ["--debug", *arguments], catch_exceptions=False)


def in_a_process(*arguments: object, **changes: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "zfkernels", *map(str, arguments)]
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    environment = {**os.environ, "PYTHONPATH": path, **changes.pop("env", {})}  # type: ignore[dict-item]
    return subprocess.run(command, env=environment, check=False, stderr=subprocess.PIPE, **changes)  # type: ignore[call-overload]


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_names_that_a_terminal_would_obey_or_cannot_show_are_escaped(tmp_path: Path, encoding: str) -> None:
    data = draw(tmp_path / "photos")
    (data / "red \x1b[31m\n\u202e é \U0001f600.png").write_text("no picture")
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": encoding}
    command = ["gallery", *MODEL, "--data", data, "--workers", 0, "--out", tmp_path / "out"]
    text = in_a_process(*command, env=plain, stdout=subprocess.PIPE)
    assert text.returncode == 0, text.stderr
    shown = text.stdout.decode("latin-1" if encoding == "latin-1" else "utf-8")  # click writes UTF-8 instead of ASCII
    (line,) = [line for line in shown.splitlines() if "such as" in line]
    assert "such as red \\x1b[31m\\x0a\\u202e é " in line
    assert line.endswith("\\U0001f600.png" if encoding == "latin-1" else "\U0001f600.png")
    result = in_a_process(*command, "--json", env=plain, stdout=subprocess.PIPE)
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout.decode("ascii").splitlines()[-1])
    assert answer["skipped"][0]["image"].endswith("é \U0001f600.png")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_standard_output_that_is_full_is_not_blamed_on_the_folder(tmp_path: Path) -> None:
    command = ["gallery", *MODEL, "--data", draw(tmp_path / "photos"), "--workers", 0, "--out", tmp_path / "out"]
    with open("/dev/full", "wb") as full:
        result = in_a_process(*command, "--json", stdout=full)
    assert result.returncode == 1
    assert b"Error: the standard output cannot be written to: No space left on device" in result.stderr
    assert b"the disk of" not in result.stderr


def test_a_record_with_nan_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    check: Callable[[], None] = lambda: options.report({"kept": float("nan")}, "", True)  # noqa: E731
    with pytest.raises(ValueError, match=r"expected finite numbers .*, got nan in kept"):
        check()
    assert capsys.readouterr().out == ""
