"""What a TensorRT library would refuse, by its parser alone: no GPU, no engine."""

from __future__ import annotations

from ..converter.convert import to_onnx
from ..converter.model import OnnxModel
from ..converter.passes import backend_passes
from ..errors import FeatureNotSupportedError
from ..graph import Graph
from ..native import Library
from .base import Backend, CompileOptions, Executable, Probe
from .partition_report import LeftOut, PartitionReport, whole
from .partition_search import foresee
from .trt_build import check_model, supported_nodes


class ParserBackend(Backend):
    """TensorRT's parser: it takes or refuses models, and runs none."""

    name = "tensorrt"

    def __init__(self, library: Library) -> None:
        self._library = library

    def probe(self) -> tuple[Probe, ...]:
        info = self._library.info
        return (Probe(self.name, info.title, True, info.title, details={"version": info.version}),)

    def check(self, model: OnnxModel, options: CompileOptions) -> None:
        check_model(model, self._library, options)

    def compile(self, model: OnnxModel, options: CompileOptions) -> Executable:
        raise FeatureNotSupportedError("the parser alone runs no model")


def foresee_partition(source: Graph | OnnxModel, library: Library) -> PartitionReport:
    """How ``source`` would be partitioned, as far as the parser can tell: builds may refuse more.

    Of an ONNX file, which is not partitioned, the first node that is refused, and those that no supported part has.
    """
    backend = ParserBackend(library)
    if isinstance(source, Graph):
        passes = backend_passes(backend.name, library.info.version)
        return foresee(source, backend, "onnxruntime", lambda _, graph: to_onnx(graph, passes), CompileOptions())
    verdict = supported_nodes(source, library)
    if verdict.whole:
        return whole(backend.name)
    left_out = [LeftOut(e.node_operator or "the model", e.node_name, e.description) for e in verdict.errors]
    note = (
        f"{len(verdict.nodes)} nodes are in parts that the parser takes, as far as it read. ONNX files are not "
        "partitioned: ONNX Runtime runs the whole"
    )
    return whole("onnxruntime", (), left_out, note=note)
