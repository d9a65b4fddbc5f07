"""Building for other GPUs without a GPU, against the real libraries."""

from __future__ import annotations

import threading
from collections import Counter
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import pynn
from pynn.backends import trt_build
from pynn.backends.base import BuildControl, CompileOptions
from pynn.backends.engine_file import EngineFile
from pynn.backends.trt import load_engine, open_library
from pynn.backends.trt_build import build_plan
from pynn.converter.model import OnnxModel, TensorSpec, onnx_memory
from pynn.errors import (
    BuildCancelledError,
    EngineBuildError,
    FeatureNotSupportedError,
    LibraryNotFoundError,
    TensorRTError,
    UnsupportedModelError,
    ValidationError,
)
from pynn.native import Library, ProgressEvent
from pynn.native.tf32 import Settled

from ..native.models import deep, model_of, tiny, weights_of, with_weights_outside

pytestmark = pytest.mark.trt


def controlled(**control: Any) -> CompileOptions:
    return CompileOptions(control=BuildControl(**control))


def test_builds_for_three_gpus_and_back_from_the_file(trt_library: Library, tmp_path: Path) -> None:
    model = with_weights_outside(tiny(4))
    engine = build_plan(model, trt_library)
    assert engine.compute_capabilities == (86, 89, 120)
    assert engine.version == trt_library.info.version
    assert bytes(engine.plan[:4]) == b"vtrt"
    assert engine.seconds["build"] > 0
    back = EngineFile.load(engine.save(tmp_path / "tiny.engine"))
    assert bytes(back.plan) == bytes(engine.plan)
    assert back.inputs == model.inputs and back.outputs == model.outputs
    assert back.ranges == {"x": ((4, 4, 4), (64, 64, 64))}


@pytest.mark.parametrize("capability", [86, 89, 120])
def test_builds_for_one_gpu(trt_library: Library, capability: int) -> None:
    engine = build_plan(tiny(), trt_library, compute_capabilities=(capability,))
    assert engine.compute_capabilities == (capability,)


def test_a_gpu_the_library_does_not_know(trt_library: Library) -> None:
    with pytest.raises(FeatureNotSupportedError, match=r"does not build for compute capability 9\.0"):
        build_plan(tiny(), trt_library, compute_capabilities=(90,))
    with pytest.raises(ValidationError, match="compute_capabilities is empty"):
        build_plan(tiny(), trt_library, compute_capabilities=())


def test_dynamic_batch(trt_library: Library) -> None:
    engine = build_plan(tiny("batch"), trt_library, CompileOptions(shapes={"batch": (1, 4, 8)}))
    assert engine.inputs[0].shape == ("batch", 64)
    assert engine.ranges["x"] == ((1, 4, 8), (64, 64, 64))
    assumed = build_plan(tiny("batch"), trt_library)
    assert assumed.inputs[0].shape == (1, 64) and "'batch'" in assumed.notes[0]


def test_several_profiles(newest_library: Library, tmp_path: Path) -> None:
    profiles = ({"batch": 1}, {"batch": (2, 8, 32)})
    engine = build_plan(tiny("batch"), newest_library, CompileOptions(profiles=profiles), (86,))
    assert engine.ranges["x"] == ((1, 1, 32), (64, 64, 64))
    assert [one["x"][0] for one in engine.profiles] == [(1, 1, 1), (2, 8, 32)]
    assert EngineFile.load(engine.save(tmp_path / "m.engine")).profiles == engine.profiles


