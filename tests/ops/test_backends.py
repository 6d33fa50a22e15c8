"""The router: which variant runs, who may choose it, and what is said where it cannot run."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from contextvars import ContextVar
from typing import Any

import pytest
import torch

from zfkernels.ops import (
    BACKENDS,
    BackendError,
    _backends,
    _native,
    _registry,
    availability,
    max_pool2d_with_switches,
    registered,
    use_backend,
)

POOL, UNPOOL = "max_pool2d_with_switches", "max_unpool2d_with_switches"
REFERENCES = {op: registered()[op].variants["reference"].load() for op in (POOL, UNPOOL)}
INPUT = torch.arange(16.0).reshape(1, 1, 4, 4)


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the variants of the pooling and the unpooling that ran; both have a reference only."""
    names: list[str] = []
    monkeypatch.setattr(_backends, "_requested", ContextVar("unasked", default=None))
    for op in (POOL, UNPOOL):
        monkeypatch.setattr(registered()[op], "variants", {})
        plant(names, monkeypatch, op, "reference")
    return names


def plant(
    ran: list[str],
    monkeypatch: pytest.MonkeyPatch,
    op: str,
    name: str,
    missing: str | None = None,
    refuses: str | None = None,
) -> None:
    """Gives ``op`` a variant that computes what the reference does and notes that it ran."""

    def run(*args: Any) -> Any:
        ran.append(name)
        return REFERENCES[op](*args)

    variant = _registry.Variant(name, lambda: run, lambda: missing, lambda *args: refuses)
    monkeypatch.setitem(registered()[op].variants, name, variant)


