"""The bars of a build that is under way, and the arguments that end it."""

from __future__ import annotations

import argparse
from types import TracebackType
from typing import Any

from typing_extensions import Self

from .console import Console


def add_control(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--deadline", type=float, metavar="SECONDS", help="give up a build that takes longer")
    parser.add_argument(
        "--isolate", action="store_true", help="build in a child process, so that a crash of the library is an error"
    )


class Bars:
    """A bar for each phase that is under way, on a terminal; nothing elsewhere."""

    def __init__(self, console: Console) -> None:
        self._drawn = console.is_terminal
        self._bars: dict[str, Any] = {}
        self._rich: Any = None

    def control(self, options: argparse.Namespace) -> dict[str, Any]:
        """The arguments of ``add_control`` and these bars, as keyword arguments of ``pynn.compile``."""
        progress = self.update if self._drawn else None
        return {"progress": progress, "deadline": options.deadline, "isolate": options.isolate}

    def __enter__(self) -> Self:
        if self._drawn:
            from rich.console import Console as RichConsole
            from rich.progress import Progress, TimeElapsedColumn

            columns = (*Progress.get_default_columns()[:3], TimeElapsedColumn())
            self._rich = Progress(*columns, console=RichConsole(stderr=True), transient=True)
            self._rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        if self._rich is not None:
            self._rich.stop()

    def update(self, event: Any) -> None:
        """One event of a build."""
        if event.kind == "start":
            from rich.markup import escape

            self._bars[event.phase] = self._rich.add_task(escape(event.phase), total=event.steps or None)
        elif event.phase in self._bars:
            if event.kind == "step":
                self._rich.update(self._bars[event.phase], completed=event.step + 1)
            else:
                self._rich.remove_task(self._bars.pop(event.phase))
