"""A recording computes what the model computes, for batches of any number of images, and leaves the model alone."""

from __future__ import annotations

import copy
import pickle
import sys
import threading
from typing import Any

import pytest
import torch
from habits import CHANNELS, IN_PLACE, OTHERS, SIZE, Network, images, network
from torch import Tensor, nn

from zfkernels.network import Recording, Ref, Sized, UnrecordableError, record
from zfkernels.network.tree import leaves, map_leaves


def assert_replays(model: nn.Module, recording: Recording, counts: tuple[int, ...] = (1, 2, 3, 5)) -> None:
    """The recording's outputs are the model's, in the model's own form."""
    for count in counts:
        for memory_format in (torch.contiguous_format, torch.channels_last):
            x = images(count, seed=count)
            with torch.no_grad():
                expected = model(x.clone())
            found = recording.rebuild(recording.run(x.to(memory_format=memory_format), recording.output_names))
            assert type(found) is type(expected)
            for one, other in zip(leaves(found), leaves(expected), strict=True):
                if isinstance(other, Tensor):
                    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
                else:
                    assert one == other


@pytest.mark.parametrize("name", IN_PLACE)
def test_writes_become_values(name: str) -> None:
    model = network(IN_PLACE[name])
    recording = record(model, images())
    assert all(not step.op._schema.is_mutable for step in recording.steps if hasattr(step.op, "_schema"))
    assert_replays(model, recording)


@pytest.mark.parametrize("name", OTHERS)
def test_what_people_write(name: str) -> None:
    model = OTHERS[name]()
    assert_replays(model, record(model, images()))


def test_ints_that_depend_on_the_batch() -> None:
    recording = record(network(lambda m, x: m.conv(x).reshape(x.size(0) * 2, -1)), images())
    last = recording.steps[-1]
    assert last.shape == (Sized(2, 0), 4 * SIZE[0] * SIZE[1] // 2)
    assert last.args[1] == [Sized(2, 0), -1]


def test_contrast_normalisation_is_one_step() -> None:
    assert [step.name for step in record(OTHERS["contrast"](), images()).steps] == [
        "input", "conv2d", "relu_1", "local_response_norm",  # "relu" is a module
    ]  # fmt: skip


# Layers ---------------------------------------------------------------------------------------------------------------


def test_layers_have_the_value_that_the_module_returned() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        y += 1  # after the module has returned
        return m.block(m.block(y))

    model = network(forward, block=nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU(inplace=True)))
    recording, x = record(model, images()), images()
    values = recording.run(x, [step.name for step in recording.steps])
    with torch.no_grad():
        torch.testing.assert_close(values[recording.resolve("conv")], model.conv(x))
        first = model.block(model.conv(x) + 1)
    torch.testing.assert_close(values[recording.resolve("block:0")], first)
    assert recording.resolve("block") == recording.resolve("block:1") == recording.resolve("") != "relu"
    with torch.no_grad():
        torch.testing.assert_close(values[recording.resolve("block.0:0")], model.block[0](model.conv(x) + 1))
    assert recording.by_name[recording.resolve("block:0")].scope == ("", "block:0", "block.1:0")
    assert recording.resolve("add") == "add"