def test_named_dimensions_of_a_graph(newest_library: Library) -> None:
    """Sizes that the engine calculates: of Resize, Reshape, Expand, Slice and limits of indices."""
    b = pynn.GraphBuilder()
    x, ids = b.input("x", ["batch", 3, "height", 8], "float32"), b.input("ids", ["batch", 2], "int32")
    w = b.constant(np.ones((4, 3, 3, 3), np.float32))
    y = b.resample2d(b.conv2d(x, w, padding=[1, 1, 1, 1], strides=[2, 2]), scales=[2, 2])
    batch, _, height, _ = y.shape
    rows = b.reshape(y, [batch, 4 * height, 8])
    picked = b.gather(b.reverse(rows), ids, axis=1)
    spread = b.expand(b.reshape(b.average_pool2d(x), [1, batch, 3]), [2, batch, 3])
    graph = b.finish({"picked": picked, "spread": spread, "cut": b.slice(rows, [0, 1, 0], [batch, height, 8])})
    shapes = [{"batch": 1, "height": (4, 8, 16)}, {"batch": (2, 8, 32), "height": (4, 8, 16)}]
    folder = Path(newest_library.info.path).parent
    engine = pynn.build_engine(graph, shapes=shapes, compute_capabilities=["8.6"], tensorrt_library=folder)
    assert [spec.shape for spec in engine.inputs] == [("batch", 3, "height", 8), ("batch", 2)]
    assert [spec.shape for spec in engine.outputs] == [("batch", "batch", 2, 8), (2, "batch", 3), ("batch", None, 8)]
    assert len(engine.profiles) == 2
    fixed = pynn.build_engine(
        graph, shapes={"batch": 2, "height": 8}, compute_capabilities=["8.6"], tensorrt_library=folder
    )
    assert all(spec.is_static for spec in (*fixed.inputs, *fixed.outputs))


def test_weights_inside_and_outside_are_the_same_model(newest_library: Library) -> None:
    inside = build_plan(tiny(), newest_library, compute_capabilities=(86,))
    outside = build_plan(with_weights_outside(tiny()), newest_library, compute_capabilities=(86,))
    assert weights_of().tobytes() in bytes(inside.plan) or len(inside.plan) == len(outside.plan)


def test_weights_in_a_file_beside_the_model(newest_library: Library, tmp_path: Path) -> None:
    proto = onnx.load_model_from_string(tiny().proto)
    onnx.save_model(proto, tmp_path / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    assert (tmp_path / "m.data").is_file()
    build_plan(OnnxModel.load(tmp_path / "m.onnx"), newest_library, compute_capabilities=(86,))


def test_refused_operator(trt_library: Library) -> None:
    model = tiny()
    wrong = OnnxModel(model.proto.replace(b"Relu", b"Rulu"), model.inputs, model.outputs)
    with pytest.raises(UnsupportedModelError, match="Rulu") as caught:
        build_plan(wrong, trt_library)
    assert (caught.value.node, caught.value.op_type) == ("positive", "Rulu")


def test_bytes_that_are_not_onnx(trt_library: Library) -> None:
    model = tiny()
    with pytest.raises(UnsupportedModelError):
        build_plan(OnnxModel(b"garbage", model.inputs, model.outputs), trt_library)


def test_what_the_builder_refuses(newest_library: Library) -> None:
    """bfloat16 is parsed, but not built for Turing."""
    nodes = [helper.make_node("Add", ["x", "x"], ["y"], name="twice")]
    spec = (TensorProto.BFLOAT16, [4])
    with pytest.raises(EngineBuildError) as caught:
        build_plan(model_of(nodes, {"x": spec}, {"y": spec}), newest_library, compute_capabilities=(75,))
    assert caught.value.log


def test_double_becomes_float32_inside(newest_library: Library) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="positive")]
    spec = (TensorProto.DOUBLE, [2, 2])
    engine = build_plan(model_of(nodes, {"x": spec}, {"y": spec}), newest_library, compute_capabilities=(86,))
    assert [(s.data_type, s.carrier) for s in (*engine.inputs, *engine.outputs)] == [("float64", "float32")] * 2


def test_rank_zero(newest_library: Library) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="positive")]
    spec = (TensorProto.FLOAT, [])
    engine = build_plan(model_of(nodes, {"x": spec}, {"y": spec}), newest_library, compute_capabilities=(86,))
    assert engine.ranges == {"x": ()}


def test_an_output_that_is_an_input(newest_library: Library) -> None:
    spec = (TensorProto.FLOAT, [3])
    nodes = [helper.make_node("Relu", ["x"], ["y"], name="positive")]
    engine = build_plan(model_of(nodes, {"x": spec}, {"y": spec, "x": spec}), newest_library)
    names = [s.onnx_name for s in (*engine.inputs, *engine.outputs)]
    assert len(set(names)) == 3


