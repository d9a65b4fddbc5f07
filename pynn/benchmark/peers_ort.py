"""ONNX Runtime by its own interface: the CPU, its CUDA provider, and NVIDIA's TensorRT-RTX plug-in provider.

It imports onnxruntime, as ``backends/ort.py`` does: a peer must run past every part of pynn but the converter.
Plug-ins: https://onnxruntime.ai/docs/execution-providers/plugin-ep-libraries/usage.html,
https://nvidia.github.io/TensorRT-RTX-EP-ABI/.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..backends.base import Array
from ..converter.model import OnnxModel
from ..errors import BackendUnavailableError
from .contestant import Arrays, Contestant

CPU, CUDA, RTX = "onnxruntime-cpu", "onnxruntime-cuda", "onnxruntime-rtx"
PLUGIN_VARIABLE = "PYNN_ORT_EP"
"""Names the file of the plug-in provider; else the installed package tells."""
_RTX_PROVIDER = "NvTensorRTRTXExecutionProvider"
_PACKAGE = "onnxruntime_ep_nv_tensorrt_rtx"
_INSTALL = "pip install onnxruntime-ep-nv-tensorrt-rtx"
TRIALS = 3
"""Runs on zeros before any counts: a CUDA graph that kept the arrays it was captured with shows by a wrong result."""
_RTX_OPTIONS: tuple[Mapping[str, str], ...] = ({"enable_cuda_graph": "1"}, {})


def contestant(name: str, model: OnnxModel, inputs: Arrays, device: int) -> Contestant:
    """A session of ``name``. Raises BackendUnavailableError where the provider is missing, and what ONNX Runtime raises
    when it refuses the model."""
    try:
        import onnxruntime
    except Exception as error:
        raise BackendUnavailableError(f"onnxruntime cannot be imported: {error}; pip install onnxruntime") from error
    if name == RTX:
        return _on_plugin(onnxruntime, model, inputs, device)
    settings = _settings(onnxruntime, model, inputs)
    providers: list[Any] = ["CPUExecutionProvider"]
    if name == CUDA:
        if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
            raise BackendUnavailableError(
                f"the installed onnxruntime {onnxruntime.__version__} has no CUDA provider; pip install onnxruntime-gpu"
            )
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": str(device)}))
    session = onnxruntime.InferenceSession(_source(model), settings, providers=providers)
    if name == CUDA and "CUDAExecutionProvider" not in session.get_providers():
        raise BackendUnavailableError("ONNX Runtime could not load its CUDA provider; its log on stderr says why")
    return _contestant(
        name, f"ONNX Runtime {onnxruntime.__version__}, {name.rpartition('-')[2].upper()}", model, session
    )


def _on_plugin(onnxruntime: Any, model: OnnxModel, inputs: Arrays, device: int) -> Contestant:
    devices = _plugin_devices(onnxruntime)
    if device >= len(devices):
        raise BackendUnavailableError(f"the plug-in provider takes {len(devices)} GPUs here; there is no GPU {device}")
    refusal: Exception | None = None
    zeros = {name: np.zeros_like(array) for name, array in inputs.items()}
    for options in _RTX_OPTIONS:
        settings = _settings(onnxruntime, model, inputs)
        settings.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        settings.add_provider_for_devices([devices[device]], dict(options))
        title = f"ONNX Runtime {onnxruntime.__version__}, TensorRT-RTX provider"
        notes = tuple(f"{key}={value}" for key, value in options.items())
        try:
            session = onnxruntime.InferenceSession(_source(model), settings)
            ready = _contestant(RTX, title, model, session, notes)
            for _ in range(TRIALS):
                ready.call(zeros)
        except Exception as error:
            refusal = refusal or error
            continue
        return ready
    assert refusal is not None
    raise refusal


def _plugin_devices(onnxruntime: Any) -> list[Any]:
    """The GPUs that the plug-in takes; it is registered with the first call in a process."""
    if not hasattr(onnxruntime, "register_execution_provider_library"):
        raise BackendUnavailableError(f"onnxruntime {onnxruntime.__version__} has no plug-ins; 1.24 or newer has")
    name, path = _plugin()
    found = [one for one in onnxruntime.get_ep_devices() if one.ep_name == name]
    if not found:
        onnxruntime.register_execution_provider_library(name, path)
        found = [one for one in onnxruntime.get_ep_devices() if one.ep_name == name]
    if not found:
        raise BackendUnavailableError(f"the plug-in provider {path} takes no GPU of this machine")
    return found


def _plugin() -> tuple[str, str]:
    """The provider's name and its file."""
    path = os.environ.get(PLUGIN_VARIABLE)
    if path:
        return _RTX_PROVIDER, path
    try:
        package = importlib.import_module(_PACKAGE)
    except ImportError:
        raise BackendUnavailableError(
            f"the package {_PACKAGE} is not installed ({_INSTALL}), and {PLUGIN_VARIABLE} names no file of it"
        ) from None
    return str(package.get_ep_name()), str(package.get_library_path())


def _settings(onnxruntime: Any, model: OnnxModel, inputs: Arrays) -> Any:
    """Quiet, and with the sizes that the inputs give to symbols."""
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    sizes = {
        dim: size
        for spec in model.inputs
        for dim, size in zip(spec.shape, inputs[spec.name].shape, strict=True)
        if isinstance(dim, str)
    }
    for symbol, size in sizes.items():
        settings.add_free_dimension_override_by_name(symbol, size)
    return settings


def _source(model: OnnxModel) -> Any:
    return str(model.path) if model.path is not None else model.to_bytes()


def _contestant(name: str, title: str, model: OnnxModel, session: Any, notes: tuple[str, ...] = ()) -> Contestant:
    names_in = [(spec.name, spec.onnx_name) for spec in model.inputs]
    names_out = [spec.name for spec in model.outputs]
    fetch = [spec.onnx_name for spec in model.outputs]
    plain = all(one == other for one, other in names_in)

    def call(inputs: Arrays) -> dict[str, Array]:
        feed = inputs if plain else {onnx_name: inputs[mine] for mine, onnx_name in names_in}
        results: list[np.ndarray[Any, Any]] = session.run(fetch, feed)
        return dict(zip(names_out, results, strict=True))

    return Contestant(name, title, call, notes=notes, details={"providers": list(session.get_providers())})
