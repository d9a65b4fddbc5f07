"""batchNormalization, instanceNormalization and layerNormalization."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from pynn.builder import GraphBuilder

from . import reference_part1 as ref
from .support import FLOATS, array, arrays, assert_close, operand_errors, quick, rejected, run, run_full, shapes


def rounded(epsilon, dtype):
    return float(np.dtype(dtype).type(epsilon))


def vectors(draw, dtype, shape, names=("scale", "bias")):
    return {name: draw(arrays(dtype, shape, 0.1, 2)) for name in names if draw(st.booleans())}


def tolerance(dtype):
    """Results are a few units large and sums of terms of about that size."""
    return {"ulp": 6, "atol": 2e-5 if dtype == "float32" else 2e-2}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("constant", [True, False])
@given(data=st.data())
@quick
def test_batch_normalization(dtype, constant, data):
    x = data.draw(arrays(dtype, data.draw(shapes(min_rank=1))))
    axis = data.draw(st.integers(0, x.ndim - 1))
    options = {"axis": axis} if axis != 1 or data.draw(st.booleans()) else {}
    if data.draw(st.booleans()):
        options["epsilon"] = data.draw(st.sampled_from([0.0, 1e-3, 0.1]))
    channels = (x.shape[axis],)
    required = {
        "mean": data.draw(arrays(dtype, channels, -1, 1)),
        "variance": data.draw(arrays(dtype, channels, 0.2, 2)),
    }
    extra = vectors(data.draw, dtype, channels)
    given = [*required, *extra]
    got = run(
        lambda g, x, mean, variance, *rest: g.batch_normalization(
            x, mean, variance, **dict(zip(extra, rest, strict=True)), **options
        ),
        {"x": x, **required, **extra},
        constants=given if constant else (),
    )
    reference = {**options, "epsilon": rounded(options.get("epsilon", 1e-5), dtype)}
    assert_close(got, ref.batch_normalization(x, **required, **extra, **reference), **tolerance(dtype))


@pytest.mark.parametrize(
    ("shape", "axis", "ops"),
    [
        ((2, 3, 4, 5), 1, ["BatchNormalization"]),
        ((2, 3), 1, ["BatchNormalization"]),
        ((2, 4, 5, 3), 3, ["Transpose", "BatchNormalization", "Transpose"]),
        ((3,), 0, ["Reshape", "BatchNormalization", "Reshape"]),
    ],
)
def test_batch_normalization_is_fused(shape, axis, ops):
    x, v = array("float32", shape), array("float32", (shape[axis],), 0.5, 1)
    result = run_full(lambda g, x, v: g.batch_normalization(x, v, v, axis=axis), {"x": x, "v": v}, constants={"v"})
    assert result.ops == ops


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("layout", ["nchw", "nhwc"])
@given(data=st.data())
@quick
def test_instance_normalization(dtype, layout, data):
    x = data.draw(arrays(dtype, data.draw(shapes(min_rank=4, max_rank=4))))
    options = {"layout": layout} if layout != "nchw" else {}
    if data.draw(st.booleans()):
        options["epsilon"] = 0.01
    extra = vectors(data.draw, dtype, (x.shape[1 if layout == "nchw" else 3],))
    constants = set(extra) if data.draw(st.booleans()) else ()
    got = run(
        lambda g, x, *rest: g.instance_normalization(x, **dict(zip(extra, rest, strict=True)), **options),
        {"x": x, **extra},
        constants=constants,
    )
    reference = {**options, "epsilon": rounded(options.get("epsilon", 1e-5), dtype)}
    assert_close(got, ref.instance_normalization(x, **extra, **reference), **tolerance(dtype))


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
@quick
def test_layer_normalization(dtype, data):
    x = data.draw(arrays(dtype, data.draw(shapes())))
    options = {}
    if data.draw(st.booleans()):
        order = data.draw(st.permutations(range(x.ndim)))
        options["axes"] = order[: data.draw(st.integers(0, x.ndim))]
    if data.draw(st.booleans()):
        options["epsilon"] = 0.01
    extra = vectors(data.draw, dtype, [x.shape[a] for a in options.get("axes", range(1, x.ndim))])
    constants = set(extra) if data.draw(st.booleans()) else ()
    got = run(
        lambda g, x, *rest: g.layer_normalization(x, **dict(zip(extra, rest, strict=True)), **options),
        {"x": x, **extra},
        constants=constants,
    )
    reference = {**options, "epsilon": rounded(options.get("epsilon", 1e-5), dtype)}
    assert_close(got, ref.layer_normalization(x, **extra, **reference), **tolerance(dtype))


def test_layer_normalization_of_trailing_axes_is_one_node():
    x, v = array("float32", (2, 3, 4)), array("float32", (4, 3))
    result = run_full(
        lambda g, x, v: g.layer_normalization(x, scale=v, bias=v, axes=[2, 1]), {"x": x, "v": v}, constants={"v"}
    )
    assert result.ops == ["LayerNormalization"]
    assert_close(result.outputs["out0"], ref.layer_normalization(x, v, v, axes=[2, 1]), atol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3)])
def test_without_axes_each_element_is_its_own_mean(shape):
    x, bias = array("float32", shape), np.float32(2.5)
    for options in ({"axes": []}, {} if len(shape) < 2 else {"axes": ()}):
        got = run(lambda g, x, b, o=options: g.layer_normalization(x, bias=b, **o), {"x": x, "bias": bias})
        assert_close(got, np.full(shape, 2.5, np.float32))
        got = run(lambda g, x, o=options: g.layer_normalization(x, **o), {"x": x})
        assert_close(got, np.zeros(shape, np.float32))


def test_float16_sums_in_float32():
    x = array("float16", (1, 4096), 90, 110)
    want = ref.layer_normalization(x, epsilon=rounded(1e-5, "float16"))
    assert_close(run(lambda g, x: g.layer_normalization(x), {"x": x}), want, atol=1 / 512)


# -- errors ---------------------------------------------------------------------------------


def test_batch_normalization_errors():
    shapes = {"input": [2, 3, 4], "mean": [3], "variance": [3], "scale": [3], "bias": [3]}
    operand_errors("batch_normalization", shapes)
    g = GraphBuilder()
    name = "batch_normalization"
    x, v, w = g.input("x", [2, 3, 4], "float32"), g.input("v", [3], "float32"), g.input("w", [4], "float32")
    assert g.batch_normalization(x, w, w, axis=2).shape == (2, 3, 4)
    for axis in (3, -1, 1.0, None, "1"):
        rejected(g, name, x, v, v, axis=axis, mentions=["axis", axis])
    rejected(g, name, v, v, v, mentions=["axis", "1", "rank 1"])
    assert g.batch_normalization(v, v, v, axis=0).shape == (3,)
    rejected(g, name, x, w, v, mentions=["mean", [4], [3]])
    rejected(g, name, x, v, w, mentions=["variance", [4], [3]])
    rejected(g, name, x, v, v, scale=w, mentions=["scale", [4], [3]])
    rejected(g, name, x, v, v, bias=w, mentions=["bias", [4], [3]])
    for epsilon in (float("nan"), float("inf"), "0", None):
        rejected(g, name, x, v, v, epsilon=epsilon, mentions=["epsilon", epsilon])
    assert g.batch_normalization(x, v, v, epsilon=-1).shape == (2, 3, 4)


def test_instance_normalization_errors():
    name = "instance_normalization"
    operand_errors(name, {"input": [2, 3, 4, 4], "scale": [3], "bias": [3]})
    g = GraphBuilder()
    x, v = g.input("x", [2, 3, 4, 5], "float32"), g.input("v", [5], "float32")
    assert g.instance_normalization(x, scale=v, layout="nhwc").shape == (2, 3, 4, 5)
    rejected(g, name, x, scale=v, mentions=["scale", [5], [3]])
    rejected(g, name, x, bias=v, mentions=["bias", [5], [3]])
    rejected(g, name, x, layout="hwc", mentions=["layout", "'hwc'"])
    for epsilon in (float("nan"), -float("inf"), "0", None):
        rejected(g, name, x, epsilon=epsilon, mentions=["epsilon", epsilon])


def test_layer_normalization_errors():
    name = "layer_normalization"
    operand_errors(name, {"input": [2, 3, 4], "scale": [3, 4], "bias": [3, 4]})
    g = GraphBuilder()
    x = g.input("x", [2, 3, 4], "float32")
    v, w = g.input("v", [4, 3], "float32"), g.input("w", [3], "float32")
    assert g.layer_normalization(x, scale=v, axes=[2, 1]).shape == (2, 3, 4)
    for axes in ([1, 1], [3], [-1], [1.0], "1", 1, [None]):
        rejected(g, name, x, axes=axes, mentions=["axes", axes])
    for option in ("scale", "bias"):
        rejected(g, name, x, axes=[1, 2], mentions=[option, [4, 3], [3, 4]], **{option: v})
        rejected(g, name, x, mentions=[option, [3], [3, 4]], **{option: w})
        rejected(g, name, x, axes=[], mentions=[option, [3], []], **{option: w})
    for epsilon in (float("nan"), float("inf"), "0", None):
        rejected(g, name, x, epsilon=epsilon, mentions=["epsilon", epsilon])
