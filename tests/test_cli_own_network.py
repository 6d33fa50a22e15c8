"""A network of one's own on the command line: by module or file, with its own preprocessing and names of classes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image

from zfkernels.cli.app import app
from zfkernels.models import Preprocess, get_model, load_object, own_preprocess

REPOSITORY = Path(__file__).parent.parent
CODE = """
import torch
from torch import nn
from beside import classes


def make():
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 6, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, classes))
    return nn.Sequential(*layers).eval()


def prepare(picture):
    from torchvision.transforms.v2 import functional as F

    pixels = F.pil_to_tensor(picture.resize((20, 20))).float() / 255
    return (pixels - torch.tensor([0.5, 0.25, 0.1])[:, None, None]) / torch.tensor([0.5, 1.0, 2.0])[:, None, None]


def bent(picture):
    return prepare(picture) ** 2


def oblong(picture):
    return prepare(picture)[:, :10]


def whole(picture):
    return (prepare(picture) * 9).to(torch.uint8)


def choosy(picture):
    if picture.width > 256:
        raise RuntimeError("too wide")
    return prepare(picture)


def broken():
    raise RuntimeError("the network cannot be made today")
"""


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a network, names of its classes and a photo."""
    (tmp_path / "mynetwork.py").write_text(CODE)
    (tmp_path / "beside.py").write_text("classes = 3\n")
    (tmp_path / "names.txt").write_text("cat\ndog\n\ncow\n")
    (tmp_path / "names.json").write_text('["cat", "dog", "cow"]')
    (tmp_path / "photos").mkdir()
    for n in range(2):
        Image.effect_noise((40, 50), 90).convert("RGB").save(tmp_path / "photos" / f"{n}.png")
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    for name in ("mynetwork", "beside"):
        sys.modules.pop(name, None)


def occlude(folder: Path, *arguments: object) -> dict[str, object]:
    photos = folder / "photos"
    result = run("occlude", photos / "0.png", *arguments, "--window", 8, "--stride", 6, "--others", photos, "--json",
                 "--out", folder / "out")  # fmt: skip
    assert result.exit_code == 0, result.output
    answer: dict[str, object] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize("place", ["module", "file"])
def test_network_preprocessing_and_names(folder: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.chdir(folder if place == "module" else REPOSITORY)
    own = "mynetwork" if place == "module" else str(folder / "mynetwork.py")
    answer = occlude(folder, "--model", f"{own}:make", "--preprocess", f"{own}:prepare", "--class-names",
                     folder / "names.txt", "--target", "Dog")  # fmt: skip
    (image,) = answer["images"]  # type: ignore[misc]
    assert (image["class"], image["name"]) == (1, "dog")
    model = get_model(f"{own}:make")
    with Image.open(folder / "photos" / "0.png") as picture:
        expected = model.requires_grad_(False)(load_object(f"{own}:prepare", "")(picture)[None]).softmax(1)[0, 1]
    assert image["probability"] == pytest.approx(float(expected), rel=1e-5)


def test_the_console_script_finds_modules_of_the_current_folder(folder: Path) -> None:
    code = "import sys; sys.path[:] = [p for p in sys.path if p not in ('', sys.argv[1])]\n"
    code += "from zfkernels.cli import main; sys.argv[1:] = ['layers', 'mynetwork:make', '--json']; main()"
    result = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert [row["kind"] for row in json.loads(result.stdout)["layers"]][:2] == ["convolution", "rectifier"]


def test_sizes_and_normalisation(folder: Path) -> None:
    own = folder / "mynetwork.py"
    answer = run("layers", f"{own}:make", "--size", 33, "--json")
    assert answer.exit_code == 0, answer.output
    record = json.loads(answer.stdout)
    assert record["size"] == 33
    assert record["layers"][0]["size"] == [16, 16]
    found = occlude(folder, "--model", f"{own}:make", "--size", 24, "--resize", 30, "--mean", "0.5", "--std",
                    "0.5,0.25,1", "--classes", folder / "names.json")  # fmt: skip
    (image,) = found["images"]  # type: ignore[misc]
    preprocess = Preprocess(24, 30, (0.5, 0.5, 0.5), (0.5, 0.25, 1))
    with Image.open(folder / "photos" / "0.png") as picture:
        outputs = get_model(f"{own}:make")(preprocess(picture)[None])
    assert image["name"] == ("cat", "dog", "cow")[int(outputs.argmax())]
    assert image["probability"] == pytest.approx(float(outputs.softmax(1).max()), rel=1e-5)


def test_own_preprocessing_is_measured(folder: Path) -> None:
    name = f"{folder / 'mynetwork.py'}:prepare"
    found = own_preprocess(name)
    assert (found.size, found.resize) == (20, 20)
    assert found.mean == pytest.approx((0.5, 0.25, 0.1), abs=1e-6)
    assert found.std == pytest.approx((0.5, 1, 2), rel=1e-5)
    pixels = torch.randint(0, 256, (3, 20, 20), dtype=torch.uint8)
    from torchvision.transforms.v2.functional import to_pil_image

    assert torch.equal(found.to_pixels(found(to_pil_image(pixels))), pixels)
    with pytest.raises(ValueError, match="expected --mean and --std for"):
        own_preprocess(name.replace("prepare", "bent"))
    given = own_preprocess(name.replace("prepare", "bent"), (0.5,) * 3, (0.5,) * 3)
    assert given.mean == (0.5, 0.5, 0.5)
    with pytest.raises(ValueError, match=r"to return \[3, S, S\], got \(3, 10, 20\)"):
        own_preprocess(name.replace("prepare", "oblong"))
    with pytest.raises(TypeError, match=r"a floating-point tensor \[3, S, S\], got torch.uint8"):
        own_preprocess(name.replace("prepare", "whole"))
    with pytest.raises(ValueError, match=r"to take a plain picture of 400x300 pixels, .* got RuntimeError: too wide"):
        own_preprocess(name.replace("prepare", "choosy"))


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--model", "nomodule:make"], 1, "got 'nomodule:make' (ModuleNotFoundError: No module named 'nomodule')"),
        (["--model", "{folder}/no.py:make"], 1, "(FileNotFoundError: there is no file "),
        (["--model", "{folder}/mynetwork.py:none"], 1, "(AttributeError: module 'mynetwork' has no attribute 'none')"),
        (["--model", "{folder}/mynetwork.py:broken"], 1, "(RuntimeError: the network cannot be made today)"),
        (["--class-names", "{folder}/nothing.txt"], 1, "expected --class-names an existing file"),
        (["--class-names", "{folder}/photos.json"], 1, "expected --class-names a JSON list of names"),
        (["--mean", "1,2"], 2, "expected one number, or three separated by commas, got '1,2'"),
        (["--std", "none"], 2, "got 'none'"),
        (["--std", "0"], 1, "expected std three positive numbers"),
        (["--size", "20", "--preprocess", "x:y"], 2, "which decides the size, or --size, got both"),
        (["--preprocess", "nomodule:y"], 1, "own_preprocess: expected preprocess package.module:function or"),
    ],
)  # fmt: skip
def test_refused(folder: Path, arguments: list[str], code: int, message: str) -> None:
    (folder / "photos.json").write_text("{")
    result = run("layers", "--model", f"{folder}/mynetwork.py:make", *(a.format(folder=folder) for a in arguments))
    assert result.exit_code == code, result.output
    assert message in result.stderr


