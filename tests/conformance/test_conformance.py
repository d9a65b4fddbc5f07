"""The vectors themselves: our own on every machine, the shared ones where they are."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from pynn.backends.ort import OrtBackend

from . import pool, report
from .case import run_case
from .vectors import FOLDER_VARIABLE, OWN_FOLDER, Case, cases, shared_folder

EXPECTED = report.expectations(Path(__file__).parent / "expected-tensorrt.json")


@cache
def shared_cases() -> dict[str, list[Case]]:
    """The shared cases by operator; empty when there are none."""
    found: dict[str, list[Case]] = {}
    if shared_folder().is_dir():
        for case in cases(shared_folder()):
            found.setdefault(case.operator, []).append(case)
    return found


@pytest.mark.ort
def test_own_vectors_on_onnx_runtime() -> None:
    own = list(cases(OWN_FOLDER))
    results, about = pool.run(own, "onnxruntime", pool.Limits(jobs=2))
    assert about["usable"]
    assert report.lines_of([r for r in results if r.status != "passed"]) == []


@pytest.mark.ort
@pytest.mark.parametrize("operator", sorted(shared_cases()) or [None])
def test_shared_vectors_on_onnx_runtime(operator: str | None) -> None:
    if operator is None:
        pytest.skip(f"no shared vectors in {shared_folder()}; set {FOLDER_VARIABLE}")
    backend = OrtBackend(use_gpu=False)
    results = [run_case(case, backend, backend.version()) for case in shared_cases()[operator]]
    assert report.lines_of([r for r in results if r.status != "passed"]) == []


@pytest.mark.gpu
def test_own_vectors_on_tensorrt() -> None:
    results, about = pool.run(list(cases(OWN_FOLDER)), "tensorrt", pool.Limits(jobs=2))
    wrong = [r for r in results if r.status != "passed" and (r.backend, r.id) not in EXPECTED]
    assert about["usable"] and report.lines_of(wrong) == []
