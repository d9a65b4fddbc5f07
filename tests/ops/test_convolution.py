"""conv2d and convTranspose2d."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from pynn.builder import GraphBuilder

from . import reference_part1 as ref
from .support import FLOATS, array, arrays, assert_close, operand_errors, quick, rejected, run, run_full

CONV_FILTERS = ("oihw", "hwio", "ohwi", "ihwo")
TRANSPOSED_FILTERS = ("iohw", "hwoi", "ohwi")


@st.composite
def windows(draw, transposed):
    """Options and sizes of a convolution that has a result."""
    options = {
        "padding": draw(st.lists(st.integers(0, 2), min_size=4, max_size=4)),
        "strides": draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)),
        "dilations": draw(st.lists(st.integers(1, 3), min_size=2, max_size=2)),
    }
    kernel = draw(st.lists(st.integers(1, 3), min_size=2, max_size=2))
    options = {name: value for name, value in options.items() if draw(st.booleans())}
    padding = options.get("padding", (0, 0, 0, 0))
    sizes = []
    for i in range(2):
        reach = (kernel[i] - 1) * options.get("dilations", (1, 1))[i] + 1
        pads = padding[2 * i] + padding[2 * i + 1]
        stride = options.get("strides", (1, 1))[i]
        least = -(-(pads + 1 - reach) // stride) + 1 if transposed else reach - pads
        sizes.append(draw(st.integers(max(1, least), max(1, least) + 3)))
    return options, kernel, sizes


def operands(draw, dtype, options, x_shape, w_shape, *, filter_axes, out_channels):
    """Arrays in the drawn layouts. Positive, so that nothing cancels and the tolerance is a matter of the sizes."""
    layout = draw(st.sampled_from(["nchw", "nhwc"]))
    filter_layout = draw(st.sampled_from(CONV_FILTERS if filter_axes == "oihw" else TRANSPOSED_FILTERS))
    inputs = {
        "input": ref.as_layout(draw(arrays(dtype, x_shape, 0.1, 1)), "nchw", layout),
        "filter": ref.as_layout(draw(arrays(dtype, w_shape, 0.1, 1)), filter_axes, filter_layout),
    }
    if layout != "nchw" or draw(st.booleans()):
        options["input_layout"] = layout
    if filter_layout != filter_axes or draw(st.booleans()):
        options["filter_layout"] = filter_layout
    if draw(st.booleans()):
        inputs["bias"] = draw(arrays(dtype, (out_channels,), 0.1, 1))
    return inputs


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("constant", [True, False])
@given(data=st.data())
@quick
def test_conv2d(dtype, constant, data):
    options, kernel, sizes = data.draw(windows(False))
    groups, depth, per_group = (data.draw(st.integers(1, 3)) for _ in range(3))
    if groups > 1 or data.draw(st.booleans()):
        options["groups"] = groups
    x_shape = (data.draw(st.integers(1, 2)), groups * depth, *sizes)
    w_shape = (groups * per_group, depth, *kernel)
    inputs = operands(data.draw, dtype, options, x_shape, w_shape, filter_axes="oihw", out_channels=groups * per_group)
    got = run(
        lambda g, x, w, bias=None: g.conv2d(x, w, bias=bias, **options),
        inputs,
        constants={"filter", "bias"} if constant else (),
    )
    assert_close(got, ref.conv2d(*inputs.values(), **options), ulp=2 * kernel[0] * kernel[1] * depth + 1)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("constant", [True, False])
@given(data=st.data())
@quick
def test_conv_transpose2d(dtype, constant, data):
    options, kernel, sizes = data.draw(windows(True))
    groups, depth, per_group = (data.draw(st.integers(1, 2)) for _ in range(3))
    if groups > 1 or data.draw(st.booleans()):
        options["groups"] = groups
    strides = options.get("strides", (1, 1))
    extra = [data.draw(st.integers(0, stride - 1)) for stride in strides]
    how = data.draw(st.sampled_from(["neither", "output_padding", "output_sizes"]))
    if how == "output_padding":
        options["output_padding"] = extra
    elif how == "output_sizes":
        padding, dilations = options.get("padding", (0, 0, 0, 0)), options.get("dilations", (1, 1))
        options["output_sizes"] = [
            (sizes[i] - 1) * strides[i]
            + (kernel[i] - 1) * dilations[i]
            + 1
            - sum(padding[2 * i : 2 * i + 2])
            + extra[i]
            for i in range(2)
        ]
        if data.draw(st.booleans()):
            options["output_padding"] = [9, 9]  # ignored
    x_shape = (data.draw(st.integers(1, 2)), groups * depth, *sizes)
    w_shape = (groups * depth, per_group, *kernel)
    inputs = operands(data.draw, dtype, options, x_shape, w_shape, filter_axes="iohw", out_channels=groups * per_group)
    got = run(
        lambda g, x, w, bias=None: g.conv_transpose2d(x, w, bias=bias, **options),
        inputs,
        constants={"filter", "bias"} if constant else (),
    )
    assert_close(got, ref.conv_transpose2d(*inputs.values(), **options), ulp=2 * kernel[0] * kernel[1] * depth + 1)


@pytest.mark.parametrize("layout", CONV_FILTERS)
def test_constant_filters_are_transposed_on_the_host_and_once(layout):
    x = array("float32", (1, 4, 5, 5))
    w = ref.as_layout(array("float32", (4, 4, 3, 3)), "oihw", layout)

    def build(g, x, w):
        y = g.conv2d(x, w, padding=[1, 1, 1, 1], filter_layout=layout)
        return g.conv2d(y, w, padding=[1, 1, 1, 1], filter_layout=layout)

    result = run_full(build, {"x": x, "w": w}, constants={"w"})
    assert result.ops == ["Conv", "Conv"]
    first, second = (result.graph.initializers[node.inputs[1]] for node in result.graph.nodes)
    assert first is second
    assert first.flags.c_contiguous
    assert first.shape == (4, 4, 3, 3)


def test_depthwise_channels_last():
    x, w = array("float32", (1, 6, 6, 8)), array("float32", (1, 3, 3, 8))
    options = {"groups": 8, "input_layout": "nhwc", "filter_layout": "ihwo", "strides": [2, 2], "padding": [0, 1, 0, 1]}
    got = run(lambda g, x, w: g.conv2d(x, w, **options), {"x": x, "w": w}, constants={"w"})
    assert got.shape == (1, 3, 3, 8)
    assert_close(got, ref.conv2d(x, w, **options), atol=1e-5)


# -- errors ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
def test_operand_errors(name):
    operand_errors(name, {"input": [1, 4, 5, 5], "filter": [4, 4, 3, 3], "bias": [4]})


@pytest.mark.parametrize("name", ["conv2d", "conv_transpose2d"])
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("padding", [1, 1]),
        ("padding", [0, 0, 0, -1]),
        ("padding", [0, 0, 0, 1.0]),
        ("padding", 1),
        ("padding", None),
        ("padding", [0, 0, 0, 2**32]),
        ("strides", [1]),
        ("strides", [1, 1, 1]),
        ("strides", [0, 1]),
        ("strides", [1, 0]),
        ("strides", "11"),
        ("dilations", [1]),
        ("dilations", [1, 1, 1]),
        ("dilations", [1, 0]),
        ("groups", 0),
        ("groups", -1),
        ("groups", True),
        ("groups", 3),
        ("input_layout", "chwn"),
        ("input_layout", "NCHW"),
        ("filter_layout", "oihW"),
        ("input_layout", None),
    ],
)
def test_option_errors(name, option, value):
    g = GraphBuilder()
    x, w = g.input("x", [1, 4, 5, 5], "float32"), g.input("w", [4, 4, 3, 3], "float32")
    rejected(g, name, x, w, mentions=[option, value], **{option: value})


def test_conv2d_errors():
    g = GraphBuilder()
    x, w = g.input("x", [1, 4, 5, 5], "float32"), g.input("w", [6, 2, 3, 3], "float32")
    assert g.conv2d(x, w, groups=2).shape == (1, 6, 3, 3)
    rejected(g, "conv2d", x, w, groups=3, mentions=["groups 3", "4 channels"])
    rejected(g, "conv2d", x, w, mentions=["2 input channels", "has 4"])
    rejected(g, "conv2d", x, w, groups=4, mentions=["2 input channels", "4 groups"])
    rejected(g, "conv2d", x, g.input("odd", [5, 2, 3, 3], "float32"), groups=2, mentions=["5 output", "groups 2"])
    rejected(g, "conv2d", x, w, groups=2, bias=g.input("bias", [5], "float32"), mentions=[[5], [6]])
    rejected(g, "conv2d", x, w, groups=2, filter_layout="iohw", mentions=["'iohw'", "'ihwo'"])
    rejected(g, "conv2d", x, w, groups=2, dilations=[3, 1], mentions=[[1, 6, -1, 3]])
    rejected(g, "conv2d", x, w, groups=2, dilations=[1, 9], mentions=[[1, 6, 3, -13]])
    rejected(g, "conv2d", x, w, groups=2, padding=[2**31, 0, 0, 0], mentions=["2147483647"])
    assert g.conv2d(x, w, groups=2, dilations=[3, 1], padding=[1, 1, 0, 0]).shape == (1, 6, 1, 3)


def test_conv_transpose2d_errors():
    g = GraphBuilder()
    name = "conv_transpose2d"
    x, w = g.input("x", [1, 4, 5, 5], "float32"), g.input("w", [4, 3, 3, 3], "float32")
    assert g.conv_transpose2d(x, w, groups=2).shape == (1, 6, 7, 7)
    rejected(g, name, x, w, output_padding=[0], mentions=["output_padding", [0]])
    rejected(g, name, x, w, output_padding=[0, 1], mentions=["output_padding", [0, 1], [1, 1]])
    rejected(g, name, x, w, output_padding=[2, 0], strides=[2, 2], mentions=[[2, 0], [2, 2]])
    rejected(g, name, x, w, output_sizes=[7], mentions=["output_sizes", [7]])
    rejected(g, name, x, w, output_sizes=[7, 7], output_padding=[0, 0, 0], mentions=["output_padding"])
    rejected(g, name, x, w, output_sizes=[6, 7], mentions=[[6, 7], [7, 7]])
    rejected(g, name, x, w, output_sizes=[11, 13], strides=[2, 2], mentions=[[11, 13], [11, 11], [12, 12]])
    assert g.conv_transpose2d(x, w, output_sizes=[11, 12], strides=[2, 2]).shape == (1, 3, 11, 12)
    rejected(g, name, x, g.input("deep", [6, 3, 3, 3], "float32"), mentions=["6 input channels", "has 4"])
    rejected(g, name, x, w, groups=3, mentions=["groups 3", "4 channels"])
    rejected(g, name, x, w, groups=2, bias=g.input("bias", [3], "float32"), mentions=[[3], [6]])
    rejected(g, name, x, w, filter_layout="oihw", mentions=["'oihw'", "'hwoi'"])
    rejected(g, name, x, w, padding=[4, 3, 0, 0], mentions=[[1, 3, 0, 7]])
    rejected(g, name, x, w, strides=[2**30, 1], mentions=["2147483647"])


def test_output_channels_must_be_a_valid_dimension():
    g = GraphBuilder()
    x, w = g.input("x", [1, 2, 1, 1], "float32"), g.input("w", [2, 2**20, 1, 1], "float32")
    rejected(g, "conv_transpose2d", x, w, groups=2**12, mentions=["groups 4096", "2 channels"])
    rejected(g, "conv_transpose2d", g.input("tall", [2**11, 2, 1, 1], "float32"), w, mentions=[[2**11, 2**20, 1, 1]])


def test_numpy_integers_are_integers():
    g = GraphBuilder()
    x, w = g.input("x", [1, 4, 5, 5], "float32"), g.input("w", [4, 4, 3, 3], "float32")
    assert g.conv2d(x, w, strides=np.array([2, 2]), groups=np.int64(1)).shape == (1, 4, 2, 2)
