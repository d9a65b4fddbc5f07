"""What ``pynn.compare`` found: of the outputs, of each operator, and what to keep."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..converter.precision import Precision, PrecisionReport
from .measures import TOP, Deviation

HEADS = ("cosine", "relative", "max abs", "max rel", "ULP", "ULP fp16", "top-1", f"top-{TOP}", "NaN", "inf")
OPERATOR_HEADS = ("operator", "kind", "computes in", "own", "total", "own max abs", "total cosine", "NaN/inf", "why")
_SHOWN = 20


@dataclass(frozen=True)
class OperatorError:
    """One operator. ``name`` is its ONNX node's, ``origin`` the WebNN operator (and label) if there is one.

    ``own`` is the error of the operator in the precision on exact inputs; all zero where the precision leaves it as it
    is. ``total`` is the error that has gathered up to its result in the whole model. None: it could not be judged, and
    ``note`` says why. ``data_type`` is what it computes in and ``reason`` why.
    """

    name: str
    op_type: str
    origin: str
    output: str
    data_type: str
    own: Deviation | None
    total: Deviation | None
    reason: str = ""
    note: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether the precision changes nothing of it."""
        return self.own is not None and self.own.relative == 0

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class AutoKeep:
    """The keep-list that ``auto_keep`` found. ``error`` is what it reaches in ``metric``: "relative" is to be at most
    ``tolerance``, "cosine" at least. ``met`` False: no list that was tried meets it, this one came nearest.
    ``minimal``: without any one of the names the tolerance is missed, as far as ``evaluations`` went.
    """

    keep: tuple[str, ...]
    metric: str
    tolerance: float
    error: float
    met: bool
    minimal: bool
    evaluations: int

    def __str__(self) -> str:
        sign = "<=" if self.metric == "relative" else ">="
        count = f"{len(self.keep) or 'no'} operator{'' if len(self.keep) == 1 else 's'} kept"
        head = f"{count}: {self.metric} {self.error:.6g}"
        if not self.met:
            return f"no keep-list meets {self.metric} {sign} {self.tolerance:g}; the best found has {head}"
        how = "none of them can be left out" if self.minimal else "not all were tried to be left out"
        tried = f", after {self.evaluations} evaluations; {how}" if self.keep else ""
        return f"{head} {sign} {self.tolerance:g}{tried}"


@dataclass(frozen=True)
class Comparison:
    """The result of ``pynn.compare``. ``str`` is the Markdown.

    ``outputs`` has the worst of each measure over ``samples`` by output name, ``operators`` the worst by own error
    first (``judged`` is how many were looked at), ``suggestion`` names of operators whose own error stands out.
    ``precision`` is what was asked for, ``report`` what it does, ``ran_on`` where the outputs come from.
    """

    model: str
    precision: Precision
    report: PrecisionReport
    ran_on: str
    samples: int
    inputs: Mapping[str, str]
    outputs: Mapping[str, Deviation]
    operators: tuple[OperatorError, ...] = ()
    judged: int = 0
    suggestion: tuple[str, ...] = ()
    auto_keep: AutoKeep | None = None
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] | None = None

    @property
    def worst(self) -> Deviation:
        """The worst of each measure over the outputs."""
        from .measures import worst

        return worst(self.outputs.values())

    @property
    def recommended(self) -> Precision:
        """The precision with the operators of ``auto_keep``, or else of ``suggestion``, kept too."""
        more = self.auto_keep.keep if self.auto_keep is not None else self.suggestion
        return replace(self.precision, keep=(*self.precision.keep, *more))

    @property
    def verdict(self) -> str:
        """One line."""
        one = self.worst
        broken = f", {one.nan} NaN and {one.inf} infinities" if one.nan or one.inf else ""
        what = self.report.used or "the model's own types"
        return f"{what} on {self.ran_on}: relative error {one.relative:.3g}, cosine {one.cosine:.8g}{broken}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as JSON takes them but for NaN and infinity."""
        keep = self.recommended.keep
        return {
            "model": self.model,
            "precision": {"name": self.precision.name, "keep": list(self.precision.keep), "io": self.precision.io},
            "against": "fp32 on ONNX Runtime's CPU",
            "ran_on": self.ran_on,
            "verdict": self.verdict,
            "samples": self.samples,
            "inputs": dict(self.inputs),
            "outputs": {name: one.to_dict() for name, one in self.outputs.items()},
            "operators_judged": self.judged,
            "operators": [one.to_dict() for one in self.operators],
            "suggestion": list(self.suggestion),
            "auto_keep": None if self.auto_keep is None else asdict(self.auto_keep),
            "recommended_keep": list(keep),
            "notes": list(self.notes),
            "seconds": dict(self.seconds or {}),
        }

    def to_markdown(self) -> str:
        """Outputs, the 20 worst operators, what to keep, notes."""
        rows = [(name, *deviation_row(one)) for name, one in self.outputs.items()]
        parts = [
            f"{self.model}, {self.verdict}; worst of {self.samples} samples.",
            "",
            _table(("output", *HEADS), rows),
        ]
        if self.operators:
            shown = self.operators[:_SHOWN]
            parts += ["", f"Worst operators of {self.judged} by relative error.", ""]
            parts.append(_table(OPERATOR_HEADS, [operator_row(one) for one in shown]))
        parts += ["", *(f"- {text}" for text in (*self.advice(), *self.notes))]
        return "\n".join(parts).rstrip()

    def advice(self) -> tuple[str, ...]:
        """What to keep, a line each."""
        if self.auto_keep is not None:
            names = " ".join(f"--keep {_quoted(name)}" for name in self.auto_keep.keep)
            return (f"auto-keep: {self.auto_keep}", *((names,) if names else ()))
        if self.suggestion:
            return ("own errors stand out; try " + " ".join(f"--keep {_quoted(name)}" for name in self.suggestion),)
        return ()

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draw outputs and worst operators to an SVG, PNG or PDF file, by its suffix.

        Raises ValidationError for another suffix, FeatureNotSupportedError without matplotlib, OSError.
        """
        from .plot import draw

        draw(self, path)

    def __str__(self) -> str:
        return self.to_markdown()


def deviation_row(one: Deviation) -> tuple[str, ...]:
    """The cells of HEADS."""
    shares = ("-" if share is None else f"{share:.2%}" for share in (one.top_1, one.top_k))
    sizes = (f"{value:.3g}" for value in (one.relative, one.max_absolute, one.max_relative, one.ulp, one.ulp_fp16))
    return (f"{one.cosine:.8f}", *sizes, *shares, str(one.nan), str(one.inf))


def operator_row(one: OperatorError) -> tuple[str, ...]:
    """The cells of OPERATOR_HEADS."""
    own, total = one.own, one.total
    return (
        one.name,
        one.op_type,
        one.data_type,
        "-" if own is None else f"{own.relative:.3g}",
        "-" if total is None else f"{total.relative:.3g}",
        "-" if own is None else f"{own.max_absolute:.3g}",
        "-" if total is None else f"{total.cosine:.6f}",
        "-" if own is None else f"{own.nan + own.inf}",
        one.note or one.reason,
    )


def _quoted(name: str) -> str:
    import shlex

    return shlex.quote(name)


def _table(heads: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---|" + "---:|" * (len(heads) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)])
