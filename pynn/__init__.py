"""pynn: run neural networks from Python, on NVIDIA GPUs by TensorRT and anywhere by ONNX Runtime.

    import pynn
    context = pynn.ML().create_context()
    b = context.create_graph_builder()
    x = b.input("x", [2, 3], "float32")
    graph = b.build({"y": b.relu(x)})
    context.compute(graph, {"x": array})["y"]

    pynn.compile("model.onnx").run({"x": array})

Importing this package loads nothing heavy: each public name comes with its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .aio import ContextLost as ContextLost
    from .backends.base import CompileOptions as CompileOptions
    from .backends.base import Executable as Executable
    from .backends.base import Probe as Probe
    from .backends.engine_file import EngineFile as EngineFile
    from .backends.partition_report import PartitionReport as PartitionReport
    from .backends.report import BackendReport as BackendReport
    from .benchmark.report import BenchReport as BenchReport
    from .benchmark.run import bench as bench
    from .builder import GraphBuilder as GraphBuilder
    from .cache.record import CacheRecord as CacheRecord
    from .comparison.report import Comparison as Comparison
    from .comparison.run import compare as compare
    from .compilation import build_engine as build_engine
    from .compilation import compile as compile  # noqa: A004  (the name that users call)
    from .compilation import load_engine as load_engine
    from .compiled import MLGraph as MLGraph
    from .context import MLContext as MLContext
    from .context import MLGraphBuilder as MLGraphBuilder
    from .converter.convert import to_onnx as to_onnx
    from .converter.model import OnnxModel as OnnxModel
    from .converter.model import TensorSpec as TensorSpec
    from .converter.precision.choice import Precision as Precision
    from .converter.precision.report import PrecisionReport as PrecisionReport
    from .converter.precision.table import CalibrationTable as CalibrationTable
    from .errors import BackendUnavailableError as BackendUnavailableError
    from .errors import BuildCancelledError as BuildCancelledError
    from .errors import BuildCrashedError as BuildCrashedError
    from .errors import BuildDeadlineError as BuildDeadlineError
    from .errors import CacheError as CacheError
    from .errors import CudaError as CudaError
    from .errors import DeviceOutOfMemoryError as DeviceOutOfMemoryError
    from .errors import DeviceUnsupportedError as DeviceUnsupportedError
    from .errors import EngineBuildError as EngineBuildError
    from .errors import ExecutionError as ExecutionError
    from .errors import FallbackWarning as FallbackWarning
    from .errors import FeatureNotSupportedError as FeatureNotSupportedError
    from .errors import ForkError as ForkError
    from .errors import InputError as InputError
    from .errors import InvalidStateError as InvalidStateError
    from .errors import LibraryNotFoundError as LibraryNotFoundError
    from .errors import LibraryVersionError as LibraryVersionError
    from .errors import ModelError as ModelError
    from .errors import NotSupportedError as NotSupportedError
    from .errors import OperationError as OperationError
    from .errors import PlanError as PlanError
    from .errors import PynnError as PynnError
    from .errors import PynnWarning as PynnWarning
    from .errors import TensorRTError as TensorRTError
    from .errors import UnknownError as UnknownError
    from .errors import UnsupportedModelError as UnsupportedModelError
    from .errors import ValidationError as ValidationError
    from .explain import convert_precision as convert_precision
    from .explain import explain_precision as explain_precision
    from .graph import Graph as Graph
    from .graph import Operand as Operand
    from .ml import ML as ML
    from .quantization.calibrate import calibrate as calibrate
    from .quantization.tensorrt_cache import import_calibration_cache as import_calibration_cache
    from .sizes import Size as Size
    from .sizes import max_size as max_size
    from .sizes import min_size as min_size
    from .tensor import MLTensor as MLTensor
    from .types import DataType as DataType
    from .types import OperandDescriptor as OperandDescriptor

    __version__: str

_HOMES = {
    "aio": ("ContextLost",),
    "backends.base": ("CompileOptions", "Executable", "Probe"),
    "backends.engine_file": ("EngineFile",),
    "backends.partition_report": ("PartitionReport",),
    "backends.report": ("BackendReport",),
    "benchmark.report": ("BenchReport",),
    "benchmark.run": ("bench",),
    "builder": ("GraphBuilder",),
    "cache.record": ("CacheRecord",),
    "comparison.report": ("Comparison",),
    "comparison.run": ("compare",),
    "compilation": ("build_engine", "compile", "load_engine"),
    "compiled": ("MLGraph",),
    "context": ("MLContext", "MLGraphBuilder"),
    "converter.convert": ("to_onnx",),
    "converter.model": ("OnnxModel", "TensorSpec"),
    "converter.precision.table": ("CalibrationTable",),
    "converter.precision.choice": ("Precision",),
    "converter.precision.report": ("PrecisionReport",),
    "errors": (
        "BackendUnavailableError",
        "BuildCancelledError",
        "BuildCrashedError",
        "BuildDeadlineError",
        "CacheError",
        "CudaError",
        "DeviceOutOfMemoryError",
        "DeviceUnsupportedError",
        "EngineBuildError",
        "ExecutionError",
        "FallbackWarning",
        "FeatureNotSupportedError",
        "ForkError",
        "InputError",
        "InvalidStateError",
        "LibraryNotFoundError",
        "LibraryVersionError",
        "ModelError",
        "NotSupportedError",
        "OperationError",
        "PlanError",
        "PynnError",
        "PynnWarning",
        "TensorRTError",
        "UnknownError",
        "UnsupportedModelError",
        "ValidationError",
    ),
    "explain": ("convert_precision", "explain_precision"),
    "graph": ("Graph", "Operand"),
    "ml": ("ML",),
    "quantization.calibrate": ("calibrate",),
    "quantization.tensorrt_cache": ("import_calibration_cache",),
    "sizes": ("Size", "max_size", "min_size"),
    "tensor": ("MLTensor",),
    "types": ("DataType", "OperandDescriptor"),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version

        try:
            value: Any = version("pynn")
        except PackageNotFoundError:
            value = "0+source"
    elif name in _HOME:
        value = getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, "__version__"])
