"""A worker process: makes one back end, then answers cases, a JSON line in, a JSON line out, until its input ends."""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pynn.backends.base import Backend


def _onnxruntime() -> Backend:
    from pynn.backends.ort import OrtBackend

    return OrtBackend(use_gpu=False)


def _tensorrt() -> Backend:
    from pynn.backends.trt import TensorRTBackend

    return TensorRTBackend()


BACKENDS: dict[str, Callable[[], Backend]] = {"onnxruntime": _onnxruntime, "tensorrt": _tensorrt}


def open_backend(name: str) -> Backend:
    """A back end of BACKENDS, or of "package.module:factory"."""
    if name in BACKENDS:
        return BACKENDS[name]()
    module, _, factory = name.partition(":")
    made: Backend = getattr(import_module(module), factory)()
    return made


def describe(backend: Backend) -> dict[str, Any]:
    """What the report says of a back end: the candidate in use, its version, and every probe's verdict."""
    probes = backend.probe()
    used = next((probe for probe in probes if probe.usable), None)
    return {
        "usable": used is not None,
        "version": backend.version() if used else "",
        "candidate": used.candidate if used else "",
        "probes": [f"{probe.candidate}: {probe.reason}" for probe in probes],
    }


def main(name: str) -> None:
    faulthandler.enable()
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)

    def answer(message: dict[str, Any]) -> None:
        answers.write(json.dumps(message) + "\n")
        answers.flush()

    from .case import run_case
    from .vectors import Case, load

    backend = open_backend(name)
    about = describe(backend)
    answer(about)
    for line in sys.stdin:
        wanted = json.loads(line)
        path = Path(wanted["path"])
        case = Case(path, wanted["index"], wanted["id"], wanted["operator"], load(path)[wanted["index"]])
        answer(run_case(case, backend, about["version"]).to_json())


if __name__ == "__main__":
    main(sys.argv[1])
