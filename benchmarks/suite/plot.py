"""The picture of the README: pynn, its floor and its peers in the suite's latency cases.

python benchmarks/suite/plot.py benchmarks/results/h200/suite.json docs/benchmark.svg
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pynn.benchmark.plot import COLORS, GREY, Bar, Panel, draw_panels

SHOWN = ("tiny", "mobilenetv2", "resnet50", "resnet50_map", "threads")
NAMES = {"onnxruntime-rtx": "ONNX Runtime, TensorRT-RTX provider", "onnxruntime-cpu": "ONNX Runtime, CPU"}


COLOR_OF = {
    "pynn, page-locked arrays": "#79c0ff",
    "map, page-locked arrays": "#79c0ff",
    "by hand": COLORS[1],
    "by hand, one CUDA graph": COLORS[2],
    "by hand, mapped memory": COLORS[3],
    "onnxruntime-rtx": COLORS[4],
    "onnxruntime-cpu": COLORS[5],
}


def panel(case: Mapping[str, Any]) -> Panel:
    bars = [Bar("pynn", case["pynn"], COLORS[0])]
    if case["floor"] is not None and case["floor_name"] not in case["peers"]:
        bars.append(Bar(f"floor: {case['floor_name']}", case["floor"], GREY))
    for name, value in case["peers"].items():
        floor = "floor: " if name == case["floor_name"] else ""
        bars.append(Bar(floor + NAMES.get(name, name), value, COLOR_OF.get(name, COLORS[1])))
    return Panel(case["title"], case["unit"].replace("us", "\u00b5s", 1), bars, case["floor"])


def main() -> int:
    source, target = map(Path, sys.argv[1:])
    suite = json.loads(source.read_text("utf-8"))
    cases = {case["case"]: case for case in suite["cases"] if "pynn" in case}
    panels = [panel(cases[name]) for name in SHOWN if name in cases]
    if not panels:
        print(f"{source} has no case to draw", file=sys.stderr)
        return 1
    draw_panels(panels, target)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
