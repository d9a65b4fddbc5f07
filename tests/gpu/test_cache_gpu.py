"""Caches on a real GPU: engines over processes, compiled kernels over contexts, damage, merges.

python -m pytest tests/gpu/test_cache_gpu.py --require=gpu
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from pynn.backends.base import CompileOptions
from pynn.backends.jit_cache import KERNELS, KernelCache
from pynn.backends.trt import TensorRTBackend, TensorRTExecutable, load_engine
from pynn.backends.trt_cache import ENGINES
from pynn.cache.store import Entry, Store
from pynn.converter.model import OnnxModel

from ..native.models import model_of, tiny, weights_of

pytestmark = pytest.mark.gpu

JIT_GAIN = 5.0
"""Context creation with compiled kernels against without; measured on an H200: 40 to 100."""


def convolutions(layers: int = 8) -> OnnxModel:
    """A chain of convolutions of several sizes: many kernels to compile."""
    nodes, weights, last, channels = [], {}, "x", 3
    generator = np.random.default_rng(5)
    for i in range(layers):
        wanted, size = 8 * (i + 2), (1, 3, 5)[i % 3]
        weights[f"w{i}"] = generator.standard_normal((wanted, channels, size, size), np.float32) / (channels * size)
        pads = [size // 2] * 4
        nodes.append(helper.make_node("Conv", [last, f"w{i}"], [f"c{i}"], name=f"conv{i}", pads=pads))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"], name=f"relu{i}"))
        last, channels = f"r{i}", wanted
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["y"], name="pool"))
    x, y = (TensorProto.FLOAT, [1, 3, 32, 32]), (TensorProto.FLOAT, [1, channels, 1, 1])
    return model_of(nodes, {"x": x}, {"y": y}, **weights)


CHILD = """
import json, sys
import numpy as np
from pynn.backends.base import CompileOptions
from pynn.backends.trt import TensorRTBackend
from tests.gpu import test_cache_gpu
with TensorRTBackend().compile(test_cache_gpu.convolutions(), CompileOptions(cache_dir=sys.argv[1])) as executable:
    x = np.random.default_rng(1).standard_normal((1, 3, 32, 32), np.float32)
    y = executable.run({"x": x})["y"]
    stats = executable.stats
print(json.dumps({"cache": stats["cache"], "kernels": stats["kernel_cache"], "seconds": stats["seconds"],
                  "flavor": stats["library"], "y": y.ravel().tolist()}))
"""


def in_a_new_process(folder: Path) -> dict[str, Any]:
    """The driver's own cache of kernels is off, or it would hide what ours does."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "CUDA_CACHE_DISABLE": "1"}
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", CHILD, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=200, cwd=root)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


def compiled(folder: Path, model: OnnxModel | None = None, **options: Any) -> TensorRTExecutable:
    made = TensorRTBackend().compile(model or tiny(), CompileOptions(cache_dir=str(folder), **options))
    assert isinstance(made, TensorRTExecutable)
    return made


def needs_kernels(executable: TensorRTExecutable) -> None:
    if not executable.stats["library"].startswith("TensorRT for RTX"):
        pytest.skip("only TensorRT for RTX compiles kernels before the first run")


def check(executable: TensorRTExecutable, rows: int = 4) -> None:
    x = np.random.default_rng(rows).standard_normal((rows, 64), np.float32)
    expected = np.maximum(x.astype(np.float64) @ weights_of().astype(np.float64), 0)
    assert np.abs(executable.run({"x": x})["y"] - expected).max() <= 2e-3 * np.abs(expected).max()


def only(store: Store, kind: str) -> Entry:
    (entry,) = [entry for entry in store.entries() if entry.kind == kind]
    return entry


def test_a_new_process_hits(tmp_path: Path) -> None:
    cold, warm = in_a_new_process(tmp_path), in_a_new_process(tmp_path)
    assert not cold["cache"]["hit"] and cold["seconds"]["build"] > 0
    assert warm["cache"]["hit"] and "build" not in warm["seconds"]
    assert warm["cache"]["key"] == cold["cache"]["key"]
    np.testing.assert_allclose(warm["y"], cold["y"], rtol=1e-5)
    print("build", cold["seconds"]["build"], "read", warm["cache"]["seconds"])
    if not cold["flavor"].startswith("TensorRT for RTX"):
        pytest.skip("only TensorRT for RTX compiles kernels before the first run; the rest was checked")
    assert not cold["kernels"]["hit"] and warm["kernels"]["hit"], warm["kernels"]["reason"]
    print("context", cold["seconds"]["context"], "->", warm["seconds"]["context"])
    assert cold["seconds"]["context"] >= JIT_GAIN * warm["seconds"]["context"]


