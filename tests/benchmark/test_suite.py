"""The suites of benchmarks/: they run here in a reduced form, and survive cases that crash, hang or are skipped."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ort

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "benchmarks" / "suite"


def script(*arguments: object, code: int = 0) -> str:
    done = subprocess.run([sys.executable, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, timeout=120)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def quick(folder: Path, name: str, cases: list[str]) -> dict[str, Any]:
    chosen = [part for case in cases for part in ("--case", case)]
    run = SUITE / "run.py" if name == "suite" else ROOT / "benchmarks" / name / "run.py"
    script(run, "--quick", "--output", folder, *chosen)
    suite: dict[str, Any] = json.loads((folder / f"{name}.json").read_text("utf-8"))
    assert [case["case"] for case in suite["cases"]] == cases
    return suite


def test_the_suite_runs_here(tmp_path: Path) -> None:
    suite = quick(tmp_path, "suite", ["tiny", "dispatch", "first_result", "threads"])
    assert suite["quick"] and suite["environment"]["onnxruntime"] and suite["date"]
    for case in suite["cases"]:
        assert case["pynn"] > 0
        assert case["met"] is None
    tiny = suite["cases"][0]
    assert tiny["peers"]["onnxruntime-cpu"] > 0
    table = script(SUITE / "table.py", tmp_path / "suite.json")
    assert "| tiny net (4x64 @ 64x32, ReLU), numpy to numpy | " in table
    assert "Quick run" in table
    pytest.importorskip("matplotlib")
    script(SUITE / "plot.py", tmp_path / "suite.json", tmp_path / "plot.svg")
    assert b"<svg" in (tmp_path / "plot.svg").read_bytes()[:600]


CASES = """
import os, sys, time
sys.path.insert(0, {suite!r})
import processes
from processes import Case, Skip

def crash(setting):
    os.kill(os.getpid(), 9)

def crash_with_peers(setting):
    if setting.peers:
        os.kill(os.getpid(), 9)
    return fine(setting)

def hang(setting):
    time.sleep(60)

def skip(setting):
    raise Skip("not here")

def wrong(setting):
    raise ValueError("wrong")

def fine(setting):
    return dict(pynn=1.0, floor=0.99, ratio=1.01, reach="<= 1.06 x floor", met=True, unit="us", floor_name="bare",
                peers={{"x": 3.0}}, skipped={{"y": "gone"}}, backend="tensorrt",
                details=dict(stats=dict(library="TensorRT for RTX 1.6.1")))

CASES = [Case(name, name, run, limit) for name, run, limit in (
    ("crash", crash, 20), ("crash_with_peers", crash_with_peers, 20), ("hang", hang, 1), ("skip", skip, 20),
    ("wrong", wrong, 20), ("fine", fine, 20))]
raise SystemExit(processes.main(CASES, "suite.json", __file__, "test"))
"""


def test_a_case_that_dies_does_not_lose_the_rest(tmp_path: Path) -> None:
    run = tmp_path / "run.py"
    run.write_text(textwrap.dedent(CASES.format(suite=str(SUITE))), "utf-8")
    script(run, "--output", tmp_path, code=1)
    cases = {case["case"]: case for case in json.loads((tmp_path / "suite.json").read_text("utf-8"))["cases"]}
    assert "ended with code -9" in cases["crash"]["failed"]
    assert cases["crash_with_peers"]["met"] is True
    assert "ended with code -9" in cases["crash_with_peers"]["died_with_peers"]
    assert "took longer than 1 s" in cases["hang"]["failed"]
    assert cases["skip"]["skipped_case"] == "not here"
    assert cases["wrong"]["failed"] == "ValueError: wrong"
    assert cases["fine"]["met"] is True
    table = script(SUITE / "table.py", tmp_path / "suite.json")
    assert "tensorrt TensorRT for RTX 1.6.1" in table
    assert "| fine | 1.000 us | 0.990 (bare) | 1.010 | <= 1.06 x floor | yes | x 3.0 |" in table
    assert "- skip: skipped case: not here" in table
    assert "- fine: no y: gone" in table


def test_the_time_of_the_whole_is_limited(tmp_path: Path) -> None:
    script(SUITE / "run.py", "--quick", "--limit-seconds", "1", "--output", tmp_path, "--case", "tiny")
    (case,) = json.loads((tmp_path / "suite.json").read_text("utf-8"))["cases"]
    assert case["skipped_case"] == "the limit of 1 s for the whole run is over"


def test_the_precision_suite_runs_here(tmp_path: Path) -> None:
    suite = quick(tmp_path, "precision", ["mlp_1_int4", "passes"])
    mlp, passes = suite["cases"]
    assert mlp["met"] is None
    assert mlp["details"]["fp16"]["relative_error"] < 2e-3
    assert mlp["details"]["int4 block 128"]["relative_error"] < 0.3
    assert passes["details"]["operators"] == 100
    assert "plan <= 27% of fp16's: not known" in script(SUITE / "table.py", tmp_path / "precision.json")


def test_the_threshold_of_mapped_memory_needs_a_gpu() -> None:
    from pynn.backends.cuda import discover

    if discover().driver is not None:
        pytest.skip("there is a driver here")
    out = script(ROOT / "benchmarks" / "mapped_threshold" / "run.py", "--sizes", "1024", code=2)
    assert "this needs a GPU" in out


def test_the_crossover_is_the_last_size_before_copies_win(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks" / "mapped_threshold"))
    monkeypatch.delitem(sys.modules, "run", raising=False)
    import run as mapped_threshold  # type: ignore[import-not-found]

    monkeypatch.delitem(sys.modules, "run")
    rows = [{"bytes": 1 << i, "mapped": float(i), "copied": 4.5} for i in range(8)]
    assert mapped_threshold.crossover(rows) == 16
    assert mapped_threshold.crossover(rows[5:]) == 0
    assert mapped_threshold.crossover([]) == 0
