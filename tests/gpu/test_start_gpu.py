"""The start of a process on a real GPU with warm caches: what is not loaded, not asked again, and given back.

python -m pytest tests/gpu/test_start_gpu.py --require=gpu
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pynn.backends.trt_cache import ENGINES
from pynn.backends.trt_kept import PROBES
from pynn.cache.store import Store

from .test_cache_gpu import convolutions

pytestmark = pytest.mark.gpu

CHILD = """
import json, sys, threading
import numpy as np
import pynn
from pynn.backends import trt_probe
smoked, smoke = [], trt_probe._smoke
trt_probe._smoke = lambda *arguments: (smoked.append(1), smoke(*arguments))
model, folder = sys.argv[1:]
with pynn.compile(model, backend="tensorrt", cache_dir=folder) as executable:
    x = np.random.default_rng(1).standard_normal((1, 3, 32, 32), np.float32)
    y = executable.run({"x": x})["y"]
    print(json.dumps({
        "hit": executable.stats["cache"]["hit"],
        "smoked": len(smoked),
        "loaded": [name for name in ("onnx", "onnxruntime", "importlib.metadata") if name in sys.modules],
        "threads": [thread.name for thread in threading.enumerate() if thread.name == "pynn-cuda"],
        "y": y.ravel().tolist(),
    }))
"""


def start(model: Path, folder: Path) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-c", CHILD, str(model), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def test_a_warm_start_loads_and_asks_nothing(tmp_path: Path) -> None:
    model = convolutions().save(tmp_path / "model.onnx")
    cold, warm = start(model, tmp_path / "cache"), start(model, tmp_path / "cache")
    assert not cold["hit"] and cold["smoked"] and "onnx" in cold["loaded"]
    assert warm["hit"] and not warm["smoked"] and "onnx" not in warm["loaded"]
    assert "onnxruntime" not in warm["loaded"]
    assert cold["threads"] == warm["threads"] == []
    assert cold["y"] == warm["y"]
    kinds = {entry.kind for entry in Store.open(tmp_path / "cache").entries()}
    assert {ENGINES, PROBES} <= kinds


def test_without_its_verdicts_the_library_is_asked_again(tmp_path: Path) -> None:
    model = convolutions().save(tmp_path / "model.onnx")
    start(model, tmp_path / "cache")
    store = Store.open(tmp_path / "cache")
    probes = [entry.key for entry in store.entries() if entry.kind == PROBES]
    assert probes
    store.clear(probes)
    again = start(model, tmp_path / "cache")
    assert again["hit"] and again["smoked"] == len(probes)
