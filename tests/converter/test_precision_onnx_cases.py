"""ONNX's own tests of operators, narrowed: each loads, with its inputs and outputs, and computes nearly the same."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pynn.converter.model import OnnxModel
from pynn.converter.precision import Precision, apply_precision

pytestmark = pytest.mark.ort
EACH = 17
"""One case in this many: all of them passed where this was written, in a minute."""
TOLERANCE = 5e-3
LARGEST = 65504.0


def cases() -> Iterator[tuple[str, Any, list[tuple[list[Any], list[Any]]]]]:
    loader = pytest.importorskip("onnx.backend.test.case.node")
    for number, case in enumerate(loader.collect_testcases(None)):
        if (
            number % EACH == 0
            and case.model is not None
            and all(isinstance(x, np.ndarray) for x in case.data_sets[0][0])
        ):
            yield case.name, case.model, case.data_sets


def close(found: Any, expected: Any) -> bool:
    if not isinstance(expected, np.ndarray) or expected.dtype.kind not in "fc":
        return True  # integers and strings that follow from random numbers, sequences
    with np.errstate(all="ignore"):
        held = np.abs(expected) <= LARGEST
        if (np.abs(found[~held]) < LARGEST / 2).any():
            return False  # masks: the least number of float32 becomes that of float16, or infinite
        found, expected = found[held], expected[held]
        off = np.abs(found.astype(np.float64) - expected.astype(np.float64))
        size = np.abs(expected).max(initial=0.0)
        return not (off > TOLERANCE * (size + 1e-3)).any()


def load(model: bytes) -> Any:
    import onnxruntime as ort

    settings = ort.SessionOptions()
    settings.log_severity_level = 4
    return ort.InferenceSession(model, settings, providers=["CPUExecutionProvider"])


@pytest.mark.filterwarnings("ignore::RuntimeWarning", "ignore::DeprecationWarning")
def test_onnx_cases_survive_float16() -> None:
    ran, wrong = 0, []
    for name, proto, data_sets in cases():
        feeds, expected = {}, None
        with contextlib.suppress(Exception):  # not for ONNX Runtime, or not for tensors
            given = OnnxModel.load(proto)
            plain = load(given.proto)
            feeds = {one.name: array for one, array in zip(plain.get_inputs(), data_sets[0][0], strict=True)}
            expected = plain.run(None, feeds)
        if expected is None:
            continue
        made = apply_precision(given, Precision("fp16"))
        assert [str(s) for s in (*made.inputs, *made.outputs)] == [str(s) for s in (*given.inputs, *given.outputs)], (
            name
        )
        try:
            found = load(made.to_bytes()).run(None, feeds)
        except Exception as error:
            wrong.append(f"{name}: {error}")
            continue
        ran += 1
        wrong += [name for a, b in zip(found, expected, strict=True) if not close(a, b)]
    assert wrong == []
    assert ran > 30, "ONNX Runtime 1.20 runs 47, 1.32 more"
