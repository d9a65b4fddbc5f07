"""averagePool2d, l2Pool2d and maxPool2d."""

from __future__ import annotations

import math

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from pynn.builder import GraphBuilder

from . import reference_part1 as ref
from .support import ALL, FLOATS, array, arrays, assert_close, operand_errors, quick, rejected, run, run_full

POOLS = {"average_pool2d": ref.mean, "l2_pool2d": ref.norm, "max_pool2d": ref.greatest}
CASES = [(name, dtype) for name in POOLS for dtype in (ALL if name == "max_pool2d" else FLOATS)]


@st.composite
def pools(draw, max_pad=2):
    """Height and width, and options that have a result; some windows lie wholly in the padding."""
    window = draw(st.lists(st.integers(1, 3), min_size=2, max_size=2))
    options = {
        "padding": draw(st.lists(st.integers(0, max_pad), min_size=4, max_size=4)),
        "strides": draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)),
        "dilations": draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)),
        "output_shape_rounding": draw(st.sampled_from(["floor", "ceil"])),
    }
    options = {name: value for name, value in options.items() if draw(st.booleans())}
    padding, strides = options.get("padding", (0, 0, 0, 0)), options.get("strides", (1, 1))
    dilations = options.get("dilations", (1, 1))
    reach = [(window[i] - 1) * dilations[i] + 1 for i in range(2)]
    pads = [sum(padding[2 * i : 2 * i + 2]) for i in range(2)]
    sizes = [draw(st.integers(max(1, reach[i] - pads[i]), max(1, reach[i] - pads[i]) + 4)) for i in range(2)]
    if draw(st.booleans()):
        options["window_dimensions"] = window
        if draw(st.booleans()):
            rounded = draw(st.sampled_from([math.floor, math.ceil]))
            options["output_sizes"] = [rounded((sizes[i] + pads[i] - reach[i]) / strides[i]) + 1 for i in range(2)]
    else:
        options.pop("dilations", None)
    return sizes, options


@pytest.mark.parametrize(("name", "dtype"), CASES)
@given(data=st.data())
@quick
def test_values(name, dtype, data):
    (height, width), options = data.draw(pools())
    shape = (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 3)), height, width)
    positive = name != "max_pool2d"
    x = data.draw(arrays(dtype, shape, 0.1 if positive else None, 4 if positive else None))
    layout = data.draw(st.sampled_from(["nchw", "nhwc"]))
    if layout == "nhwc":
        x, options["layout"] = ref.as_layout(x, "nchw", "nhwc"), layout
    got = run(lambda g, x: getattr(g, name)(x, **options), {"x": x})
    window = options.get("window_dimensions", (height, width))
    ulp = 0 if name == "max_pool2d" else window[0] * window[1] + 2
    assert_close(got, ref.pool2d(x, POOLS[name], **options), ulp=ulp)


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize("padding", [[3, 3, 3, 3], [0, 5, 0, 2], [2, 0, 0, 0]])
@pytest.mark.parametrize("dilations", [[1, 1], [2, 3]])
def test_padding_longer_than_the_window(name, padding, dilations):
    x = array("float32", (1, 2, 6, 6), 0.1, 4)
    options = {"window_dimensions": [2, 2], "padding": padding, "dilations": dilations}
    got = run(lambda g, x: getattr(g, name)(x, **options), {"x": x})
    assert_close(got, ref.pool2d(x, POOLS[name], **options), ulp=0 if name == "max_pool2d" else 6)


@pytest.mark.parametrize(("name", "dtype"), CASES)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
def test_the_whole_image_is_a_reduction(name, dtype, layout):
    x = array(dtype, (2, 5, 4, 3))
    result = run_full(lambda g, x: getattr(g, name)(x, layout=layout), {"x": x})
    assert result.ops in (["ReduceMean"], ["ReduceL2"], ["ReduceMax"])
    assert_close(result.outputs["out0"], ref.pool2d(x, POOLS[name], layout=layout), ulp=24, atol=1e-3)


def test_the_example_of_the_spec():
    x = np.arange(1, 50, dtype=np.float32).reshape(1, 1, 7, 7)
    options = {"window_dimensions": [4, 4], "strides": [2, 2], "padding": [2, 1, 2, 1]}
    got = run(lambda g, x: g.average_pool2d(x, **options), {"x": x})
    assert got[0, 0, 0, 0] == 5


