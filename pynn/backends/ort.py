"""ONNX Runtime: runs everything, on the CPU or by its CUDA provider where the installed build has one."""

from __future__ import annotations

import ctypes
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ..converter.model import OnnxModel, TensorSpec, element_name, numpy_dtype, onnx_memory
from ..errors import (
    BackendUnavailableError,
    DeviceOutOfMemoryError,
    ExecutionError,
    InputError,
    InvalidStateError,
    ModelError,
    PynnError,
    UnsupportedModelError,
)
from ..types import MAX_DIMENSION
from .base import Array, Backend, CompileOptions, Executable, OperatorLimits, Probe
from .shapes import Range, Ranges, hull, resolve_profiles

if TYPE_CHECKING:
    import onnxruntime

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
INSTALL_HINT = "pip install onnxruntime"

_FOREIGN_TYPES = frozenset({"bfloat16", "float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"})
"""Element types for which ONNX Runtime has no numpy dtype: they pass as OrtValues over the same bytes."""


class OrtBackend(Backend):
    """ONNX Runtime. ``use_gpu`` lets it take its CUDA provider where the installed build has one."""

    name = "onnxruntime"

    def __init__(self, *, use_gpu: bool = True) -> None:
        self._use_gpu = use_gpu

    def probe(self) -> tuple[Probe, ...]:
        try:
            import onnxruntime as ort

            version, providers = ort.__version__, ort.get_available_providers()
        except Exception as error:
            reason = f"onnxruntime cannot be imported: {error}"
            return (Probe(self.name, "onnxruntime", False, reason, INSTALL_HINT),)
        details = {"version": version, "path": ort.__file__}
        found = [Probe(self.name, CPU, True, f"ONNX Runtime {version} on the CPU", details=details)]
        if CUDA in providers and self._use_gpu:
            found.insert(
                0, Probe(self.name, CUDA, True, f"ONNX Runtime {version} with its CUDA provider", details=details)
            )
        elif CUDA in providers:
            found.append(Probe(self.name, CUDA, False, "the preference asks for the CPU", details=details))
        return tuple(found)

    def limits(self) -> OperatorLimits:
        return OperatorLimits(max_rank=8, max_tensor_byte_length=MAX_DIMENSION * 8)

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        probes = self.probe()
        if not any(probe.usable for probe in probes):
            raise BackendUnavailableError(f"{probes[0].reason}; {probes[0].hint}")
        import onnxruntime as ort

        profiles = resolve_profiles(model.inputs, options.shapes, options.profiles)
        ranges = hull(profiles)
        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        for symbol, size in _fixed_symbols(model.inputs, ranges).items():
            settings.add_free_dimension_override_by_name(symbol, size)
        values = [_weight(ort, array) for array in model.weights.values()]
        if values:
            settings.add_external_initializers(list(model.weights), values)
        wanted: list[Any] = [probe.candidate for probe in probes if probe.usable]
        if CUDA in wanted:
            wanted[wanted.index(CUDA)] = (CUDA, {"device_id": options.device})
        source: Any = str(model.path) if model.path is not None else model.proto
        try:
            session = _session(ort, source, settings, wanted)
        except Exception as error:
            raise _refusal(error, model) from error
        return OrtExecutable(model, session, profiles, values, want_cuda=len(wanted) > 1)


def _session(ort: Any, source: Any, settings: Any, providers: list[Any]) -> onnxruntime.InferenceSession:
    """Versions up to 1.30 merge quantised products of 8-bit floats into an integer operator, and then refuse that: once
    more without such merging."""
    try:
        session = ort.InferenceSession(source, settings, providers=providers)
    except Exception as error:
        if "float8" not in str(error) or "Integer" not in str(error):
            raise
        settings.add_session_config_entry("session.disable_quant_qdq", "1")
        session = ort.InferenceSession(source, settings, providers=providers)
    session.disable_fallback()
    return session


