"""pynn's errors under the built-in classes that code written for pywebnn catches.

Each is pynn's own class and ValueError, RuntimeError or OSError (which is IOError) besides.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...errors import InvalidStateError, ModelError, OperationError, PynnError, UnknownError, ValidationError


class ArgumentError(ValidationError, ValueError):
    """A bad argument: pywebnn's ValueError."""


class StateError(InvalidStateError, RuntimeError):
    """Something destroyed, already built, or not readable or writable: pywebnn's RuntimeError."""


class ExecutionFailedError(OperationError, RuntimeError):
    """Compiling or running failed: pywebnn's RuntimeError."""


class GraphFileError(ModelError, OSError):
    """A graph file, manifest or weights file is damaged, incomplete or contradicts itself: pywebnn's IOError."""

    def __str__(self) -> str:
        return str(self.args[0])


@contextmanager
def translated() -> Iterator[None]:
    """Let pynn's errors out under the classes above; each has the original as its cause."""
    try:
        yield
    except (ArgumentError, StateError, ExecutionFailedError, GraphFileError):
        raise
    except ValidationError as error:
        raise ArgumentError(str(error), operator=error.operator, label=error.label) from error
    except InvalidStateError as error:
        raise StateError(str(error)) from error
    except OperationError as error:
        raise ExecutionFailedError(str(error), log=error.log) from error
    except UnknownError as error:
        raise ExecutionFailedError(str(error)) from error
    except PynnError as error:
        raise StateError(str(error)) from error
