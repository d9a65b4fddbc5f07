"""Each case in a process of its own, with its own limit: one that crashes or hangs does not lose the rest."""

from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pynn.benchmark.environment import environment

Record = dict[str, Any]
HOST = "host"
"""The back end of a case that needs none."""
LAST_CASE_SECONDS = 5
"""A case is not begun with less time than this."""


@dataclass(frozen=True)
class Setting:
    """What a case may know. ``peers``: time others too; they may crash, so a case is run again without them."""

    quick: bool
    peers: bool
    work: Path
    """A folder that the cases of one run share: caches, engines."""

    @property
    def seconds(self) -> float:
        """How long each contestant is timed."""
        return 0.05 if self.quick else 2.0

    @property
    def cache(self) -> Path:
        return self.work / "cache"


@dataclass(frozen=True)
class Case:
    """``run`` answers what is measured, or raises Skip. ``limit``: seconds of the whole process."""

    name: str
    title: str
    run: Callable[[Setting], Record]
    limit: float


class Skip(Exception):  # noqa: N818  (it is no error)
    """This case cannot be measured here."""


def main(
    cases: Sequence[Case], file: str, script: str, description: str, arguments: Sequence[str] | None = None
) -> int:
    """Run cases and write ``file`` (JSON). 1 if one failed; skipped ones are no failure."""
    by_name = {case.name: case for case in cases}
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", choices=list(by_name), help="only this one (may be repeated)")
    parser.add_argument("--output", type=Path, help=f"folder for {file}")
    parser.add_argument("--quick", action="store_true", help="shows that it works, measures nothing")
    parser.add_argument("--limit-seconds", type=float, default=200)
    parser.add_argument("--no-peers", action="store_true", help="time pynn and its floor alone")
    parser.add_argument("--work", type=Path, help="folder for caches (default: a temporary one)")
    parser.add_argument("--child", choices=list(by_name), help=argparse.SUPPRESS)
    parser.add_argument("--result", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child:
        _child(by_name[options.child], Setting(options.quick, not options.no_peers, options.work), options.result)
        return 0
    with contextlib.ExitStack() as stack:
        work = options.work or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pynn-suite-")))
        work.mkdir(parents=True, exist_ok=True)
        until = time.monotonic() + options.limit_seconds
        records = []
        for name in options.case or list(by_name):
            records.append(_parent(by_name[name], script, options, work, until - time.monotonic()))
            print(_line(records[-1]), flush=True)
    suite = {
        "date": dt.datetime.now(dt.timezone.utc).isoformat(timespec="seconds"),
        "command": ["python", *sys.argv],
        "quick": options.quick,
        "environment": {**environment(), **_library(records)},
        "cases": records,
    }
    if options.output is not None:
        options.output.mkdir(parents=True, exist_ok=True)
        (options.output / file).write_text(json.dumps(suite, indent=2) + "\n", encoding="utf-8")
    return 1 if any("failed" in record for record in records) else 0


def _child(case: Case, setting: Setting, result: Path) -> None:
    try:
        record = case.run(setting)
        if "met" in record and (setting.quick or record["backend"] not in ("tensorrt", HOST)):
            record["met"] = None  # what is to be reached is for an H200
    except Skip as reason:
        record = {"skipped_case": str(reason)}
    except Exception as error:
        traceback.print_exc()
        record = {"failed": f"{type(error).__name__}: {error}"}
    result.write_text(json.dumps(record, default=str), encoding="utf-8")


def _parent(case: Case, script: str, options: argparse.Namespace, work: Path, left: float) -> Record:
    """The case's record, with how long it took. Once more without peers if the process died."""
    base = {"case": case.name, "title": case.title}
    if left < LAST_CASE_SECONDS:
        return {**base, "skipped_case": f"the limit of {options.limit_seconds:.0f} s for the whole run is over"}
    start = time.monotonic()
    peers = not options.no_peers
    record = _process(case, script, options.quick, peers, work, min(case.limit, left))
    rest = left - (time.monotonic() - start)
    if peers and record.pop("died", False) and rest > LAST_CASE_SECONDS:
        again = _process(case, script, options.quick, False, work, min(case.limit, rest))
        record = {**again, "died_with_peers": record["failed"]}
    record.pop("died", None)
    return {**base, **record, "seconds": round(time.monotonic() - start, 1)}


def _process(case: Case, script: str, quick: bool, peers: bool, work: Path, limit: float) -> Record:
    result, log = work / f"{case.name}.json", work / f"{case.name}.log"
    result.unlink(missing_ok=True)
    command = [sys.executable, script, "--child", case.name, "--result", str(result), "--work", str(work)]
    command += ["--quick"] * quick + ["--no-peers"] * (not peers)
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return {"failed": f"it took longer than {limit:.0f} s; {_tail(log)}", "died": True}
    if not result.is_file():
        return {"failed": f"the process ended with code {code}; {_tail(log)}", "died": True}
    record: Record = json.loads(result.read_text("utf-8"))
    if "failed" in record:
        record["log"] = _tail(log)
    return record


def _library(found: Any) -> dict[str, str]:
    """The TensorRT that the first case ran on, as its statistics say."""
    if isinstance(found, Mapping):
        if isinstance(found.get("library"), str):
            return {"tensorrt": found["library"]}
        found = list(found.values())
    if isinstance(found, list):
        return next(filter(None, map(_library, found)), {})
    return {}


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-800:].strip() or "it printed nothing"


def _line(record: Mapping[str, Any]) -> str:
    for key in ("failed", "skipped_case"):
        if key in record:
            return f"{record['case']}: {key.removesuffix('_case').upper()}: {record[key]}"
    keys = ("pynn", "floor", "ratio", "met")
    return f"{record['case']}: {', '.join(f'{key} {record.get(key)}' for key in keys)} ({record['seconds']} s)"
