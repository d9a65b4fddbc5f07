"""What a precision costs and brings: time on the GPU, size of the plan, error; each case in a process of its own.

    python benchmarks/precision/run.py [--case NAME] [--output benchmarks/results/h200] [--quick] [--limit-seconds 200]

Writes precision.json, which ``benchmarks/suite/table.py`` makes a table of. The float32 graph with ``precision=`` runs
beside the same network built in float16 by hand, in one interleaved run. Times are of bare replay on memory of the
GPU, without copies; on ONNX Runtime they are those of ``run``. Errors are ||y - y'|| / ||y'|| against ONNX Runtime in
float32 (convolutional nets) or numpy in float64 (MLP).
"""

from __future__ import annotations

import contextlib
import functools
import math
import statistics
import sys
import time
import tracemalloc
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve()
sys.path[:0] = [str(HERE.parents[1] / "suite"), str(HERE.parent)]

import models  # noqa: E402
import numpy as np  # noqa: E402
import processes  # noqa: E402
from models import Array, Net  # noqa: E402
from processes import Case, Record, Setting  # noqa: E402

import pynn  # noqa: E402
from pynn.benchmark.device import DeviceTimer  # noqa: E402
from pynn.benchmark.interleave import CallSampler, Sampler, interleave  # noqa: E402
from pynn.converter.precision import apply_precision  # noqa: E402

ALLOWED_ERROR = 2e-3
WITHIN = 1.03
PLAN_SHARE = 0.27
OPERATORS, PASSES_SECONDS, PEAK = 10_000, 1.0, 2.0
QUICK_MLP = 256

warnings.simplefilter("ignore", pynn.FallbackWarning)


@dataclass(frozen=True)
class Variant:
    """``precision`` is asked for when it is compiled: calibration takes time."""

    net: Net
    precision: Callable[[], Any] = lambda: None


class Field:
    """Variants that are ready, timed in turns; the others' refusals."""

    def __init__(self, setting: Setting, stack: contextlib.ExitStack) -> None:
        self._setting, self._stack = setting, stack
        self._samplers: dict[str, Sampler] = {}
        self.backend = ""
        self.refused: dict[str, str] = {}
        self.facts: dict[str, Record] = {}

    def enter(self, name: str, variant: Variant, exact: Array) -> None:
        try:
            executable = self._stack.enter_context(
                pynn.compile(variant.net.graph(), precision=variant.precision(), cache_dir=str(self._setting.cache))
            )
            results = executable.run(variant.net.inputs)
            self._samplers[name] = self._sampler(executable, variant.net, results)
        except Exception as error:
            self.refused[name] = f"{type(error).__name__}: {error}"
            return
        self.backend = executable.backend
        (result,) = results.values()
        stats = executable.stats
        self.facts[name] = {
            "relative_error": relative_error(result, exact),
            "plan_bytes": stats.get("plan_bytes"),
            "seconds": {key: round(value, 4) for key, value in stats.get("seconds", {}).items()},
            "notes": list(executable.notes),
            "library": stats.get("library"),
        }

    def _sampler(self, executable: pynn.Executable, net: Net, results: Mapping[str, Array]) -> Sampler:
        if executable.backend != "tensorrt":
            return CallSampler(lambda: executable.run(net.inputs))
        return self._stack.enter_context(DeviceTimer(executable, net.inputs, results))

    def run(self) -> None:
        """Put ``us``, the median, into the facts of each."""
        seconds, iterations = (None, 1) if self._setting.quick else (1.0, None)
        times = interleave(self._samplers, seconds=seconds, iterations=iterations)
        for name, quantities in times.items():
            self.facts[name]["us"] = round(statistics.median(quantities.get("floor") or quantities["latency"]), 3)

    def record(self, of: str, beside: str) -> Record:
        """``of`` is pynn's, ``beside`` its floor."""
        us = {name: facts["us"] for name, facts in self.facts.items()}
        if of not in us:
            failed = f"{of} does not run: {self.refused.get(of)}"
            return {"failed": failed, "backend": self.backend, "skipped": self.refused, "details": self.facts}
        floor = us.get(beside)
        return {
            "pynn": us[of],
            "floor": floor,
            "ratio": round(us[of] / floor, 4) if floor else None,
            "unit": "us on the GPU" if self.backend == "tensorrt" else "us",
            "backend": self.backend,
            "floor_name": beside,
            "peers": {name: value for name, value in us.items() if name not in (of, beside)},
            "skipped": self.refused,
            "details": self.facts,
        }


