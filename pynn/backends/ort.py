"""ONNX Runtime: runs everything, on the CPU or by its CUDA provider where the installed build has one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ..converter.model import OnnxModel
from ..errors import ExecutionError, ModelError
from .base import Array, Backend, CompileOptions, Executable, Probe

if TYPE_CHECKING:
    import onnxruntime


class OrtBackend(Backend):
    """ONNX Runtime. ``provider`` forces one execution provider; by default CUDA if the build has it and it loads."""

    name = "onnxruntime"

    def __init__(self, *, use_gpu: bool = True) -> None:
        self._use_gpu = use_gpu

    def probe(self) -> tuple[Probe, ...]:
        try:
            import onnxruntime as ort
        except ImportError as error:
            reason = f"onnxruntime cannot be imported: {error}"
            return (Probe(self.name, "onnxruntime", False, reason, "pip install onnxruntime"),)
        providers = ort.get_available_providers()
        found = [Probe(self.name, "CPUExecutionProvider", True, f"onnxruntime {ort.__version__} on the CPU")]
        if self._use_gpu and "CUDAExecutionProvider" in providers:
            found.insert(
                0, Probe(self.name, "CUDAExecutionProvider", True, f"onnxruntime {ort.__version__} has its CUDA provider")
            )
        return tuple(found)

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        import onnxruntime as ort

        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        if model.weights:
            values = [ort.OrtValue.ortvalue_from_numpy(np.ascontiguousarray(w)) for w in model.weights.values()]
            settings.add_external_initializers(list(model.weights), values)
        providers = [p.candidate for p in self.probe() if p.usable]
        if "CPUExecutionProvider" not in providers:
            providers.append("CPUExecutionProvider")
        source: Any = str(model.path) if model.path is not None else model.proto
        try:
            session = ort.InferenceSession(source, settings, providers=providers)
        except Exception as error:
            raise ModelError(f"ONNX Runtime refuses the model: {error}") from error
        return OrtExecutable(model, session)


class OrtExecutable(Executable):
    """An InferenceSession behind pynn's interface."""

    backend = "onnxruntime"

    def __init__(self, model: OnnxModel, session: onnxruntime.InferenceSession) -> None:
        super().__init__(model.inputs, model.outputs)
        self._session: onnxruntime.InferenceSession | None = session
        self._fetch = [spec.onnx_name for spec in model.outputs]
        self._rename = [(spec.name, spec.onnx_name) for spec in model.inputs if spec.name != spec.onnx_name]
        self._names = [spec.name for spec in model.outputs]
        self._weights = model.weights

    @property
    def stats(self) -> Mapping[str, Any]:
        return {"providers": self._session.get_providers() if self._session else []}

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        for name, onnx_name in self._rename:
            arrays[onnx_name] = arrays.pop(name)
        assert self._session is not None
        try:
            results = self._session.run(self._fetch, arrays)
        except Exception as error:
            raise ExecutionError(f"ONNX Runtime failed: {error}") from error
        named = dict(zip(self._names, results, strict=True))
        if out:
            for name, target in out.items():
                np.copyto(target, named[name], casting="no")
                named[name] = target
        return named

    def _close(self) -> None:
        self._session = None
