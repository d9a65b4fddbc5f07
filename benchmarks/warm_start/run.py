"""Where the time goes from the start of a process to the first result, with warm caches.

    python benchmarks/warm_start/run.py FOLDER [RUNS]

FOLDER gets the MobileNetV2 of the suite and the caches, and keeps them. Each run is a process whose steps are timed:
the imports one after the other, then what ``pynn.compile`` calls, with start and length in milliseconds since the
process was started. Steps of the thread that starts CUDA overlap the others, those indented are part of one above.
The timed process imports what it watches first; "all" is the plain process, as the suite times it.
"""

from __future__ import annotations

import time

BEGIN = time.time()

import functools  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

SUITE = str(Path(__file__).resolve().parents[1] / "suite")
IMPORTS = ("numpy", "pynn", "pynn.compilation", "pynn.backends.trt")
WATCHED = (
    ("pynn.backends.cuda_ahead", "_Start._run", "CUDA: cuInit and context, on a thread"),
    ("pynn.compilation", "load_model", "model"),
    ("pynn.compilation", "select", "select"),
    ("pynn.backends.trt_probe", "shim", "  shim"),
    ("pynn.backends.trt_probe", "find_libraries", "  find libraries"),
    ("pynn.backends.cuda", "discover", "  discover GPUs"),
    ("pynn.backends.trt_probe", "_open", "  open library"),
    ("pynn.native.library", "settle", "    settle TF32, load library"),
    ("pynn.backends.cuda", "Device", "  retain context"),
    ("pynn.backends.trt_kept", "KeptVerdicts.knows", "  kept verdict"),
    ("pynn.backends.trt_probe", "_smoke", "  smoke engine"),
    ("pynn.backends.selection", "Selection.compile", "compile"),
    ("pynn.backends.trt", "engine_key", "  key"),
    ("pynn.backends.trt_cache", "EngineCache._read", "  read engine"),
    ("pynn.backends.trt", "TensorRTExecutable", "  executable"),
    ("pynn.native.run", "Runtime.deserialize", "    deserialize"),
    ("pynn.backends.jit_cache", "KernelCache.load", "    read kernels"),
    ("pynn.native.run", "Context.__init__", "    context"),
)


class Timeline:
    """Steps in the order of their beginning, in milliseconds since the process was started."""

    def __init__(self, start: float) -> None:
        self._start, self._lock = start, threading.Lock()
        self.steps: list[list[Any]] = []

    def add(self, name: str, begin: float) -> None:
        with self._lock:
            self.steps.append([name, (begin - self._start) * 1000, (time.time() - begin) * 1000])

    def watch(self, module: str, path: str, name: str) -> None:
        """What is not there is left out: releases differ."""
        owner: Any = importlib.import_module(module)
        *parents, last = path.split(".")
        for parent in parents:
            owner = getattr(owner, parent, None)
        function = getattr(owner, last, None)
        if function is None:
            return

        @functools.wraps(function, updated=())
        def timed(*arguments: Any, **named: Any) -> Any:
            begin = time.time()
            try:
                return function(*arguments, **named)
            finally:
                self.add(name, begin)

        setattr(owner, last, timed)


def timed_process(folder: Path, start: float) -> None:
    timeline = Timeline(start)
    timeline.steps.append(["python", 0.0, (BEGIN - start) * 1000])
    for module in IMPORTS:
        begin = time.time()
        importlib.import_module(module)
        timeline.add(f"import {module}", begin)
    for watched in WATCHED:
        timeline.watch(*watched)
    sys.path.insert(0, SUITE)
    import start as suite

    facts = suite.by_pynn(folder, lambda name: timeline.add(f"= {name}", time.time()))
    loaded = [name for name in ("onnx", "onnxruntime", "pycparser", "importlib.metadata") if name in sys.modules]
    steps = sorted(timeline.steps, key=lambda step: step[1])
    print(json.dumps({"steps": steps, "backend": facts["backend"], "loaded": loaded}))


def main() -> None:
    if sys.argv[1] == "--timed":
        timed_process(Path(sys.argv[2]), float(sys.argv[3]))
        return
    sys.path.insert(0, SUITE)
    import start as suite

    folder, runs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    if not (folder / suite.MODEL).is_file():
        suite.write_model(folder, "float32")
    suite.child("pynn", folder)
    records = [timed(folder, suite.environment(folder)) for _ in range(runs)]
    plain = [suite.child("pynn", folder)["marks"]["first result"] * 1000 for _ in range(runs)]
    first = records[0]
    print(f"back end: {first['backend']}; loaded: {', '.join(first['loaded']) or 'nothing heavy'}")
    for index, (name, *_) in enumerate(first["steps"]):
        begin, length = (
            statistics.median(r["steps"][index][i] for r in records if index < len(r["steps"])) for i in (1, 2)
        )
        print(f"{begin:8.1f} {length:8.1f} ms  {name}")
    print(f"{'all':>8} {statistics.median(plain):8.1f} ms  plain process to the first result, {runs} runs")


def timed(folder: Path, environment: dict[str, str]) -> dict[str, Any]:
    command = [sys.executable, __file__, "--timed", str(folder), repr(time.time())]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, timeout=60)
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


if __name__ == "__main__":
    main()
