"""What a calibration has seen so far, in a file, so that it can go on later."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from ..converter.precision.table import write_atomically
from ..errors import ModelError, ValidationError
from .histogram import BINS, Histogram

FORMAT = "pynn calibration state 1"


@dataclass
class State:
    """Histograms by value name, the number of samples in them, and the digests of the model and of these samples."""

    model: str
    histograms: dict[str, Histogram]
    samples: int = 0
    digest: str = ""
    smooth: tuple[str, ...] = field(default=())

    def with_sample(self, found: Mapping[str, Histogram], digest: str) -> State:
        """The state after one more sample."""
        merged = {name: one.merged(found[name]) for name, one in self.histograms.items()}
        return State(self.model, merged, self.samples + 1, digest, self.smooth)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all."""
        names = list(self.histograms)
        all_of = [self.histograms[name] for name in names]
        head = {"format": FORMAT, "model": self.model, "samples": self.samples, "digest": self.digest, "names": names}
        head["smooth"] = list(self.smooth)
        arrays: dict[str, Any] = {
            "head": np.frombuffer(json.dumps(head).encode(), np.uint8),
            "counts": np.array([one.counts for one in all_of], np.int64).reshape(-1, BINS),
            "total": np.array([one.total for one in all_of], np.int64),
            "amax": np.array([one.amax for one in all_of], np.float64),
            "exponent": np.array([_NONE if one.exponent is None else one.exponent for one in all_of], np.int64),
        }
        for i, one in enumerate(all_of):
            if one.channels is not None:
                arrays[f"channels{i}"] = one.channels
        data = io.BytesIO()
        np.savez(data, **arrays)
        write_atomically(Path(path), data.getvalue())


_NONE = -(2**40)


def start(path: str | os.PathLike[str] | None, model: str, names: Sequence[str], smooth: Sequence[str]) -> State:
    """The state in the file ``path``, or a new one if there is none.

    Raises ModelError for a damaged file, ValidationError for one of another model or of other activations.
    """
    if path is None or not Path(path).exists():
        return State(model, {name: Histogram() for name in names}, smooth=tuple(smooth))
    state = _load(Path(path))
    if state.model != model:
        raise ValidationError(
            f"{path} is the state for another model ({state.model[:12]}..., this is {model[:12]}...); name another file"
        )
    if list(state.histograms) != list(names) or state.smooth != tuple(smooth):
        raise ValidationError(f"{path} was begun for other activations or with another smooth; name another file")
    return state


def _load(path: Path) -> State:
    try:
        with np.load(path, allow_pickle=False) as file:
            head = json.loads(file["head"].tobytes())
            if head["format"] != FORMAT:
                raise ModelError(f"{path} is {head['format']!r}; this pynn reads {FORMAT!r}")
            exponents = file["exponent"].tolist()
            histograms = {
                name: Histogram(
                    None if exponents[i] == _NONE else exponents[i],
                    float(file["amax"][i]),
                    int(file["total"][i]),
                    counts,
                    file[f"channels{i}"] if f"channels{i}" in file.files else None,
                )
                for i, (name, counts) in enumerate(zip(head["names"], file["counts"], strict=True))
            }
            return State(head["model"], histograms, head["samples"], head["digest"], tuple(head["smooth"]))
    except (ValueError, KeyError, IndexError, EOFError, TypeError, AttributeError, BadZipFile) as error:
        raise ModelError(f"{path} is not the state of a calibration, or damaged: {error}; delete it") from None
