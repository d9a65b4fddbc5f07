"""Partitioned graphs as users meet them: contexts, warnings, reports, running; and what real libraries refuse."""

from __future__ import annotations

import functools
import gc
import json
import threading
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import EngineBuildError, FallbackWarning, InputError, InvalidStateError, UnsupportedModelError
from pynn.backends import selection
from pynn.backends.partition_executable import PARTITIONED, PartitionedExecutable
from pynn.backends.selection import Selection
from pynn.graph import Operand

from .partition_fakes import (
    ORT,
    FakeTensorRT,
    Wrapped,
    agree,
    graph_of,
    in_parts,
)

pytestmark = pytest.mark.ort

SIZE = 300
"""[SIZE, SIZE] is large enough to be worth a hand-over."""


def net(b: pynn.GraphBuilder) -> dict[str, Operand]:
    x = b.input("x", [SIZE, SIZE], "float32")
    y = b.softmax(b.sin(x, label="first"), 1, label="bad")
    return {"y": b.tanh(b.cos(y), label="last"), "z": b.softmax(x, 1, label="worse")}


GRAPH = graph_of(net)
X = np.random.default_rng(0).standard_normal((SIZE, SIZE), np.float32)


@functools.cache
def results() -> dict[str, np.ndarray[Any, Any]]:
    """What GRAPH computes of X."""
    with pynn.compile(GRAPH, backend="onnxruntime") as executable:
        return executable.run({"x": X})


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Put a back end in TensorRT's place."""

    def put(backend: Any) -> Any:
        monkeypatch.setattr(selection, "_tensorrt", lambda wish: backend)
        return backend

    return put


def built(context: pynn.MLContext) -> pynn.MLGraph:
    builder = context.create_graph_builder()
    return builder.build(net(builder))


def partitioned(*refused: str, **how: Any) -> tuple[PartitionedExecutable, FakeTensorRT]:
    backend = FakeTensorRT(*refused or ("softmax",), **how)
    executable = in_parts(GRAPH, backend).executable
    assert isinstance(executable, PartitionedExecutable)
    return executable, backend


# -- the choice


def test_an_automatic_choice_is_partitioned_and_warned_of_once(install: Any) -> None:
    install(FakeTensorRT("softmax"))
    context = pynn.ML().create_context()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        first, second = built(context), built(context)
    assert [w.category for w in caught] == [FallbackWarning]
    assert caught[0].filename == __file__
    text = str(caught[0].message)
    assert text.startswith("TensorRT takes this model only in part; ONNX Runtime runs 2 of 5 operators: ")
    for words in ("softmax 'bad' (the parser dislikes", "softmax 'worse'", "allow_partition=False"):
        assert words in text
    assert context.backend == "tensorrt"
    for graph in (first, second):
        assert graph.backend == graph.executable.backend == graph.backend_report.chosen == PARTITIONED != "tensorrt"
        assert graph.backend_report.fallback
        assert list(graph.backend_report.refused) == ["tensorrt"]
        assert [one.label for one in graph.partition_report().left_out] == ["bad", "worse"]
        assert graph.partition_report() is graph.backend_report.partition
    found = context.compute(first, {"x": X})
    for name, array in results().items():
        np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-6)


def test_compile_of_a_graph(install: Any) -> None:
    install(FakeTensorRT("softmax", parse=False))
    with pytest.warns(FallbackWarning, match="softmax 'bad'") as caught:
        executable = pynn.compile(GRAPH)
    assert len(caught) == 1 and caught[0].filename == __file__
    assert executable.backend == PARTITIONED and executable.report is not None
    assert executable.partition_report() is executable.report.partition
    agree(GRAPH, executable)


def test_dispatch_writes_into_the_tensors(install: Any) -> None:
    install(FakeTensorRT("softmax"))
    context = pynn.ML().create_context()
    with pytest.warns(FallbackWarning):
        graph = built(context)
    x = context.create_tensor([SIZE, SIZE], "float32", writable=True)
    outs = {name: context.create_tensor([SIZE, SIZE], "float32", readable=True) for name in "yz"}
    context.write_tensor(x, X)
    context.dispatch(graph, {"x": x}, outs)
    for name, tensor in outs.items():
        np.testing.assert_allclose(context.read_tensor(tensor), results()[name], rtol=1e-5, atol=1e-6)
    graph.destroy()
    assert graph.partition_report().left_out


