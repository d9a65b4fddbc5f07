"""``pynn.compare`` on a real GPU: TensorRT's error against float32 on the CPU, and what to keep.

python -m pytest tests/gpu/test_compare_gpu.py --require=gpu
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import pynn

from ..backends.test_trt_precision import example
from ..comparison.planted import BAD, planted

pytestmark = pytest.mark.gpu
GPU: dict[str, Any] = {"backend": "tensorrt"}


def test_an_overflow_is_found_and_kept() -> None:
    found = pynn.compare(planted(), "fp16", auto_keep=3e-3, **GPU)
    assert "TensorRT" in found.ran_on
    assert BAD in found.operators[0].name and found.outputs["scores"].nan + found.outputs["scores"].inf > 0
    assert found.auto_keep is not None and found.auto_keep.met
    assert [name for name in found.auto_keep.keep if BAD in name] and len(found.auto_keep.keep) == 1


@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-4), ("fp16", 3e-3), ("bf16", 3e-2)])
def test_the_prediction_on_the_cpu_is_near_to_the_gpu(precision: Any, limit: float) -> None:
    """The error of operators is judged on the CPU, the outputs on the GPU: the last operator's is about theirs."""
    found = pynn.compare(example("mobilenetv2"), precision, samples=2, **GPU)
    assert found.outputs["scores"].relative <= limit and found.outputs["scores"].top_1 == 1
    if precision == "fp32":
        assert found.operators == ()
        return
    (last,) = [one for one in found.operators if one.output == "scores"]
    assert last.total is not None
    assert 0.3 < last.total.relative / found.outputs["scores"].relative < 3
    assert np.isfinite([one.own.relative for one in found.operators if one.own is not None]).all()
