"""Deconvolution and NeuronDeconvolution with Captum's arguments and numbers, on the package's DeconvNet."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from zfkernels.captum_api.arguments import (
    Index,
    Inputs,
    RefusedType,
    RefusedValue,
    as_arguments,
    as_inputs,
    as_tensors,
    columns,
    select,
    without_wrapper,
)
from zfkernels.captum_api.attribution import Attribution, attributing
from zfkernels.captum_api.autograd import LayerValue, run_and_differentiate
from zfkernels.checks import as_int, recording_for
from zfkernels.deconvnet import CAPTUM, DeconvNet
from zfkernels.deconvnet.graph import is_of_images
from zfkernels.network import INPUT, Recording, Ref, UnrecordableError, refuse_training
from zfkernels.network.tree import leaves

Pick = Callable[[Any], Tensor]


class Deconvolution(Attribution):
    """The gradient of an output, with max(gradient, 0) at every ReLU: a drop-in for ``captum.attr.Deconvolution``.

    Unlike :meth:`zfkernels.DeconvNet.project` it injects 1 instead of the activation's value, and ReLU6, LeakyReLU and
    LocalResponseNorm pass their gradient; for the rest it is the same, and on images [N, C, H, W] it runs on the same
    kernels, without autograd but for functions that these do not know. A model that cannot be
    recorded, several inputs and further arguments are run with autograd.

    Differs from Captum: functional ReLUs (``F.relu``, ``x.relu()``) follow the rule too, where Captum silently passes
    their plain gradient; what a ReLU reads may be read by other layers too, whose share of the gradient Captum
    silently drops; of several ReLU modules in a row each follows the rule, where Captum passes the plain gradient of
    all but the last, masked by the forward pass; no warnings; a module with dropout or batch normalisation in training
    mode is refused.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1.

    Args:
        model: any nn.Module in eval mode; it is left untouched.

    Raises:
        AssertionError: ``model`` is no nn.Module (also a TypeError).
    """

    twin = "Deconvolution"

    def __init__(self, model: nn.Module) -> None:
        self.model = _as_model("Deconvolution", model)
        super().__init__(model)

    @attributing
    def attribute(self, inputs: Inputs, target: Any = None, additional_forward_args: Any = None) -> Any:
        """What each cell of the inputs contributes to an output.

        Args:
            inputs: a tensor [N, ...] or a tuple of them.
            target: one output of each example: an int or a tuple (index of the output without the first axis), an int
                tensor [N], a list of N ints or of N tuples. None: the output has one element for each example.
            additional_forward_args: one further argument of the model or a tuple of them.

        Returns:
            For each input a tensor of its shape and dtype, in the form of ``inputs``.

        Raises:
            AssertionError: what Captum refuses by assertion; also a ValueError, or a TypeError for a wrong type.
            ValueError: a module in training mode, images of a wrong shape or device.
            IndexError: a target outside of the output.
        """
        name = "Deconvolution"
        tensors, arguments = as_tensors(name, inputs), as_arguments(additional_forward_args)
        pick = _one_each(name, lambda output: select(name, output, target))
        recording = _recording(name, self.model, tensors, arguments)
        output = None if recording is None else recording.outputs
        if recording is None or not isinstance(output, Ref) or not is_of_images(recording.by_name[output.name]):
            return as_inputs(inputs, run_and_differentiate(name, self.model, tensors, arguments, pick))
        net = DeconvNet(self.model, rules=CAPTUM)
        return as_inputs(inputs, (net.pull_back(tensors[0], output.name, _gradient_of(pick)),))


class NeuronDeconvolution(Attribution):
    """The same for a neuron inside the model: a drop-in for ``captum.attr.NeuronDeconvolution``.

    Only what the chosen neurons depend on is computed: the layers up to theirs, and windows around them. Rules,
    differences from Captum and what is run with autograd: see :class:`Deconvolution`; with autograd run also layers
    that have several outputs or of whose kind the package knows nothing.

    Source: Zeiler & Fergus 2013 (arXiv 1311.2901), section 2.1.

    Args:
        model: any nn.Module in eval mode; it is left untouched.
        layer: the module of ``model`` that the neurons belong to; of several calls the last.
        device_ids: has no effect, as everything runs on the device of the inputs; a DataParallel model is unwrapped.

    Raises:
        AssertionError: ``model`` is no nn.Module (also a TypeError).
    """

    twin = "NeuronDeconvolution"

    def __init__(self, model: nn.Module, layer: nn.Module, device_ids: list[int] | None = None) -> None:
        self.model = _as_model("NeuronDeconvolution", model)
        super().__init__(model)
        if not isinstance(layer, nn.Module):
            raise RefusedType(f"NeuronDeconvolution: expected layer an nn.Module, got {type(layer).__name__}")
        self.layer = layer

    @attributing
    def attribute(
        self,
        inputs: Inputs,
        neuron_selector: int | tuple[Index, ...] | Callable[[Any], Tensor],
        additional_forward_args: Any = None,
        attribute_to_neuron_input: bool = False,
    ) -> Any:
        """What each cell of the inputs contributes to neurons of the layer.

        Args:
            inputs: a tensor [N, ...] or a tuple of them.
            neuron_selector: an int (a layer [N, units]); a tuple of ints and slices (index of the layer's value without
                the first axis), of which slices add up; or a function of the layer's value, e.g. [N, C, h, w], that
                returns one number for each example or one in all. Only this function is then differentiated.
            additional_forward_args: one further argument of the model or a tuple of them.
            attribute_to_neuron_input: take the neurons from what the layer reads instead of what it returns.

        Returns:
            For each input a tensor of its shape and dtype, in the form of ``inputs``.

        Raises:
            AssertionError: what Captum refuses by assertion; also a ValueError, or a TypeError for a wrong type.
            ValueError: a module in training mode, images of a wrong shape or device.
            IndexError: a neuron outside of the layer.
        """
        name = "NeuronDeconvolution"
        tensors, arguments = as_tensors(name, inputs), as_arguments(additional_forward_args)
        paths = [path for path, module in self.model.named_modules() if module is self.layer]
        if not paths:
            raise RefusedValue(f"{name}: expected layer a module of the model, got {type(self.layer).__name__}")
        pick = _one_each(name, lambda value: _neurons(name, value, neuron_selector))
        recording = _recording(name, self.model, tensors, arguments)
        step = None if recording is None else _step_of(recording, paths[0], bool(attribute_to_neuron_input))
        if step is not None:
            net = DeconvNet(self.model, rules=CAPTUM)
            return as_inputs(inputs, (net.pull_back(tensors[0], step, _gradient_of(pick)),))
        with LayerValue(name, self.layer, bool(attribute_to_neuron_input)) as kept:
            found = run_and_differentiate(name, self.model, tensors, arguments, lambda output: pick(kept.value()))
        return as_inputs(inputs, found)


def _as_model(name: str, model: Any) -> nn.Module:
    if not isinstance(model, nn.Module):
        raise RefusedType(f"{name}: expected model an nn.Module, got {type(model).__name__}")
    return without_wrapper(model)


def _recording(
    name: str, model: nn.Module, tensors: tuple[Tensor, ...], arguments: tuple[Any, ...]
) -> Recording | None:
    """The model's recording, None where autograd has to do: see :class:`Deconvolution`."""
    refuse_training(model)
    if len(tensors) != 1 or tensors[0].dim() != 4 or not tensors[0].is_floating_point() or arguments:
        return None
    try:
        return recording_for(name, model, tensors[0])
    except UnrecordableError:
        return None