def test_a_whole_graph_costs_nothing_more(install: Any) -> None:
    backend = install(FakeTensorRT())
    executable = pynn.compile(GRAPH)
    assert executable.backend == "tensorrt"
    assert (backend.compiles, backend.checks) == (1, 0)
    assert str(executable.partition_report()) == "not partitioned: the whole runs on tensorrt"
    report = built(pynn.ML().create_context()).partition_report()
    assert not report.is_partitioned and not report.left_out
    assert report.parts[0].operators == {"sin": 1, "softmax": 2, "cos": 1, "tanh": 1}


def test_tensorrt_demanded_is_partitioned_too(install: Any) -> None:
    install(FakeTensorRT("softmax"))
    with pytest.warns(FallbackWarning, match="softmax 'bad'"):
        assert built(pynn.ML().create_context(backend="tensorrt")).backend == PARTITIONED
    with pytest.warns(FallbackWarning, match="softmax 'bad'"):
        assert pynn.compile(GRAPH, backend="tensorrt").backend == PARTITIONED


@pytest.mark.parametrize(("parse", "kind"), [(True, UnsupportedModelError), (False, EngineBuildError)])
def test_allow_partition_false_raises_with_the_operators_names(install: Any, parse: bool, kind: type[Any]) -> None:
    backend = install(FakeTensorRT("softmax", parse=parse))
    for demand in (
        lambda: pynn.compile(GRAPH, backend="tensorrt", allow_partition=False),
        lambda: built(pynn.ML().create_context(backend="tensorrt", allow_partition=False)),
    ):
        with pytest.raises(
            kind, match=r"TensorRT refuses softmax 'bad'.*allow_partition=False.*bad/softmax_0"
        ) as caught:
            demand()
        assert isinstance(caught.value, pynn.OperationError)
    if parse:
        assert "softmax 'worse'" in str(caught.value)
        assert caught.value.node == "bad/softmax_0/Softmax"
    assert not backend.executables


def test_allow_partition_false_with_an_automatic_choice(install: Any) -> None:
    backend = install(FakeTensorRT("softmax"))
    with pytest.warns(FallbackWarning, match="TensorRT refused this model; ONNX Runtime takes it"):
        executable = pynn.compile(GRAPH, allow_partition=False)
    assert executable.backend == "onnxruntime"
    assert (backend.compiles, backend.checks) == (0, 0)


@pytest.mark.parametrize("value", [0, None, "no"])
def test_bad_argument(value: Any) -> None:
    with pytest.raises(pynn.ValidationError, match=f"allow_partition must be True or False, got {value!r}"):
        pynn.compile(GRAPH, allow_partition=value)
    with pytest.raises(pynn.ValidationError, match="allow_partition"):
        pynn.ML().create_context(allow_partition=value)


def test_nothing_worth_it_runs_whole_on_onnx_runtime(install: Any) -> None:
    install(FakeTensorRT("softmax"))

    def small(b: pynn.GraphBuilder) -> dict[str, Operand]:
        return {"y": b.sin(b.softmax(b.input("x", [2, 2], "float32"), 1, label="s"))}

    with pytest.warns(FallbackWarning, match="TensorRT refused this model"):
        executable = pynn.compile(graph_of(small))
    assert executable.backend == "onnxruntime"
    report = executable.partition_report()
    assert not report.is_partitioned
    assert [one.name for one in report.left_out] == ["softmax 's'"]
    assert report.kept_off == 1
    assert "1 more operators are in parts too small to be worth a hand-over" in str(report)
    with pytest.warns(FallbackWarning):  # who demands TensorRT gets it for what it takes, however small
        assert pynn.compile(graph_of(small), backend="tensorrt").backend == PARTITIONED


