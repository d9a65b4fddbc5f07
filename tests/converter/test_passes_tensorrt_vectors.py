"""The graphs of the conformance vectors through the passes, built by the real library, with the types they declare.

A few of every file; all of them with PYNN_ALL_VECTORS=1 (some minutes).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest

from pynn.backends.trt_build import build_plan
from pynn.converter import lower_graph
from pynn.converter.passes import backend_passes, run_passes
from pynn.converter.serialize import to_model
from pynn.native import Library

from ..conformance.case import build
from ..conformance.vectors import load, shared_folder
from .legal import check

FILES = sorted(shared_folder().rglob("*.json"))
EVERY = bool(os.environ.get("PYNN_ALL_VECTORS"))
LARGE = 10**6
"""Cases with more elements than this are left out: they test speed, not types."""

pytestmark = [
    pytest.mark.trt,
    pytest.mark.skipif(not FILES, reason=f"no vectors in {shared_folder()}; set PYNN_CONFORMANCE_DATA"),
]


@pytest.mark.parametrize("path", FILES, ids=[f"{path.parent.name}/{path.stem}" for path in FILES])
def test_vectors_build(path: Path, newest_library: Library) -> None:
    tests = [test for test in load(path) if _size(test) <= LARGE]
    passes = backend_passes("tensorrt", newest_library.info.version)
    for test in tests if EVERY else tests[:: max(1, len(tests) // 3)]:
        graph = lower_graph(build(test)[0])
        run_passes(graph, passes)
        check(graph)
        build_plan(to_model(graph), newest_library, compute_capabilities=(86,))


def _size(test: Mapping[str, Any]) -> int:
    return max((prod(spec["shape"]) for spec in test["graph"]["inputs"].values()), default=0)
