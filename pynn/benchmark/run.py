"""``pynn.bench``: get every back end ready, compare their answers, time them in turns."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from typing_extensions import Unpack

from ..backends.base import Array, Executable
from ..backends.engine_file import EngineFile
from ..backends.report import TITLES
from ..backends.samples import random_inputs
from ..compilation import compile as compile_model
from ..compilation import load_engine, load_model
from ..converter.convert import to_onnx
from ..converter.model import OnnxModel
from ..errors import BackendUnavailableError, PynnError, ValidationError
from ..graph import Graph
from ..options import Options, Shapes, parse_sizes
from . import peers_ort, peers_torch
from .contestant import Arrays, Call, Contestant, open_gpu, prepare, relative_error
from .device import DeviceTimer
from .environment import environment
from .interleave import CallSampler, MapSampler, Sampler, Times, interleave
from .report import BenchReport, Entry
from .summary import Summary

PYNN = "pynn"
_NOT_OF_A_COMPILATION = ("cache", "device", "tensorrt_library")
BACKENDS = (PYNN, peers_ort.CPU, peers_ort.CUDA, peers_ort.RTX, peers_torch.TORCH)
SECONDS = 2.0

Peer = Callable[[Executable], Call]


def bench(
    model: Any,
    *,
    inputs: Mapping[str, Array] | None = None,
    shapes: Shapes | None = None,
    backends: Sequence[str] | None = None,
    seconds: float | None = None,
    iterations: int | None = None,
    peers: Mapping[str, Peer] | None = None,
    seed: int = 0,
    **options: Unpack[Options],
) -> BenchReport:
    """Time ``model`` on every back end that is installed, in turns in one run.

    ``model`` is what ``pynn.compile`` takes, an EngineFile, an Executable, or a ``torch.nn.Module`` (with ``inputs``).
    ``inputs`` are arrays by name; without them random ones of the sizes that ``shapes`` gives (the best of a range).
    ``backends`` is a choice of ``pynn.benchmark.BACKENDS``. Each is timed for ``seconds`` (2 by default), or for at
    least ``iterations`` calls. ``peers`` are other ways to run the same model, by name: called once with pynn's
    executable, each answers the function to time, whose ``close`` is called in the end if it has one. ``options`` are
    those of ``pynn.compile`` for pynn; they leave peers as they are (``precision`` too). The engine cache is off unless
    ``cache=True``, so that building and kernel compilation are timed.

    Raises ValidationError for bad arguments, what ``pynn.compile`` raises for a model that is no model, and
    BackendUnavailableError with every reason when nothing could be timed.
    """
    names = _check(backends, seconds, iterations)
    parse_sizes(shapes)
    title = _title(model)
    module = model if peers_torch.is_module(model) else None
    if module is not None:
        if inputs is None:
            raise ValidationError("bench: a torch.nn.Module needs inputs: arrays by the names of forward's parameters")
        model = peers_torch.export(module, inputs)
    source = _source(model)
    options.setdefault("cache", False)
    if inputs is None and isinstance(source, (Graph, OnnxModel)):
        inputs = random_inputs(_onnx(source).inputs, shapes or {}, seed)
    device = options.get("device", 0)
    with ExitStack() as stack:
        race = Race(inputs, shapes, seed, device, stack)
        makers = _makers(model, source, module, race, options)
        for name in names:
            race.enter(name, makers[name])
        for name, peer in (peers or {}).items():
            if race.executable is not None:
                race.enter(name, functools.partial(_peer, name, peer, race.executable))
        entries = race.run(SECONDS if seconds is None and iterations is None else seconds, iterations)
    if not entries:
        why = "\n  ".join(f"{name}: {reason}" for name, reason in race.skipped.items())
        raise BackendUnavailableError(f"bench: nothing could be timed:\n  {why}")
    settings: dict[str, Any] = {"seconds": seconds, "iterations": iterations, "seed": seed, "backends": list(names)}
    settings["options"] = {key: str(value) for key, value in options.items() if value is not None}
    return BenchReport(
        title,
        {name: f"{array.dtype}{list(array.shape)}" for name, array in (race.inputs or {}).items()},
        tuple(entries),
        race.skipped,
        environment(device),
        settings,
    )


class Race:
    """Contestants as they get ready, and why others did not."""

    def __init__(self, inputs: Arrays | None, shapes: Shapes | None, seed: int, device: int, stack: ExitStack) -> None:
        self.inputs = inputs
        self.skipped: dict[str, str] = {}
        self.executable: Executable | None = None
        self.shapes = shapes or {}
        self._seed, self._device, self._stack = seed, device, stack
        self._gpu = open_gpu(device)
        if self._gpu is not None:
            stack.callback(self._gpu.close)
        self._ready: dict[str, Contestant] = {}
        self._errors: dict[str, float | None] = {}
        self._results: dict[str, Array] = {}

    def enter(self, name: str, make: Callable[[], Contestant]) -> None:
        """Make it ready. A peer's refusal, of whatever type, is kept as its reason; pynn's own is raised."""
        try:
            contestant, results = prepare(make, self._inputs_for, self._gpu)
        except Exception as error:
            if name == PYNN:
                raise
            self.skipped[name] = str(error) if isinstance(error, PynnError) else f"{type(error).__name__}: {error}"
            return
        self._stack.callback(contestant.close)
        if name == PYNN:
            self.executable = contestant.executable
        self._results = self._results or results
        self._errors[name] = relative_error(results, self._results) if self._ready else None
        self._ready[name] = contestant

    def _inputs_for(self, contestant: Contestant) -> Arrays:
        """Those given or made up; an engine is asked what it takes."""
        if self.inputs is None:
            if contestant.executable is None:
                raise ValidationError("bench: inputs are missing; give arrays by name")
            self.inputs = random_inputs(contestant.executable.inputs, self.shapes, self._seed)
        return self.inputs

    def run(self, seconds: float | None, iterations: int | None) -> list[Entry]:
        inputs = self.inputs or {}
        samplers: dict[str, Sampler] = {
            name: CallSampler(functools.partial(one.call, inputs)) for name, one in self._ready.items()
        }
        timer = self._device_timer(inputs)
        if timer is not None and self.executable is not None:
            samplers[_ON_THE_GPU] = timer
            samplers[_MAPPED] = MapSampler(self.executable.map, inputs)
        times = interleave(samplers, seconds=seconds, iterations=iterations, seed=self._seed)
        on_gpu = {name: Summary.of(values) for name, values in times.pop(_ON_THE_GPU, {}).items()}
        on_gpu |= {name: Summary.of(values) for name, values in times.pop(_MAPPED, {}).items()}
        return [self._entry(one, times[name], on_gpu if name == PYNN else {}) for name, one in self._ready.items()]

    def _device_timer(self, inputs: Arrays) -> DeviceTimer | None:
        if self.executable is None:
            return None
        try:
            timer = DeviceTimer(self.executable, inputs, self._results, device=self._device)
        except PynnError as error:
            self.skipped["times on the GPU"] = str(error)
            return None
        self._stack.callback(timer.close)
        return timer

    def _entry(self, one: Contestant, times: Times, on_gpu: Mapping[str, Summary]) -> Entry:
        memory = None if one.executable is None else one.executable.memory
        return Entry(
            one.name,
            one.title,
            Summary.of(times["latency"]),
            on_gpu,
            one.seconds,
            one.gpu_memory_bytes,
            {} if memory is None else asdict(memory),
            self._errors[one.name],
            one.notes,
            one.details,
        )


_ON_THE_GPU, _MAPPED = "on the GPU", "by map"


def _check(backends: Sequence[str] | None, seconds: float | None, iterations: int | None) -> tuple[str, ...]:
    names = tuple(BACKENDS if backends is None else dict.fromkeys(backends))
    unknown = [name for name in names if name not in BACKENDS]
    if unknown or not names:
        raise ValidationError(f"bench: backends must be some of {', '.join(BACKENDS)}; got {unknown or 'none'}")
    if seconds is not None and iterations is not None:
        raise ValidationError("bench: give seconds or iterations, not both")
    if seconds is not None and not (isinstance(seconds, (int, float)) and seconds > 0):
        raise ValidationError(f"bench: seconds must be a positive number, got {seconds!r}")
    if iterations is not None and (type(iterations) is not int or iterations < 1):
        raise ValidationError(f"bench: iterations must be a positive integer, got {iterations!r}")
    return names


def _source(model: Any) -> Graph | OnnxModel | EngineFile | None:
    """What can be compiled; None for an Executable, which is compiled already."""
    if isinstance(model, Executable):
        return None
    return model if isinstance(model, EngineFile) else load_model(model)


def _onnx(source: Graph | OnnxModel) -> OnnxModel:
    return to_onnx(source) if isinstance(source, Graph) else source


def _makers(
    model: Any,
    source: Graph | OnnxModel | EngineFile | None,
    module: Any,
    race: Race,
    options: Options,
) -> dict[str, Callable[[], Contestant]]:
    """By name, what makes each of BACKENDS ready."""
    device = options.get("device", 0)

    def on_pynn() -> Contestant:
        if source is None:
            _no_options(options, "an Executable")
            return _contestant(model, close=False)
        if isinstance(source, EngineFile):
            _no_options(options, "an engine")
            library = options.get("tensorrt_library")
            return _contestant(load_engine(source, device=device, tensorrt_library=library))
        return _contestant(compile_model(source, shapes=race.shapes, **options))

    def on_onnxruntime(name: str) -> Contestant:
        if source is None or isinstance(source, EngineFile):
            raise BackendUnavailableError("an Executable or an engine is no ONNX model; give the model itself")
        return peers_ort.contestant(name, _onnx(source), race.inputs or {}, device)

    def on_torch() -> Contestant:
        if module is None:
            raise BackendUnavailableError("the model is no torch.nn.Module")
        return peers_torch.contestant(module, race.inputs or {}, device)

    makers: dict[str, Callable[[], Contestant]] = {PYNN: on_pynn, peers_torch.TORCH: on_torch}
    for name in (peers_ort.CPU, peers_ort.CUDA, peers_ort.RTX):
        makers[name] = functools.partial(on_onnxruntime, name)
    return makers


def _no_options(options: Options, what: str) -> None:
    """Raise ValidationError for what only a compilation could heed."""
    late = [
        name for name, value in options.items() if name not in _NOT_OF_A_COMPILATION and value not in (None, "auto")
    ]
    if late:
        raise ValidationError(
            f"bench: {what} is compiled already; {late[0]} has no effect on it: give the model itself"
        )


def _contestant(executable: Executable, *, close: bool = True) -> Contestant:
    stats = dict(executable.stats)
    providers = ", ".join(str(one).removesuffix("ExecutionProvider") for one in stats.get("providers", ()))
    where = stats.get("library") or f"{TITLES.get(executable.backend, executable.backend)} {providers}".strip()
    contestant = Contestant(
        PYNN,
        f"pynn on {where}",
        executable.run,
        seconds=dict(stats.get("seconds", {})),
        notes=executable.notes,
        details={"backend": executable.backend, "stats": {key: _plain(value) for key, value in stats.items()}},
        executable=executable,
    )
    if close:
        contestant.close = executable.close
    return contestant


def _peer(name: str, peer: Peer, executable: Executable) -> Contestant:
    call = peer(executable)
    return Contestant(name, name, call, getattr(call, "close", lambda: None))


def _plain(value: Any) -> Any:
    return value if isinstance(value, (str, int, float, bool, type(None), list, dict)) else str(value)


def _title(model: Any) -> str:
    if isinstance(model, OnnxModel) and model.path is not None:
        return model.path.name
    return Path(model).name if isinstance(model, (str, os.PathLike)) else type(model).__name__
