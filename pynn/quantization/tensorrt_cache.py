"""Calibration caches of TensorRT before 11 ("TRT-8601-EntropyCalibration2"): scales as text, read as a table.

A line is ``name: hex``, the bits of a float32 in big-endian order: the scale, 1/127 of the range.
"""

from __future__ import annotations

import math
import os
import re
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from ..compilation import load_model
from ..converter.precision.digest import model_digest
from ..converter.precision.quantizable import FLOATS, calibration_points, fold_moved_weights
from ..converter.precision.table import CalibrationTable
from ..errors import ModelError, ValidationError
from .calibrate import source_graph

if TYPE_CHECKING:
    from ..compilation import Model

_HEADER = re.compile(r"TRT-(?P<version>\d+)-(?P<method>\w+)")
_LINE = re.compile(r"(?P<name>.+): (?P<bits>[0-9a-fA-F]{8})")
_OWN = "(Unnamed Layer"
"""How TensorRT's names of its own tensors begin: no model has them."""


def import_calibration_cache(source: str | os.PathLike[str], model: Model) -> CalibrationTable:
    """The scales of the calibration cache file ``source``, which a TensorRT calibrator wrote for ``model``, as a table.

    Tensors that TensorRT named itself are left out with a note. Raises ModelError for a file that is no such cache,
    ValidationError when it has tensors that the model has not, OSError when it cannot be read.
    """
    header, scales = _read(Path(source))
    given = load_model(model)
    graph = source_graph(given)
    own = [name for name in scales if name.startswith(_OWN)]
    known = {name for name, tensor in graph.values.items() if tensor.data_type in FLOATS}
    foreign = [name for name in scales if name not in known and name not in own]
    if foreign:
        raise ValidationError(
            f"{source} is of another model: it has {len(foreign)} of {len(scales)} tensors that this one lacks, such "
            f"as {', '.join(map(repr, foreign[:3]))}"
        )
    amax = {name: 127.0 * scale for name, scale in scales.items() if name not in own}
    fold_moved_weights(graph)
    notes = [f"{name!r} is TensorRT's own name: left out" for name in own]
    notes += [f"{name!r} has no scale in the cache" for name in calibration_points(graph) if name not in amax]
    details = {"method": header["method"], "tensorrt": header["version"], "form": "int8", "notes": notes}
    return CalibrationTable(model_digest(given), amax, details)


def _read(path: Path) -> tuple[dict[str, str], dict[str, float]]:
    try:
        lines = path.read_bytes().decode().splitlines()
    except UnicodeDecodeError:
        lines = []
    header = _HEADER.fullmatch(lines[0].strip()) if lines else None
    if header is None:
        raise ModelError(f"{path} is not a TensorRT calibration cache: its first line is not TRT-VERSION-METHOD")
    scales: dict[str, float] = {}
    for number, line in enumerate(lines[1:], 2):
        if not line.strip():
            continue
        found = _LINE.fullmatch(line.strip())
        scale = struct.unpack(">f", bytes.fromhex(found["bits"]))[0] if found else math.nan
        if found is None or not (math.isfinite(scale) and scale >= 0):
            raise ModelError(f"{path}, line {number}: {line!r} is not a name and the bits of a scale")
        scales[found["name"]] = scale
    if not scales:
        raise ModelError(f"{path} is a TensorRT calibration cache without a scale")
    return header.groupdict(), scales
