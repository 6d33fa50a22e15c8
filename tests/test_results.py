"""Results show themselves, turn into arrays and tables, are saved without pickle, and are compared."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.some_results import RESULTS, occlusion
from torch import Tensor

from zfkernels.results import Diagnosis, Look, OcclusionMap, Projections, Result, probabilities

every_result = pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)


@every_result
def test_saved_and_loaded(result: Result, tmp_path: Path) -> None:
    path = tmp_path / "result.safetensors"
    result.save(path)
    assert os.listdir(tmp_path) == ["result.safetensors"]
    for kind in (type(result), Result):
        assert kind.load(path) == result
    other = Projections if isinstance(result, OcclusionMap) else OcclusionMap
    with pytest.raises(ValueError, match=f"{other.__name__}.load: expected path of such a result, got a "):
        other.load(path)


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    result = RESULTS[0]
    with pytest.raises(ValueError, match=r"save: expected path of a \.safetensors file, got x\.npz"):
        result.save("x.npz")
    with pytest.raises(FileNotFoundError, match="load: expected path of an existing file"):
        Result.load(tmp_path / "nowhere.safetensors")
    (tmp_path / "text.safetensors").write_text("no tensors")
    with pytest.raises(ValueError, match="expected path of a result that was saved"):
        Result.load(tmp_path / "text.safetensors")
    save_file({"weight": torch.ones(2)}, tmp_path / "weights.safetensors")
    with pytest.raises(ValueError, match="expected path of a file of the format 'zfkernels result 1'"):
        Result.load(tmp_path / "weights.safetensors")


def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "result.safetensors"
    RESULTS[0].save(path)

    def full(*arguments: object) -> None:
        Path(str(arguments[1])).write_text("half")
        raise OSError("no space left")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="no space left"):
        RESULTS[1].save(path)
    assert os.listdir(tmp_path) == ["result.safetensors"]
    assert Result.load(path) == RESULTS[0]


def test_equality() -> None:
    a, b = occlusion(), occlusion()
    assert a == b
    assert a != occlusion(clean=a.clean + 1)
    assert a != occlusion(window=(2, 3))
    assert a != occlusion(targets=torch.tensor([0]))
    assert a != "a result"
    nan = torch.full_like(a.clean, torch.nan)
    assert occlusion(clean=nan) == occlusion(clean=nan)
    assert occlusion(clean=a.clean.double()) != a


@every_result
def test_shown_in_words(result: Result) -> None:
    kind = type(result).__name__
    assert repr(result).startswith(f"<{kind}: ")
    assert len(repr(result)) < 160
    first, head, *rows = result.summary().splitlines()
    assert first == result.headline()
    assert rows
    page = result._repr_html_()
    assert page.startswith(f"<p>{kind}: ")
    assert len(page) < 4000
    assert all(name in head for name in result.overview()[0])


def test_names_are_text_and_no_markup() -> None:
    result = occlusion(look=Look(classes=("dog", "<b>cat</b>", "cow")))
    assert "&lt;b&gt;cat&lt;/b&gt;" in result._repr_html_()
    assert "<b>cat" not in result._repr_html_()


@every_result
def test_arrays_and_table(result: Result) -> None:
    arrays = result.to_numpy()
    for name, (dims, tensor) in result.variables().items():
        assert len(dims) == tensor.dim()
        np.testing.assert_array_equal(arrays[name], tensor.numpy())
    columns = result.columns()
    assert len({len(values) for values in columns.values()}) == 1
    pandas = pytest.importorskip("pandas")
    table = result.to_pandas()
    assert isinstance(table, pandas.DataFrame)
    assert list(table) == list(columns)


@every_result
def test_named_dimensions(result: Result) -> None:
    xarray = pytest.importorskip("xarray")
    found = result.to_xarray()
    assert isinstance(found, xarray.Dataset)
    for name, (dims, _) in result.variables().items():
        assert found[name].dims == dims


def test_the_extra_of_a_table_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match=r"pandas is not installed: pip install 'zfkernels\[tables\]'"):
        RESULTS[0].to_pandas()


def test_table_of_an_occlusion_map() -> None:
    result = occlusion(look=Look(classes=("cat", "dog", "cow")))
    table = result.columns()
    assert table["top"][:6] == [0, 0, 0, 2, 2, 2]
    assert table["left"][:6] == [0, 2, 4, 0, 2, 4]
    own = result.clean.argmax(1)
    assert table["class"] == own.repeat_interleave(6).tolist()
    assert table["drop"] == result.drop().flatten().tolist()
    row = result.overview()[1]
    assert row["class"] == result.look.classes[int(own[1])]
    assert row["lowest"] == float(result.probability()[1].min())


def test_table_of_a_diagnosis_has_the_spectrum_of_the_first_layer() -> None:
    result = next(result for result in RESULTS if isinstance(result, Diagnosis))
    table = result.columns()
    first = len(result.filters)
    assert table["layer"] == ["0"] * first + ["2"] * (len(table["layer"]) - first)
    assert table["low"][:first] == result.bands[:, 0].tolist()
    assert all(value != value for value in table["low"][first:])


def test_each_image_has_its_own_class() -> None:
    result = occlusion()
    own = result.clean.argmax(1)
    assert own[0] != own[1]
    assert torch.equal(result.drop(), result.drop(own))
    assert torch.equal(result.probability(), result.probability(own.tolist()))
    assert torch.equal(result.drop()[1], result.drop(int(own[1]))[1])
    assert torch.equal(result.clean_probability(), result.clean.softmax(1).amax(1))
    named = occlusion(look=Look(classes=("cat", "Tabby", "cow")))
    assert torch.equal(named.drop("tabby"), result.drop(1))
    assert torch.equal(named.drop(["cow", "cat"]), result.drop([2, 0]))
    assert torch.equal(result.drop(np.array([2, 0])), result.drop([2, 0]))
    assert torch.equal(result.drop(np.int64(2)), result.drop(2))


@pytest.mark.parametrize(
    ("target", "error", "message"),
    [
        (3.7, TypeError, "drop: expected target the number or name of a class, got 3.7"),
        (True, TypeError, "drop: expected target the number or name of a class, got True"),
        (torch.tensor([1.0, 2.0]), TypeError, "drop: expected target the number or name of a class, got 1.0"),
        ({1}, TypeError, "got {1}"),
        (3, ValueError, "drop: expected a class from 0 to 2, got 3"),
        (-1, ValueError, "drop: expected a class from 0 to 2, got -1"),
        ([0], ValueError, "drop: expected target a class, or one for each of 2 images, got 1"),
        (torch.tensor([0, 1, 2]), ValueError, "one for each of 2 images, got 3"),
        ("tabby", ValueError, "the number of a class, as the model names none (class_names), got 'tabby'"),
    ],
)
def test_targets_that_are_refused(target: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as raised:
        occlusion().drop(target)  # type: ignore[arg-type]
    assert message in str(raised.value)


def test_a_wrong_name_comes_with_near_ones() -> None:
    named = occlusion(look=Look(classes=("tabby cat", "dog", "cow")))
    with pytest.raises(ValueError, match=r"got 'taby cat'; near matches: \['tabby cat'\]"):
        named.probability("taby cat")


def test_a_target_that_was_not_kept() -> None:
    whole = occlusion()
    some = occlusion(outputs=whole.outputs[..., [1]], targets=torch.tensor([1]))
    with pytest.raises(ValueError, match=r"drop: expected one of the sweep's targets \[1\], got "):
        some.drop()
    assert torch.equal(some.drop(1), whole.drop(1))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("classes", [2, 10, 1000])
def test_outputs_that_are_probabilities_already(dtype: torch.dtype, classes: int) -> None:
    torch.manual_seed(0)
    logits = torch.randn(50, classes, dtype=torch.float64) * 3
    single = logits.to(torch.float32 if dtype != torch.float64 else dtype)
    soft = single.softmax(1).to(dtype)
    assert torch.equal(probabilities(soft), soft)
    raw = logits.to(dtype)
    assert torch.equal(probabilities(raw), raw.softmax(1))
    assert torch.equal(probabilities(soft, "softmax"), soft.softmax(1))
    assert torch.equal(probabilities(raw, "none"), raw)
    assert torch.equal(probabilities(raw, "sigmoid"), raw.sigmoid())
    positive = raw.abs() / classes  # no probabilities, though all of them are positive and small
    assert torch.equal(probabilities(positive), positive.softmax(1))


def test_one_output_neuron() -> None:
    logits = torch.tensor([[-2.0], [0.5], [3.0]])
    assert torch.equal(probabilities(logits), logits.sigmoid())
    share = torch.tensor([[0.25], [1.0]])
    assert torch.equal(probabilities(share), share)
    result = occlusion(outputs=torch.tensor([[[[2.0], [0.5]]]]), clean=torch.tensor([[3.0]]))
    assert torch.equal(result.probability(), torch.tensor([[[2.0, 0.5]]]).sigmoid())
    with pytest.raises(ValueError, match="expected activation one of none, softmax, sigmoid, got 'relu'"):
        result.probability(activation="relu")


def test_a_softmax_of_a_network_is_not_taken_twice() -> None:
    raw = occlusion()
    soft = occlusion(outputs=raw.outputs.softmax(-1), clean=raw.clean.softmax(-1))
    torch.testing.assert_close(soft.probability(1), raw.probability(1))
    kept = occlusion(outputs=soft.outputs[..., [1]], clean=soft.clean, targets=torch.tensor([1]))
    torch.testing.assert_close(kept.probability(1), raw.probability(1))


def test_the_look_is_the_models() -> None:
    class Preprocess:
        mean, std = [0.5, 0.4, 0.3], torch.tensor([0.2, 0.2, 0.1])

    model = torch.nn.Identity()
    assert Look.of(model) == Look()
    model.preprocess, model.class_names = Preprocess(), ["a", "b"]  # type: ignore[assignment]
    look = Look.of(model)
    assert look.mean == (0.5, 0.4, 0.3)
    assert look.std == pytest.approx((0.2, 0.2, 0.1))
    assert (look.name(1), look.name(2)) == ("b", "class 2")
    model.preprocess = lambda image: image  # type: ignore[assignment]
    assert Look.of(model).mean is None


def test_results_need_no_library_of_pictures() -> None:
    code = "import sys; sys.modules.update(dict.fromkeys(('matplotlib', 'pandas', 'xarray', 'PIL')))\n"
    code += "import zfkernels.results as r; from support.some_results import RESULTS; print([repr(x) for x in RESULTS])"
    found = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_bfloat16_as_float32() -> None:
    result = occlusion()
    half = occlusion(outputs=result.outputs.bfloat16(), clean=result.clean.bfloat16())
    values: Tensor = half.outputs
    np.testing.assert_array_equal(half.to_numpy()["outputs"], values.float().numpy())


def test_outputs_of_another_form() -> None:
    rows, columns = 2, 3
    outputs = {"mask": torch.randn(2, rows, columns, 5, 4, 4), "score": torch.rand(2, rows, columns)}
    result = occlusion(outputs=outputs, clean={"mask": torch.randn(2, 5, 4, 4), "score": torch.rand(2)})
    assert result.headline() == "2 images, 2 x 3 places of a square of 4 x 4 pixels, 2 outputs"
    assert [row["shape of one"] for row in result.overview()] == ["5 x 4 x 4", "a number"]
    assert result.to_numpy()["outputs['score']"].shape == (2, rows, columns)
    for asked in (result.drop, result.probability, result.clean_probability, result.plot, result.columns):
        with pytest.raises(ValueError, match=r"expected the sweep of a model that returns \[N, classes\], got dict"):
            asked()
