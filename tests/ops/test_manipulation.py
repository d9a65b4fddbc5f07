"""concat expand pad reshape reverse slice split tile transpose triangular where."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.builder import GraphBuilder

from . import reference_part2 as reference
from .support import (
    ALL,
    array,
    arrays,
    assert_close,
    broadcastable,
    broadcastable_to,
    quick,
    rejected,
    rejected_when_finished,
    run,
    run_full,
    shapes,
)

dtypes = st.sampled_from(ALL)


@pytest.fixture
def builder() -> GraphBuilder:
    return GraphBuilder()


# -- values ---------------------------------------------------------------------------------


@quick
@given(st.data())
def test_concat(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), data.draw(shapes(1))
    axis = data.draw(st.integers(0, len(shape) - 1))
    sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    parts = {
        f"x{i}": data.draw(arrays(dtype, (*shape[:axis], size, *shape[axis + 1 :]))) for i, size in enumerate(sizes)
    }
    constants = [name for name in parts if data.draw(st.booleans())][: len(parts) - 1]
    got = run(lambda b, *xs: b.concat(xs, axis), parts, constants=constants)
    assert_close(got, np.concatenate(list(parts.values()), axis))


def test_concat_takes_an_operand_twice() -> None:
    x = array("float32", (2, 3))
    assert_close(run(lambda b, x: b.concat([x, x], 1), {"x": x}), np.concatenate([x, x], 1))


@quick
@given(st.data())
def test_expand(data: st.DataObject) -> None:
    dtype, target = data.draw(dtypes), data.draw(shapes())
    x = data.draw(arrays(dtype, data.draw(broadcastable_to(target))))
    assert_close(run(lambda b, x: b.expand(x, target), {"x": x}), np.broadcast_to(x, target))


@quick
@given(st.data())
def test_pad(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), data.draw(shapes())
    mode = data.draw(st.sampled_from(["constant", "edge", "reflection"]))
    before, after = (
        [data.draw(st.integers(0, min(3, d - 1) if mode == "reflection" else 3)) for d in shape] for _ in range(2)
    )
    value = data.draw(st.sampled_from([0, 7, 100]))
    x = data.draw(arrays(dtype, shape))
    got = run(lambda b, x: b.pad(x, before, after, mode=mode, value=value), {"x": x})
    widths = np.array([before, after], int).T.reshape(-1, 2)
    if not shape:
        expected = x
    elif mode == "constant":
        expected = np.pad(x, widths, constant_values=value)
    else:
        expected = np.pad(x, widths, mode={"edge": "edge", "reflection": "reflect"}[mode])
    assert_close(got, expected)


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("int8", 1000, 127),
        ("uint8", -3, 0),
        ("int32", 2.5, 2),
        ("int32", float("nan"), 0),
        ("int64", 2**62 + 1, 2**62 + 1),
        ("uint64", 2**64 - 1, 2**64 - 1),
        ("float16", 1e6, float("inf")),
        ("float32", float("-inf"), float("-inf")),
        ("float32", float("nan"), float("nan")),
    ],
)
def test_pad_converts_its_value(dtype: str, value: float, expected: float) -> None:
    got = run(lambda b, x: b.pad(x, [1], [0], value=value), {"x": array(dtype, (1,))})
    assert_close(got[:1], np.array([expected], dtype))


@quick
@given(st.data())
def test_reshape(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), data.draw(shapes())
    target = [*data.draw(st.permutations(shape)), *[1] * data.draw(st.integers(0, 2))]
    x = data.draw(arrays(dtype, shape))
    constants = ["x"] if data.draw(st.booleans()) else []
    assert_close(run(lambda b, x: b.reshape(x, target), {"x": x}, constants=constants), x.reshape(target))


def test_reshape_to_and_from_scalar() -> None:
    x = array("float32", (1, 1))
    assert_close(run(lambda b, x: b.reshape(x, []), {"x": x}), x.reshape(()))
    assert_close(run(lambda b, x: b.reshape(x, [1, 1]), {"x": x.reshape(())}), x)


@quick
@given(st.data())
def test_reverse(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), data.draw(shapes())
    axes = data.draw(st.none() | st.lists(st.integers(0, len(shape) - 1), unique=True) if shape else st.just([]))
    x = data.draw(arrays(dtype, shape))
    expected = np.flip(x, tuple(range(x.ndim)) if axes is None else tuple(axes))
    assert_close(run(lambda b, x: b.reverse(x, axes=axes), {"x": x}), expected)


@quick
@given(st.data())
def test_slice(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), data.draw(shapes(max_dim=6))
    starts = [data.draw(st.integers(0, d - 1)) for d in shape]
    sizes = [data.draw(st.integers(1, d - s)) for d, s in zip(shape, starts, strict=True)]
    strides = data.draw(st.none() | st.tuples(*(st.integers(1, 4) for _ in shape)))
    x = data.draw(arrays(dtype, shape))
    steps = strides or [1] * len(shape)
    window = tuple(slice(s, s + n, k) for s, n, k in zip(starts, sizes, steps, strict=True))
    assert_close(run(lambda b, x: b.slice(x, starts, sizes, strides=strides), {"x": x}), x[window])


@quick
@given(st.data())
def test_split(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), list(data.draw(shapes(1)))
    axis = data.draw(st.integers(0, len(shape) - 1))
    if data.draw(st.booleans()):
        sizes = data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
        shape[axis] = sum(sizes)
        splits: int | list[int] = sizes
    else:
        splits = data.draw(st.integers(1, 4))
        shape[axis] *= splits
        sizes = [shape[axis] // splits] * splits
    x = data.draw(arrays(dtype, shape))
    got = run(lambda b, x: b.split(x, splits, axis=axis), {"x": x})
    assert isinstance(got, list) and len(got) == len(sizes)
    for piece, expected in zip(got, np.split(x, np.cumsum(sizes)[:-1], axis), strict=True):
        assert_close(piece, expected)


def test_split_returns_a_list_for_one_piece(builder: GraphBuilder) -> None:
    x = builder.input("x", [2], "float32")
    assert [o.shape for o in builder.split(x, 1)] == [(2,)]
    assert [o.shape for o in builder.split(x, [2])] == [(2,)]
    assert [o.shape for o in builder.split(x, 2)] == [(1,), (1,)]


@quick
@given(st.data())
def test_tile(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), data.draw(shapes(max_dim=3))
    repetitions = [data.draw(st.integers(1, 3)) for _ in shape]
    x = data.draw(arrays(dtype, shape))
    assert_close(run(lambda b, x: b.tile(x, repetitions), {"x": x}), np.tile(x, repetitions))


@quick
@given(st.data())
def test_transpose(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), data.draw(shapes())
    permutation = data.draw(st.none() | st.permutations(range(len(shape))))
    x = data.draw(arrays(dtype, shape))
    constants = ["x"] if data.draw(st.booleans()) else []
    got = run(lambda b, x: b.transpose(x, permutation=permutation), {"x": x}, constants=constants)
    assert_close(got, x.transpose(permutation))


@quick
@given(st.data())
def test_triangular(data: st.DataObject) -> None:
    dtype, shape = data.draw(dtypes), data.draw(shapes(2))
    upper = data.draw(st.booleans())
    diagonal = data.draw(st.integers(-5, 5) | st.sampled_from([-(2**31), 2**31 - 1]))
    x = data.draw(arrays(dtype, shape))
    got = run(lambda b, x: b.triangular(x, upper=upper, diagonal=diagonal), {"x": x})
    assert_close(got, reference.triangular(x, upper, diagonal))


def test_triangular_drops_infinity_and_nan() -> None:
    x = np.array([[1, np.inf], [np.nan, 2]], np.float32)
    assert_close(run(lambda b, x: b.triangular(x), {"x": x}), np.array([[1, np.inf], [0, 2]], np.float32))
    assert_close(run(lambda b, x: b.triangular(x, upper=False), {"x": x}), np.array([[1, 0], [np.nan, 2]], np.float32))


@quick
@given(st.data())
def test_where(data: st.DataObject) -> None:
    dtype = data.draw(dtypes)
    one, two, three = data.draw(broadcastable(3, max_rank=4, max_dim=3))
    condition = data.draw(arrays("uint8", one, 0, 2))
    special = (float("nan"), float("inf")) if dtype.startswith("float") else ()
    a, b = (data.draw(arrays(dtype, shape, special=special)) for shape in (two, three))
    got = run(lambda g, c, a, b: g.where(c, a, b), {"c": condition, "a": a, "b": b})
    assert_close(got, np.where(condition != 0, a, b))


# -- what is emitted ------------------------------------------------------------------------


def test_nothing_to_do_emits_nothing_but_identity() -> None:
    x = array("float32", (2, 3))
    calls = {
        "reshape": lambda b, x: b.reshape(x, [2, 3]),
        "expand": lambda b, x: b.expand(x, [2, 3]),
        "pad": lambda b, x: b.pad(x, [0, 0], [0, 0]),
        "reverse": lambda b, x: b.reverse(x, axes=[]),
        "slice": lambda b, x: b.slice(x, [0, 0], [2, 3]),
        "split": lambda b, x: b.split(x, 1),
        "tile": lambda b, x: b.tile(x, [1, 1]),
        "transpose": lambda b, x: b.transpose(x, permutation=[0, 1]),
    }
    for name, call in calls.items():
        assert run_full(call, {"x": x}).ops == ["Identity"], name


# -- errors ---------------------------------------------------------------------------------


def test_concat_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 3], "float32")
    scalar = builder.input("s", [], "float32")
    rejected(builder, "concat", [], 0, mentions=["inputs", 8192])
    rejected(builder, "concat", [x] * 8193, 0, mentions=["inputs", 8192, 8193])
    rejected(builder, "concat", [x, x], 2, mentions=["axis", 2])
    rejected(builder, "concat", [x, x], -1, mentions=["axis", -1])
    rejected(builder, "concat", [scalar], 0, mentions=["inputs[0]", "rank 0"])
    rejected(builder, "concat", x, 0, mentions=["inputs", "sequence"])
    rejected(builder, "concat", [x, "y"], 0, mentions=["inputs[1]", "'y'"])
    other_type = builder.input("i", [2, 3], "int32")
    rejected(builder, "concat", [x, other_type], 0, mentions=["inputs[1]", "int32", "float32"])
    other_rank = builder.input("r", [2, 3, 1], "float32")
    rejected(builder, "concat", [x, other_rank], 0, mentions=["inputs[1]", [2, 3, 1], [2, 3]])
    other_dim = builder.input("d", [2, 4], "float32")
    rejected(builder, "concat", [x, other_dim], 0, mentions=["inputs[1]", [2, 4], [2, 3]])
    huge = builder.input("h", [2**30], "uint8")
    rejected(builder, "concat", [huge, huge], 0, mentions=[2**31])
    foreign = GraphBuilder().input("x", [2, 3], "float32")
    rejected(builder, "concat", [x, foreign], 0, mentions=["inputs[1]", "another builder"])


def test_expand_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 1], "float32")
    for shape in ([2], [3, 1], [1, 4], [2, 1, 4]):
        rejected(builder, "expand", x, shape, mentions=[[2, 1], shape])
    for shape in ([2, 0], [2, -1], [2, 1.5], [2, True], "23", 7):
        rejected(builder, "expand", x, shape, mentions=["new_shape"])
    rejected(builder, "expand", x, [2, 2**31], mentions=[2**31])
    rejected(builder, "expand", x, [2**20, 2, 2**11], mentions=[2**20])


def test_pad_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 3], "float32")
    rejected(builder, "pad", x, [1], [1, 1], mentions=["beginning_padding", [1], 2])
    rejected(builder, "pad", x, [1, 1], [1, 1, 1], mentions=["ending_padding", [1, 1, 1], 2])
    rejected(builder, "pad", x, [-1, 1], [1, 1], mentions=["beginning_padding", -1])
    rejected(builder, "pad", x, [2, 0], [0, 0], mode="reflection", mentions=["beginning_padding", [2, 0], [2, 3]])
    rejected(builder, "pad", x, [0, 0], [0, 3], mode="reflection", mentions=["ending_padding", [0, 3], [2, 3]])
    rejected(builder, "pad", x, [2**31 - 1, 0], [0, 0], mentions=[2**31 + 1])
    rejected(builder, "pad", x, [0, 0], [0, 0], mode="symmetric", mentions=["mode", "symmetric"])
    rejected(builder, "pad", x, [0, 0], [0, 0], value="1", mentions=["value", "'1'"])


def test_reshape_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 3], "float32")
    rejected(builder, "reshape", x, [6, 0], mentions=["new_shape", 0])
    rejected(builder, "reshape", x, [-1], mentions=["new_shape", -1])
    rejected(builder, "reshape", x, [7], mentions=["new_shape", [7], 6])
    rejected(builder, "reshape", x, [], mentions=["new_shape", [], 6])
    rejected(builder, "reshape", x, [2**31], mentions=["new_shape", 2**31])


def test_reverse_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 3], "float32")
    rejected(builder, "reverse", x, axes=[1, 1], mentions=["axes", [1, 1]])
    rejected(builder, "reverse", x, axes=[2], mentions=["axes", [2]])
    rejected(builder, "reverse", x, axes=[-1], mentions=["axes", -1])
    rejected(builder, "reverse", builder.input("s", [], "float32"), axes=[0], mentions=["axes", [0]])


def test_slice_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 3], "float32")
    rejected(builder, "slice", x, [0], [1, 1], mentions=["starts", [0], 2])
    rejected(builder, "slice", x, [0, 0], [1], mentions=["sizes", [1], 2])
    rejected(builder, "slice", x, [0, 0], [1, 0], mentions=["sizes", 0])
    rejected(builder, "slice", x, [0, 0], [1, 1], strides=[1], mentions=["strides", [1], 2])
    rejected(builder, "slice", x, [0, 0], [1, 1], strides=[1, 0], mentions=["strides", 0])
    rejected(builder, "slice", x, [3, 0], [1, 1], mentions=["starts", [3, 0], [2, 3]])
    rejected(builder, "slice", x, [1, 0], [2, 1], mentions=["starts", "sizes", [2, 3], "1 + 2 > 2"])


def test_split_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 9000], "float32")
    rejected(builder, "split", x, 2, axis=2, mentions=["axis", 2])
    rejected(builder, "split", builder.input("s", [], "float32"), 1, mentions=["rank 0"])
    rejected(builder, "split", x, 0, mentions=["splits", 0])
    rejected(builder, "split", x, 9000, axis=1, mentions=["splits", 8192, 9000])
    rejected(builder, "split", x, 3, mentions=["splits", 3, 2])
    rejected(builder, "split", x, [], mentions=["splits", 8192])
    rejected(builder, "split", x, [1] * 9000, axis=1, mentions=["splits", 8192, 9000])
    rejected(builder, "split", x, [2, 0], mentions=["splits", 0])
    rejected(builder, "split", x, [1, 2], mentions=["splits", [1, 2], 3, 2])
    rejected(builder, "split", x, 1.5, mentions=["splits", 1.5])


def test_tile_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 3], "float32")
    rejected(builder, "tile", x, [2], mentions=["repetitions", [2], 2])
    rejected(builder, "tile", x, [2, 0], mentions=["repetitions", 0])
    rejected(builder, "tile", x, [2, 2**32], mentions=["repetitions", 2**32])
    rejected(builder, "tile", x, [1, 2**30], mentions=[3 * 2**30])
    rejected(builder, "tile", x, [2**20, 2**20], mentions=[2**21])


def test_transpose_errors(builder: GraphBuilder) -> None:
    x = builder.input("x", [2, 3], "float32")
    rejected(builder, "transpose", x, permutation=[0], mentions=["permutation", [0], 2])
    rejected(builder, "transpose", x, permutation=[0, 2], mentions=["permutation", [0, 2]])
    rejected(builder, "transpose", x, permutation=[0, 0], mentions=["permutation", [0, 0]])
    rejected(builder, "transpose", x, permutation=[1, -2], mentions=["permutation", -2])


def test_triangular_errors(builder: GraphBuilder) -> None:
    rejected(builder, "triangular", builder.input("v", [2], "float32"), mentions=["rank 1", [2], 2])
    x = builder.input("x", [2, 2], "float32")
    for diagonal in (2**31, -(2**31) - 1, 0.5, True):
        rejected(builder, "triangular", x, diagonal=diagonal, mentions=["diagonal", diagonal])
    rejected(builder, "triangular", x, upper=1, mentions=["upper", 1])


def test_where_errors(builder: GraphBuilder) -> None:
    c = builder.input("c", [2], "uint8")
    x = builder.input("x", [2], "float32")
    rejected(builder, "where", x, x, x, mentions=["condition", "float32", "uint8"])
    rejected(builder, "where", c, x, builder.input("i", [2], "int32"), mentions=["false_value", "int32", "float32"])
    three = builder.input("t", [3], "float32")
    rejected(builder, "where", c, x, three, mentions=[[2], [3]])
    rejected(builder, "where", c, three, three, mentions=[[2], [3]])


METHODS = {
    "concat": lambda x: ([x], 0),
    "expand": lambda x: (x, [2, 2]),
    "pad": lambda x: (x, [0, 0], [0, 0]),
    "reshape": lambda x: (x, [4]),
    "reverse": lambda x: (x,),
    "slice": lambda x: (x, [0, 0], [1, 1]),
    "split": lambda x: (x, 1),
    "tile": lambda x: (x, [1, 1]),
    "transpose": lambda x: (x,),
    "triangular": lambda x: (x,),
    "where": lambda x: (x, x, x),
}


@pytest.mark.parametrize("method", METHODS)
def test_foreign_operands_and_finished_builders(method: str, builder: GraphBuilder) -> None:
    foreign = GraphBuilder().input("x", [2, 2], "uint8")
    rejected(builder, method, *METHODS[method](foreign), mentions=["another builder"])
    own = builder.input("x", [2, 2], "uint8")
    rejected_when_finished(builder, method, *METHODS[method](own))
