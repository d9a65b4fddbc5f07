"""The cases of the suite: what pynn takes, beside the floor that the GPU or a careful user's code sets."""

from __future__ import annotations

import contextlib
import functools
import random
import statistics
import sys
import threading
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import models
import start
from models import Array, Arrays, Net
from processes import Case, Record, Setting, Skip

import pynn
from pynn.benchmark.device import DeviceTimer
from pynn.benchmark.interleave import CallSampler, Sampler, interleave
from pynn.benchmark.summary import Summary

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "first_light"))

import by_hand

THREADS = 8
MAP_BATCH, MAP_CALLS = 32, 64
WRONG = 0.05
"""A peer whose answer is so far from pynn's, relative, does not count."""
DISPATCHES = 16
"""In a row, before waiting: few enough that the GPU's queue does not push back."""

warnings.simplefilter("ignore", pynn.FallbackWarning)


def judged(
    pynn_value: float, floor: float | None, *, within: float | None = None, limit: float | None = None
) -> Record:
    """``within``: pynn may take that many times the floor. ``limit``: that much, whatever the floor."""
    ratio = None if not floor else pynn_value / floor
    met = None
    if limit is not None:
        met = pynn_value <= limit
    elif within is not None and ratio is not None:
        met = ratio <= within
    return {
        "pynn": round(pynn_value, 4),
        "floor": None if floor is None else round(floor, 4),
        "ratio": None if ratio is None else round(ratio, 4),
        "reach": f"<= {limit}" if limit is not None else f"<= {within} x floor",
        "met": met,
    }


def ready(net: Net, setting: Setting, **options: Any) -> pynn.Executable:
    return pynn.compile(net.graph(), cache_dir=str(setting.cache), **options)


class ByHand:
    """pynn's own engine, run by NVIDIA's Python binding: "copies" enqueued, copies in one "graph", or "mapped" memory
    and one graph."""

    def __init__(self, kind: str, executable: pynn.Executable) -> None:
        engine = getattr(executable, "engine_file", None)
        if engine is None:
            raise pynn.BackendUnavailableError(f"there is no engine: pynn runs on {executable.backend} here")
        self._floor = by_hand.Floor(plan=bytes(engine.plan), mapped=kind == "mapped")
        self._run = self._floor.run if kind == "copies" else self._floor.run_graph

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        return self._run(dict(inputs))

    def close(self) -> None:
        self._floor.close()


class Pinned:
    """pynn from and to page-locked arrays, which it reads and writes in place."""

    def __init__(self, executable: pynn.Executable) -> None:
        if executable.backend != "tensorrt":
            raise pynn.BackendUnavailableError(f"{executable.backend} has no page-locked arrays")
        self._executable = executable
        self._in, self._out = executable.empty_inputs(), executable.empty_outputs()
        self._filled = False

    def __call__(self, inputs: Mapping[str, Array]) -> Arrays:
        if not self._filled:
            for name, array in inputs.items():
                self._in[name][...] = array
            self._filled = True
        return self._executable.run(self._in, out=self._out)


OTHERS = {
    "pynn, page-locked arrays": Pinned,
    "by hand": functools.partial(ByHand, "copies"),
    "by hand, one CUDA graph": functools.partial(ByHand, "graph"),
    "by hand, mapped memory": functools.partial(ByHand, "mapped"),
}


def latency(
    make: Callable[[], Net],
    setting: Setting,
    *,
    floor: str = "",
    hand: Sequence[str] = ("pynn, page-locked arrays", "by hand, one CUDA graph"),
    others: Sequence[str] = ("onnxruntime-rtx",),
    **reach: float,
) -> Record:
    """numpy to numpy, one call at a time. ``floor`` is a peer's name, or "": bare replay on memory of the GPU."""
    net = make()
    report = pynn.bench(
        net.graph(),
        inputs=net.inputs,
        backends=["pynn", *(others if setting.peers else ())],
        seconds=None if setting.quick else setting.seconds,
        iterations=2 if setting.quick else None,
        peers={name: OTHERS[name] for name in hand} if setting.peers else None,
        cache=True,
        cache_dir=str(setting.cache),
    )
    wrong = {
        e.name: f"its error is {e.relative_error:.1e}" for e in report.entries if not (e.relative_error or 0) <= WRONG
    }
    medians = {entry.name: entry.latency.median for entry in report.entries if entry.name not in wrong}
    bare = None if report.floor is None else report.floor.median
    record = judged(medians.pop("pynn"), medians.get(floor) if floor else bare, **reach)
    return {
        **record,
        "unit": "us",
        "backend": report["pynn"].details["backend"],
        "floor_name": floor or "bare graph replay on memory of the GPU",
        "peers": {name: round(value, 2) for name, value in medians.items()},
        "skipped": {**report.skipped, **wrong},
        "verdict": report.verdict,
        "details": report.to_dict(),
    }


