"""From the start of a process to the first result: ``measure`` starts this file as a script, by pynn and by hand.

    python benchmarks/suite/start.py pynn|hand FOLDER START

START is the wall-clock time at which the process was started; it prints one JSON object of seconds since then.
All ways find Python's bytecode written, as after any installation.
"""

from __future__ import annotations

import time

BEGIN = time.time()

import json  # noqa: E402
import os  # noqa: E402
import statistics  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

MODEL, IMAGE, PLAN, KERNELS = "mobilenetv2.onnx", "image.npy", "mobilenetv2.plan", "kernels.bin"
RUNS = 7
LIMIT_SECONDS = 40


def measure(setting: Any, judged: Any, dtype: str) -> dict[str, Any]:
    """Runs in turns, after one of each that fills the caches."""
    folder = setting.work / "first_result"
    write_model(folder, dtype)
    filled = child("pynn", folder)
    ways, skipped = {"pynn": filled}, {}
    try:
        ways["hand"] = child("hand", folder)
    except RuntimeError as error:
        skipped["by hand"] = str(error)
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    warm = filled
    for _ in range(1 if setting.quick else RUNS):
        for name in ways:
            record = child(name, folder)
            runs[name].append(record["marks"])
            warm = record if name == "pynn" else warm
    parts = {name: {mark: median(marks, mark) for mark in marks[0]} for name, marks in runs.items()}
    return {
        **judged(parts["pynn"]["first result"], parts.get("hand", {}).get("first result"), limit=0.65),
        "unit": "s",
        "backend": filled["backend"],
        "floor_name": "NVIDIA's binding by hand, plan and kernels from files",
        "peers": {},
        "skipped": skipped,
        "details": {"parts": parts, "filling the caches": filled, "last of pynn": warm, "runs": runs},
    }


def median(runs: list[dict[str, float]], mark: str) -> float:
    return round(statistics.median(run[mark] for run in runs), 4)


def write_model(folder: Path, dtype: str) -> None:
    import models
    import numpy as np

    import pynn

    folder.mkdir(parents=True, exist_ok=True)
    net = models.mobilenet(dtype)
    pynn.to_onnx(net.graph()).save(folder / MODEL)
    np.save(folder / IMAGE, net.inputs["image"])


def child(way: str, folder: Path) -> dict[str, Any]:
    """What the process printed. Raises RuntimeError when it failed."""
    command = [sys.executable, __file__, way, str(folder)]
    try:
        done = subprocess.run(
            [*command, repr(time.time())],
            capture_output=True,
            text=True,
            timeout=LIMIT_SECONDS,
            check=False,
            env=environment(folder),
        )
    except subprocess.TimeoutExpired:
        raise RuntimeError(f"{way}: longer than {LIMIT_SECONDS} s") from None
    if done.returncode:
        raise RuntimeError(f"{way}: code {done.returncode}: {done.stderr[-500:].strip()}")
    record: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return record


def environment(folder: Path) -> dict[str, str]:
    """A session may forbid bytecode, and an installation leave it out: then each start would compile all modules."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**inherited, "PYTHONPYCACHEPREFIX": str(folder.resolve() / "bytecode")}


class Marks:
    """Seconds since the process was started."""

    def __init__(self, start: float) -> None:
        self._start = start
        self.seconds = {"python": BEGIN - start}

    def __call__(self, name: str) -> None:
        self.seconds[name] = time.time() - self._start


def by_pynn(folder: Path, mark: Marks) -> dict[str, Any]:
    import warnings

    import numpy as np

    import pynn

    warnings.simplefilter("ignore")
    image = np.load(folder / IMAGE)
    mark("import")
    executable = pynn.compile(folder / MODEL, cache_dir=str(folder / "cache"))
    mark("ready")
    executable.run({"image": image})
    mark("first result")
    engine = getattr(executable, "engine_file", None)
    if engine is not None and not (folder / PLAN).is_file():
        (folder / PLAN).write_bytes(engine.plan)
    facts = {"backend": executable.backend, "stats": {key: str(value) for key, value in executable.stats.items()}}
    executable.close()
    return facts


def by_nvidia(folder: Path, mark: Marks) -> dict[str, Any]:
    if not (folder / PLAN).is_file():
        raise SystemExit("there is no engine: pynn does not run on TensorRT here")
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")  # what pynn's engines are built with
    import numpy as np

    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "first_light"))
    import by_hand

    image = np.load(folder / IMAGE)
    by_hand.binding()
    mark("import")
    kernels = folder / KERNELS
    floor = by_hand.Floor(
        plan=(folder / PLAN).read_bytes(), runtime_cache=kernels.read_bytes() if kernels.is_file() else b""
    )
    mark("ready")
    floor.run({"image": image})
    mark("first result")
    if not kernels.is_file():
        kernels.write_bytes(floor.kernels)
    floor.close()
    return {}


def main() -> None:
    way, folder, start = sys.argv[1:]
    mark = Marks(float(start))
    facts = {"pynn": by_pynn, "hand": by_nvidia}[way](Path(folder), mark)
    print(json.dumps({"marks": mark.seconds, **facts}))


if __name__ == "__main__":
    main()
