"""Status numbers of the shim as exceptions: one table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .. import errors
from .binding import Shim

EXCEPTIONS: dict[int, type[errors.OperationError]] = {
    1: errors.TensorRTError,  # INVALID_ARGUMENT
    2: errors.HostOutOfMemoryError,
    3: errors.LibraryNotFoundError,
    4: errors.LibraryNotFoundError,  # LIBRARY_INVALID
    5: errors.LibraryVersionError,
    6: errors.LibraryVersionError,  # ABI_MISMATCH
    7: errors.LibraryNotFoundError,  # PARSER_UNAVAILABLE
    8: errors.UnsupportedModelError,
    9: errors.EngineBuildError,
    10: errors.BuildCancelledError,
    11: errors.PlanError,
    12: errors.DeviceUnsupportedError,
    13: errors.CudaError,
    14: errors.ExecutionError,
    15: errors.FeatureNotSupportedError,
    16: errors.DeviceOutOfMemoryError,
    17: errors.TensorRTError,  # INTERNAL
}


def exception(shim: Shim, status: int, error: Any) -> errors.OperationError:
    """The exception of a status; takes over and destroys the error object (NULL: only the number is known)."""
    kind = EXCEPTIONS.get(status, errors.TensorRTError)
    lib, text = shim.lib, shim.text
    if not error:
        return kind(f"libpynn_trt: {text(lib.pynn_trt_status_name(status))}")
    try:
        message = text(lib.pynn_trt_error_message(error)) or text(lib.pynn_trt_status_name(status))
        log = text(lib.pynn_trt_error_log(error))
        if issubclass(kind, errors.UnsupportedModelError):
            node, op_type = lib.pynn_trt_error_node_name(error), lib.pynn_trt_error_node_operator(error)
            return kind(message, node=text(node), op_type=text(op_type), log=log)
        return kind(message, log=log)
    finally:
        lib.pynn_trt_error_destroy(error)


def call(shim: Shim, function: Callable[..., int], *arguments: Any) -> None:
    """Call a shim function (its last argument, the error, is added here) and raise what its status says."""
    error = shim.ffi.new("pynn_trt_error **")
    status = function(*arguments, error)
    if status:
        raise exception(shim, status, error[0])
