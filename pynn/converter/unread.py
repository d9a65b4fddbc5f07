"""A model file whose bytes are there and not yet parsed: all that is needed to find its engine in the cache."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .model import OnnxModel, TensorSpec

if TYPE_CHECKING:
    from .precision.report import PrecisionReport


class UnreadModel(OnnxModel):
    """Parsed when somebody asks for ``inputs``, ``outputs`` or ``read``, which raise ModelError then."""

    def __init__(self, proto: bytes, path: Path | None, precision: PrecisionReport | None = None) -> None:
        fields: dict[str, object] = {
            "proto": proto,
            "path": path,
            "weights": {},
            "rewrites": (),
            "notes": (),
            "precision": precision,
        }
        self.__dict__.update(fields)  # the class is frozen

    @classmethod
    def open(cls, source: str | os.PathLike[str] | bytes) -> UnreadModel:
        """A file's name, or the bytes of one. Raises OSError."""
        if isinstance(source, bytes):
            return cls(source, None)
        path = Path(source)
        return cls(path.read_bytes(), path)

    @cached_property
    def _whole(self) -> OnnxModel:
        from .serialize import parse_model

        where = f"{len(self.proto)} bytes" if self.path is None else str(self.path)
        return parse_model(self.proto, where, self.path)

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        return self._whole.inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        return self._whole.outputs

    def read(self) -> OnnxModel:
        return replace(self._whole, precision=self.precision)

    def with_precision(self, report: PrecisionReport) -> OnnxModel:
        made = UnreadModel(self.proto, self.path, report)
        if "_whole" in self.__dict__:
            made.__dict__["_whole"] = self._whole
        return made