def relative_error(got: Array, exact: Array) -> float:
    wide, want = got.astype(np.float64), exact.astype(np.float64)
    return float(np.linalg.norm(wide - want) / np.linalg.norm(want))


def network(make: Callable[[str], Net], setting: Setting) -> Record:
    """A convolutional net in float32 with ``precision=``, beside the same built in float16."""
    net, by_hand = make("float32"), make("float16")
    with contextlib.ExitStack() as stack:
        (exact,) = on_cpu(net).values()
        field = Field(setting, stack)
        field.enter("graph built in float16", Variant(by_hand), exact)
        field.enter("fp32", Variant(net), exact)
        for name in ("fp16", "bf16"):
            field.enter(name, Variant(net, lambda name=name: name), exact)
        field.enter("fp16, inputs and outputs too", Variant(fed(net, "float16"), lambda: halved()), exact)
        field.run()
    record = field.record("fp16", "graph built in float16")
    if "failed" in record:
        return record
    error = field.facts["fp16"]["relative_error"]
    met = record["ratio"] is not None and record["ratio"] <= WITHIN and error <= ALLOWED_ERROR
    return {**record, "reach": f"<= {WITHIN} x, error <= {ALLOWED_ERROR}: {error:.1e}", "met": met}


def halved() -> pynn.Precision:
    return pynn.Precision("fp16", io=True)


def fed(net: Net, dtype: str) -> Net:
    """The same network with inputs of another type."""
    return Net(net.build, {name: array.astype(dtype) for name, array in net.inputs.items()})


def on_cpu(net: Net) -> Mapping[str, Array]:
    with pynn.compile(net.graph(), backend="onnxruntime", accelerated=False) as executable:
        return executable.run(net.inputs)


def mlp(rows: int, setting: Setting) -> Record:
    """Two products of 4096 x 4096, with GELU between."""
    size = QUICK_MLP if setting.quick else models.MLP_SIZE
    net = models.mlp(rows, size=size)
    exact = exact_mlp(net, size)
    half = models.mlp(rows, "float16", size)
    with contextlib.ExitStack() as stack:
        field = Field(setting, stack)
        field.enter("fp32", Variant(net), exact)
        field.enter("graph built in float16", Variant(half), exact)
        for name in ("fp16", "bf16"):
            field.enter(name, Variant(net, lambda name=name: name), exact)
        for block in (128, 32):
            field.enter(f"int4 block {block}", Variant(net, lambda block=block: four_bits(block)), exact)
        field.enter("int4 block 128 of the float16 graph", Variant(half, lambda: four_bits(128)), exact)
        field.enter("fp8", Variant(net, lambda: eight_bits(net)), exact)
        field.run()
    record = field.record("int4 block 128", "fp16")
    if "failed" in record:
        return record
    plans = [field.facts[name]["plan_bytes"] for name in ("int4 block 128", "fp16") if name in field.facts]
    share = plans[0] / plans[1] if len(plans) == 2 and all(plans) else math.nan
    measured = "not known" if math.isnan(share) else f"{share:.1%}"
    if rows > 1:
        return {**record, "reach": f"none; plan of fp16's: {measured}", "met": None}
    met = record["ratio"] is not None and record["ratio"] <= 1 and share <= PLAN_SHARE
    return {**record, "reach": f"<= 1 x, plan <= {PLAN_SHARE:.0%} of fp16's: {measured}", "met": met}


def four_bits(block: int) -> pynn.Precision:
    return pynn.Precision("int4", block=block)


def eight_bits(net: Net) -> pynn.Precision:
    table = pynn.calibrate(net.graph(), [net.inputs], form="fp8")
    return pynn.Precision("fp8", calibration=table)