def mapped_batches(setting: Setting) -> Record:
    """``Executable.map`` over arrays of the host: time of a batch."""
    batch, calls = (2, 3) if setting.quick else (MAP_BATCH, MAP_CALLS)
    net = models.resnet50(batch=batch)
    with ready(net, setting) as executable:
        first = executable.run(net.inputs)
        feeds = [{name: array + array.dtype.type(i) for name, array in net.inputs.items()} for i in range(4)]
        pinned = [executable.empty_inputs() for _ in feeds]
        for here, there in zip(feeds, pinned, strict=True):
            for name, array in here.items():
                there[name][...] = array
        samplers: dict[str, Sampler] = {
            "map": Batches(executable, feeds, calls),
            "map, page-locked arrays": Batches(executable, pinned, calls),
            "run, one batch after the other": CallSampler(lambda: executable.run(net.inputs)),
        }
        bare, why = with_device(samplers, executable, net.inputs, first)
        times = timed(samplers, setting)
        close(bare)
        floor = medians_of(times, "device").get("floor")
        return {
            **judged(medians_of(times, "map")["latency"], floor, within=1.03),
            "unit": "us per batch",
            "backend": executable.backend,
            "floor_name": "bare graph replay on memory of the GPU",
            "peers": {name: medians_of(times, name)["latency"] for name in times if name not in ("map", "device")},
            "skipped": why,
            "details": {
                "batch": batch,
                "batches": calls,
                **stats_of(executable),
                "device": medians_of(times, "device"),
            },
        }


class Batches:
    """Times a whole ``map``; each value is microseconds per batch."""

    def __init__(self, executable: pynn.Executable, feeds: Sequence[Arrays], calls: int) -> None:
        self._executable = executable
        self._arrays = [feeds[i % len(feeds)] for i in range(calls)]

    def sample(self, count: int) -> Mapping[str, Sequence[float]]:
        start_ns = time.perf_counter_ns()
        done = sum(1 for _ in self._executable.map(self._arrays))
        assert done == len(self._arrays), f"map gave {done} results for {len(self._arrays)} batches"
        return {"latency": [(time.perf_counter_ns() - start_ns) / 1000 / done]}


def dispatch(setting: Setting) -> Record:
    """The host's time of ``MLContext.dispatch`` on tensors of the GPU."""
    net = models.tiny_net() if setting.quick else models.mobilenet()
    with pynn.ML().create_context(cache_dir=str(setting.cache)) as context:
        if context.backend != "tensorrt" and not setting.quick:
            raise Skip(f"there is no memory of a GPU: the context is on {context.backend}")
        builder = context.create_graph_builder()
        graph = builder.build(net.build(builder))
        inputs, outputs = {}, {}
        for spec in graph.executable.inputs:
            inputs[spec.name] = context.create_tensor(list(spec.shape), spec.data_type, writable=True)
            context.write_tensor(inputs[spec.name], net.inputs[spec.name])
        for spec in graph.executable.outputs:
            outputs[spec.name] = context.create_tensor(list(spec.shape), spec.data_type, readable=True)
        samplers: dict[str, Sampler] = {"dispatch": Dispatches(context, graph, inputs, outputs)}
        first = {name: context.read_tensor(tensor) for name, tensor in outputs.items()}
        bare, why = with_device(samplers, graph.executable, net.inputs, first)
        times = timed(samplers, setting)
        close(bare)
        device = medians_of(times, "device")
        return {
            **judged(medians_of(times, "dispatch")["latency"], device.get("enqueue"), limit=5.0),
            "unit": "us of the host",
            "backend": graph.executable.backend,
            "floor_name": "launch of the executable bound to memory of the GPU",
            "peers": {},
            "skipped": why,
            "details": {
                "dispatch_us": Summary.of(times["dispatch"]["latency"]).to_dict(),
                "device": device,
                **stats_of(graph.executable),
            },
        }


