"""``python -m tests.conformance [DIR]``: run conformance vectors on pynn's back ends."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from . import pool, report
from .case import STATUSES, Result
from .vectors import Case, cases, method_name, shared_folder
from .worker import BACKENDS

_SHOWN = 50


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    pair = int(index), int(count)
    if not 1 <= pair[0] <= pair[1]:
        raise ValueError(text)
    return pair


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.conformance", description=__doc__)
    add = parser.add_argument
    add(
        "folder",
        nargs="?",
        type=Path,
        help="folder (or file) of vectors; default: $PYNN_CONFORMANCE_DATA or ../shared/conformance",
    )
    add("--backend", default="onnxruntime", help=f"comma list of {', '.join(BACKENDS)} or MODULE:FACTORY")
    add("--op", default="", help="comma list of operators (add,conv2d or layerNormalization); default: all")
    add("--case", default="", help="only cases whose id contains this text")
    add("--shard", type=_shard, default=(1, 1), metavar="I/N", help="only every N-th case, from the I-th")
    add("--jobs", type=int, default=os.cpu_count() or 1, help="worker processes (default: one per core)")
    add("--gpu-jobs", type=int, default=0, help="worker processes for tensorrt (default: as --jobs, at most 16)")
    add("--timeout", type=float, default=60.0, metavar="S", help="seconds for one case (default: 60)")
    add(
        "--limit-seconds",
        type=float,
        default=float("inf"),
        metavar="S",
        help="start no case after S seconds; the rest is not-run",
    )
    add("--expect", type=Path, help="JSON list of {backend, case, reason}: cases that need not pass")
    add("--json", type=Path, metavar="FILE", help="write every result")
    add("--markdown", type=Path, metavar="FILE", help="write a table per operator")
    add("--quiet", action="store_true", help="only the summary")
    return parser


def select(folder: Path, operators: Sequence[str], text: str, shard: tuple[int, int]) -> list[Case]:
    wanted = {method_name(name) for name in operators if name}
    found = [c for c in cases(folder) if (not wanted or c.operator in wanted) and text in c.id]
    missing = wanted - {case.operator for case in found}
    if missing and not text:
        raise FileNotFoundError(f"no vectors for {', '.join(sorted(missing))} in {folder}")
    return found[shard[0] - 1 :: shard[1]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = _parser()
    args = parser.parse_args(argv)
    backends = args.backend.split(",")
    if unknown := [name for name in backends if name not in BACKENDS and ":" not in name]:
        parser.error(f"unknown back end {unknown[0]!r}; one of: {', '.join(BACKENDS)}")
    folder = args.folder or shared_folder()
    try:
        chosen = select(folder, args.op.split(","), args.case, args.shard)
        expected = report.expectations(args.expect)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    run = report.Run(folder)
    for name in backends:
        jobs = args.jobs if name != "tensorrt" else args.gpu_jobs or min(16, args.jobs)
        limits = pool.Limits(jobs, args.timeout, args.limit_seconds)
        start = time.monotonic()
        run.results[name], run.about[name] = pool.run(chosen, name, limits, _progress(len(chosen), args.quiet))
        run.seconds[name] = time.monotonic() - start
    for path, text in ((args.json, run.to_json), (args.markdown, run.to_markdown)):
        if path is not None:
            path.write_text(text(), encoding="utf-8")
    return _summarize(run, report.judge(run, expected), args.quiet)


def _progress(total: int, quiet: bool) -> Callable[[Result], None]:
    done = 0

    def show(result: Result) -> None:
        nonlocal done
        done += 1
        if not quiet and sys.stderr.isatty():
            print(f"\r{done}/{total} {result.operator:<24}", end="", file=sys.stderr, flush=True)

    return show


def _summarize(run: report.Run, judgement: report.Judgement, quiet: bool) -> int:
    for name, results in run.results.items():
        total = pool.counts(results)
        parts = ", ".join(f"{total[status]} {status}" for status in STATUSES if status in total)
        version = run.about[name].get("version", "")
        print(f"{name} {version}: {len(results)} cases: {parts} ({run.seconds[name]:.1f} s)")
    if not quiet:
        lines = report.lines_of(judgement.unexpected)
        for line in lines[:_SHOWN]:
            print(f"  {line}")
        if len(lines) > _SHOWN:
            print(f"  and {len(lines) - _SHOWN} more; --json or --markdown lists them all")
    if judgement.expected:
        print(f"  {len(judgement.expected)} not passed, as expected")
    for result in judgement.surprises:
        print(f"  passes, but is expected not to: {result.backend} {result.id}; remove it from the expectations")
    return 1 if judgement.unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
