"""TensorRTExecutable over an engine made of numpy: conversion at the boundary, shapes, threads, closing, errors."""

from __future__ import annotations

import gc
import itertools
import os
import threading
import warnings
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from pynn.backends.base import CompileOptions
from pynn.backends.trt_executable import TensorRTExecutable
from pynn.backends.trt_memory import MAPPED_INPUT_BYTES, MAPPED_OUTPUT_BYTES
from pynn.backends.trt_session import MAX_SESSIONS
from pynn.errors import ExecutionError, ForkError, InputError, InvalidStateError, PlanError, UnsupportedModelError

from .trt_fakes import Arrays, Context, Counted, Fakes, Runner, spec


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    return Fakes(monkeypatch)


def same(arrays: Arrays) -> Arrays:
    return {"y_onnx": arrays["x_onnx"]}


def doubled(arrays: Arrays) -> Arrays:
    return {"y_onnx": arrays["x_onnx"] * 2}


def rows(shapes: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
    return {"y_onnx": shapes["x_onnx"]}


def dynamic(fakes: Fakes, high: int = 16) -> TensorRTExecutable:
    x, y = spec("x", "float32", "n", 3), spec("y", "float32", "n", 3)
    return fakes.executable([x], [y], doubled, rows, ranges={"x": ((1, 2, high), (3, 3, 3))})


@pytest.mark.parametrize(
    "data_type", ["float32", "float16", "int32", "int64", "int8", "uint8", "bool", "bfloat16", "float8e4m3fn"]
)
@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 3), (4, 5)])
def test_dtypes_are_exact(fakes: Fakes, data_type: str, shape: tuple[int, ...]) -> None:
    names = {"bfloat16": ml_dtypes.bfloat16, "float8e4m3fn": ml_dtypes.float8_e4m3fn}
    dtype = np.dtype(names.get(data_type, data_type))
    with fakes.executable([spec("x", data_type, *shape)], [spec("y", data_type, *shape)], same) as executable:
        x = np.arange(int(np.prod(shape))).reshape(shape).astype(dtype)
        y = executable.run({"x": x})["y"]
        assert y.dtype == dtype and y.shape == shape and type(y) is np.ndarray
        assert y.tobytes() == x.tobytes()
        assert y.flags.owndata and y.flags.writeable


@pytest.mark.parametrize(
    ("user", "carrier", "values"),
    [
        ("uint32", "int32", [0, 1, 2**31, 2**32 - 1]),
        ("uint64", "int64", [0, 2**63, 2**64 - 1]),
        ("uint32", "int64", [0, 1, 2**31, 2**32 - 1]),
        ("uint8", "int32", [0, 127, 128, 255]),
        ("int8", "int32", [-128, -1, 0, 127]),
        ("uint8", "bool", [0, 1]),
        ("float64", "float32", [0.5, -2.0, 1e300]),
        ("float16", "float32", [0.5, 65504.0]),
    ],
)
def test_carriers_are_converted(fakes: Fakes, user: str, carrier: str, values: list[float]) -> None:
    seen: list[np.ndarray[Any, Any]] = []

    def look(arrays: Arrays) -> Arrays:
        seen.append(arrays["x_onnx"])
        return same(arrays)

    shape = (len(values),)
    sides = [[spec(name, user, *shape, carrier=carrier)] for name in "xy"]
    x = np.array(values, user)
    with warnings.catch_warnings(), fakes.executable(sides[0], sides[1], look) as executable:
        warnings.simplefilter("error")
        y = executable.run({"x": x})["y"]
    assert seen[0].dtype == carrier and y.dtype == user
    if user == "float64":
        with np.errstate(over="ignore"):
            x = x.astype("float32").astype("float64")
    np.testing.assert_array_equal(y, x)


def test_large_tensors_are_staged_and_small_ones_mapped(fakes: Fakes) -> None:
    n, m = MAPPED_INPUT_BYTES // 4, MAPPED_OUTPUT_BYTES // 4
    inputs = [spec("x", "float32", n), spec("big", "float32", n + 1)]
    outputs = [spec("y", "float32", m + 1), spec("s", "float32")]

    def both(arrays: Arrays) -> Arrays:
        big = np.resize(arrays["big_onnx"], m + 1)
        return {"y_onnx": big + arrays["x_onnx"][0], "s_onnx": arrays["x_onnx"].sum()}

    with fakes.executable(inputs, outputs, both) as executable:
        bindings = {b.name: b for b in executable._sessions()[0]._runner.bindings}
        assert [bindings[f"{k}_onnx"].mapped for k in ("x", "big", "y", "s")] == [True, False, False, True]
        assert all(b.mapped == (b.device == b.staging) for b in bindings.values())
        starts = sorted((b.staging, b.size) for b in bindings.values())
        assert all(a + size <= b for (a, size), (b, _) in itertools.pairwise(starts))
        result = executable.run({"x": np.ones(n, "f4"), "big": np.arange(n + 1, dtype="f4")})
    assert result["s"] == n and result["y"][-1] == np.resize(np.arange(n + 1), m + 1)[-1] + 1