def test_nothing_left_for_tensorrt(install: Any) -> None:
    install(FakeTensorRT("sin", "softmax", "cos", "tanh"))
    with pytest.warns(FallbackWarning):
        assert pynn.compile(GRAPH).backend == "onnxruntime"
    with pytest.raises(UnsupportedModelError, match="dislikes"):
        pynn.compile(GRAPH, backend="tensorrt")


def test_without_onnx_runtime(install: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = install(FakeTensorRT("softmax"))
    missing = pynn.Probe("onnxruntime", "onnxruntime", False, "onnxruntime cannot be imported", "pip install it")
    monkeypatch.setattr(type(ORT), "probe", lambda self: (missing,))
    with pytest.raises(UnsupportedModelError, match=r"dislikes.*ONNX Runtime cannot run the rest.*cannot be imported"):
        pynn.compile(GRAPH, backend="tensorrt")
    assert all(one._closed for one in backend.executables)


def test_the_public_seam() -> None:
    """Who has back ends of his own gives them to a Selection; without a partner nothing is partitioned."""
    report = pynn.BackendReport("auto", "default", True, "tensorrt", "a test")
    for partner, expected in ((lambda: ORT, PARTITIONED), (None, "onnxruntime")):
        chosen = Selection([FakeTensorRT("softmax"), ORT], report, partner)
        assert chosen.compile(GRAPH, pynn.CompileOptions()).backend == expected


def test_an_onnx_file_runs_whole(install: Any, tmp_path: Path) -> None:
    install(FakeTensorRT("softmax"))
    path = pynn.to_onnx(GRAPH).save(tmp_path / "net.onnx")
    with pytest.warns(FallbackWarning, match="TensorRT refused this model"):
        executable = pynn.compile(path)
    assert executable.backend == "onnxruntime"
    report = executable.partition_report()
    assert [one.name for one in report.left_out] == ["Foo 'bad/softmax_0/Softmax'"]
    assert "ONNX files are not partitioned" in str(report)
    assert "dislikes" in str(report)


# -- the report


def test_report_in_words_and_as_json() -> None:
    executable, _ = partitioned()
    report = executable.partition_report()
    assert str(report).splitlines() == [
        "3 parts, in this order:",
        "  0 tensorrt: sin",
        "  1 onnxruntime: 2xsoftmax, 360,000 bytes handed to it",
        "  2 tensorrt: cos tanh, 360,000 bytes handed to it",
        "  left out: softmax 'bad': the parser dislikes bad/softmax_0/Softmax",
        "  left out: softmax 'worse': the parser dislikes worse/softmax_0/Softmax",
    ]
    record = json.loads(json.dumps(report.to_dict()))
    assert [part["backend"] for part in record["parts"]] == ["tensorrt", "onnxruntime", "tensorrt"]
    assert record["parts"][1] == {"backend": "onnxruntime", "operators": {"softmax": 2}, "handed_bytes": 360000}
    assert record["left_out"][0]["operator"] == "softmax" and record["left_out"][0]["label"] == "bad"


def test_warning_stays_short() -> None:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [2, 2], "float32")
        for i in range(20):
            x = b.sin(b.softmax(x, 1, label=f"s{i}"))
        return {"y": x}

    text = in_parts(graph_of(build), FakeTensorRT("softmax")).report.warning()
    assert "softmax 's4'" in text and "'s5'" not in text
    assert text.endswith("and 15 more, see partition_report()")


# -- running


def test_arrays_are_handed_over_and_not_copied() -> None:
    executable, backend = partitioned()
    first, last = backend.executables
    executable.run({"x": X})
    assert first.given[0]["x"] is X
    (handed,) = first.made[0].values()
    assert handed.flags.owndata or handed.base is not None
    softmax = executable._steps[1].executable
    seen: list[Any] = []
    run = softmax.run
    softmax.run = lambda inputs, out=None: seen.append(dict(inputs)) or run(inputs, out=out)  # type: ignore[method-assign,func-returns-value]
    made = executable.run({"x": X})
    assert next(iter(first.made[1].values())) is seen[0][next(k for k in seen[0] if k != "x")]
    assert seen[0]["x"] is X
    assert made["y"] is last.made[1]["y"]


