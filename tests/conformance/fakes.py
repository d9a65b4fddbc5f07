"""Back ends that misbehave, to test the runner: ``--backend tests.conformance.fakes:NAME``."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping

from pynn.backends.base import Array, Backend, CompileOptions, Executable, Probe
from pynn.backends.ort import OrtBackend
from pynn.converter import OnnxModel
from pynn.errors import UnsupportedModelError


class Honest(OrtBackend):
    """ONNX Runtime, until the model is one that ``misbehave`` knows."""

    name = "onnxruntime"

    def __init__(self) -> None:
        super().__init__(use_gpu=False)

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        self.misbehave(model)
        return super().compile(model, options)

    def misbehave(self, model: OnnxModel) -> None:
        """Called with every model before it is compiled."""

    def has(self, model: OnnxModel, op_type: str) -> bool:
        return any(node.op_type == op_type for node in model.to_proto().graph.node)


class Crashing(Honest):
    """Dies of Relu, by a signal, with a last word on stderr and noise on stdout."""

    def misbehave(self, model: OnnxModel) -> None:
        print("noise of a library")
        if self.has(model, "Relu"):
            os.write(2, b"kernel exploded\n")
            os.kill(os.getpid(), signal.SIGKILL)


class Hanging(Honest):
    """Never comes back from Relu."""

    def misbehave(self, model: OnnxModel) -> None:
        if self.has(model, "Relu"):
            time.sleep(3600)


class Refusing(Honest):
    """Refuses Relu with the words of its library."""

    def misbehave(self, model: OnnxModel) -> None:
        if self.has(model, "Relu"):
            raise UnsupportedModelError("no Relu here", node="relu", op_type="Relu", log="[E] unknown operator")


class Inexact(Honest):
    """Adds one unit to the first element of every result."""

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        return _Nudged(super().compile(model, options))


class _Nudged(Executable):
    backend = "onnxruntime"

    def __init__(self, inner: Executable) -> None:
        super().__init__(inner.inputs, inner.outputs)
        self._inner = inner

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        results = self._inner.run(arrays)
        for array in results.values():
            array.flat[0] += 1
        return results

    def _close(self) -> None:
        self._inner.close()


class Elsewhere(Honest):
    """Says it is another back end than the one that runs: a fallback."""

    name = "tensorrt"

    def probe(self) -> tuple[Probe, ...]:
        return (Probe(self.name, "fake", True, "usable", details={"version": "1.6.1.120"}),)


class Unusable(Honest):
    def probe(self) -> tuple[Probe, ...]:
        return (Probe(self.name, "fake", False, "no such device"),)


class DyingAtBirth(Backend):
    name = "onnxruntime"

    def __init__(self) -> None:
        raise OSError("missing library")

    def probe(self) -> tuple[Probe, ...]:
        raise NotImplementedError

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        raise NotImplementedError
