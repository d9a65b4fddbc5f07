"""Reports: JSON for programs, Markdown for people, and the expectations file that a run is judged by."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .case import STATUSES, Result
from .pool import ENVIRONMENT, counts


@dataclass
class Run:
    """All results of a call, by back end, and what the back ends said of themselves."""

    folder: Path
    about: dict[str, dict[str, Any]] = field(default_factory=dict)
    results: dict[str, list[Result]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def header(self) -> dict[str, Any]:
        return {
            "folder": self.folder.name,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "backends": {
                name: about
                | {"environment": dict(ENVIRONMENT.get(name, {})), "seconds": round(self.seconds[name], 1)}
                | {"counts": counts(self.results[name])}
                for name, about in self.about.items()
            },
        }

    def to_json(self) -> str:
        """A line for each result, so that two reports can be compared with diff."""
        lines = [json.dumps(r.to_json(), ensure_ascii=False) for found in self.results.values() for r in found]
        header = json.dumps(self.header(), indent=1, ensure_ascii=False)
        return f'{{"header": {header},\n"results": [\n' + ",\n".join(lines) + "\n]}\n"

    def to_markdown(self) -> str:
        return "\n".join(["# WebNN conformance", "", *(line for name in self.about for line in self._section(name))])

    def _section(self, name: str) -> list[str]:
        about, results = self.about[name], self.results[name]
        total = counts(results)
        summary = ", ".join(f"{total[status]} {status}" for status in STATUSES if status in total)
        lines = [f"## {name} {about.get('version', '')}".rstrip(), ""]
        lines += [f"- {probe}" for probe in about.get("probes", [])]
        lines += [f"- workers run with `{key}={value}`" for key, value in ENVIRONMENT.get(name, {}).items()]
        lines += [f"- {len(results)} cases: {summary}, in {self.seconds[name]:.0f} s", ""]
        lines += ["| operator | cases | passed | failed | unsupported | other | worst error |"]
        lines += ["| --- | --: | --: | --: | --: | --: | --- |"]
        for operator in sorted({r.operator for r in results}):
            lines.append(_row(operator, [r for r in results if r.operator == operator]))
        lines += ["", *_reasons(results)]
        return lines


def _row(operator: str, results: Sequence[Result]) -> str:
    n = counts(results)
    named = n.get("passed", 0), n.get("failed", 0), n.get("unsupported", 0)
    cells = [operator, str(len(results)), *map(str, (*named, len(results) - sum(named))), _worst(results)]
    return "| " + " | ".join(cells) + " |"


def _worst(results: Sequence[Result]) -> str:
    """The error nearest to (or farthest over) its tolerance, of each kind."""
    parts = []
    for kind in ("ULP", "ATOL"):
        measured = [
            (r.worst, float(r.tolerance["value"]))
            for r in results
            if r.worst is not None and r.tolerance["type"] == kind
        ]
        if measured:
            worst, limit = max(measured, key=lambda pair: (pair[0] / pair[1] if pair[1] else pair[0] * 1e9, -pair[1]))
            parts.append(f"{worst:.3g} of {limit:.3g} {kind}")
    return ", ".join(parts)


def _reasons(results: Sequence[Result]) -> list[str]:
    wrong = [r for r in results if r.status != "passed"]
    if not wrong:
        return []
    return ["### Not passed", "", *(f"- {line}" for line in lines_of(wrong, quote="`")), ""]


def lines_of(results: Sequence[Result], quote: str = "") -> list[str]:
    """A line for each result; cases that were not run for one reason share a line."""
    lines = [f"{r.status}: {quote}{r.id}{quote}: {_one_line(r.reason)}" for r in results if r.status != "not-run"]
    reasons: dict[str, int] = {}
    for r in results:
        if r.status == "not-run":
            reasons[r.reason] = reasons.get(r.reason, 0) + 1
    return lines + [f"not-run: {number} cases: {_one_line(reason)}" for reason, number in reasons.items()]


def _one_line(text: str) -> str:
    return " ".join(text.split())[:400]


@dataclass(frozen=True, slots=True)
class Judgement:
    """``unexpected``: neither passed nor expected; ``surprises``: expected to fail, but passed."""

    unexpected: tuple[Result, ...]
    expected: tuple[Result, ...]
    surprises: tuple[Result, ...]


def expectations(path: Path | None) -> dict[tuple[str, str], str]:
    """The reasons by back end and case id, from ``[{"backend", "case", "reason"}]``. All three are required."""
    if path is None:
        return {}
    entries: list[Mapping[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    for entry in entries:
        if not (entry.get("backend") and entry.get("case") and entry.get("reason")):
            raise ValueError(f"{path}: {entry!r} needs backend, case and reason")
    return {(entry["backend"], entry["case"]): entry["reason"] for entry in entries}


def judge(run: Run, expected: Mapping[tuple[str, str], str]) -> Judgement:
    every = [r for found in run.results.values() for r in found]
    wrong = [r for r in every if r.status != "passed"]
    return Judgement(
        unexpected=tuple(r for r in wrong if (r.backend, r.id) not in expected),
        expected=tuple(r for r in wrong if (r.backend, r.id) in expected),
        surprises=tuple(r for r in every if r.status == "passed" and (r.backend, r.id) in expected),
    )
