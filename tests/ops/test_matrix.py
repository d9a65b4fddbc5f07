"""gemm and matmul."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from pynn.builder import GraphBuilder

from . import reference_part1 as ref
from .support import (
    FLOATS,
    array,
    arrays,
    assert_close,
    broadcastable,
    broadcastable_to,
    operand_errors,
    quick,
    rejected,
    run,
    run_full,
)


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
@quick
def test_gemm(dtype, data):
    m, n, k = (data.draw(st.integers(1, 5)) for _ in range(3))
    a_transpose, b_transpose = data.draw(st.booleans()), data.draw(st.booleans())
    # One sign only: without cancellation the tolerance is a matter of the sizes.
    inputs = {
        "a": data.draw(arrays(dtype, (k, m) if a_transpose else (m, k), 0.1, 1)),
        "b": data.draw(arrays(dtype, (n, k) if b_transpose else (k, n), 0.1, 1)),
    }
    options = {"a_transpose": a_transpose, "b_transpose": b_transpose}
    for name in ("alpha", "beta"):
        if data.draw(st.booleans()):
            options[name] = data.draw(st.sampled_from([0.5, 1.25, 2.0]))
    if data.draw(st.booleans()):
        inputs["c"] = data.draw(arrays(dtype, data.draw(broadcastable_to((m, n))), 0.1, 1))
    constants = {name for name in inputs if data.draw(st.booleans())}
    got = run(lambda g, a, b, c=None: g.gemm(a, b, c=c, **options), inputs, constants=constants)
    assert_close(got, ref.gemm(*inputs.values(), **options), ulp=2 * k + 3)


def test_gemm_is_one_node():
    x = array("float32", (3, 3))
    result = run_full(lambda g, a, b: g.gemm(a, b, c=b, alpha=2, b_transpose=True), {"a": x, "b": x})
    assert result.ops == ["Gemm"]
    assert_close(result.outputs["out0"], ref.gemm(x, x, x, alpha=2, b_transpose=True), atol=1e-5)


@pytest.mark.parametrize("dtype", FLOATS)
@given(data=st.data())
@quick
def test_matmul(dtype, data):
    m, n, k = (data.draw(st.integers(1, 5)) for _ in range(3))
    left, right = data.draw(broadcastable(max_rank=3, max_dim=3))
    a, b = data.draw(arrays(dtype, (*left, m, k), 0.1, 1)), data.draw(arrays(dtype, (*right, k, n), 0.1, 1))
    constants = {name for name in "ab" if data.draw(st.booleans())}
    got = run(lambda g, a, b: g.matmul(a, b), {"a": a, "b": b}, constants=constants)
    assert_close(got, a.astype(np.float64) @ b.astype(np.float64), ulp=2 * k)


def test_float16_products_are_summed_in_float32():
    a, b = np.full((1, 4096), 1, np.float16), np.full((4096, 1), 1, np.float16)
    assert run(lambda g, a, b: g.matmul(a, b), {"a": a, "b": b})[0, 0] == 4096


def test_gemm_errors():
    operand_errors("gemm", {"a": [2, 3], "b": [3, 4], "c": [4]})
    g = GraphBuilder()
    a, b, c = g.input("a", [2, 3], "float32"), g.input("b", [4, 3], "float32"), g.input("c", [3], "float32")
    rejected(g, "gemm", a, b, mentions=[[2, 3], [4, 3]])
    rejected(g, "gemm", a, a, mentions=[[2, 3]])
    assert g.gemm(a, b, b_transpose=True).shape == (2, 4)
    assert g.gemm(a, a, a_transpose=True).shape == (3, 3)
    rejected(g, "gemm", a, b, b_transpose=True, c=c, mentions=[[3], [2, 4], "broadcast"])
    rejected(g, "gemm", a, b, b_transpose=True, c=g.input("big", [2, 2], "float32"), mentions=[[2, 2], [2, 4]])
    for name in ("alpha", "beta"):
        for value in (float("nan"), float("inf"), "1", None):
            rejected(g, "gemm", a, b, b_transpose=True, mentions=[name, value], **{name: value})
    for name in ("a_transpose", "b_transpose"):
        for value in (1, "yes", None):
            rejected(g, "gemm", a, b, mentions=[name, value], **{name: value})
    tall = g.input("tall", [2**20, 1], "float32")
    rejected(g, "gemm", tall, tall, b_transpose=True, mentions=[[2**20, 2**20]])


def test_matmul_errors():
    operand_errors("matmul", {"a": [2, 3], "b": [3, 4]})
    g = GraphBuilder()
    a, b = g.input("a", [2, 2, 3], "float32"), g.input("b", [3, 3, 4], "float32")
    rejected(g, "matmul", a, a, mentions=[[2, 2, 3], 3, 2])
    rejected(g, "matmul", a, b, mentions=[[2], [3], "broadcast"])
    rejected(g, "matmul", a, g.input("v", [3], "float32"), mentions=["rank 1", "at least 2"])
    tall, wide = g.input("tall", [2**20, 1], "float32"), g.input("wide", [1, 2**20], "float32")
    rejected(g, "matmul", tall, wide, mentions=[[2**20, 2**20]])