def test_out_receives_results(fakes: Fakes) -> None:
    outputs = [spec("y", "float32", 3), spec("z", "float32", 3)]
    x = np.arange(3, dtype="f4")

    def two(arrays: Arrays) -> Arrays:
        return {"y_onnx": arrays["x_onnx"], "z_onnx": arrays["x_onnx"] + 1}

    with fakes.executable([spec("x", "float32", 3)], outputs, two) as executable:
        mine = np.zeros(3, "f4")
        results = executable.run({"x": x}, out={"z": mine})
        assert results["z"] is mine and mine.tolist() == [1, 2, 3] and results["y"].tolist() == [0, 1, 2]
        assert executable.run({"x": x + 5}, out={"z": mine})["z"] is mine and mine[0] == 6
        with pytest.raises(InputError, match="there is no output 'q'"):
            executable.run({"x": x}, out={"q": mine})
        with pytest.raises(InputError, match="out 'z' is float64"):
            executable.run({"x": x}, out={"z": np.zeros(3)})


def test_results_do_not_share_memory_with_later_runs(fakes: Fakes) -> None:
    with fakes.executable([spec("x", "float32", 2)], [spec("y", "float32", 2)], same) as executable:
        first = executable.run({"x": np.array([1, 2], "f4")})["y"]
        executable.run({"x": np.array([3, 4], "f4")})
        assert first.tolist() == [1, 2]


def test_wrong_inputs_name_the_tensor(fakes: Fakes) -> None:
    with fakes.executable([spec("x", "float32", 2)], [spec("y", "float32", 2)], same, notes=("n is 1",)) as executable:
        for inputs in ({}, {"x": np.zeros(3, "f4")}, {"x": np.zeros(2)}, {"x": np.zeros(2, "f4"), "q": np.zeros(1)}):
            with pytest.raises(InputError, match=r"'[xq]'"):
                executable.run(inputs)
        with pytest.raises(InputError, match="Note: n is 1"):
            executable.run({"x": np.zeros(3, "f4")})


def test_dynamic_shapes_inside_the_range(fakes: Fakes) -> None:
    with dynamic(fakes) as executable:
        for n in (2, 5, 1, 2, 5, 16):
            x = np.full((n, 3), n, "f4")
            np.testing.assert_array_equal(executable.run({"x": x})["y"], x * 2)
        assert executable.stats["shape_sets"] == 4


def test_dynamic_shapes_outside_the_range(fakes: Fakes) -> None:
    with dynamic(fakes) as executable:
        with pytest.raises(
            InputError, match=r"input 'x': dimension 0 \('n'\) is 17, outside the compiled 1\.\.16"
        ) as caught:
            executable.run({"x": np.zeros((17, 3), "f4")})
        assert caught.value.tensor == "x"


def test_few_shape_sets_are_kept_and_kernels_are_reused(fakes: Fakes) -> None:
    with dynamic(fakes) as executable:
        for n in range(1, 12):
            executable.run({"x": np.zeros((n, 3), "f4")})
        assert executable.stats["shape_sets"] == MAX_SESSIONS
        assert Counted.alive["Context"] == Counted.alive["Runner"] == Counted.alive["PinnedMemory"] == MAX_SESSIONS
        contexts = len(Context.caches)
        executable.run({"x": np.zeros((11, 3), "f4")})
        assert len(Context.caches) == contexts
    assert Context.caches[0] == b"" and set(Context.caches[1:]) == {b"kernels"}
    assert fakes.alive == 0


def test_data_dependent_output_is_unsupported(fakes: Fakes) -> None:
    with pytest.raises(UnsupportedModelError, match="shape of output 'y' depends on the values"):
        fakes.executable([spec("x", "float32", 2)], [spec("y", "float32", None)], same, lambda _: {"y_onnx": (-1,)})
    assert fakes.alive == 0


def test_bare_plan_asks_the_engine(fakes: Fakes) -> None:
    with fakes.executable([spec("x", "float32", 2)], [spec("y", "float32", 2)], doubled, bare=True) as executable:
        assert [str(s) for s in (*executable.inputs, *executable.outputs)] == [
            "x_onnx: float32[2]",
            "y_onnx: float32[2]",
        ]
        assert executable.run({"x_onnx": np.ones(2, "f4")})["y_onnx"].tolist() == [2, 2]


