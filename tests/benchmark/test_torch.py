"""PyTorch as a peer, without PyTorch: a module of numpy behind the few functions that are used of it."""

from __future__ import annotations

import contextlib
import sys
import types
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.benchmark import interleave, peers_torch
from pynn.errors import ValidationError

pytestmark = [pytest.mark.ort, pytest.mark.filterwarnings("ignore::pynn.FallbackWarning")]


class Tensor:
    def __init__(self, array: Any) -> None:
        self.array, self.device = array, "cpu"

    def to(self, device: str) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.array


class Module:
    training = True

    def parameters(self) -> Any:
        return iter(())

    def to(self, device: str) -> Module:
        return self

    def eval(self) -> Module:
        return self.train(False)

    def train(self, mode: bool) -> Module:
        self.training = mode
        return self

    def forward(self, a: Tensor, b: Tensor) -> Any:
        assert not self.training
        return Tensor(a.array - b.array), Tensor(a.array * 2)

    def __call__(self, *arguments: Tensor) -> Any:
        return self.forward(*arguments)


@pytest.fixture
def exported(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """A fake PyTorch whose export writes the same network; what it was asked."""
    calls: list[dict[str, Any]] = []

    def export(module: Module, examples: tuple[Tensor, ...], target: Any, **options: Any) -> None:
        calls.append(options)
        b = pynn.GraphBuilder()
        x, y = (
            b.input(n, list(t.array.shape), "float32") for n, t in zip(options["input_names"], examples, strict=True)
        )
        outputs = dict(zip(options["output_names"], (b.sub(x, y), b.mul(x, b.constant("float32", 2))), strict=True))
        target.write(pynn.to_onnx(b.finish(outputs)).to_bytes())

    torch: Any = types.ModuleType("torch")
    torch.__version__ = "0.0"
    torch.nn = types.SimpleNamespace(Module=Module)
    torch.cuda = types.SimpleNamespace(is_available=lambda: False)
    torch.onnx = types.SimpleNamespace(export=export)
    torch.device, torch.inference_mode = str, contextlib.nullcontext
    torch.from_numpy, torch.empty = Tensor, lambda size: Tensor(np.empty(size))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr(interleave, "WARM_UP_SECONDS", 0)
    return calls


def test_a_module_is_exported_for_all_others_and_timed_itself(exported: list[dict[str, Any]]) -> None:
    module = Module()
    inputs = {"b": np.ones(3, np.float32), "a": np.arange(3, dtype=np.float32)}
    report = pynn.bench(module, inputs=inputs, iterations=2, backend="onnxruntime")
    assert exported == [{"input_names": ["a", "b"], "output_names": ["output_0", "output_1"], "dynamo": False}]
    assert report.model == "Module"
    assert report["torch"].title == "PyTorch 0.0, eager, CPU"
    assert report["torch"].relative_error == report["onnxruntime-cpu"].relative_error == 0
    assert module.training, "it is left as it was"


def test_a_module_needs_inputs_by_the_names_of_forward(exported: list[dict[str, Any]]) -> None:
    with pytest.raises(ValidationError, match="needs inputs"):
        pynn.bench(Module())
    with pytest.raises(ValidationError, match="inputs names 'x'; the module's forward takes a, b"):
        pynn.bench(Module(), inputs={"x": np.ones(3, np.float32)})
    assert not peers_torch.is_module(object())
