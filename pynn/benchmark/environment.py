"""What numbers hang on: versions, GPU, driver, processor."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

from ..backends.cuda import capability_text, discover

PACKAGES = ("pynn", "numpy", "onnx", "onnxruntime", "onnxruntime-gpu", "cuda-bindings", "torch")


def environment(device: int = 0) -> dict[str, Any]:
    """JSON-ready. What is not here has no key; without a GPU ``gpu`` says why."""
    facts: dict[str, Any] = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
    }
    for package in PACKAGES:
        with contextlib.suppress(metadata.PackageNotFoundError):
            facts[package] = metadata.version(package)
    found = discover()
    if found.driver is None:
        return {**facts, "gpu": f"none: {found.reason}"}
    facts["cuda_of_driver"] = found.driver.version_text
    if device < len(found.driver.devices):
        gpu = found.driver.devices[device]
        facts["gpu"], facts["compute_capability"] = gpu.name, capability_text(gpu.compute_capability)
    version = _first(r"\d+\.\d+(\.\d+)?", Path("/proc/driver/nvidia/version"))
    return {**facts, "driver": version} if version else facts


def _processor() -> str:
    return _first(r"(?<=model name\t: ).*", Path("/proc/cpuinfo")) or platform.processor() or platform.machine()


def _first(pattern: str, path: Path) -> str:
    try:
        match = re.search(pattern, path.read_text("utf-8", "replace"))
    except OSError:
        return ""
    return match.group() if match else ""
