"""resample2d."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.builder import GraphBuilder

from . import reference_part2 as reference
from .support import arrays, assert_close, quick, rejected, rejected_when_finished, run, run_full

TYPES = ("float32", "float16", "uint8", "int8")
LINEAR_ULP = {"float32": 84, "float16": 10, "uint8": 1, "int8": 1}


@quick
@given(st.data())
def test_resample2d_sizes(data: st.DataObject) -> None:
    dtype, mode = data.draw(st.sampled_from(TYPES)), data.draw(st.sampled_from(["nearest-neighbor", "linear"]))
    axes = data.draw(st.lists(st.integers(0, 3), min_size=2, max_size=2, unique=True))
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 4))
    sizes = data.draw(st.tuples(*[st.integers(1, 9)] * 2))
    x = data.draw(arrays(dtype, shape, 0.5 if dtype.startswith("float") else None))
    got = run(lambda b, x: b.resample2d(x, mode=mode, sizes=sizes, axes=axes), {"x": x})
    expected = reference.resample2d(x, mode, sizes, axes)
    if mode == "linear" and not dtype.startswith("float"):
        expected = np.rint(expected)
    assert_close(got, expected, ulp=LINEAR_ULP[dtype] if mode == "linear" else 0)


@quick
@given(st.data())
def test_resample2d_scales(data: st.DataObject) -> None:
    scales = data.draw(st.tuples(*[st.floats(0.5, 3, width=32)] * 2))
    x = data.draw(arrays("float32", (1, 2, 3, 4)))
    sizes = [math.floor(dim * scale) for dim, scale in zip((3, 4), scales, strict=True)]
    got = run(lambda b, x: b.resample2d(x, scales=scales), {"x": x})
    assert_close(got, reference.resample2d(x, "nearest-neighbor", sizes, [2, 3]))


@pytest.mark.parametrize(("old", "new"), [(4, 2), (12, 2), (40, 20), (12, 4), (48, 8), (6, 9), (36, 3), (360, 36)])
def test_exact_halves_go_down(old: int, new: int) -> None:
    x = np.arange(old, dtype=np.float32).reshape(1, 1, 1, old)
    got = run(lambda b, x: b.resample2d(x, sizes=[1, new]), {"x": x})
    assert_close(got, reference.resample2d(x, "nearest-neighbor", [1, new], [2, 3]))


def test_linear_by_hand() -> None:
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 1, 4)
    got = run(lambda b, x: b.resample2d(x, mode="linear", sizes=[1, 8]), {"x": x})
    assert_close(got.ravel(), np.array([0, 0.25, 0.75, 1.25, 1.75, 2.25, 2.75, 3], np.float32))


def test_the_usual_case_is_one_resize() -> None:
    x = np.zeros((1, 3, 4, 4), np.float32)
    for mode in ("nearest-neighbor", "linear"):
        made = run_full(lambda b, x, mode=mode: b.resample2d(x, mode=mode, scales=[2, 2]), {"x": x})
        assert made.ops == ["Resize"]
    assert run_full(lambda b, x: b.resample2d(x), {"x": x}).ops == ["Identity"]


def test_resample2d_errors() -> None:
    b = GraphBuilder()
    x = b.input("x", [1, 2, 3, 4], "float32")
    rejected(b, "resample2d", b.input("i", [1, 1, 2, 2], "int32"), mentions=["input", "int32"])
    rejected(b, "resample2d", b.input("r", [2, 2], "float32"), mentions=["input", "rank 2", [2, 2]])
    rejected(b, "resample2d", x, scales=[2], mentions=["scales", [2]])
    rejected(b, "resample2d", x, scales=[2, 0], mentions=["scales", [2, 0]])
    rejected(b, "resample2d", x, scales=[2, -1], sizes=[3, 3], mentions=["scales", -1])
    for bad in (math.inf, math.nan, 1e39, 1e-50, "2", True):
        rejected(b, "resample2d", x, scales=[1, bad], mentions=["scales", repr(bad)])
    rejected(b, "resample2d", x, sizes=[2], mentions=["sizes", [2], 2])
    rejected(b, "resample2d", x, sizes=[2, 0], mentions=["sizes", 0])
    rejected(b, "resample2d", x, axes=[1, 1], mentions=["axes", [1, 1]])
    rejected(b, "resample2d", x, axes=[1, 4], mentions=["axes", [1, 4]])
    rejected(b, "resample2d", x, axes=[1], mentions=["axes", [1], 2])
    rejected(b, "resample2d", x, scales=[0.1, 1], mentions=[[1, 2, 0, 4]])
    rejected(b, "resample2d", x, sizes=[2**31, 1], mentions=[2**31])
    rejected(b, "resample2d", x, mode="cubic", mentions=["mode", "cubic"])
    rejected(b, "resample2d", GraphBuilder().input("x", [1, 1, 2, 2], "float32"), mentions=["another builder"])
    rejected_when_finished(b, "resample2d", x)
