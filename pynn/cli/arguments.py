"""Arguments that several commands share, and their texts turned into values."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..backends.shapes import ShapeRange, ShapeSizes
from ..converter.model import TensorSpec
from ..converter.model import is_engine as begins_engine
from ..errors import ValidationError

BACKEND_NAMES = ("auto", "tensorrt", "onnxruntime")
SHAPES_HELP = (
    "sizes of dynamic dimensions, by symbol (batch=8) or by input (x=1,3,224,224); "
    "MIN:BEST:MAX is a range (batch=1:8:32); repeatable. A name given again begins another profile: the first values "
    "are the first profile, the second the next; a name given once holds in all"
)


def add_library(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--tensorrt-library", metavar="DIR", help="take TensorRT from this directory")


def add_shapes(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--shapes", metavar="NAME=SIZE", action="append", default=[], help=SHAPES_HELP)


def parse_shapes(texts: list[str]) -> ShapeSizes | list[ShapeSizes]:
    """``["batch=1:8:32", "x=1,3"]`` as the ``shapes`` argument of ``pynn.compile``; a list where names repeat.

    Raises ValidationError for a text that is no size, and names that are given several times, but not equally often.
    """
    shapes: dict[str, list[Any]] = {}
    for text in texts:
        name, equals, value = text.rpartition("=")
        if not equals or not name or not value:
            raise ValidationError(f"--shapes {text!r} is not NAME=SIZE or NAME=SIZE,SIZE,...")
        sizes = [_size(text, part) for part in value.removesuffix(",").split(",")]
        shapes.setdefault(name, []).append(sizes if "," in value else sizes[0])
    count = max(map(len, shapes.values()), default=1)
    for name, given in shapes.items():
        if len(given) not in (1, count):
            raise ValidationError(
                f"--shapes gives {name!r} {len(given)} times and another name {count} times; for several profiles give "
                "each name once for all of them, or once for each"
            )
    profiles: list[ShapeSizes] = [{name: given[i % len(given)] for name, given in shapes.items()} for i in range(count)]
    return profiles if count > 1 else profiles[0]


def _size(text: str, part: str) -> ShapeRange:
    try:
        numbers = [int(number) for number in part.split(":")]
    except ValueError:
        raise ValidationError(f"--shapes {text!r}: {part!r} is neither a number nor MIN:BEST:MAX") from None
    if len(numbers) == 1:
        return numbers[0]
    if len(numbers) == 3:
        return (numbers[0], numbers[1], numbers[2])
    raise ValidationError(f"--shapes {text!r}: {part!r} must be one number or MIN:BEST:MAX")


def is_engine(path: str) -> bool:
    """Whether the file is an engine of pynn's or a plan of TensorRT's, by its first bytes."""
    with Path(path).open("rb") as file:
        return begins_engine(file.read(8))


def spec_record(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "data_type": spec.data_type, "shape": list(spec.shape)}


def shape_text(spec: TensorSpec) -> str:
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in spec.shape) + "]"
