"""The speed of pynn, case by case, beside floors and peers; each case in a process of its own.

    python benchmarks/suite/run.py [--case NAME] [--output benchmarks/results/h200] [--quick] [--limit-seconds 200]

Writes suite.json. ``table.py`` makes a Markdown table of it, ``plot.py`` the picture of the README. Peers: NVIDIA's
Python binding by hand on pynn's own engine, ONNX Runtime's TensorRT-RTX provider (PYNN_ORT_EP or its package). What is
not here is named with the reason; a missed reach is no failure.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve()
sys.path.insert(0, str(HERE.parent))

import cases  # noqa: E402
import processes  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(processes.main(cases.CASES, "suite.json", str(HERE), __doc__))
