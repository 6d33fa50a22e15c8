"""What Captum's attribution classes have in common, so that its tools take these classes for their own."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from zfkernels.network import undisturbed

Method = TypeVar("Method", bound=Callable[..., Any])


class Attribution:
    """The names that NoiseTunnel, infidelity, sensitivity_max and others of Captum's tools ask a method for.

    Where Captum was imported, ``isinstance`` takes an object of a class below for one of Captum's class of the same
    name, and so for a ``GradientAttribution`` or ``PerturbationAttribution``. Captum itself is never imported.

    Attributes:
        forward_func: the model or function that is explained.
    """

    twin: str  # Captum's class

    def __init__(self, forward_func: Callable[..., Any]) -> None:
        self.forward_func = forward_func

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return getattr(sys.modules.get("captum.attr"), self.twin, type(self))

    def __reduce__(self) -> tuple[Any, ...]:  # the default looks at __class__
        return object.__new__, (type(self),), self.__dict__

    @property
    def multiplies_by_inputs(self) -> bool:
        """Whether attributions are those of the inputs themselves rather than of changes to them."""
        return False

    def has_convergence_delta(self) -> bool:
        """False: these methods have no sum that attributions would have to converge to."""
        return False

    @classmethod
    def get_name(cls) -> str:
        """The class's name in words, as Captum's progress bars show it: "Neuron Deconvolution"."""
        return "".join(f" {letter}" if letter.isupper() and i else letter for i, letter in enumerate(cls.__name__))

    def attribute_future(self, *args: Any, **kwargs: Any) -> Any:
        """Not there, as in Captum.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(f"{type(self).__name__}: expected attribute, got a call of attribute_future")


def attributing(method: Method) -> Method:
    """A method that runs undisturbed and without gradients, also where Captum calls its ``__wrapped__``."""

    @functools.wraps(method)
    def alone(*args: Any, **kwargs: Any) -> Any:
        with torch.no_grad(), undisturbed():
            return method(*args, **kwargs)

    @functools.wraps(alone)
    def attribute(*args: Any, **kwargs: Any) -> Any:
        return alone(*args, **kwargs)

    return cast(Method, attribute)