class Dispatches:
    """Single dispatches timed, a few in a row; then all is waited for."""

    def __init__(self, context: Any, graph: Any, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        self._call = functools.partial(context.dispatch, graph, inputs, outputs)
        self._wait = functools.partial(context.read_tensor, next(iter(outputs.values())))

    def sample(self, count: int) -> Mapping[str, Sequence[float]]:
        times = CallSampler(self._call).sample(min(count, DISPATCHES))
        self._wait()
        return times


def first_result(setting: Setting) -> Record:
    """From the start of a process to its first result, with engine and kernels in the cache."""
    return start.measure(setting, judged, "float32" if setting.quick else "float16")


def threads(setting: Setting) -> Record:
    """Runs a second of eight threads on one executable, beside eight executables and beside one thread."""
    net = models.tiny_net() if setting.quick else models.resnet50()
    seconds, rounds = (0.02, 1) if setting.quick else (0.7, 3)
    many = [ready(net, setting) for _ in range(THREADS)]
    try:
        ways = {
            "1 thread": many[:1],
            f"{THREADS} threads, one executable": many[:1] * THREADS,
            f"{THREADS} threads, {THREADS} executables": many,
        }
        rates: dict[str, list[float]] = {name: [] for name in ways}
        order = list(ways)
        for name in order:  # contexts for runs at a time are made when they are first wanted
            rate(ways[name], net.inputs, seconds / 4)
        for _ in range(rounds):
            random.Random(0).shuffle(order)
            for name in order:
                rates[name].append(rate(ways[name], net.inputs, seconds))
        stats = stats_of(many[0])
    finally:
        for executable in many:
            executable.close()
    one, shared, own = (statistics.median(rates[name]) for name in ways)
    return {
        "pynn": round(shared, 1),
        "floor": round(own, 1),
        "ratio": round(shared / own, 4),
        "reach": ">= 8 executables",
        "met": shared >= own,
        "unit": "runs/s",
        "backend": many[0].backend,
        "floor_name": f"{THREADS} threads, {THREADS} executables",
        "peers": {"1 thread": round(one, 1)},
        "skipped": {},
        "details": {"rates": rates, **stats},
    }


def rate(executables: Sequence[pynn.Executable], inputs: Arrays, seconds: float) -> float:
    """Runs a second, one thread for each of the executables."""
    barrier = threading.Barrier(len(executables) + 1)
    done: list[int] = []
    failures: list[BaseException] = []

    def work(executable: pynn.Executable) -> None:
        try:
            executable.run(inputs)
            barrier.wait(60)
            until, count = time.perf_counter() + seconds, 0
            while time.perf_counter() < until:
                executable.run(inputs)
                count += 1
            done.append(count)
        except BaseException as error:
            failures.append(error)
            barrier.abort()

    workers = [threading.Thread(target=work, args=(executable,)) for executable in executables]
    for worker in workers:
        worker.start()
    with contextlib.suppress(threading.BrokenBarrierError):
        barrier.wait(60)
    begin = time.perf_counter()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    return sum(done) / (time.perf_counter() - begin)


def with_device(
    samplers: dict[str, Sampler], executable: pynn.Executable, inputs: Arrays, first: Arrays
) -> tuple[DeviceTimer | None, dict[str, str]]:
    """Add the times on the GPU, "device", or say why there are none."""
    try:
        timer = DeviceTimer(executable, inputs, first)
    except pynn.PynnError as error:
        return None, {"times on the GPU": str(error)}
    samplers["device"] = timer
    return timer, {}


def timed(samplers: Mapping[str, Sampler], setting: Setting) -> dict[str, dict[str, list[float]]]:
    return interleave(
        samplers, seconds=None if setting.quick else setting.seconds, iterations=1 if setting.quick else None
    )


def medians_of(times: Mapping[str, Mapping[str, Sequence[float]]], name: str) -> dict[str, float]:
    return {quantity: round(statistics.median(values), 3) for quantity, values in times.get(name, {}).items()}


def stats_of(executable: pynn.Executable) -> Record:
    return {"stats": {key: str(value) for key, value in executable.stats.items()}, "notes": list(executable.notes)}


def close(timer: DeviceTimer | None) -> None:
    if timer is not None:
        timer.close()


CASES = (
    Case(
        "tiny",
        "tiny net (4x64 @ 64x32, ReLU), numpy to numpy",
        lambda setting: latency(
            models.tiny_net,
            setting,
            floor="by hand, mapped memory",
            hand=tuple(OTHERS),
            others=("onnxruntime-rtx", "onnxruntime-cpu"),
            limit=12.0,
        ),
        40,
    ),
    Case(
        "mobilenetv2",
        "MobileNetV2 float16 batch 1, numpy to numpy",
        lambda setting: latency(models.mobilenet, setting, within=1.06),
        60,
    ),
    Case(
        "resnet50",
        "ResNet-50 float16 batch 1, numpy to numpy",
        lambda setting: latency(models.resnet50, setting, within=1.06),
        60,
    ),
    Case("resnet50_map", "ResNet-50 float16 batch 32, map over arrays of the host", mapped_batches, 60),
    Case("dispatch", "host time of a device dispatch, MobileNetV2", dispatch, 40),
    Case("first_result", "new process to first MobileNetV2 result, caches warm", first_result, 60),
    Case("threads", "8 threads on one executable, ResNet-50 batch 1", threads, 60),
)
