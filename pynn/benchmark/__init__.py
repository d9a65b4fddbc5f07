"""Timing a model: every back end that is installed, in turns in one run, beside the floor of the GPU."""

from __future__ import annotations

from .report import BenchReport, Entry
from .run import BACKENDS, bench

__all__ = ["BACKENDS", "BenchReport", "Entry", "bench"]
