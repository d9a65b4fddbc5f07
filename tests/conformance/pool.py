"""Workers in parallel: a crash, a hang or a worker that does not start is a result, never the end."""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from .case import Result
from .vectors import Case

ROOT = Path(__file__).parents[2]
START_SECONDS = 120.0
ENVIRONMENT: Mapping[str, Mapping[str, str]] = {"tensorrt": {"NVIDIA_TF32_OVERRIDE": "0"}}
"""Variables of the workers. TF32 has to be off before the process starts: float32 means float32 in the vectors."""


class WorkerDiedError(Exception):
    """The worker ended or fell silent; ``status`` is "crash" or "timeout"."""

    def __init__(self, status: str, reason: str) -> None:
        super().__init__(reason)
        self.status = status


class Worker:
    """One child process on one back end. ``about`` is what it said of its back end."""

    def __init__(self, backend: str) -> None:
        self._errors: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, **ENVIRONMENT.get(backend, {}), "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"{__package__}.worker", backend],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=environment, encoding="utf-8",
        )  # fmt: skip
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        self.about = self._receive(START_SECONDS)

    def ask(self, case: Case, seconds: float) -> dict[str, Any]:
        """The worker's answer for a case. Raises WorkerDiedError; the worker is of no use after that."""
        message = {"path": str(case.path), "index": case.index, "id": case.id, "operator": case.operator}
        assert self._process.stdin is not None
        with suppress(OSError):  # it is dead: _receive tells how
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        return self._receive(seconds)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._errors.close()
        if self._process.stdin is not None:
            with suppress(OSError):
                self._process.stdin.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _receive(self, seconds: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            self.close()
            raise WorkerDiedError("timeout", f"no answer in {seconds:g} s") from None
        if line is not None:
            answer: dict[str, Any] = json.loads(line)
            return answer
        code = self._process.wait()
        self._errors.seek(0)
        tail = self._errors.read().decode("utf-8", "replace")[-1500:].strip()
        self.close()
        raise WorkerDiedError("crash", f"{_ending(code)}: {tail}")


def _ending(code: int) -> str:
    if code >= 0:
        return f"the worker ended with exit code {code}"
    try:
        return f"the worker died of {signal.Signals(-code).name}"
    except ValueError:
        return f"the worker died of signal {-code}"


@dataclass
class Limits:
    """How to run: workers at a time, seconds for one case, and seconds after which no case is started."""

    jobs: int
    case_seconds: float = 60.0
    total_seconds: float = float("inf")


def run(
    cases: Sequence[Case], backend: str, limits: Limits, progress: Callable[[Result], None] = lambda result: None
) -> tuple[list[Result], dict[str, Any]]:
    """Run the cases on a back end: the results in the order of the cases, and what the back end said of itself.

    When the back end is unusable, or no worker can start, every case is "not-run" with that reason.
    """
    deadline = time.monotonic() + limits.total_seconds
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for index in range(len(cases)):
        todo.put(index)
    results: dict[int, Result] = {}
    about: dict[str, Any] = {}
    lock = threading.Lock()

    def keep(index: int, result: Result) -> None:
        with lock:
            results[index] = result
            progress(result)

    def serve() -> None:
        worker: Worker | None = None
        try:
            while time.monotonic() < deadline and not about.get("stop"):
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                case = cases[index]
                try:
                    if worker is None:
                        worker = Worker(backend)
                        with lock:
                            about.update(worker.about)
                        if not worker.about["usable"]:
                            about["stop"] = "; ".join(worker.about["probes"])
                            return
                    result = Result(**_fields(worker.ask(case, limits.case_seconds)))
                    keep(index, result)
                    if _may_be_spoilt(result):
                        worker.close()
                        worker = None
                except WorkerDiedError as error:
                    if worker is None:
                        about["stop"] = f"a worker did not start: {error}"
                        return
                    worker = None
                    keep(index, Result.of(case, backend, error.status, reason=str(error)))
        finally:
            if worker is not None:
                worker.close()

    threads = [threading.Thread(target=serve) for _ in range(max(1, min(limits.jobs, len(cases))))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    why = about.pop("stop", "") or f"the time limit of {limits.total_seconds:g} s was reached"
    for index, case in enumerate(cases):
        if index not in results:
            keep(index, Result.of(case, backend, "not-run", reason=why))
    return [results[index] for index in range(len(cases))], about


def _may_be_spoilt(result: Result) -> bool:
    """After a failed kernel every later call of the process fails too."""
    return result.status == "error" and (result.reason.startswith("run:") or "CudaError" in result.reason)


def _fields(answer: dict[str, Any]) -> dict[str, Any]:
    worst = answer["worst"]
    return answer | {"worst": None if worst is None else float(worst), "rewrites": tuple(answer["rewrites"])}


def counts(results: Iterable[Result]) -> dict[str, int]:
    """How many of each status."""
    found: dict[str, int] = {}
    for result in results:
        found[result.status] = found.get(result.status, 0) + 1
    return found