def exact_mlp(net: Net, size: int) -> Array:
    """In float64 from the same weights; GELU by the error function."""
    random = np.random.default_rng(0)
    first, second = (random.standard_normal((size, size), np.float32) / np.float32(np.sqrt(size)) for _ in range(2))
    hidden = net.inputs["x"].astype(np.float64) @ first.astype(np.float64)
    error = np.frompyfunc(math.erf, 1, 1)(hidden / np.sqrt(2)).astype(np.float64)
    return (hidden * 0.5 * (1 + error)) @ second.astype(np.float64)


def passes(setting: Setting) -> Record:
    """What ``precision="fp16"`` adds to the conversion of a graph of 10 000 operators, and its peak of memory."""
    graph, weights = chain(100 if setting.quick else OPERATORS)
    choices = {"to_onnx": pynn.Precision(), "fp16": pynn.Precision("fp16"), "int4": pynn.Precision("int4", block=32)}
    seconds: dict[str, float] = {}
    peaks: dict[str, float] = {}
    for name, choice in choices.items():
        rounds = 1 if name == "int4" else 3
        seconds[name] = min(cpu_seconds(functools.partial(apply_precision, graph, choice)) for _ in range(rounds))
        if name == "int4":  # rounding weights under tracemalloc takes a minute
            continue
        tracemalloc.start()
        apply_precision(graph, choice)
        peaks[name] = round(1 + tracemalloc.get_traced_memory()[1] / weights, 3)
        tracemalloc.stop()
    added = seconds["fp16"] - seconds["to_onnx"]
    return {
        "pynn": round(added, 4),
        "floor": round(seconds["to_onnx"], 4),
        "ratio": None,
        "unit": "s",
        "backend": processes.HOST,
        "floor_name": "conversion without it",
        "peers": {"int4": round(seconds["int4"] - seconds["to_onnx"], 4)},
        "reach": f"<= {PASSES_SECONDS} s, peak <= {PEAK} x weights: {peaks['fp16']}",
        "met": added <= PASSES_SECONDS and peaks["fp16"] <= PEAK,
        "skipped": {},
        "details": {"seconds": seconds, "peak, times the weights": peaks, "operators": len(graph.nodes)},
    }


def cpu_seconds(call: Callable[[], object]) -> float:
    """Of this process: what other programs do counts little."""
    start = time.process_time()
    call()
    return time.process_time() - start


def chain(operators: int) -> tuple[pynn.Graph, int]:
    """Products, additions, activations and normalisations in a row; and the bytes of its weights."""
    random = np.random.default_rng(0)
    b = pynn.GraphBuilder()
    x = b.input("x", [8, 128], "float32")
    weights = 0
    for _ in range(operators // 4):
        weight = random.standard_normal((128, 128), np.float32) / np.float32(11.3)
        weights += weight.nbytes
        x = b.softmax(b.relu(b.add(b.matmul(x, b.constant(weight)), b.constant("float32", 0.1))), 1)
    return b.finish({"y": x}), weights


CASES = (
    Case(
        "mobilenetv2_fp16",
        'MobileNetV2 float32, precision="fp16"',
        lambda setting: network(models.mobilenet, setting),
        70,
    ),
    Case(
        "resnet50_fp16",
        'ResNet-50 float32, precision="fp16"',
        lambda setting: network(models.resnet50, setting),
        70,
    ),
    Case("mlp_1_int4", "MLP 4096, M=1, int4 in blocks of 128", lambda setting: mlp(1, setting), 50),
    Case("mlp_64_int4", "MLP 4096, M=64, int4 in blocks of 128", lambda setting: mlp(64, setting), 50),
    Case("mlp_2048_int4", "MLP 4096, M=2048, int4 in blocks of 128", lambda setting: mlp(2048, setting), 60),
    Case("passes", 'passes of precision="fp16" on a graph of 10 000 operators', passes, 60),
)

if __name__ == "__main__":
    raise SystemExit(processes.main(CASES, "precision.json", str(HERE), __doc__))
