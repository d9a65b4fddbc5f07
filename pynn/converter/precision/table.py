"""CalibrationTable: the ranges that activations were seen to have, for one model. A JSON file with a checksum."""

from __future__ import annotations

import hashlib
import json
import math
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ModelError, ValidationError

if TYPE_CHECKING:
    from ..onnx_graph import OnnxGraph

FORMAT = "pynn calibration table"
VERSION = 1


@dataclass(frozen=True)
class CalibrationTable:
    """The symmetric range of each activation: the largest magnitude worth keeping, by value name of the ONNX graph.

    ``model`` is the digest of the model it was made of: another model refuses it. ``smooth`` is the strength of
    SmoothQuant where that was asked for; ``channels`` then has the largest magnitude of each channel (last axis) of
    what products read.
    ``details`` say how it was made: method, samples, notes.
    """

    model: str
    amax: Mapping[str, float]
    details: Mapping[str, Any] = field(default_factory=dict)
    channels: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    smooth: float | None = None

    def __post_init__(self) -> None:
        for name, value in self.amax.items():
            if not (isinstance(value, (int, float)) and math.isfinite(value) and value >= 0):
                raise ValidationError(f"the range of {name!r} must be a finite number of 0 or more, got {value!r}")
        for name, values in self.channels.items():
            if not all(math.isfinite(value) and value >= 0 for value in values):
                raise ValidationError(f"the channels of {name!r} must be finite numbers of 0 or more")
        if self.smooth is not None:
            check_smooth(self.smooth)

    def __repr__(self) -> str:
        return f"<CalibrationTable of {len(self.amax)} activations of model {self.model[:12]}>"

    @property
    def notes(self) -> tuple[str, ...]:
        """Decisions that calibration took: a tensor that was all zero, a foreign line of an old cache."""
        return tuple(self.details.get("notes", ()))

    def check(self, graph: OnnxGraph) -> None:
        """Raises ValidationError when ``graph``, as converted or imported and before any pass, is another model."""
        from .digest import graph_digest

        found = graph_digest(graph)
        if found != self.model:
            raise ValidationError(
                f"the calibration table is of another model: its digest is {self.model[:12]}..., this model's is "
                f"{found[:12]}... (structure and weights count; file name and batch do not); calibrate this model"
            )

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as JSON, whole or not at all. Raises OSError."""
        body = {
            "model": self.model,
            "amax": {name: float(self.amax[name]) for name in sorted(self.amax)},
            "channels": {name: [float(one) for one in self.channels[name]] for name in sorted(self.channels)},
            "smooth": self.smooth,
            "details": dict(self.details),
        }
        record = {"format": FORMAT, "version": VERSION, "checksum": _checksum(body), **body}
        return write_atomically(Path(path), (json.dumps(record, indent=1) + "\n").encode())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> CalibrationTable:
        """Read what ``save`` wrote. Raises ModelError for a file that is no table, damaged or of a newer version,
        OSError when it cannot be read."""
        data = Path(path).read_bytes()
        try:
            record = json.loads(data)
        except ValueError as error:
            raise ModelError(f"{path} is not a calibration table: {error}") from None
        if not isinstance(record, dict) or record.get("format") != FORMAT:
            raise ModelError(f"{path} is not a calibration table; pynn calibrate writes one")
        if record.get("version") != VERSION:
            raise ModelError(
                f"{path} is a calibration table of version {record.get('version')!r}; this pynn reads {VERSION}"
            )
        body: dict[str, Any] = {key: record.get(key) for key in ("model", "amax", "channels", "smooth", "details")}
        if record.get("checksum") != _checksum(body):
            raise ModelError(f"{path} is damaged: its checksum does not fit; calibrate again")
        channels = {name: tuple(values) for name, values in body["channels"].items()}
        return cls(body["model"], body["amax"], body["details"], channels, body["smooth"])


def check_smooth(value: object) -> None:
    """Raises ValidationError unless ``value`` is a strength that SmoothQuant may have."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ValidationError(f"smooth must be a number from 0 to 1 (0.5 is usual) or None, got {value!r}")


def write_atomically(path: Path, data: bytes) -> Path:
    """``path`` has all of ``data`` or what it had before, whatever happens in between."""
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        with unfinished.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    return path


def _checksum(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
