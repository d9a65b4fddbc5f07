"""Every exception pynn raises. Each message says what happened, where, why, and the next step."""

from __future__ import annotations


class PynnError(Exception):
    """Base of all pynn exceptions."""


# -- WebNN (https://www.w3.org/TR/webnn/: TypeError and DOMException names) ------------------


class ValidationError(PynnError, TypeError):
    """Bad argument of a builder or context method: the spec's TypeError.

    ``operator`` and ``label`` name the builder method and the user's label, where there is one.
    """

    def __init__(self, message: str, *, operator: str = "", label: str = "") -> None:
        super().__init__(message)
        self.operator = operator
        self.label = label


class InvalidStateError(PynnError):
    """The builder has already built, or the context, graph or tensor is lost or destroyed."""


class NotSupportedError(PynnError):
    """No implementation can do what was asked for."""


class OperationError(PynnError):
    """Compiling or running a graph failed. ``log`` holds the back end's own lines of the failing call, if any."""

    def __init__(self, message: str, *, log: str = "") -> None:
        super().__init__(message)
        self.log = log


class UnknownError(PynnError):
    """Allocation or a copy failed."""


# -- models and back ends -------------------------------------------------------------------


class ModelError(OperationError):
    """The bytes are not an ONNX model, or the model contradicts itself."""


class UnsupportedModelError(OperationError, NotSupportedError):
    """The back end's library refuses the model. ``node`` and ``op_type`` name the first refused node."""

    def __init__(self, message: str, *, node: str = "", op_type: str = "", log: str = "") -> None:
        super().__init__(message, log=log)
        self.node = node
        self.op_type = op_type


class InputError(ValidationError):
    """An array passed to ``run``: missing, extra, of the wrong dtype or shape. ``tensor`` names it."""

    def __init__(self, message: str, *, tensor: str = "") -> None:
        super().__init__(message)
        self.tensor = tensor


class BackendUnavailableError(NotSupportedError):
    """The back end that was demanded cannot be used here; the message has every probe's reason."""


class ExecutionError(OperationError):
    """The back end failed while running."""


class HostOutOfMemoryError(OperationError, MemoryError):
    """Main memory is exhausted."""


class DeviceOutOfMemoryError(OperationError, MemoryError):
    """GPU memory is exhausted."""


class CacheError(PynnError):
    """The cache directory cannot be used, or an entry of it is damaged. Compiling never raises it: it builds anew, and
    ``executable.cache`` has the reason."""


# -- TensorRT -------------------------------------------------------------------------------


class TensorRTError(OperationError):
    """A TensorRT call failed. ``log`` holds TensorRT's own lines of that call."""


class LibraryNotFoundError(TensorRTError, NotSupportedError):
    """No TensorRT library, or a part of it (the ONNX parser) is missing or unusable."""


class LibraryVersionError(TensorRTError, NotSupportedError):
    """TensorRT is of a version whose binary interface pynn does not know, or the ABI self-test failed."""


class EngineBuildError(TensorRTError):
    """TensorRT parsed the model but could not build an engine."""


class BuildCrashedError(EngineBuildError):
    """The child process of an isolated build died. ``signal`` names what killed it, as "SIGSEGV" ("" if it exited
    with ``exit_code``); ``log`` holds the last lines that it and the library wrote."""

    def __init__(self, message: str, *, signal: str = "", exit_code: int = 0, log: str = "") -> None:
        super().__init__(message, log=log)
        self.signal = signal
        self.exit_code = exit_code


class BuildCancelledError(TensorRTError):
    """The build was cancelled: its ``cancel`` event was set."""


class BuildDeadlineError(BuildCancelledError, TimeoutError):
    """The build was cancelled because its ``deadline`` was over."""


class PlanError(TensorRTError):
    """An engine file is truncated, damaged, or of another library, version or GPU."""


class DeviceUnsupportedError(TensorRTError, NotSupportedError):
    """No usable GPU or driver, or this TensorRT refuses this GPU."""


class CudaError(TensorRTError):
    """A CUDA driver call failed."""


class FeatureNotSupportedError(TensorRTError, NotSupportedError):
    """The TensorRT version found has no such feature."""


class ForkError(PynnError):
    """A native handle made before ``fork`` was used in the child: CUDA does not survive a fork."""


# -- warnings -------------------------------------------------------------------------------


class PynnWarning(UserWarning):
    """Base of all pynn warnings."""


class FallbackWarning(PynnWarning):
    """Another back end than the preferred one is used, and the user did not ask for it."""
