"""Vectors: the files of a folder, their cases, and the arrays written in them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pynn.ops import operators
from pynn.ops.registry import snake_case

FOLDER_VARIABLE = "PYNN_CONFORMANCE_DATA"
OWN_FOLDER = Path(__file__).parent / "data"
_NUMBER = re.compile(r"-?(\d+n?|Infinity)|NaN")


def shared_folder() -> Path:
    """Where vectors are looked for when none are named: $PYNN_CONFORMANCE_DATA, else ../shared/conformance."""
    default = Path(__file__).parents[3] / "shared" / "conformance"
    return Path(os.environ.get(FOLDER_VARIABLE) or default)


@dataclass(frozen=True, slots=True)
class Case:
    """One test of one file. ``id`` is the file's path without suffix below the folder, a slash, and the test's name."""

    path: Path
    index: int
    id: str
    operator: str
    test: Mapping[str, Any]

    @property
    def tolerance(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.test["tolerance"]
        return found


def cases(folder: Path) -> Iterator[Case]:
    """Every case below ``folder``, in order of path. Raises FileNotFoundError when there is no vector file."""
    files = sorted(folder.rglob("*.json")) if folder.is_dir() else [folder] if folder.is_file() else []
    if not files:
        raise FileNotFoundError(f"no vectors in {folder}: give a folder, or set {FOLDER_VARIABLE}")
    for path in files:
        stem = path.stem if path == folder else path.relative_to(folder).with_suffix("").as_posix()
        for index, test in enumerate(load(path)):
            yield Case(path, index, f"{stem}/{test['name']}", method_name(test["graph"]["operators"][0]["name"]), test)


def method_name(operator: str) -> str:
    """The builder's method for a camelCase operator name; a method's own name stays."""
    known = operators.get(operator)
    return known.method if known else snake_case(operator)


@lru_cache(maxsize=256)
def load(path: Path) -> tuple[Mapping[str, Any], ...]:
    """The tests of one file."""
    return tuple(json.loads(path.read_text(encoding="utf-8"))["tests"])


def number(value: Any) -> int | float:
    """A number of the schema: JSON's own, "NaN", "Infinity", "-Infinity", "123n", "123"."""
    if isinstance(value, str):
        return float(value) if value in ("NaN", "Infinity", "-Infinity") else int(value.removesuffix("n"))
    return value  # type: ignore[no-any-return]


def is_number(text: str) -> bool:
    return _NUMBER.fullmatch(text) is not None


def array(spec: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """The array that ``{"data", "shape", "dataType"}`` describes: a bare number fills, floats go through float64."""
    dtype, shape, data = np.dtype(spec["dataType"]), tuple(spec["shape"]), spec["data"]
    if not isinstance(data, list):
        return np.full(shape, _convert([data], dtype)[0], dtype)
    return _convert(data, dtype).reshape(shape)


def _convert(data: list[Any], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    values = [number(v) for v in data]
    if dtype.kind == "f":
        with np.errstate(over="ignore"):
            return np.array(values, dtype=np.float64).astype(dtype)
    return np.array([int(v) for v in values], dtype=dtype)