def test_bare_plan_of_several_profiles(fakes: Fakes) -> None:
    """The engine is asked for each; a run takes the profile that its shapes are in."""
    profiles = [{"x_onnx": [(1, 1, 1), (2, 2, 2)]}, {"x_onnx": [(3, 4, 8), (2, 2, 2)]}]
    same_shape = {"bare": True, "profiles": profiles}
    sides = [spec("x", "float32", None, 2)], [spec("y", "float32", None, 2)]
    with fakes.executable(*sides, doubled, lambda s: {"y_onnx": s["x_onnx"]}, **same_shape) as executable:
        for n in (1, 3, 8):
            assert executable.run({"x_onnx": np.ones((n, 2), "f4")})["y_onnx"].tolist() == [[2, 2]] * n
        assert Context.chosen == [0, 1, 1]
        with pytest.raises(InputError, match=r"dimension 0 is 2, outside the compiled profiles.* 1 or 3\.\.8"):
            executable.run({"x_onnx": np.ones((2, 2), "f4")})


def test_header_of_another_plan(fakes: Fakes) -> None:
    wrong = {"inputs": (spec("x", "int32", 2),)}
    with pytest.raises(PlanError, match="header belongs to another plan"):
        fakes.executable([spec("x", "float32", 2)], [spec("y", "float32", 2)], same, replaced=wrong)
    assert fakes.alive == 0


def test_refused_plan_leaves_nothing_behind(fakes: Fakes) -> None:
    with pytest.raises(PlanError, match="magic"):
        fakes.executable([spec("x", "float32", 2)], [spec("y", "float32", 2)], same, plan=b"bad")
    assert fakes.alive == 0


def test_usable_after_a_failed_run(fakes: Fakes) -> None:
    with fakes.executable([spec("x", "float32", 2)], [spec("y", "float32", 2)], same) as executable:
        Runner.failures.append(ExecutionError("cannot run the engine", log="why"))
        with pytest.raises(ExecutionError, match="cannot run the engine"):
            executable.run({"x": np.zeros(2, "f4")})
        assert executable.run({"x": np.ones(2, "f4")})["y"].tolist() == [1, 1]


def test_threads_take_turns(fakes: Fakes) -> None:
    problems: list[str] = []
    with dynamic(fakes) as executable:

        def work(seed: int) -> None:
            for i in range(100):
                x = np.full((1 + (seed + i) % 6, 3), seed * 1000 + i, "f4")
                if not np.array_equal(executable.run({"x": x})["y"], x * 2):
                    problems.append(f"{seed} {i}")

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not problems


def test_close_waits_for_runs_and_later_ones_are_refused(fakes: Fakes) -> None:
    executable = dynamic(fakes)
    ended: list[BaseException] = []

    def work() -> None:
        try:
            while True:
                executable.run({"x": np.zeros((2, 3), "f4")})
        except BaseException as error:
            ended.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    executable.close()
    executable.close()
    for thread in threads:
        thread.join()
    assert {type(error) for error in ended} == {InvalidStateError}
    assert fakes.alive == 0
    assert executable.stats["cuda_graph_reason"] == "closed"


def test_garbage_collection_frees_all(fakes: Fakes) -> None:
    executable = dynamic(fakes)
    executable.run({"x": np.zeros((2, 3), "f4")})
    assert fakes.alive > 0
    del executable
    gc.collect()
    assert fakes.alive == 0


def test_stats(fakes: Fakes) -> None:
    x, y = spec("x", "float32", 2), spec("y", "float32", 2)
    with fakes.executable([x], [y], same, options=CompileOptions(cuda_graph=False)) as executable:
        executable.run({"x": np.zeros(2, "f4")})
        stats = executable.stats
    assert stats["backend"] == "tensorrt" and stats["library"] == "TensorRT for RTX 1.6.1.120"
    assert stats["gpu"] == "Fake GPU" and stats["runs"] == 1 and stats["cuda_graph"] is False
    assert set(stats["seconds"]) >= {"deserialize", "context"}


@pytest.mark.parametrize("given", [True, False])
def test_memory_is_given_to_engines_built_for_it(fakes: Fakes, given: bool) -> None:
    x, y = spec("x", "float32", 2), spec("y", "float32", 2)
    with fakes.executable([x], [y], same, replaced={"options": {"user_allocation": given}}) as executable:
        assert executable.run({"x": np.ones(2, "f4")})["y"].tolist() == [1, 1]
        assert (executable.memory.activations > 0) is given
    assert fakes.alive == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork exists on POSIX only")
def test_fork(fakes: Fakes) -> None:
    executable = dynamic(fakes)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            executable.run({"x": np.zeros((2, 3), "f4")})
        except ForkError:
            executable.close()
            status = 0
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert executable.run({"x": np.ones((2, 3), "f4")})["y"][0, 0] == 2
    executable.close()
    assert fakes.alive == 0
