"""A Markdown table of one or more result files of the suites.

python benchmarks/suite/table.py benchmarks/results/h200/suite.json [FILE.json ...] [--output FILE.md]
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEADS = ("case", "pynn", "floor", "pynn / floor", "reach", "met", "peers")
FACTS = (
    "gpu",
    "tensorrt",
    "driver",
    "cuda_of_driver",
    "pynn",
    "numpy",
    "onnxruntime",
    "cuda-bindings",
    "python",
    "processor",
)


def row(case: Mapping[str, Any]) -> list[str]:
    """One case; a skipped or failed one says so in place of numbers."""
    for key in ("failed", "skipped_case"):
        if key in case:
            return [case["title"], key.removesuffix("_case"), *["-"] * (len(HEADS) - 2)]
    floor = "-" if case["floor"] is None else f"{number(case['floor'])} ({case['floor_name']})"
    peers = ", ".join(f"{name} {number(value)}" for name, value in case["peers"].items()) or "-"
    ratio = "-" if case["ratio"] is None else f"{case['ratio']:.3f}"
    met = {True: "yes", False: "**no**", None: "-"}[case["met"]]
    return [case["title"], f"{number(case['pynn'])} {case['unit']}", floor, ratio, case["reach"], met, peers]


def number(value: float) -> str:
    return f"{value:.3f}" if value < 2 else f"{value:.1f}"


def notes(suite: Mapping[str, Any]) -> list[str]:
    """Why cases and peers are missing."""
    lines = []
    for case in suite["cases"]:
        kinds = [key for key in ("failed", "skipped_case", "died_with_peers") if key in case]
        lines += [f"- {case['title']}: {kind.replace('_', ' ')}: {first_line(case[kind])}" for kind in kinds]
        lines += [
            f"- {case['title']}: no {name}: {first_line(reason)}" for name, reason in case.get("skipped", {}).items()
        ]
    return lines


def first_line(text: str) -> str:
    return (text.splitlines() or [""])[0][:300]


def table(suite: Mapping[str, Any]) -> str:
    lines = ["| " + " | ".join(HEADS) + " |", "|---|" + "---:|" * 3 + "---|" * 3]
    lines += ["| " + " | ".join(row(case)) + " |" for case in suite["cases"]]
    facts = ", ".join(f"{name} {suite['environment'][name]}" for name in FACTS if name in suite["environment"])
    quick = "**Quick run: the numbers mean nothing.** " if suite["quick"] else ""
    head = f"{quick}{suite['date']}, `{' '.join(suite['command'])}`; {facts}."
    return "\n".join([head, "", *lines, "", *notes(suite)]).rstrip() + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, help="write the table here instead of printing it")
    options = parser.parse_args(arguments)
    text = "\n".join(table(json.loads(file.read_text("utf-8"))) for file in options.files)
    if options.output is None:
        print(text, end="")
    else:
        options.output.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