class OrtExecutable(Executable):
    """An InferenceSession behind pynn's interface."""

    backend = "onnxruntime"

    def __init__(
        self,
        model: OnnxModel,
        session: onnxruntime.InferenceSession,
        profiles: Sequence[Ranges],
        weights: list[onnxruntime.OrtValue],
        *,
        want_cuda: bool,
    ) -> None:
        super().__init__(model.inputs, model.outputs, hull(profiles), profiles)
        self._session: onnxruntime.InferenceSession | None = session
        self._weights = weights
        self._providers = tuple(session.get_providers())
        if want_cuda and CUDA not in self._providers:
            self.notes = ("ONNX Runtime could not load its CUDA provider and took the CPU; see its log on stderr",)
        self._fetch = [spec.onnx_name for spec in model.outputs]
        self._names = [spec.name for spec in model.outputs]
        self._rename = [(spec.name, spec.onnx_name) for spec in model.inputs if spec.name != spec.onnx_name]
        self._carried_in = [(s.name, numpy_dtype(s.carrier)) for s in model.inputs if s.carrier]
        self._carried_out = [(s.name, s.numpy) for s in model.outputs if s.carrier]
        types = [spec.carrier or spec.data_type for spec in (*model.inputs, *model.outputs)]
        self._foreign = any(data_type in _FOREIGN_TYPES for data_type in types)

    @property
    def stats(self) -> Mapping[str, Any]:
        return {"providers": list(self._providers)}

    def _run(self, arrays: dict[str, Array], out: Mapping[str, Array] | None) -> dict[str, Array]:
        session = self._session
        if session is None:
            raise InvalidStateError("this executable is closed")
        for name, dtype in self._carried_in:
            arrays[name] = arrays[name].astype(dtype)
        if self._rename:
            renamed = {onnx_name: arrays.pop(name) for name, onnx_name in self._rename}
            arrays.update(renamed)
        try:
            results = self._run_foreign(session, arrays) if self._foreign else session.run(self._fetch, arrays)
        except Exception as error:
            raise _run_error(error) from error
        named: dict[str, Array] = dict(zip(self._names, results, strict=True))
        for name, dtype in self._carried_out:
            named[name] = named[name].astype(dtype)
        if out:
            self._fill(named, out)
        return named

    def _fill(self, named: dict[str, Array], out: Mapping[str, Array]) -> None:
        for name, target in out.items():
            if target.shape != named[name].shape:
                shape = list(named[name].shape)
                raise InputError(
                    f"out {name!r} has shape {list(target.shape)}, but the result has {shape}", tensor=name
                )
        for name, target in out.items():
            np.copyto(target, named[name])
            named[name] = target

    def _run_foreign(self, session: onnxruntime.InferenceSession, arrays: dict[str, Array]) -> list[Array]:
        import onnxruntime as ort

        from ..converter.serialize import element_type

        values = {}
        for spec in self.inputs:
            array, data_type = arrays[spec.onnx_name], spec.carrier or spec.data_type
            if data_type in _FOREIGN_TYPES:
                value = ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element_type(data_type))
            else:
                value = ort.OrtValue.ortvalue_from_numpy(array)
            values[spec.onnx_name] = value
        results = []
        found = session.run_with_ort_values(self._fetch, values)
        for spec, value in zip(self.outputs, found, strict=True):
            data_type = spec.carrier or spec.data_type
            if data_type not in _FOREIGN_TYPES:
                results.append(value.numpy())
                continue
            array = np.empty(value.shape(), numpy_dtype(data_type))
            ctypes.memmove(array.ctypes.data, value.data_ptr(), array.nbytes)
            results.append(array)
        return results

    def _close(self) -> None:
        self._session = None
        self._weights = []


def _fixed_symbols(inputs: tuple[TensorSpec, ...], ranges: Mapping[str, tuple[Range | None, ...]]) -> dict[str, int]:
    """Symbols that ``shapes`` gives one size: ONNX Runtime plans memory better when it knows them."""
    return {
        dim: one[0]
        for spec in inputs
        for dim, one in zip(spec.shape, ranges[spec.name], strict=True)
        if isinstance(dim, str) and one is not None and one[0] == one[2]
    }


def _weight(ort: Any, array: Array) -> Any:
    array = np.ascontiguousarray(array)
    data_type = element_name(array.dtype)
    if array.dtype.kind in "biufcOU" and data_type not in _FOREIGN_TYPES:
        return ort.OrtValue.ortvalue_from_numpy(array)
    from ..converter.serialize import element_type

    packed = onnx_memory(array)
    if packed is not array:  # the shape counts elements, the memory holds two to a byte
        memory = np.zeros(array.shape, dtype=np.uint8)
        memory.reshape(-1)[: packed.size] = packed
        return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(memory, element_type(data_type))
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element_type(data_type))


_UNKNOWN_OPERATOR = re.compile(r"No Op registered for (?P<op>\w+)|(?P<op2>[\w.:]+)\(-?\d+\) is not a registered")
_NO_KERNEL = re.compile(r"implementation for (?P<op>[\w.:]+)\(\d+\) node with name '(?P<node>[^']*)'")


def _refusal(error: Exception, model: OnnxModel) -> PynnError:
    """ONNX Runtime's refusal of a model as one of ours: invalid, or valid and not supported."""
    text = str(error).removeprefix("[ONNXRuntimeError] : ")
    where = f"the model {model.path}" if model.path is not None else "the model"
    if isinstance(error, MemoryError) or "bad allocation" in text or "Failed to allocate memory" in text:
        return DeviceOutOfMemoryError(f"ONNX Runtime ran out of memory while loading {where}: {text}")
    missing = _NO_KERNEL.search(text)
    if missing:
        op, node = missing["op"], missing["node"]
        return UnsupportedModelError(
            f"ONNX Runtime has no kernel for {op} with these data types (node {node!r} of {where}): {text}"
            "; if that is bfloat16, precision='bf16' computes it in float32 and rounds",
            node=node,
            op_type=op,
            log=text,
        )
    unknown = _UNKNOWN_OPERATOR.search(text)
    if unknown:
        op = unknown["op"] or unknown["op2"]
        return UnsupportedModelError(
            f"ONNX Runtime does not know operator {op} of {where}: {text}", op_type=op, log=text
        )
    if type(error).__name__ == "NotImplemented":
        return UnsupportedModelError(f"ONNX Runtime does not support {where}: {text}", log=text)
    return ModelError(f"ONNX Runtime refuses {where}: {text}")


def _run_error(error: Exception) -> PynnError:
    text = str(error).removeprefix("[ONNXRuntimeError] : ")
    if isinstance(error, MemoryError) or "Failed to allocate memory" in text or "bad allocation" in text:
        return DeviceOutOfMemoryError(f"ONNX Runtime ran out of memory: {text}; use smaller inputs")
    return ExecutionError(f"ONNX Runtime failed while running: {text}")