def test_damaged_entries_are_built_again(tmp_path: Path) -> None:
    with compiled(tmp_path) as executable:
        check(executable)
        has_kernels = executable.stats["kernel_cache"]["enabled"]
    store = Store.open(tmp_path)
    for kind in (ENGINES, KERNELS) if has_kernels else (ENGINES,):
        path = only(store, kind).path
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2] + b"X" + content[len(content) // 2 + 1 :])
    with compiled(tmp_path) as executable:
        check(executable)
        assert not executable.cache.hit and "put into quarantine: damaged" in executable.cache.reason
    assert len(store.quarantined()) == 1 + has_kernels
    with compiled(tmp_path) as executable:
        check(executable)
        assert executable.cache.hit


def test_an_engine_that_the_library_refuses_is_built_again(tmp_path: Path) -> None:
    """Its checksums are right: only the library sees that it is no engine."""
    with compiled(tmp_path) as executable:
        file = executable.engine_file
    store = Store.open(tmp_path)
    entry = only(store, ENGINES)
    assert entry.header is not None
    broken = replace(file, plan=b"vtrt" + bytes(5000))
    with store.locked(ENGINES, entry.key):
        assert store.write(ENGINES, entry.key, broken.parts(), entry.header.details) == ""
    with compiled(tmp_path) as executable:
        check(executable)
        assert not executable.cache.hit and "because it was refused" in executable.cache.reason
    assert store.quarantined()[0].reason.startswith("refused")


def test_kernels_that_the_library_refuses_are_no_error(tmp_path: Path) -> None:
    with compiled(tmp_path) as executable:
        needs_kernels(executable)
    store = Store.open(tmp_path)
    entry = only(store, KERNELS)
    assert entry.header is not None
    with store.locked(KERNELS, entry.key):
        assert store.write(KERNELS, entry.key, [b"no kernels" * 100], entry.header.details) == ""
    with compiled(tmp_path) as executable:
        check(executable)


def test_other_options_are_other_engines(tmp_path: Path) -> None:
    with compiled(tmp_path) as a, compiled(tmp_path, optimization_level=1) as b, compiled(tmp_path, tiny(5)) as c:
        assert len({a.cache.key, b.cache.key, c.cache.key}) == 3
        check(a), check(b), check(c, 5)
    with compiled(tmp_path, cuda_graph=False) as again:
        check(again)
        assert again.cache.hit and again.cache.key == a.cache.key


def test_kernels_of_two_processes_are_merged(tmp_path: Path) -> None:
    """One process ran batch 1, the other batch 64; with both results nothing is left to compile."""
    options: dict[str, Any] = {"shapes": {"batch": (1, 4, 64)}, "kernel_specialization": "eager"}
    ran = {}
    for rows in (1, 64):
        folder = tmp_path / str(rows)
        with compiled(folder, tiny("batch"), **options) as executable:
            needs_kernels(executable)
            check(executable, rows)
        entry = only(Store.open(folder), KERNELS)
        ran[rows] = Store.open(folder).read(KERNELS, entry.key).payload
    assert entry.header is not None and all(ran.values())
    both = tmp_path / "both"
    shutil.copytree(tmp_path / "1", both)
    with compiled(both, tiny("batch"), **options) as executable:
        other = KernelCache(Store.open(both), entry.header.details)
        other.save(ran[64] or b"", lambda a, b: bytes(executable._engine.merge_runtime_caches([a, b])))
        assert not other.record.reason.startswith("not saved")
    merged = Store.open(both).read(KERNELS, entry.key).payload
    assert merged is not None and len(merged) >= max(len(one or b"") for one in ran.values())
    with compiled(both, tiny("batch"), **options) as executable:
        for rows in (1, 64, 4):
            check(executable, rows)
    after = Store.open(both).read(KERNELS, entry.key).payload
    assert after is not None and len(after) == len(merged)


def test_engine_files_have_kernels_too(tmp_path: Path) -> None:
    with compiled(tmp_path / "first") as executable:
        needs_kernels(executable)
        file = executable.engine_file
    hits = []
    for _ in range(2):
        with load_engine(file, options=CompileOptions(cache_dir=str(tmp_path / "second"))) as loaded:
            check(loaded)
            hits.append(loaded.stats["kernel_cache"]["hit"])
            assert not loaded.cache.enabled and loaded.cache.reason == "it was loaded from an engine file"
    assert hits == [False, True]
