"""pynn.calibrate: ranges as numpy finds them, one go or several, bounded memory, and every bad input."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

import pynn
from pynn import CalibrationTable, GraphBuilder, InputError, ModelError, UnsupportedModelError, ValidationError
from pynn.backends.ort import OrtBackend
from pynn.converter import lower_graph
from pynn.converter.precision.digest import graph_digest
from pynn.converter.precision.quantizable import calibration_points
from pynn.quantization.activations import Activations

from ..native.models import model_of, tiny, weights_of
from .nets import Array, cosine, data, mlp, mobile

pytestmark = pytest.mark.ort


def reference(graph: pynn.Graph, samples: list[dict[str, Array]]) -> dict[str, float]:
    """The largest magnitudes, from a session of ONNX Runtime with every value as an output."""
    proto = pynn.to_onnx(graph).to_proto()
    lowered = lower_graph(graph)
    names = calibration_points(lowered)
    del proto.graph.output[:]
    for name in names:
        if name not in lowered.inputs.values():
            proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    session = ort.InferenceSession(proto.SerializeToString())
    computed = [output.name for output in session.get_outputs()]
    found = dict.fromkeys(names, 0.0)
    for sample in samples:
        values = {**sample, **dict(zip(computed, session.run(computed, sample), strict=True))}
        for name in names:
            found[name] = max(found[name], float(np.abs(values[name]).max()))
    return found


@pytest.mark.parametrize("memory_bytes", [1, 1 << 16, 1 << 28])
def test_minmax_is_what_onnxruntime_shows(memory_bytes: int) -> None:
    graph = mobile()
    samples = data(graph, 5)
    table = pynn.calibrate(graph, samples, memory_bytes=memory_bytes)
    assert dict(table.amax) == pytest.approx(reference(graph, samples), rel=1e-6)
    assert table.model == graph_digest(lower_graph(graph))
    assert table.details["samples"] == 5 and table.details["method"] == "minmax" and table.notes == ()


def test_minmax_is_that_of_onnxruntimes_calibrator(tmp_path: Path) -> None:
    from onnxruntime.quantization.calibrate import CalibrationDataReader, MinMaxCalibrater

    graph = mlp()
    samples = data(graph, 3)
    path = tmp_path / "m.onnx"
    pynn.to_onnx(graph).save(path)

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.rest = iter(samples)

        def get_next(self) -> Any:
            return next(self.rest, None)

    theirs = MinMaxCalibrater(path, augmented_model_path=str(tmp_path / "augmented.onnx"), symmetric=True)
    theirs.augment_graph()
    theirs.create_inference_session()
    theirs.collect_data(Reader())
    ranges = theirs.compute_data()
    for name, amax in pynn.calibrate(path, samples).amax.items():
        assert amax == pytest.approx(float(np.max(ranges[name].range_value[1])), rel=1e-6)


def test_memory_is_limited_by_more_runs() -> None:
    """mobile reads seven computed activations, of 4 to 64 KiB, and its input, which is at hand."""
    graph = lower_graph(mobile())
    names = calibration_points(graph)
    backend = OrtBackend(use_gpu=False)
    assert len(names) == 8
    for memory_bytes, groups in ((1, 7), (1 << 17, 4), (1 << 28, 1)):
        with Activations(graph, names, backend, (), memory_bytes) as activations:
            assert activations.groups == groups


def test_every_kind_of_model_and_data(tmp_path: Path) -> None:
    model = tiny()
    path = model.save(tmp_path / "m.onnx")
    arrays = [np.random.default_rng(i).standard_normal((4, 64)).astype("f") for i in range(3)]
    tables = [
        pynn.calibrate(one, given)
        for one in (model, path, str(path), path.read_bytes(), model.to_proto())
        for given in (arrays, iter(arrays), [{"x": a} for a in arrays])
    ]
    assert len({table.model for table in tables}) == 1
    assert all(table.amax == tables[0].amax for table in tables)
    assert tables[0].amax == {"x": max(float(np.abs(a).max()) for a in arrays)}


def test_dynamic_batch() -> None:
    arrays = [np.random.default_rng(i).standard_normal((i + 1, 64)).astype("f") for i in range(3)]
    table = pynn.calibrate(tiny("batch"), arrays)
    assert table.amax["x"] == max(float(np.abs(a).max()) for a in arrays)


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_named_dimensions(form: Any) -> None:
    """The precision's passes see such a graph at several sizes; the table is of all of them."""
    b = GraphBuilder()
    x = b.input("x", ["batch", 64], "float32")
    y = b.relu(b.matmul(x, b.constant(weights_of(64, 48) / 8)))
    graph = b.finish({"y": b.reshape(b.matmul(y, b.constant(weights_of(48, 32) / 8)), [x.shape[0], 4, 8])})
    arrays = [np.random.default_rng(i).standard_normal((i + 1, 64)).astype("f") for i in range(3)]
    table = pynn.calibrate(graph, arrays, form=form)
    precision = pynn.Precision(form, calibration=table)
    executable = pynn.compile(graph, backend="onnxruntime", precision=precision)
    plain = pynn.compile(graph, backend="onnxruntime")
    for rows in (1, 7):
        sample = {"x": np.random.default_rng(9).standard_normal((rows, 64)).astype("f")}
        assert cosine(executable.run(sample)["y"], plain.run(sample)["y"]) > 0.99