def test_a_silently_changed_type_is_refused(newest_library: Library) -> None:
    """TensorRT gives int8 where QuantizeLinear of the model says uint8."""
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["y"], name="quantize")]
    model = model_of(
        nodes,
        {"x": (TensorProto.FLOAT, [4])},
        {"y": (TensorProto.UINT8, [4])},
        s=np.float32(0.5),
        z=np.uint8(0),
    )
    with pytest.raises(UnsupportedModelError, match="would carry 'y' as int8, where the model says uint8"):
        build_plan(model, newest_library)


def test_progress_is_told_on_the_calling_thread(trt_library: Library) -> None:
    events: list[ProgressEvent] = []
    threads: set[str] = set()

    def watch(event: ProgressEvent) -> None:
        events.append(event)
        threads.add(threading.current_thread().name)

    build_plan(deep(), trt_library, controlled(progress=watch))
    kinds = Counter(event.kind for event in events)
    assert kinds["start"] == kinds["finish"] > 1 and kinds["step"] > 1
    assert events[0].phase == events[-1].phase and events[0].parent == ""
    assert threads == {threading.current_thread().name}


def test_cancelled_by_an_event(trt_library: Library) -> None:
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(BuildCancelledError):
        build_plan(deep(), trt_library, controlled(cancel=cancel))


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError])
def test_cancelled_by_what_the_callback_raises(newest_library: Library, error: type[BaseException]) -> None:
    def watch(event: ProgressEvent) -> None:
        raise error("enough")

    with pytest.raises(error):
        build_plan(deep(), newest_library, controlled(progress=watch))
    assert not [t for t in threading.enumerate() if t.name == "pynn-build"]
    build_plan(tiny(), newest_library)


def test_builds_in_several_threads(newest_library: Library) -> None:
    sizes: list[int] = []
    threads = [
        threading.Thread(target=lambda: sizes.append(len(build_plan(deep(4), newest_library).plan))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(sizes) == 4


def test_options_reach_the_library(newest_library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest_library, "tf32", Settled(True, "a test says so"))
    fine = CompileOptions(workspace_bytes=1 << 26, tf32=True)
    assert build_plan(tiny(), newest_library, fine).options["tf32"] is True
    noted = build_plan(tiny(), newest_library, CompileOptions())
    assert noted.options["tf32"] is True and any("a test says so" in note for note in noted.notes)
    with pytest.raises(TensorRTError):
        build_plan(tiny(), newest_library, CompileOptions(optimization_level=99))


def test_tf32_is_noted_for_float32_weights_between_other_types() -> None:
    half = TensorSpec("x", "x", "float16", (1,))
    weights = {"w": np.zeros(1, np.float32)}
    assert trt_build._has_float32(OnnxModel(b"", (half,), (half,), weights))
    assert not trt_build._has_float32(OnnxModel(b"", (half,), (half,)))


def test_tf32_after_float32_was_settled(newest_library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(newest_library, "tf32", Settled(False, "settled by a test"))
    assert build_plan(tiny(), newest_library, CompileOptions()).notes == ()
    with pytest.raises(FeatureNotSupportedError, match="settled by a test"):
        build_plan(tiny(), newest_library, CompileOptions(tf32=True))


def test_four_bit_weights_are_packed_low_half_first() -> None:
    array = np.array([1, -2, 7], ml_dtypes.int4)
    assert onnx_memory(array).tobytes() == numpy_helper.from_array(array).raw_data == bytes([0xE1, 0x07])


def test_library_without_parser_says_so(newest_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "libtensorrt_rtx.so.1").symlink_to(newest_folder / "libtensorrt_rtx.so.1")
    with pytest.raises(LibraryNotFoundError, match="has no ONNX parser"):
        open_library(tmp_path)


def test_directory_without_library(tmp_path: Path) -> None:
    with pytest.raises(LibraryNotFoundError, match=r"holds no TensorRT library; looked for libtensorrt_rtx\.so\.1"):
        open_library(tmp_path)
    with pytest.raises(LibraryNotFoundError, match="holds no TensorRT library"):
        load_engine(b"vtrt" * 100, library_dir=tmp_path)
