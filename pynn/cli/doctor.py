"""Look at this machine: Python, GPU and driver, every TensorRT found and its verdict, ONNX Runtime.

Says which back end will be used, and what to install for another one. Exit code 4 if there is none.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ..backends.base import Probe
from ..backends.report import TITLES
from ..backends.selection import probe_all
from ..errors import PynnError
from . import arguments as common
from .console import Console

HELP = "show what is installed, what will be used, and what is missing"
PACKAGES = ("numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "cffi", "cuda-python", "tensorrt-rtx", "tensorrt")


def configure(parser: argparse.ArgumentParser) -> None:
    common.add_library(parser)
    parser.add_argument("--device", type=int, default=0, metavar="N", help="number of the GPU")


def execute(options: argparse.Namespace, console: Console) -> int:
    selection, probes = probe_all(device=options.device, tensorrt_library=options.tensorrt_library)
    record = {
        "python": {"version": platform.python_version(), "executable": sys.executable, "platform": platform.platform()},
        "packages": {name: found for name in ("pynn", *PACKAGES) if (found := _version(name))},
        "gpu": _gpus(),
        "probes": [_probe_record(probe) for probe in probes],
        "will_use": selection.report.to_dict() if not isinstance(selection, PynnError) else None,
        "advice": _advice(probes),
    }
    console.json(record)
    _show(console, record, probes)
    if isinstance(selection, PynnError):
        console.heading("\nno back end can be used")
        return 4
    console.heading(f"\nwill use {TITLES[selection.report.chosen]}")
    console.text(f"  {selection.report.reason}")
    return 0


def _show(console: Console, record: dict[str, Any], probes: Sequence[Probe]) -> None:
    python = record["python"]
    console.text(f"Python {python['version']} at {python['executable']}, {python['platform']}")
    console.text(", ".join(f"{name} {found}" for name, found in record["packages"].items()))
    gpu = record["gpu"]
    console.heading("\nNVIDIA GPU")
    if gpu["reason"]:
        console.text(f"  {gpu['reason']}")
    else:
        console.text(f"  the driver supports CUDA {gpu['driver_cuda_version']}")
    for device in gpu["devices"]:
        capability = device["compute_capability"]
        memory = device["memory"] / 2**30
        console.text(f"  {device['index']}: {device['name']}, compute capability {capability}, {memory:.1f} GiB")
    for name, title in TITLES.items():
        console.heading(f"\n{title}")
        for probe in probes:
            if probe.backend == name:
                _show_probe(console, probe)
    if record["advice"]:
        console.heading("\nadvice")
        console.text(*(f"  {line}" for line in record["advice"]))


def _show_probe(console: Console, probe: Probe) -> None:
    style = "green" if probe.usable else ""
    console.text(f"  {'usable' if probe.usable else 'not usable'}: {probe.candidate}", style=style)
    console.text(f"    {probe.reason}")
    for key, value in probe.details.items():
        if value not in ("", None):
            console.text(f"    {key}: {value}", style="dim")


def _probe_record(probe: Probe) -> dict[str, Any]:
    return {
        "backend": probe.backend,
        "candidate": probe.candidate,
        "usable": probe.usable,
        "reason": probe.reason,
        "hint": probe.hint,
        "details": dict(probe.details),
    }


def _gpus() -> dict[str, Any]:
    from ..backends.cuda import capability_text, discover

    found = discover()
    if found.driver is None:
        return {"driver_cuda_version": None, "devices": [], "reason": found.reason, "hint": found.hint}
    devices = [
        {
            "index": device.index,
            "name": device.name,
            "compute_capability": capability_text(device.compute_capability),
            "memory": device.memory,
        }
        for device in found.driver.devices
    ]
    return {"driver_cuda_version": found.driver.version_text, "devices": devices, "reason": "", "hint": ""}


def _advice(probes: Sequence[Probe]) -> list[str]:
    """What to do for each back end that cannot be used, each advice once."""
    usable = {probe.backend for probe in probes if probe.usable}
    hints = {f"{TITLES[p.backend]}: {p.hint}": None for p in probes if p.hint and p.backend not in usable}
    return list(hints)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