def test_wanted_tensors_and_limit() -> None:
    graph = mlp()
    samples = data(graph, 4)
    rest = iter(samples)
    table = pynn.calibrate(graph, rest, tensors=["y"], limit=2)
    assert len(list(rest)) == 2, "no sample is taken that is not wanted"
    expected = max(
        float(np.abs(run).max()) for run in (pynn.compile(graph, accelerated=False).run(s)["y"] for s in samples[:2])
    )
    assert dict(table.amax) == {"y": pytest.approx(expected, rel=1e-5)} and table.details["samples"] == 2


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile", "mse"])
def test_resumed_equals_one_go(tmp_path: Path, method: Any) -> None:
    graph = mlp()
    samples = data(graph, 6)
    whole = pynn.calibrate(graph, samples, method=method, smooth=0.5)
    state = tmp_path / "state.npz"

    class StoppedError(Exception):
        pass

    def stop_at(count: int) -> Any:
        def progress(done: int, total: int | None) -> None:
            assert total == 6
            if done == count:
                raise StoppedError

        return progress

    for count in (2, 5):
        with pytest.raises(StoppedError):
            pynn.calibrate(graph, samples, method=method, smooth=0.5, resume=state, progress=stop_at(count))
    done: list[int] = []
    parts = pynn.calibrate(
        graph, samples, method=method, smooth=0.5, resume=state, progress=lambda number, _: done.append(number)
    )
    assert done == [6]
    assert parts.amax == whole.amax and parts.channels == whole.channels
    again = pynn.calibrate(
        graph, samples, method="minmax", smooth=0.5, resume=state, progress=lambda *_: done.append(0)
    )
    assert done == [6] and again.amax == pynn.calibrate(graph, samples).amax
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_interrupted_in_a_sample_keeps_the_samples_before(tmp_path: Path) -> None:
    graph = mlp()
    samples = data(graph, 4)
    state = tmp_path / "state.npz"

    def broken() -> Iterator[Any]:
        yield from samples[:3]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pynn.calibrate(graph, broken(), resume=state)
    done: list[int] = []
    table = pynn.calibrate(graph, samples, resume=state, progress=lambda number, _: done.append(number))
    assert done == [4] and table.amax == pynn.calibrate(graph, samples).amax


def test_killed_and_resumed(tmp_path: Path) -> None:
    """A process that dies without a word, after its third sample, with the state saved after each."""
    model, state = tiny().save(tmp_path / "m.onnx"), tmp_path / "state.npz"
    samples = [np.random.default_rng(i).standard_normal((4, 64)).astype("f") for i in range(5)]
    np.save(tmp_path / "samples.npy", np.stack(samples))
    code = f"""
import os, sys
sys.path.insert(0, {str(Path(pynn.__file__).parent.parent)!r})
import numpy as np
import pynn.quantization.calibrate as c
c._SAVE_SECONDS = 0
samples = np.load({str(tmp_path / "samples.npy")!r})
c.calibrate({str(model)!r}, iter(samples), resume={str(state)!r}, progress=lambda n, _: n == 4 and os._exit(9))
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    done: list[int] = []
    table = pynn.calibrate(model, samples, resume=state, progress=lambda number, _: done.append(number))
    assert done == [4, 5] and table.amax == pynn.calibrate(model, samples).amax


def test_a_state_that_does_not_fit(tmp_path: Path) -> None:
    graph = mlp()
    samples = data(graph, 3)
    state = tmp_path / "state.npz"
    pynn.calibrate(graph, samples, resume=state)
    with pytest.raises(ValidationError, match="has seen other data: its first 3 samples differ"):
        pynn.calibrate(graph, data(graph, 3, seed=9), resume=state)
    with pytest.raises(ValidationError, match="has seen 3 samples, this dataset has 2"):
        pynn.calibrate(graph, samples[:2], resume=state)
    with pytest.raises(ValidationError, match="state for another model"):
        pynn.calibrate(mlp(outliers=True), samples, resume=state)
    with pytest.raises(ValidationError, match="begun for other activations"):
        pynn.calibrate(graph, samples, resume=state, smooth=0.5)
    whole = state.read_bytes()
    for damaged in (b"", b"PK", whole[: len(whole) // 2], b"\0" * 100):
        state.write_bytes(damaged)
        with pytest.raises(ModelError, match="is not the state of a calibration, or damaged"):
            pynn.calibrate(graph, samples, resume=state)


def test_memory_does_not_grow_with_samples() -> None:
    """Traced: the arrays of samples, activations and histograms, of which one sample's may be there at a time."""
    b = GraphBuilder()
    x = b.input("x", [64, 1024], "float32")
    weights = [b.constant(weights_of(1024, 1024) / 32) for _ in range(4)]
    y = x
    for w in weights:
        y = b.tanh(b.matmul(y, w))
    graph = b.finish({"y": y})

    def peak(count: int) -> int:
        rng = np.random.default_rng(0)
        gc.collect()
        tracemalloc.start()
        try:
            made = ({"x": rng.standard_normal((64, 1024)).astype("f")} for _ in range(count))
            pynn.calibrate(graph, made, method="percentile")
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(1)
    few, many = peak(2), peak(12)
    assert many < few + 64 * 1024 * 4, (few, many)