def test_layers_of_several_tensors_and_layers_that_are_none() -> None:
    model = network(lambda m, x: m.lstm(m.conv(x).mean(2).mT)[0], lstm=nn.LSTM(4, 5, batch_first=True))
    recording = record(model, images())
    assert recording.resolve("lstm[0]") in recording.output_names
    assert recording.by_name[recording.resolve("lstm[1]")].shape == (1, Sized(1, 0), 5)
    with pytest.raises(ValueError, match=r"expected layer one tensor, got 'lstm' of 3; name one of \['lstm\[0\]'"):
        recording.resolve("lstm")
    with pytest.raises(ValueError, match=r"expected layer one of the network's layers, got 'cov'; .*'conv'"):
        recording.resolve("cov")
    with pytest.raises(TypeError, match="expected layer a name, got 3"):
        recording.resolve(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrap", [nn.DataParallel, lambda m: torch.compile(m, backend="eager")])
def test_names_inside_wrappers(wrap: Any) -> None:
    model = network(lambda m, x: m.relu(m.conv(x)))
    wrapped = wrap(model)
    recording = record(wrapped, images())
    prefix = next(name for name, module in wrapped.named_modules() if module is model)
    assert recording.resolve("conv") == recording.resolve(f"{prefix}.conv") == "conv2d"
    assert_replays(model, recording)


# What is refused ------------------------------------------------------------------------------------------------------


def _decides(m: Any, x: Tensor) -> Tensor:
    y = m.conv(x)
    return y if y.sum() > 0 else -y


def _swallows(m: Any, x: Tensor) -> Tensor:
    try:
        return m.conv(x) * float(x.max())
    except Exception:  # noqa: BLE001 - what this case is about
        return m.conv(x)


REFUSED: dict[str, tuple[Any, str]] = {
    "decides": (_decides, "it decides by the values that it computes"),
    "swallows": (_swallows, "it decides by the values that it computes"),
    "selects": (lambda m, x: m.conv(x)[m.conv(x) > 0], "it decides by the values that it computes"),
    "random": (lambda m, x: m.conv(x + torch.randn_like(x)), "it draws random numbers"),
    "dropout": (lambda m, x: torch.dropout(m.conv(x), 0.5, True), "it draws random numbers"),
    "counts": (lambda m, x: m.conv(x) + m.norm.running_mean.add_(1).sum(), "changes a tensor that the model keeps"),
    "halves": (lambda m, x: m.conv(x[: len(x) // 2]), "a size depends on the number of images"),
    "squares": (lambda m, x: m.conv(x).repeat(len(x), 1, 1, 1), "a size depends on the number of images"),
    "branches": (lambda m, x: m.conv(x).relu() if len(x) % 4 == 1 else m.conv(x), "another number of images"),
    "fails": (lambda m, x: m.conv(x[:, :2]), "RuntimeError: "),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_recording_can_stand_for(name: str) -> None:
    forward, reason = REFUSED[name]
    model = nn.Sequential(network(forward))
    before = copy.deepcopy(model.state_dict())
    for _ in range(2):  # the second time from memory
        with pytest.raises(UnrecordableError, match=reason) as caught:
            record(model, images())
    if name in ("decides", "swallows", "selects", "random", "dropout", "counts"):
        assert caught.value.module == "0"
        assert caught.value.line.startswith(__file__)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_training_mode_is_refused() -> None:
    model = network(lambda m, x: m.drop(m.norm(m.conv(x))), drop=nn.Dropout())
    with pytest.raises(ValueError, match=r"in eval mode, got norm \(BatchNorm2d\) in training mode; call model\.eval"):
        record(model.train(), images())


# The model and the process are left alone -----------------------------------------------------------------------------


def test_the_model_keeps_what_it_had() -> None:
    def forward(m: Any, x: Tensor) -> Tensor:
        m.last = m.conv(x)
        m.seen.append(m.last)
        m.count += 1
        m.by_name["last"] = m.last
        if m.grid is None:
            m.grid = torch.arange(x.shape[-1], dtype=x.dtype)
        return m.last + m.grid

    model = network(forward)
    model.seen, model.by_name, model.count, model.grid = [], {}, 0, None
    before = {key: copy.copy(value) for key, value in model.__dict__.items()}
    recording = record(model, images())
    assert model.__dict__.keys() == before.keys()
    assert (model.seen, model.by_name, model.count, model.grid) == ([], {}, 0, None)
    assert_replays(model, recording)


def test_caches_hold_real_tensors_that_can_be_trained_with() -> None:
    from habits import _grid

    _grid.cache_clear()
    record(OTHERS["cached_grid"](), images())
    grid = _grid(*SIZE)
    assert type(grid) is Tensor
    assert not grid.is_inference()
    weight = torch.ones(SIZE, dtype=torch.float64, requires_grad=True)
    (weight * grid).sum().backward()
    assert torch.equal(weight.grad, grid)


def test_the_users_profile_function_is_restored() -> None:
    model = network(lambda m, x: m.relu(m.conv(x)))
    seen: list[str] = []

    def profile(frame: Any, event: str, argument: Any) -> None:
        seen.append(event)

    sys.setprofile(profile)
    try:
        record(model, images())
        assert sys.getprofile() is profile
    finally:
        sys.setprofile(None)


def test_hooks_and_replaced_forwards_are_part_of_the_network() -> None:
    model = network(lambda m, x: m.relu(m.conv(x)))
    model.conv.register_forward_hook(lambda module, given, result: result * 2)
    model.conv.register_forward_pre_hook(lambda module, given: (given[0] + 1,))
    old = model.relu.forward
    model.relu.forward = lambda x: old(x) - 3  # type: ignore[method-assign]
    recording = record(model, images())
    assert_replays(model, recording)
    assert recording.resolve("conv") == "mul"


def test_kept_until_something_changes() -> None:
    model = network(lambda m, x: m.conv(x) * m.factor)
    model.factor = 2.0
    first = record(model, images())
    assert record(model, images(5)).steps is first.steps
    model.factor = 3.0
    assert_replays(model, record(model, images()))
    with torch.no_grad():
        model.conv.weight.mul_(2)
    assert_replays(model, record(model, images()))
    model.conv = nn.Conv2d(CHANNELS, 4, 1).double()
    assert_replays(model, record(model, images()))
    assert record(model, images()[..., 1:]).size == (SIZE[0], SIZE[1] - 1)
    assert record(model, (CHANNELS, *SIZE)).steps[0].dtype == torch.float64


def test_a_recording_keeps_no_model_alive() -> None:
    import gc
    import weakref

    model = network(lambda m, x: m.conv(x))
    record(model, images())
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None


class Whole(nn.Module):
    """One that can be pickled."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.lrn = nn.Conv2d(CHANNELS, 4, 3), nn.LocalResponseNorm(3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat(self.lrn(self.conv(x)).relu_().chunk(2, 1)[::-1], 1)


def test_pickled_and_copied() -> None:
    model = Whole().double().eval()
    recording = record(model, images())
    for other in (pickle.loads(pickle.dumps(recording)), copy.deepcopy(recording)):
        assert_replays(model, other)
        assert other.model is not model
        assert other.steps[1].args[1] is other.model.conv.weight  # parameters are shared within the copy too


def test_other_threads_notice_nothing() -> None:
    """Threads serve the same model and another one while this thread records."""
    shared, own = network(IN_PLACE["inplace_shortcut"]), network(IN_PLACE["write_through_slice"])
    x = images()
    with torch.no_grad():
        expected = {id(model): model(x) for model in (shared, own)}
    problems: list[Any] = []
    stop = threading.Event()

    def serve(model: Network) -> None:
        while not stop.is_set():
            try:
                with torch.no_grad():
                    if not torch.equal(model(x), expected[id(model)]):
                        problems.append("another value")
            except Exception as error:  # noqa: BLE001 - any error is what this test looks for
                problems.append(error)

    threads = [threading.Thread(target=serve, args=(model,)) for model in (shared, own)]
    for thread in threads:
        thread.start()
    try:
        for size in range(6, 26):
            assert len(record(shared, (CHANNELS, size, size)).steps) == 5
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert problems == []


def test_autocast_around_the_recording_is_switched_off() -> None:
    model = network(lambda m, x: m.conv(x)).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        recording = record(model, images().float())
    assert recording.steps[-1].dtype == torch.float32


def test_forms_of_values() -> None:
    value = {"a": [1, (2, 3)], "b": OTHERS}
    assert map_leaves(lambda leaf: leaf, {"a": [1, (2, Ref("x"))]}) == {"a": [1, (2, Ref("x"))]}
    assert list(leaves(value["a"])) == [1, 2, 3]