def test_output_sizes_keep_the_padding():
    x = np.arange(49, dtype=np.float32).reshape(1, 1, 7, 7)
    options = {"window_dimensions": [4, 4], "strides": [2, 2], "padding": [1, 1, 1, 1]}
    for sizes in ([3, 3], [4, 4]):
        got = run(lambda g, x, sizes=sizes: g.average_pool2d(x, output_sizes=sizes, **options), {"x": x})
        assert got.shape == (1, 1, *sizes)
        assert_close(got, ref.pool2d(x, ref.mean, output_sizes=sizes, **options), ulp=18)


@pytest.mark.parametrize("dtype", ALL)
def test_maximum_of_the_lowest_values(dtype):
    """The lowest finite ones: ONNX Runtime pads float32 with these, not with -infinity."""
    lowest = (np.finfo if dtype.startswith("float") else np.iinfo)(dtype).min
    x = np.full((1, 1, 3, 3), lowest, dtype)
    got = run(lambda g, x: g.max_pool2d(x, window_dimensions=[2, 2], padding=[1, 1, 1, 1]), {"x": x})
    assert (got == x[0, 0, 0, 0]).all()


@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_maximum_of_64_bit_integers_is_exact(dtype):
    top = int(np.iinfo(dtype).max)
    x = np.array([top - 1, top, top - 2, top - 3], dtype).reshape(1, 1, 2, 2)
    got = run(lambda g, x: g.max_pool2d(x, window_dimensions=[1, 2]), {"x": x})
    assert got.ravel().tolist() == [top, top - 2]


def test_no_rounding_is_left_to_the_runtime():
    x = array("float32", (1, 1, 7, 7))
    options = {"window_dimensions": [2, 2], "strides": [3, 3], "output_shape_rounding": "ceil"}
    for name in POOLS:
        result = run_full(lambda g, x, name=name: getattr(g, name)(x, **options), {"x": x})
        assert all("ceil_mode" not in node.attributes for node in result.graph.nodes)


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POOLS)
def test_operand_errors(name):
    operand_errors(name, {"input": [1, 2, 5, 5]})


@pytest.mark.parametrize("name", POOLS)
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("window_dimensions", [2]),
        ("window_dimensions", [2, 2, 2]),
        ("window_dimensions", [0, 2]),
        ("window_dimensions", [2, 0]),
        ("window_dimensions", [2, 2.0]),
        ("window_dimensions", 2),
        ("window_dimensions", [9, 2]),
        ("padding", [1, 1]),
        ("padding", [0, 0, 0, -1]),
        ("padding", None),
        ("strides", [1]),
        ("strides", [1, 0]),
        ("dilations", [1, 1, 1]),
        ("dilations", [0, 1]),
        ("layout", "chwn"),
        ("layout", None),
        ("output_shape_rounding", "round"),
        ("output_sizes", [5]),
        ("output_sizes", [5, 5, 5]),
        ("output_sizes", [4, 4]),
        ("output_sizes", [-1, 5]),
        ("output_sizes", "55"),
    ],
)
def test_option_errors(name, option, value):
    g = GraphBuilder()
    x = g.input("x", [1, 2, 5, 5], "float32")
    if option == "window_dimensions" and value == [9, 2]:
        rejected(g, name, x, window_dimensions=value, mentions=[[1, 2, -3, 4]])
    else:
        options = {"window_dimensions": [1, 1], option: value}
        rejected(g, name, x, mentions=[option, value], **options)


@pytest.mark.parametrize("name", POOLS)
def test_output_sizes_follow_one_rounding(name):
    g = GraphBuilder()
    x = g.input("x", [1, 1, 6, 6], "float32")
    options = {"window_dimensions": [3, 3], "strides": [2, 2]}
    pool = getattr(g, name)
    assert pool(x, output_sizes=[2, 2], **options).shape == (1, 1, 2, 2)
    assert pool(x, output_sizes=[3, 3], **options).shape == (1, 1, 3, 3)
    assert pool(x, output_sizes=[3, 3], output_shape_rounding="floor", **options).shape == (1, 1, 3, 3)
    rejected(g, name, x, output_sizes=[2, 3], mentions=[[2, 3], [2, 2], [3, 3]], **options)


@pytest.mark.parametrize("name", POOLS)
def test_ceil_of_a_window_that_does_not_fit(name):
    """The last window may overhang by less than a stride, from a start inside the padded input."""
    g = GraphBuilder()
    x = g.input("x", [1, 1, 3, 3], "float32")
    rejected(g, name, x, window_dimensions=[4, 4], mentions=[[1, 1, 0, 0]])
    rejected(g, name, x, window_dimensions=[5, 5], strides=[2, 2], output_shape_rounding="ceil", mentions=["0"])