def test_out_arrays_go_to_the_part_that_makes_them() -> None:
    executable, backend = partitioned()
    out = {name: np.empty((SIZE, SIZE), np.float32) for name in "yz"}
    found = executable.run({"x": X}, out=out)
    assert all(found[name] is array for name, array in out.items())
    assert backend.executables[1].made[0]["y"] is out["y"]
    for name, array in out.items():
        np.testing.assert_allclose(array, results()[name], rtol=1e-5, atol=1e-6)
    assert executable.run({"x": X}, out={"z": out["z"]})["z"] is out["z"]


def test_an_output_that_another_part_reads() -> None:
    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        middle = b.sin(b.input("x", [3], "float32"))
        return {"middle": middle, "again": middle, "y": b.softmax(b.reshape(middle, [1, 3]), 1)}

    graph = graph_of(build)
    executable = in_parts(graph, FakeTensorRT("softmax")).executable
    assert executable is not None
    agree(graph, executable)
    x = np.ones(3, np.float32)
    out = {"middle": np.zeros(3, np.float32)}
    found = executable.run({"x": x}, out=out)
    assert found["middle"] is out["middle"] and found["again"] is not found["middle"]
    found["again"][:] = 7
    assert found["middle"][0] == np.float32(np.sin(1))


def test_intermediate_values_are_freed_when_they_are_dead() -> None:
    """While the last of five parts runs, only what it reads is alive."""

    def build(b: pynn.GraphBuilder) -> dict[str, Operand]:
        x = b.input("x", [4, 4], "float32")
        for _ in range(2):
            x = b.softmax(b.sin(x), 1)
        return {"y": b.sin(x)}

    backend = FakeTensorRT("softmax")
    executable = in_parts(graph_of(build), backend).executable
    assert executable is not None
    made: list[weakref.ref[Any]] = []
    alive: list[int] = []

    def watched(one: Wrapped) -> None:
        def run(arrays: Any, out: Any) -> Any:
            gc.collect()
            alive.append(sum(ref() is not None for ref in made))
            found = one.inner.run(arrays, out=out)
            made.extend(weakref.ref(array) for array in found.values())
            return found

        one._run = run  # type: ignore[method-assign]

    for one in backend.executables:
        watched(one)
    executable.run({"x": np.ones((4, 4), np.float32)})
    assert alive == [0, 0, 0]


def test_inputs_are_checked_as_everywhere() -> None:
    executable, _ = partitioned()
    with pytest.raises(InputError, match="input 'x' is float64"):
        executable.run({"x": X.astype(np.float64)})
    with pytest.raises(InputError, match="'x' is missing"):
        executable.run({})
    with pytest.raises(InputError, match="no output 'w'"):
        executable.run({"x": X}, out={"w": X})


def test_threads() -> None:
    executable, _ = partitioned()
    failures: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for _ in range(5):
                agree(GRAPH, executable, seed)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_stats_notes_and_close() -> None:
    executable, backend = partitioned()
    executable.run({"x": X})
    stats = executable.stats
    assert [(part["backend"], part["operators"]) for part in stats["parts"]] == [
        ("tensorrt", 1),
        ("onnxruntime", 2),
        ("tensorrt", 2),
    ]
    assert stats["parts"][0]["stats"] == {"runs": 1}
    assert executable.notes == ("part 0 on tensorrt: a fake", "part 2 on tensorrt: a fake")
    with executable:
        pass
    executable.close()
    assert all(one._closed and one.inner._closed for one in backend.executables)
    assert executable._steps[1].executable._closed
    with pytest.raises(InvalidStateError):
        executable.run({"x": X})
    assert executable.partition_report().left_out


def test_a_failing_part_is_named() -> None:
    executable, backend = partitioned()

    def fail(arrays: Any, out: Any) -> Any:
        raise pynn.ExecutionError("the GPU is on fire", log="smoke")

    backend.executables[1]._run = fail  # type: ignore[method-assign]
    with pytest.raises(pynn.ExecutionError, match="part 2 of 3, on tensorrt: the GPU is on fire") as caught:
        executable.run({"x": X})
    assert caught.value.log == "smoke"