def _one_each(name: str, pick: Pick) -> Pick:
    """``pick``, refused unless it returns one element for each example, or one in all."""

    def checked(value: Any) -> Tensor:
        chosen = pick(value)
        if not isinstance(chosen, Tensor):
            raise RefusedType(f"{name}: expected a selector that returns a tensor, got {type(chosen).__name__}")
        if chosen.numel() != 1 and (chosen.dim() == 0 or chosen.numel() != len(chosen)):
            raise RefusedValue(
                f"{name}: expected a target or neuron_selector that names one element for each example, got "
                f"{tuple(chosen.shape)}"
            )
        return chosen

    return checked


def _gradient_of(pick: Pick) -> Callable[[Tensor], Tensor]:
    """From a layer's value to the gradient of what ``pick`` takes from it: ones and zeros unless it is a function."""

    def signal(value: Tensor) -> Tensor:
        with torch.enable_grad():
            leaf = value.detach().requires_grad_()
            (gradient,) = torch.autograd.grad(pick(leaf).sum(), leaf)
        return gradient

    return signal


def _neurons(name: str, value: Any, selector: Any) -> Tensor:
    if callable(selector):
        return selector(value)
    if not isinstance(value, Tensor):
        raise RefusedValue(f"{name}: expected neuron_selector a function for a layer of {len(value)} tensors")
    selector = as_int(selector)
    if not isinstance(selector, (int, tuple)):
        raise RefusedType(f"{name}: expected neuron_selector an int, tuple or function, got {type(selector).__name__}")
    chosen = columns(name, "neuron_selector", value, selector)
    slices = isinstance(selector, tuple) and any(isinstance(entry, slice) for entry in selector)
    return chosen.flatten(1).sum(1) if slices else chosen


def _step_of(recording: Recording, path: str, at_input: bool) -> str | None:
    """The step whose value a module returns (or reads) in its last call; None unless that is one tensor [N, ...]."""
    if not at_input:
        returned = _tensors(recording.layers.get(path))
        names = [leaf.name for leaf in returned if isinstance(leaf, Ref)]
        ends = names if len(names) == len(returned) else []
    else:
        calls = [scope for step in recording.steps for scope in step.scope if scope.partition(":")[0] == path]
        inside = [step for step in recording.steps if not path or (calls and calls[-1] in step.scope)]
        names = [step.name for step in inside]
        ends = [name for step in inside for name in step.inputs if name not in names]
        ends = ends if path else [INPUT]
    if len(set(ends)) != 1 or not is_of_images(recording.by_name[ends[0]]):
        return None
    return ends[0]


def _tensors(value: Any) -> list[Any]:
    """The tensors of a layer's value, and what stands for them."""
    return [leaf for leaf in leaves(value) if isinstance(leaf, (Ref, Tensor))]