# -- bad input


def calibrate_tiny(dataset: Any, **more: Any) -> CalibrationTable:
    return pynn.calibrate(tiny(), dataset, **more)


GOOD = np.ones((4, 64), np.float32)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ([], "the calibration dataset is empty"),
        (iter(()), "the calibration dataset is empty"),
        ({"x": GOOD}, "must be an iterable of samples, got dict"),
        (None, "must be an iterable of samples, got NoneType"),
        ("folder", "must be an iterable of samples, got str"),
        ([{"x": GOOD}, {"z": GOOD}], r"calibration sample 1: .*'z'|calibration sample 1: .*'x' is missing"),
        ([{"x": GOOD, "z": GOOD}], "calibration sample 0: .*'z'"),
        ([{"x": GOOD.astype(np.float64)}], "calibration sample 0: .*float64"),
        ([{"x": GOOD[:, :60]}], r"calibration sample 0: .*\[4, 60\]"),
        ([[GOOD]], "calibration sample 0 is list; expected a mapping"),
        ([{"x": np.where(np.arange(256).reshape(4, 64) == 70, np.nan, GOOD).astype("f")}], r"'x' has nan at \[1, 6\]"),
        ([GOOD * np.float32(np.inf)], r"'x' has inf at \[0, 0\]"),
    ],
)
def test_bad_data(dataset: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        calibrate_tiny(dataset)


def test_bad_data_names_the_tensor() -> None:
    with pytest.raises(InputError) as caught:
        calibrate_tiny([GOOD, GOOD * np.float32(np.nan)])
    assert caught.value.tensor == "x"


def test_a_sample_without_elements() -> None:
    with pytest.raises(InputError, match="calibration sample 0: 'x' has no element"):
        pynn.calibrate(tiny("batch"), [np.ones((0, 64), np.float32)])


def test_an_activation_that_overflows() -> None:
    b = GraphBuilder()
    x = b.input("x", [2, 4], "float32")
    graph = b.finish({"y": b.matmul(b.exp(x), b.constant(np.ones((4, 2), np.float32)))})
    with pytest.raises(InputError, match="calibration sample 1 makes NaN or infinity in 'exp_0/Exp'"):
        pynn.calibrate(graph, [np.ones((2, 4), np.float32), np.full((2, 4), 100, np.float32)])


def test_all_zero_is_a_note() -> None:
    table = calibrate_tiny([GOOD * 0])
    assert table.amax == {"x": 0.0} and table.notes == ("'x' was all zero in every sample",)


def test_float16_is_a_note() -> None:
    graph = mlp("float16")
    table = pynn.calibrate(graph, data(graph, 2))
    assert table.notes == ("the model computes in float16: its ranges are of values rounded so",)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "max"}, "method must be one of 'minmax', 'entropy', 'percentile', 'mse'; got 'max'"),
        ({"percentile": 0}, "percentile must be a number above 0"),
        ({"percentile": 101}, "percentile must be a number above 0"),
        ({"form": "int4"}, "form must be 'int8' or 'fp8'"),
        ({"form": "fp8", "method": "entropy"}, "'entropy' counts the 128 levels of int8"),
        ({"smooth": 2}, "smooth must be a number from 0 to 1"),
        ({"limit": 0}, "limit must be a positive integer"),
        ({"memory_bytes": -1}, "memory_bytes must be a positive integer"),
        ({"tensors": ["nobody"]}, "tensors names 'nobody'"),
        ({"tensors": []}, "tensors names nothing"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        calibrate_tiny([GOOD], **arguments)


def test_models_that_cannot_be_calibrated() -> None:
    spec = (TensorProto.FLOAT, [2, 2])
    nothing = model_of([helper.make_node("Relu", ["x"], ["y"])], {"x": spec}, {"y": spec})
    with pytest.raises(ValidationError, match="nothing to quantise"):
        pynn.calibrate(nothing, [np.ones((2, 2), np.float32)])
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s"], ["q"], name="quantise", output_dtype=TensorProto.INT8),
        helper.make_node("DequantizeLinear", ["q", "s"], ["y"], name="back"),
    ]
    quantized = model_of(nodes, {"x": spec}, {"y": spec}, s=np.float32(0.1))
    with pytest.raises(UnsupportedModelError, match="quantised activations already: QuantizeLinear 'quantise' on 'x'"):
        pynn.calibrate(quantized, [np.ones((2, 2), np.float32)])
    with pytest.raises(ModelError):
        pynn.calibrate(b"no model", [GOOD])
    assert onnx.checker.check_model(tiny().to_proto()) is None