def test_the_fastest_that_can_run_is_chosen(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    max_pool2d_with_switches(INPUT, 2)
    plant(ran, monkeypatch, POOL, "triton")  # not for a CPU unless it is asked for
    max_pool2d_with_switches(INPUT, 2)
    plant(ran, monkeypatch, POOL, "cpp")
    max_pool2d_with_switches(INPUT, 2)
    plant(ran, monkeypatch, POOL, "cpp", refuses="it takes squares only")
    max_pool2d_with_switches(INPUT, 2)
    plant(ran, monkeypatch, POOL, "cpp", missing="it is not built")
    max_pool2d_with_switches(INPUT, 2)
    assert ran == ["reference", "reference", "cpp", "reference", "reference"]


def test_argument_goes_before_context(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cpp", "triton", "cuda"):
        plant(ran, monkeypatch, POOL, name)
    with use_backend("cuda"):
        max_pool2d_with_switches(INPUT, 2)
        max_pool2d_with_switches(INPUT, 2, backend="reference")
        with use_backend("cpp"):
            max_pool2d_with_switches(INPUT, 2)
        max_pool2d_with_switches(INPUT, 2)
    max_pool2d_with_switches(INPUT, 2, backend="triton")
    max_pool2d_with_switches(INPUT, 2)
    assert ran == ["cuda", "reference", "cpp", "cuda", "triton", "cpp"]


@pytest.mark.parametrize("wanted", ["cpu", ""])
def test_context_goes_before_environment(wanted: str) -> None:
    code = f"""import torch
from zfkernels.ops import {POOL}, use_backend
with use_backend("reference"):
    {POOL}(torch.ones(1, 1, 4, 4), 2)
{POOL}(torch.ones(1, 1, 4, 4), 2)"""
    environment = os.environ | {"ZFKERNELS_BACKEND": wanted}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    said = f"{POOL}: backend 'cpu' cannot run: it has no such variant"
    assert (result.returncode != 0) == (said in result.stderr) == bool(wanted)


def test_context_ends_with_an_error_and_belongs_to_its_thread(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(ran, monkeypatch, POOL, "cpp")
    with pytest.raises(KeyError), use_backend("reference"):
        raise KeyError
    with use_backend("reference"):
        thread = threading.Thread(target=max_pool2d_with_switches, args=(INPUT, 2))
        thread.start()
        thread.join()
    max_pool2d_with_switches(INPUT, 2)
    assert ran == ["cpp", "cpp"]


def test_gradients_follow_the_setting_when_they_run(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(ran, monkeypatch, POOL, "cpp")
    values, _ = max_pool2d_with_switches(INPUT.clone().requires_grad_(), 2, backend="cpp")
    values.sum().backward()  # the unpooling has no such variant and was not asked for one
    plant(ran, monkeypatch, UNPOOL, "triton")
    values, _ = max_pool2d_with_switches(INPUT.clone().requires_grad_(), 2)
    with use_backend("triton"):
        values.sum().backward()
    assert ran == ["cpp", "reference", "cpp", "triton"]


def test_what_was_asked_for_never_falls_back(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(ran, monkeypatch, POOL, "cpp", refuses="it takes squares only")
    plant(ran, monkeypatch, POOL, "cuda", missing="there is no GPU")

    def refusal(**options: Any) -> str:
        with pytest.raises(BackendError) as caught:
            max_pool2d_with_switches(INPUT, 2, **options)
        return str(caught.value)

    end = "; choices here: ['reference']"
    assert refusal(backend="cpp") == f"{POOL}: backend 'cpp' cannot run: it takes squares only{end}"
    assert refusal(backend="cuda") == f"{POOL}: backend 'cuda' cannot run: there is no GPU{end}"
    assert refusal(backend="fast") == f"{POOL}: backend 'fast' cannot run: it has no such variant{end}"
    with use_backend("triton"):
        assert refusal() == f"{POOL}: backend 'triton' cannot run: it has no such variant{end}"
    assert ran == []


def test_use_backend_knows_the_names() -> None:
    with pytest.raises(ValueError, match=r"^use_backend: expected name one of \('reference', 'cpp', 'triton', 'cuda'\),"
                                         " got 'gpu'$"), use_backend("gpu"):  # fmt: skip
        pass


def test_availability_lists_every_op_and_variant(ran: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(ran, monkeypatch, POOL, "cpp", missing="it is not built")
    plant(ran, monkeypatch, POOL, "cuda", refuses="never asked: there are no arguments")
    table = availability()
    assert [(op, name) for op, name, _ in table] == [(op, name) for op in registered() for name in BACKENDS]
    reasons = {name: reason for op, name, reason in table if op == POOL}
    assert reasons == {"reference": None, "cpp": "it is not built", "triton": "it has no such variant", "cuda": None}
    assert all(reason is None for _, name, reason in table if name == "reference")


def test_variants_refuse_other_devices_and_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_native, "load_native", lambda library: None)
    monkeypatch.setattr(_native, "has_kernel", lambda name, device: True)
    op = _registry.Op("an_op", ("count", "values", "other"))
    op.native("cpp", (torch.float32,), lambda *, values, **_: "it takes one map" if len(values) > 1 else None)
    one, byte = torch.ones(1, 2), torch.ones(1, 2, dtype=torch.uint8)
    assert op.why_not("cpp") is None
    assert op.why_not("cpp", (3, one, None)) is None
    assert op.why_not("cpp", (3, one.expand(2, 2), None)) == "it takes one map"
    assert op.why_not("cpp", (3, one.double(), byte)) == "it takes ['float32'], got torch.float64"
    assert op.why_not("cpp", (3, byte, one.half())) == "it takes ['float32'], got torch.float16"
    assert op.why_not("cpp", (3, one.to("meta"), None)) == "it runs on ['cpu'], the tensors are on meta"


def test_a_compiled_kernel_is_told_whether_a_text_is_its_word() -> None:
    op = _registry.Op("an_op", ("values", "how", "size"), {"how": "sum"})
    assert op.encoded(lambda *args: args)(1, "sum", 2) == (1, True, 2)
    assert op.encoded(lambda *args: args)(1, "last", 2) == (1, False, 2)
    schema = torch.ops.zfkernels_C.max_unpool2d_with_switches.default._schema
    assert [argument.name for argument in schema.arguments][-2:] == ["output_size", "sum"]


def test_triton_needs_triton_and_a_gpu_or_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    def reason(*args: Any) -> str | None:
        op = _registry.Op("an_op")
        op.triton((torch.float32,))
        return op.why_not("triton", args or None)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert reason() == "triton is not installed"
    monkeypatch.setattr("importlib.util.find_spec", lambda name: "found")
    assert (reason() or "").startswith(
        "no GPU is available to torch (TRITON_INTERPRET=1 runs Triton kernels on the CPU"
    )
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert reason(torch.ones(1)) is None
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert reason(torch.ones(1)) == "it runs on ['cuda'], the tensors are on cpu"


def test_a_native_variant_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    op = _registry.Op("an_op")
    op.native("cpp", (torch.float32,))
    monkeypatch.setattr(_native, "load_native", lambda library: f"{library} is not built")
    assert op.why_not("cpp") == "_C is not built"
    other = _registry.Op("another_op")
    other.native("cuda", (torch.float32,))
    monkeypatch.setattr(_native, "load_native", lambda library: None)
    assert other.why_not("cuda") == "the extension zfkernels._C_cuda was built without this op"


def test_registered_is_a_copy() -> None:
    registered().clear()
    assert set(registered()) > {POOL, UNPOOL}


@pytest.mark.parametrize(("wanted", "refused"), [("none such", True), ("baseline", False)])
def test_a_cpu_variant_that_cannot_run_is_not_replaced_in_silence(wanted: str, refused: bool) -> None:
    if registered()[POOL].variants["cpp"].missing() is not None:
        pytest.skip("the C++ kernels are not built")
    code = f"from zfkernels import ops; print(ops.registered()['{POOL}'].why_not('cpp'))"
    environment = os.environ | {"ZFKERNELS_CPU_VARIANT": wanted}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert ("expected ZFKERNELS_CPU_VARIANT" in result.stdout and repr(wanted) in result.stdout) == refused