def test_a_table_of_layers() -> None:
    result = run("layers")
    assert result.exit_code == 0, result.output
    head, first, *_ = result.stdout.splitlines()
    assert head.split("  ")[0] == "name"
    assert first.split() == ["features.0", "convolution", "48", "32x32", "2x2", "7x7"]
    assert result.stdout.splitlines()[-1].split() == ["classifier.6", "fully", "connected", "200", "-", "-", "-"]


def test_a_table_of_layers_fetches_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("weights were asked for")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    result = run("layers", "squeezenet1_1")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[1].split() == ["features.0", "convolution", "64", "111x111", "2x2", "3x3"]
    other = run("project", "--model", "squeezenet1_1", "--layer", "features.1", "--out", tmp_path / "out")
    assert "weights were asked for" in other.stderr


def test_figures_as_pdf(folder: Path) -> None:
    own = folder / "mynetwork.py"
    command = ("invariance", "--model", f"{own}:make", "--size", 20, "--data", folder / "photos", "--layers", "1",
               "--transforms", "scale", "--out", folder / "out")  # fmt: skip
    for _ in range(2):  # the second run replaces what the first one left
        found = run(*command, "--format", "pdf")
        assert found.exit_code == 0, found.output
    assert (folder / "out" / "invariance.pdf").read_bytes().startswith(b"%PDF")
    assert not (folder / "out" / "invariance.png").exists()
    assert f"look at {folder / 'out' / 'invariance.pdf'}" in found.stdout


def test_one_image_has_nothing_to_compare_with(folder: Path) -> None:
    result = run("invariance", "--model", f"{folder / 'mynetwork.py'}:make", "--data", folder / "photos", "--limit", 1,
                 "--layers", "1", "--out", folder / "out")  # fmt: skip
    assert result.exit_code == 1
    assert "expected at least two images" in result.stderr


def test_importing_the_entry_runs_nothing() -> None:
    code = "import zfkernels.__main__, sys; print('click' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert (result.returncode, result.stdout) == (0, "False\n"), result.stderr


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("gallery", "the same command goes on where this one stopped (--fresh starts anew)"),
        ("ablate", "the same command goes on where this one stopped"),
        ("probe", "with --cache the same command goes on"),
        ("info", "nothing was written; the same command starts anew"),
    ],
)
def test_an_interrupted_command_says_how_to_go_on(monkeypatch: pytest.MonkeyPatch, command: str, words: str) -> None:
    def interrupted(context: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(app.commands[command], "invoke", interrupted)
    needed = [part for p in app.commands[command].params if p.required for part in (p.opts[0], "1")]
    result = run(command, *needed)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: interrupted; ")
    assert words in result.stderr


def test_why_an_image_was_left_out(folder: Path) -> None:
    (folder / "photos" / "text.png").write_text("no picture")
    own = ("--model", f"{folder / 'mynetwork.py'}:make", "--data", folder / "photos", "--out", folder / "out")
    for command in (("invariance", "--layers", "1", "--transforms", "scale"), ("project", "--layer", "1")):
        result = run(*command, *own)
        assert result.exit_code == 0, result.output
        assert "1 left out:\n  1 × not an image file, such as text.png\n" in result.stdout
