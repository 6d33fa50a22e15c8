"""The command line: what it writes, and that a failure is one sentence and exit code 1."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from PIL import Image
from torch import nn

from zfkernels.cli.app import app


def tiny() -> nn.Module:
    """What ``--model test_cli:tiny`` names."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.ReLU(), nn.Conv2d(4, 4, 3, 2), nn.ReLU())
    return model.eval()


def no_module() -> str:
    return "no network"


REPOSITORY = Path(__file__).parent.parent
MODEL = ("--model", f"{__name__}:tiny")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for n in range(5):
        Image.fromarray(generator.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(folder / f"{n}.jpg")
    return folder


def test_gallery(photos: Path, tmp_path: Path) -> None:
    (photos / "cut.jpg").write_bytes((photos / "0.jpg").read_bytes()[:700])
    (photos / "text.png").write_text("no picture")
    result = run("gallery", *MODEL, "--data", photos, "--out", tmp_path / "out", "--top-k", 4, "--workers", 0)
    assert result.exit_code == 0, result.output
    assert f"open {tmp_path / 'out' / 'index.html'}" in result.stdout
    assert "2 left out" in result.stdout
    skipped = json.loads((tmp_path / "out" / "gallery.json").read_text())["data"]["skipped"]
    assert [entry["image"] for entry in skipped] == ["cut.jpg", "text.png"]
    assert all(entry["reason"] for entry in skipped)


@pytest.mark.parametrize(("show", "kept"), [("grey", "grey"), ("2,1, 0", [2, 1, 0]), (None, "rgb")])
def test_gallery_shows_channels(show: str | None, kept: object, photos: Path, tmp_path: Path) -> None:
    given = [] if show is None else ["--show", show]
    result = run("gallery", *MODEL, "--data", photos, "--out", tmp_path / "out", "--layers", "kind:rectifier", *given)
    assert result.exit_code == 0, result.output
    info = json.loads((tmp_path / "out" / "gallery.json").read_text())
    assert info["run"]["options"]["show"] == kept
    wrong = run("gallery", *MODEL, "--data", photos, "--out", tmp_path / "other", "--show", "1,2,9")
    assert wrong.exit_code == 1
    assert "expected show three channels from 0 to 2" in wrong.output


def test_gallery_as_json(photos: Path, tmp_path: Path) -> None:
    result = run("gallery", *MODEL, "--data", photos, "--out", tmp_path / "out", "--layers", "1, 3", "--json")
    assert result.exit_code == 0, result.output
    *events, answer = map(json.loads, result.stdout.splitlines())
    assert [event["stage"] for event in events if event["event"] == "done"] == ["sweep", "project", "write"]
    assert list(answer["layers"]) == ["1", "3"]
    assert answer["images"] == 5
    assert Path(answer["page"]).is_file()
    assert result.stderr == ""
    again = run("gallery", *MODEL, "--data", photos, "--out", tmp_path / "out", "--layers", "1, 3", "--json")
    assert json.loads(again.stdout) == answer  # it is there already
    other = run("gallery", *MODEL, "--data", photos, "--out", tmp_path / "out", "--layers", "1", "--json")
    assert other.exit_code == 1
    assert "options.layers" in other.stderr
    fresh = run(
        "gallery", *MODEL, "--data", photos, "--out", tmp_path / "out", "--layers", "1", "--fresh", "--workers", 0,
        "--tensorboard", tmp_path / "tb",
    )  # fmt: skip
    assert fresh.exit_code == 0, fresh.output
    assert list((tmp_path / "tb").iterdir())
    figure = run("figure", tmp_path / "out", "--layer", "1", "--channel", 0, "--out", tmp_path / "map.svg")
    assert figure.exit_code == 0, figure.output
    assert (tmp_path / "map.svg").read_text().startswith("<?xml")


def test_project(photos: Path, tmp_path: Path) -> None:
    result = run(
        "project", *MODEL, "--data", photos / "1.jpg", "--layer", "3", "--channels", "2,0", "--out", tmp_path / "out"
    )
    assert result.exit_code == 0, result.output
    record = json.loads((tmp_path / "out" / "projections.json").read_text())
    (image,) = record["images"]
    assert image["image"] == "1.jpg"
    assert [row["channel"] for row in image["activations"]] == [2, 0]
    with Image.open(tmp_path / "out" / image["figure"]) as figure:
        assert figure.format == "PNG"


def test_info() -> None:
    result = run("info", "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["versions"]["torch"] == torch.__version__
    assert answer["ops"]["max_pool2d_with_switches"]["reference"] is None
    assert "max_pool2d_with_switches" in run("info").stdout


def nan_weights(path: Path) -> Path:
    state = tiny().state_dict()
    state["2.weight"][0] = torch.nan
    torch.save(state, path / "nan.pt")
    return path / "nan.pt"


def other_weights(path: Path) -> Path:
    torch.save({"fc.weight": torch.ones(2)}, path / "other.pt")
    return path / "other.pt"


def code(path: Path) -> Path:
    torch.save(tiny(), path / "code.pt")  # a pickled module, which would run code when loaded
    return path / "code.pt"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (lambda p: ["--data", p / "nowhere"], "expected data an existing folder, archive or image, got"),
        (lambda p: ["--data", p / "empty"], "expected data with at least one image file, got"),
        (lambda p: ["--data", p / "broken"], "images that can be read, got none: x.jpg: not an image file"),
        (lambda p: ["--data", p / "broken.zip"], "expected data an archive that can be read, got"),
        (lambda p: ["--data", f"CIFAR10:{p / 'empty'}"], "Dataset not found"),
        (lambda p: ["--layers", "convolution1"], "got 'convolution1'; near matches: ["),
        (lambda p: ["--model", f"{__name__}:no_module"], "to return a torch.nn.Module, got str"),
        (
            lambda p: ["--model", f"{__name__}:missing"],
            "expected model package.module:function or path/to/",
        ),
        (lambda p: ["--model", "vgg61"], "got 'vgg61' (near: "),
        (lambda p: ["--weights", nan_weights(p)], "expected model with weights free of NaN, got NaN in 2.weight"),
        (lambda p: ["--weights", other_weights(p)], "which lacks 0.weight and 3 more"),
        (lambda p: ["--weights", code(p)], "expected weights a state dict that loads safely, got"),
        (lambda p: ["--weights", p / "nowhere.pt"], "expected weights 'DEFAULT' or an existing file, got"),
        (lambda p: ["--out", p / "file" / "out"], "expected out a folder that can be written, got"),
        (lambda p: ["--device", "quantum"], "expected --device a device of torch's, got 'quantum'"),
        (lambda p: ["--backend", "abacus"], "got 'abacus'"),
        (lambda p: ["--backend", "cuda"], "backend 'cuda' cannot run"),
    ],
)
def test_a_failure_is_one_sentence_and_exit_code_1(photos: Path, tmp_path: Path, arguments, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "x.jpg").write_text("no picture")
    (tmp_path / "broken.zip").write_text("PK no archive")
    (tmp_path / "file").write_text("in the way")
    given = [str(argument) for argument in arguments(tmp_path)]
    before = set(tmp_path.rglob("*"))
    defaults = [*MODEL, "--data", photos, "--out", tmp_path / "out", "--workers", 0]
    result = run("gallery", *defaults, *given)
    assert result.exit_code == 1
    assert message in result.stderr
    last = [line for line in result.stderr.splitlines() if "it/s" not in line and "image/s" not in line][-1]
    assert last.startswith("Error: ")
    assert "Traceback" not in result.stderr
    assert set(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "arguments",
    [
        ["gallery"],
        ["gallery", "--out", "x", "--top-k", "0"],
        ["gallery", "--out", "x", "--batch-size", "many"],
        ["project", "--out", "x"],
        ["project", *MODEL, "--out", "x", "--layer", "1", "--channels", "one", "--data", "embedded"],
        ["paint"],
    ],
)
def test_wrong_usage_is_exit_code_2(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def test_project_refuses_a_channel_that_does_not_exist(photos: Path, tmp_path: Path) -> None:
    result = run("project", *MODEL, "--data", photos, "--layer", "3", "--channels", "4", "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == "Error: project: expected --channels from 0 to 3, got 4\n"
    assert not (tmp_path / "out").exists()


def test_help_names_every_command() -> None:
    text = run("--help").stdout
    assert all(name in text for name in ("demo", "serve", "gallery", "project", "info"))


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from zfkernels import gallery
    from zfkernels.data import photos

    parquet = pytest.importorskip("pyarrow.parquet")
    default_layers = gallery.default_layers
    monkeypatch.setattr(gallery, "default_layers", lambda *arguments: default_layers(*arguments)[:1])
    monkeypatch.setattr(photos, "PHOTOS", ("chelsea.png", "coffee.png"))
    monkeypatch.setattr(photos, "SCALES", (1, 1 / 2))
    result = run("demo", "--out", tmp_path / "out", "--workers", 0, "--format", "pdf")
    assert result.exit_code == 0, result.output
    for name in ("gallery/index.html", "gallery/topk.parquet", "gallery.pdf", "occlusion.pdf"):
        assert (tmp_path / "out" / name).stat().st_size > 1000
    winners = parquet.read_table(tmp_path / "out" / "gallery" / "topk.parquet").to_pylist()
    assert len(winners) == len({(row["layer"], row["channel"], row["label"]) for row in winners})  # one crop a photo
    assert str(tmp_path / "out" / "gallery" / "index.html") in result.stdout
    assert str(tmp_path / "out" / "occlusion.pdf") in result.stdout
    assert f"zfkernels serve --gallery {tmp_path / 'out' / 'gallery'}" in result.stdout


def test_the_demos_photos_are_ones_that_the_network_knows() -> None:
    from zfkernels.cli.demo import MODEL, photos
    from zfkernels.models import get_model, get_preprocess

    model, seen = get_model(MODEL), []
    for name, image, answer in photos(get_preprocess(MODEL)):
        probability, best = model(image)[0].softmax(0).max(0)
        assert model.class_names[int(best)].split(",")[0] == answer
        assert probability > 0.8, name
        seen.append(name)
    assert seen == ["coffee", "monarch.jpg"]


def test_without_click_the_extra_is_named() -> None:
    code = "import sys; sys.modules['click'] = None; from zfkernels.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr == "Error: click is not installed: pip install 'zfkernels[viz]'\n"


def test_without_starlette_the_extra_is_named() -> None:
    code = "import sys; sys.modules['starlette'] = None; from zfkernels.cli import main; main()"
    result = subprocess.run([sys.executable, "-c", code, "serve"], cwd=REPOSITORY, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.endswith("starlette is not installed: pip install 'zfkernels[serve]'\n")


def test_info_needs_no_click() -> None:
    code = "import sys; sys.argv = ['zfkernels', 'info']; from zfkernels.cli import main; main()"
    with_click, without = (
        subprocess.run([sys.executable, "-c", start + code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
        for start in ("", "import sys; sys.modules['click'] = None; ")
    )
    assert "max_pool2d_with_switches" in without.stdout
    assert without.stdout == with_click.stdout


@pytest.mark.parametrize("missing", ["pyarrow", "tqdm"])
def test_a_command_names_the_extra_that_it_lacks(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    result = run("gallery", *MODEL, "--data", photos, "--out", tmp_path / "out")
    assert result.exit_code == 1
    assert result.stderr == f"Error: {missing} is not installed: pip install 'zfkernels[viz]'\n"
    assert not (tmp_path / "out").exists()
