"""BenchReport: what ``pynn.bench`` measured, as text, a table, JSON, a plot."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .summary import Summary

TITLES = {"enqueue": "enqueue", "h2d": "H2D", "compute": "compute", "d2h": "D2H", "floor": "floor", "mapped": "map"}


@dataclass(frozen=True)
class Entry:
    """One back end's times. ``latency`` is from numpy arrays to numpy arrays, microseconds of single calls.

    ``device`` has, for pynn on a GPU, "enqueue" (the host's time to launch), "h2d", "compute", "d2h" of one run, and
    "floor", a run among many back to back on memory of the GPU, and "mapped", a run of ``Executable.map``, which
    overlaps copies and runs. ``seconds``: "ready" is the wall time until it could run, "first_run" that of the first
    call; "parse", "build", "deserialize" (load) and "context" (JIT: kernels are compiled) are parts of it where the
    back end tells. ``gpu_memory_bytes``: what the GPU had less when it was ready.
    ``relative_error`` is against the first entry.
    """

    name: str
    title: str
    latency: Summary
    device: Mapping[str, Summary] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    gpu_memory_bytes: int | None = None
    memory: Mapping[str, Any] = field(default_factory=dict)
    relative_error: float | None = None
    notes: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def throughput(self) -> float:
        """Runs a second, one after the other."""
        return 1e6 / self.latency.mean

    @property
    def mapped_throughput(self) -> float | None:
        """Runs a second by ``Executable.map``; None where it was not timed."""
        return 1e6 / self.device["mapped"].mean if "mapped" in self.device else None

    @property
    def verdict(self) -> str:
        """What the time goes to, in one line; "" without device times."""
        return judge(self.latency.median, {name: one.median for name, one in self.device.items()})

    def to_dict(self) -> dict[str, Any]:
        mapped = self.mapped_throughput
        return {
            "name": self.name,
            "title": self.title,
            "throughput_per_second": round(self.throughput, 3),
            "mapped_throughput_per_second": None if mapped is None else round(mapped, 3),
            "latency_us": self.latency.to_dict(),
            "device_us": {name: one.to_dict() for name, one in self.device.items()},
            "seconds": {name: round(value, 6) for name, value in self.seconds.items()},
            "gpu_memory_bytes": self.gpu_memory_bytes,
            "memory": dict(self.memory),
            "relative_error": self.relative_error,
            "notes": list(self.notes),
            "details": dict(self.details),
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class BenchReport:
    """The result of ``pynn.bench``. ``skipped`` says why others were not measured. ``str`` is the Markdown table."""

    model: str
    inputs: Mapping[str, str]
    entries: tuple[Entry, ...]
    skipped: Mapping[str, str]
    environment: Mapping[str, Any]
    settings: Mapping[str, Any]

    def __getitem__(self, name: str) -> Entry:
        """The entry of that name. Raises KeyError, with the reason if it was skipped."""
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(f"{name}: {self.skipped.get(name, 'not measured')}")

    @property
    def floor(self) -> Summary | None:
        """pynn's engine replayed back to back on memory of the GPU, without copies; None where there is none."""
        return next((entry.device["floor"] for entry in self.entries if "floor" in entry.device), None)

    @property
    def verdict(self) -> str:
        """One line: what pynn's time goes to, and how near it is to the floor."""
        for entry in self.entries:
            if entry.verdict:
                return f"{entry.title}: {entry.verdict}"
        fastest = min(self.entries, key=lambda entry: entry.latency.median)
        return f"{fastest.title} is the fastest: {fastest.latency.median:.1f} us; no times of a GPU say what they go to"

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; times in microseconds and seconds as the keys say."""
        return {
            "model": self.model,
            "inputs": dict(self.inputs),
            "verdict": self.verdict,
            "floor_us": None if self.floor is None else self.floor.to_dict(),
            "entries": [entry.to_dict() for entry in self.entries],
            "skipped": dict(self.skipped),
            "environment": dict(self.environment),
            "settings": dict(self.settings),
        }

    def to_markdown(self) -> str:
        """Latency by back end, then the GPU's times, what was skipped, and the verdict."""
        heads = ("back end", "runs/s", "min", "median", "mean", "p90", "p95", "p99", "max", "ready s", "JIT s", "error")
        parts = ["Latency from numpy to numpy in microseconds.", "", _table(heads, [_row(one) for one in self.entries])]
        timed = [one for one in self.entries if one.device]
        if timed:
            rows = [(one.title, *_medians(one.device)) for one in timed]
            parts += ["", "Medians on the GPU in microseconds.", "", _table(("back end", *TITLES.values()), rows)]
        parts += ["", *(f"- skipped: {name}: {reason}" for name, reason in self.skipped.items())]
        return "\n".join([*parts, "", self.verdict])

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw medians (bars) and p99 (marks) to an SVG, PNG or PDF file, by its suffix.

        Raises ValidationError for another suffix, FeatureNotSupportedError without matplotlib, OSError.
        """
        from .plot import draw

        draw(self, path)

    def __str__(self) -> str:
        return self.to_markdown()


def judge(latency: float, device: Mapping[str, float]) -> str:
    """Launch-bound, copy-bound or compute-bound, whichever takes most of ``latency``; all in microseconds."""
    if "floor" not in device:
        return ""
    compute, copies = device["floor"], device.get("h2d", 0) + device.get("d2h", 0)
    launch = max(latency - compute - copies, 0)
    numbers = f"{compute:.1f} compute, {copies:.1f} copies, {launch:.1f} launch and wait"
    kind = "compute-bound"
    if copies > compute and copies >= launch:
        kind = "copy-bound"
    elif launch > compute:
        kind = "launch-bound"
    return f"{kind}: of {latency:.1f} us, {numbers}; {latency / compute:.2f} x the floor"


def _medians(device: Mapping[str, Summary]) -> tuple[str, ...]:
    return tuple(f"{device[name].median:.1f}" if name in device else "-" for name in TITLES)


def _row(entry: Entry) -> tuple[str, ...]:
    one, seconds = entry.latency, entry.seconds
    times = (one.min, one.median, one.mean, one.p90, one.p95, one.p99, one.max)
    error = "-" if entry.relative_error is None else f"{entry.relative_error:.1e}"
    parts = (f"{seconds[key]:.3f}" if key in seconds else "-" for key in ("ready", "context"))
    return (entry.title, f"{entry.throughput:.1f}", *(f"{value:.1f}" for value in times), *parts, error)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])
