"""What back ends get of a graph with named dimensions: sizes put in, rules checked, and no partition."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import pynn
from pynn import UnsupportedModelError, ValidationError
from pynn.backends import selection
from pynn.backends.base import CompileOptions
from pynn.backends.named_sizes import settle_sizes
from pynn.backends.partition_search import foresee
from pynn.graph import Graph, Operand

from .partition_fakes import FakeTensorRT, graph_of, lower


def net(b: pynn.GraphBuilder) -> dict[str, Operand]:
    x = b.input("x", ["n", "m"], "float32")
    y = b.slice(b.softmax(b.sin(x), 1, label="bad"), [0, 2], [x.shape[0], 5], label="cut")
    return {"y": y}


GRAPH = graph_of(net)


def settled(shapes: Any = None, profiles: Any = ()) -> tuple[Graph, CompileOptions]:
    return settle_sizes(GRAPH, CompileOptions(shapes=shapes or {}, profiles=tuple(profiles)))


def test_without_sizes_nothing_changes() -> None:
    options = CompileOptions()
    assert settle_sizes(GRAPH, options) == (GRAPH, options)


def test_one_size_becomes_a_number() -> None:
    graph, options = settled({"n": 4, "m": (7, 8, 9)})
    assert graph.dimensions == ("m",) and graph.outputs["y"].shape == (4, 5)
    assert options.shapes == {"m": (7, 8, 9)} and options.profiles == ()
    graph, options = settled({"x": [4, 7]})
    assert graph.dimensions == () and options.shapes == {}


def test_one_size_in_all_profiles_becomes_a_number() -> None:
    graph, options = settled(profiles=[{"n": 4, "m": 7}, {"n": 4, "m": (8, 8, 9)}])
    assert graph.dimensions == ("m",)
    assert options.profiles == ({"m": (7, 7, 7)}, {"m": (8, 8, 9)})


@pytest.mark.parametrize("given", [{"m": (6, 8, 9)}, {"n": 3, "m": 6}, [{"m": 7}, {"m": (6, 8, 9)}]])
def test_rules_are_checked_at_the_ends(given: Any) -> None:
    with pytest.raises(ValidationError, match=r"cut.*2 \+ 5 > 6 \(with .*m=6"):
        settled(profiles=given) if isinstance(given, list) else settled(given)


def test_many_dimensions_are_checked_at_the_least_and_the_greatest() -> None:
    b = pynn.GraphBuilder()
    names = [f"d{i}" for i in range(6)]
    x = b.input("x", names, "float32")
    graph = b.finish({"y": b.slice(x, [0] * 6, [3, *x.shape[1:]], label="cut")})
    with pytest.raises(ValidationError, match=r"cut.*\(with d0=2"):
        settle_sizes(graph, CompileOptions(shapes={"d0": (2, 4, 8)} | dict.fromkeys(names[1:], (1, 2, 3))))


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> FakeTensorRT:
    backend = FakeTensorRT("bad")
    monkeypatch.setattr(selection, "_tensorrt", lambda wish: backend)
    return backend


@pytest.mark.ort
def test_no_partition_and_the_report_says_so(refusing: FakeTensorRT) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pynn.compile(GRAPH, shapes={"n": (1, 2, 4), "m": (7, 8, 9)}) as model:
            assert model.backend == "onnxruntime"
            assert "named dimensions are not partitioned" in str(model.partition_report())
            assert model.run({"x": np.ones((2, 9), np.float32)})["y"].shape == (2, 5)
    assert len(caught) == 1
    assert "named dimensions are not partitioned" in str(
        foresee(GRAPH, refusing, "onnxruntime", lower, CompileOptions())
    )
    with pytest.raises(UnsupportedModelError, match=r"bad.*named dimensions are not partitioned"):
        pynn.compile(GRAPH, backend="tensorrt")


@pytest.mark.ort
def test_fixed_sizes_are_partitioned(refusing: FakeTensorRT) -> None:
    with pytest.warns(pynn.FallbackWarning, match="only in part"):
        model = pynn.compile(GRAPH, backend="tensorrt", shapes={"n": 2, "m": 8})
    with model:
        assert model.backend == "tensorrt+onnxruntime"
        assert model.run({"x": np.ones((2, 8), np.float32)})["y"].shape == (2, 5)
