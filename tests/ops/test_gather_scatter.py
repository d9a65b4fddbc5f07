"""gather gatherElements gatherND scatterElements scatterND."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.builder import GraphBuilder

from . import reference_part2 as reference
from .support import ALL, array, arrays, assert_close, quick, rejected, rejected_when_finished, run, shapes

Array = np.ndarray[Any, Any]
INDEX_TYPES = ("int32", "uint32", "int64")
dtypes = st.sampled_from(ALL)


@st.composite
def index_arrays(draw: st.DrawFn, shape: tuple[int, ...], size: int) -> Array:
    """Indices in and far out of [-size, size - 1], of any index type."""
    dtype = draw(st.sampled_from(INDEX_TYPES))
    low = 0 if dtype == "uint32" else -size - 2
    special = [np.iinfo(dtype).min, np.iinfo(dtype).max] if draw(st.booleans()) else []
    return draw(arrays(dtype, shape, low, size + 1, special=special))


def constants(data: st.DataObject) -> list[str]:
    return ["indices"] if data.draw(st.booleans()) else []


@quick
@given(st.data())
def test_gather(data: st.DataObject) -> None:
    x = data.draw(arrays(data.draw(dtypes), data.draw(shapes(1, 3))))
    axis = data.draw(st.integers(0, x.ndim - 1))
    indices = data.draw(index_arrays(data.draw(shapes(0, 2)), x.shape[axis]))
    inputs = {"x": x, "indices": indices}
    got = run(lambda b, x, i: b.gather(x, i, axis=axis), inputs, constants=constants(data))
    assert_close(got, reference.gather(x, indices, axis))


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize("dtype", INDEX_TYPES)
def test_indices_clamp(dtype: str, constant: bool) -> None:
    x = np.array([10, 20, 30], np.float32)
    info = np.iinfo(dtype)
    values = [0, 2, 3, info.max] if dtype == "uint32" else [0, 2, -1, -3, -4, 3, info.min, info.max]
    expected = [10, 30, 30, 30] if dtype == "uint32" else [10, 30, 30, 10, 10, 30, 10, 30]
    inputs = {"x": x, "indices": np.array(values, dtype)}
    got = run(lambda b, x, i: b.gather(x, i), inputs, constants=["indices"] if constant else [])
    assert_close(got, np.array(expected))


@st.composite
def element_operands(draw: st.DrawFn) -> tuple[Array, int, tuple[int, ...]]:
    """An input, an axis, and a shape of indices for it."""
    x = draw(arrays(draw(dtypes), draw(shapes(1, 4))))
    axis = draw(st.integers(0, x.ndim - 1))
    return x, axis, (*x.shape[:axis], draw(st.integers(1, 5)), *x.shape[axis + 1 :])


@quick
@given(st.data())
def test_gather_elements(data: st.DataObject) -> None:
    x, axis, shape = data.draw(element_operands())
    inputs = {"x": x, "indices": data.draw(index_arrays(shape, x.shape[axis]))}
    got = run(lambda b, x, i: b.gather_elements(x, i, axis=axis), inputs, constants=constants(data))
    assert_close(got, reference.gather_elements(x, inputs["indices"], axis))


@st.composite
def coordinates(draw: st.DrawFn, x: Array) -> Array:
    depth = draw(st.integers(1, x.ndim))
    return draw(index_arrays((*draw(shapes(0, 2)), depth), max(x.shape[:depth])))


@quick
@given(st.data())
def test_gather_nd(data: st.DataObject) -> None:
    x = data.draw(arrays(data.draw(dtypes), data.draw(shapes(1, 4))))
    inputs = {"x": x, "indices": data.draw(coordinates(x))}
    got = run(lambda b, x, i: b.gather_nd(x, i), inputs, constants=constants(data))
    assert_close(got, reference.gather_nd(x, inputs["indices"]))


@quick
@given(st.data())
def test_scatter_elements(data: st.DataObject) -> None:
    """Targets are distinct: a permutation along the axis, written now and then from the end."""
    x, axis, _ = data.draw(element_operands())
    size = x.shape[axis]
    shape = (*x.shape[:axis], data.draw(st.integers(1, size)), *x.shape[axis + 1 :])
    targets = data.draw(st.permutations(range(size)))[: shape[axis]]
    column = np.array(targets).reshape([-1 if a == axis else 1 for a in range(x.ndim)])
    dtype = data.draw(st.sampled_from(INDEX_TYPES))
    indices = np.broadcast_to(column, shape).astype(dtype)
    if dtype != "uint32" and data.draw(st.booleans()):
        indices = indices - np.asarray(size, dtype)
    inputs = {"x": x, "indices": indices, "u": data.draw(arrays(x.dtype.name, shape))}
    got = run(lambda b, x, i, u: b.scatter_elements(x, i, u, axis=axis), inputs, constants=constants(data))
    assert_close(got, reference.scatter_elements(x, indices, inputs["u"], axis))


@quick
@given(st.data())
def test_scatter_nd(data: st.DataObject) -> None:
    """Targets are distinct coordinates, written now and then from the end."""
    x = data.draw(arrays(data.draw(dtypes), data.draw(shapes(1, 4))))
    depth = data.draw(st.integers(1, x.ndim))
    every = np.array(list(np.ndindex(x.shape[:depth])))
    count = data.draw(st.integers(1, len(every)))
    dtype = data.draw(st.sampled_from(INDEX_TYPES))
    indices = every[data.draw(st.permutations(range(len(every))))[:count]].astype(dtype)
    if dtype != "uint32" and data.draw(st.booleans()):
        indices = indices - np.array(x.shape[:depth], dtype)
    inputs = {"x": x, "indices": indices, "u": data.draw(arrays(x.dtype.name, (count, *x.shape[depth:])))}
    got = run(lambda b, x, i, u: b.scatter_nd(x, i, u), inputs, constants=constants(data))
    assert_close(got, reference.scatter_nd(x, indices, inputs["u"]))


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(("index", "place"), [(9, 2), (-9, 0), (2**31 - 1, 2), (-(2**31), 0)])
def test_scatter_out_of_range_clamps(index: int, place: int, constant: bool) -> None:
    x, u = np.zeros(3, np.float32), np.ones(1, np.float32)
    expected = np.eye(3, dtype=np.float32)[place]
    fixed = ["indices"] if constant else []
    inputs = {"x": x, "indices": np.array([index], np.int32), "u": u}
    assert_close(run(lambda b, x, i, u: b.scatter_elements(x, i, u), inputs, constants=fixed), expected)
    inputs["indices"] = inputs["indices"].reshape(1, 1)
    assert_close(run(lambda b, x, i, u: b.scatter_nd(x, i, u), inputs, constants=fixed), expected)


# -- errors ---------------------------------------------------------------------------------


@pytest.fixture
def b() -> GraphBuilder:
    return GraphBuilder()


METHODS = ("gather", "gather_elements", "gather_nd", "scatter_elements", "scatter_nd")


def arguments(method: str, x: Any, i: Any, u: Any) -> tuple[Any, ...]:
    return (x, i, u) if method.startswith("scatter") else (x, i)


@pytest.mark.parametrize("method", METHODS)
def test_common_errors(method: str, b: GraphBuilder) -> None:
    x = b.input("x", [2], "float32")
    shape = [2, 1] if method.endswith("_nd") else [2]
    i = b.input("i", shape, "int32")
    for dtype in set(ALL) - set(INDEX_TYPES):
        bad = b.input(f"i {dtype}", shape, dtype)
        rejected(b, method, *arguments(method, x, bad, x), mentions=["indices", dtype, "int32, uint32, int64"])
    rejected(b, method, *arguments(method, b.input("s", [], "float32"), i, x), mentions=["input", "rank 0"])
    if method != "gather":
        rejected(b, method, *arguments(method, x, b.input("si", [], "int32"), x), mentions=["indices", "rank 0"])
    if not method.endswith("_nd"):
        for axis in (1, -1):
            rejected(b, method, *arguments(method, x, i, x), axis=axis, mentions=["axis", axis])
    other = GraphBuilder()
    foreign = other.input("x", [2], "float32")
    rejected(b, method, *arguments(method, foreign, i, x), mentions=["input", "another builder"])
    foreign_indices = other.input("i", shape, "int32")
    rejected(b, method, *arguments(method, x, foreign_indices, x), mentions=["indices", "another builder"])
    if method.startswith("scatter"):
        rejected(b, method, x, i, foreign, mentions=["updates", "another builder"])
        rejected(b, method, x, i, b.input("h", [2], "float16"), mentions=["updates", "float16", "float32"])
    rejected_when_finished(b, method, *arguments(method, x, i, x))


@pytest.mark.parametrize("method", ["gather_elements", "scatter_elements"])
def test_element_shapes(method: str, b: GraphBuilder) -> None:
    x = b.input("x", [2, 3], "float32")
    rank = b.input("r", [2], "int32")
    rejected(b, method, *arguments(method, x, rank, x), mentions=["indices", [2], [2, 3]])
    shape = b.input("i", [2, 4], "int32")
    rejected(b, method, *arguments(method, x, shape, x), mentions=["indices", [2, 4], [2, 3]])


def test_scatter_elements_updates(b: GraphBuilder) -> None:
    x, i = b.input("x", [2, 3], "float32"), b.input("i", [2, 3], "int32")
    rejected(b, "scatter_elements", x, i, b.input("u", [1, 3], "float32"), mentions=["updates", [1, 3], [2, 3]])
    rejected(b, "scatter_elements", x, i, b.input("v", [6], "float32"), mentions=["updates", [6]])
    rejected(b, "scatter_elements", x, i, b.input("s", [], "float32"), mentions=["updates", "rank 0"])


@pytest.mark.parametrize("method", ["gather_nd", "scatter_nd"])
def test_coordinates_too_long(method: str, b: GraphBuilder) -> None:
    x, i = b.input("x", [2, 3], "float32"), b.input("i", [4, 3], "int32")
    rejected(b, method, *arguments(method, x, i, x), mentions=["indices", [4, 3], 3, [2, 3]])


def test_scatter_nd_updates(b: GraphBuilder) -> None:
    x, i = b.input("x", [2, 3], "float32"), b.input("i", [4, 1], "int32")
    rejected(b, "scatter_nd", x, i, b.input("u", [4], "float32"), mentions=["updates", [4], [4, 3]])


@pytest.mark.parametrize("method", ["gather", "gather_nd"])
def test_results_too_large(method: str, b: GraphBuilder) -> None:
    x, i = b.input("x", [2**16, 2**14], "uint8"), b.input("i", [2**18, 1], "int32")
    rejected(b, method, x, i, mentions=[2**18])


def test_gather_of_a_constant_table() -> None:
    """The usual embedding: constant table, run-time indices."""
    table = array("float32", (5, 3))
    got = run(lambda b, i: b.gather(b.constant(table), i), {"i": np.array([[4, 0], [-1, 7]], np.int64)})
    assert_close(got, table[[[4, 0], [4, 4]]])
