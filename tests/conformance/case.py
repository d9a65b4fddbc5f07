"""One case through the public path: GraphBuilder, converter, the back end's passes, compile, run."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pynn.backends.base import Backend, CompileOptions
from pynn.builder import GraphBuilder
from pynn.converter import OnnxModel, backend_passes, to_onnx
from pynn.errors import EngineBuildError, NotSupportedError, PynnError
from pynn.graph import Graph
from pynn.ops.registry import snake_case

from .compare import compare
from .vectors import Case, array, is_number, method_name, number

STATUSES = ("passed", "failed", "unsupported", "error", "crash", "timeout", "not-run")


@dataclass(frozen=True)
class Result:
    """The outcome of a case on a back end. ``reason`` has the library's own words where there are any."""

    id: str
    operator: str
    backend: str
    status: str
    tolerance: Mapping[str, Any]
    worst: float | None = None
    reason: str = ""
    rewrites: tuple[str, ...] = ()
    seconds: float = 0.0

    def to_json(self) -> dict[str, Any]:
        found = asdict(self) | {"rewrites": list(self.rewrites), "seconds": round(self.seconds, 4)}
        return found if self.worst is None or np.isfinite(self.worst) else found | {"worst": "Infinity"}

    @classmethod
    def of(cls, case: Case, backend: str, status: str, **more: Any) -> Result:
        return cls(case.id, case.operator, backend, status, case.tolerance, **more)


def build(test: Mapping[str, Any]) -> tuple[Graph, dict[str, np.ndarray[Any, Any]]]:
    """The graph of a test, and the arrays of its inputs that are not constants."""
    builder = GraphBuilder()
    operands: dict[str, Any] = {}
    feeds: dict[str, np.ndarray[Any, Any]] = {}
    for name, spec in test["graph"]["inputs"].items():
        value = array(spec)
        if spec["constant"]:
            operands[name] = builder.constant(value)
        else:
            operands[name] = builder.input(name, value.shape, spec["dataType"])
            feeds[name] = value
    for operator in test["graph"]["operators"]:
        method = getattr(builder, method_name(operator["name"]))
        arguments = dict(operator["arguments"])
        options = arguments.pop("options", {})
        positional = [_argument(value, operands) for value in arguments.values()]
        keywords = {snake_case(key): _argument(value, operands) for key, value in options.items()}
        result = method(*positional, **keywords)
        outputs = operator["outputs"]
        if isinstance(outputs, str):
            operands[outputs] = result
        else:
            operands.update(zip(outputs, result, strict=True))
    graph = builder.finish({name: operands[name] for name in test["graph"]["expectedOutputs"]})
    return graph, {name: value for name, value in feeds.items() if name in graph.inputs}


def _argument(value: Any, operands: Mapping[str, Any]) -> Any:
    if isinstance(value, str):
        return operands[value] if value in operands else number(value) if is_number(value) else value
    if isinstance(value, list):
        return [_argument(item, operands) for item in value]
    return value


def run_case(case: Case, backend: Backend, version: str) -> Result:
    """Build, convert, compile, run and compare; whatever goes wrong is the result."""
    start = time.perf_counter()
    stage, model = "build", None

    def result(status: str, **more: Any) -> Result:
        log = tuple(map(str, model.rewrites)) if model else ()
        return Result.of(case, backend.name, status, rewrites=log, seconds=time.perf_counter() - start, **more)

    try:
        graph, feeds = build(case.test)
        stage = "convert"
        model = _converted(graph, backend, version)
        stage = "compile"
        with backend.compile(model, CompileOptions(cache=False)) as executable:
            if executable.backend != backend.name:
                return result("error", reason=f"fell back to {executable.backend}")
            stage = "run"
            actual = executable.run(feeds)
    except Exception as error:  # every failure of the library under test is this case's result
        refused = stage == "compile" and isinstance(error, (NotSupportedError, EngineBuildError))
        return result("unsupported" if refused else "error", reason=f"{stage}: {describe(error)}")
    worst, reasons = 0.0, []
    for name, spec in case.test["graph"]["expectedOutputs"].items():
        verdict = compare(name, actual.get(name), array(spec), case.tolerance)
        worst = max(worst, verdict.worst)
        if verdict.reason:
            reasons.append(verdict.reason)
    return result("failed" if reasons else "passed", worst=worst, reason="; ".join(reasons))


def _converted(graph: Graph, backend: Backend, version: str) -> OnnxModel:
    return to_onnx(graph, backend_passes(backend.name, version))


def describe(error: BaseException) -> str:
    """The error's type and text, with the library's log where the error carries one."""
    log = getattr(error, "log", "")
    text = str(error) if not log or log in str(error) else f"{error} | {log}"
    known = isinstance(error, PynnError)
    return f"{type(error).__name__}: {text}" if known else f"{type(error).__module__}.{type(error).__name__}: {text}"
