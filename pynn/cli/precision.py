"""``--precision`` and what goes with it, for every command that compiles or writes models."""

from __future__ import annotations

import argparse
from typing import Any

from ..converter.precision import Precision, PrecisionReport
from ..converter.precision.choice import METHODS, PRECISIONS
from ..errors import ValidationError
from .console import Console

_WITH_PRECISION = ("keep", "block", "method", "calibration")
_USED_BY = {
    "block": ("int4",),
    "method": ("int4", "fp4", "int8", "fp8"),
    "calibration": ("int8", "fp8", "auto"),
}
"""The precisions that an argument changes."""


def add_precision(parser: argparse.ArgumentParser, *, io: bool = False) -> None:
    """``io`` adds --narrow-io, for models that are written."""
    group = parser.add_argument_group("precision")
    group.add_argument("--precision", choices=PRECISIONS, help="what to compute in (default: as the model says)")
    group.add_argument(
        "--keep", metavar="NAME", action="append", default=[], help="an operator that stays as it is; repeatable"
    )
    group.add_argument("--block", type=int, metavar="N", help="weights that share a scale (int4; default 128)")
    group.add_argument("--method", choices=METHODS, help="how weights are rounded (default rtn)")
    group.add_argument("--calibration", metavar="FILE", help="ranges of activations, from pynn calibrate (int8, fp8)")
    if io:
        group.add_argument("--narrow-io", action="store_true", help="inputs and outputs become narrow, too")


def precision_of(options: argparse.Namespace) -> Precision | None:
    """What the arguments ask for; None without --precision. Raises ValidationError, ModelError, OSError."""
    if options.precision is None:
        given = [name for name in _WITH_PRECISION if getattr(options, name)]
        if given or getattr(options, "narrow_io", False):
            raise ValidationError(f"--{(given or ['narrow-io'])[0]} needs --precision")
        return None
    for name, users in _USED_BY.items():
        if getattr(options, name) and options.precision not in users:
            raise ValidationError(
                f"--{name} changes nothing with --precision {options.precision}; it is for {', '.join(users)}"
            )
    more: dict[str, Any] = {name: getattr(options, name) for name in ("block", "method") if getattr(options, name)}
    if options.calibration:
        from ..converter.precision.table import CalibrationTable

        more["calibration"] = CalibrationTable.load(options.calibration)
    return Precision(options.precision, tuple(options.keep), getattr(options, "narrow_io", False), **more)


def argument_of(options: argparse.Namespace) -> dict[str, Any]:
    """``precision=`` for ``compile`` and ``build_engine``, where it was asked for."""
    precision = precision_of(options)
    return {} if precision is None else {"precision": precision}


def show(console: Console, report: PrecisionReport | None) -> None:
    """The outcome in one line, and every note."""
    if report is None or report.asked is None:
        return
    counts = ", ".join(f"{n} {data_type}" for data_type, n in report.counts().items())
    console.text(f"precision {report.used or 'of the model'}" + (f": operators in {counts}" if counts else ""))
    for note in report.notes:
        console.remark(note)
