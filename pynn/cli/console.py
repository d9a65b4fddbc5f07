"""Where commands write: text by rich for people, one JSON object for programs."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import rich.console


class Console:
    """Results go to standard output, errors and remarks to standard error. With ``as_json`` text is silent."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json

    def _rich(self, *, stderr: bool = False) -> rich.console.Console:
        import rich.console

        terminal = (sys.stderr if stderr else sys.stdout).isatty()
        return rich.console.Console(stderr=stderr, highlight=False, soft_wrap=True, width=None if terminal else 200)

    @property
    def is_terminal(self) -> bool:
        """Whether progress can be drawn."""
        return not self.as_json and sys.stderr.isatty()

    def text(self, *lines: str, style: str = "") -> None:
        """Lines as they are; square brackets mean nothing special."""
        if not self.as_json:
            out = self._rich()
            for line in lines:
                out.print(line, style=style or None, markup=False)

    def heading(self, title: str) -> None:
        self.text(title, style="bold")

    def remark(self, text: str) -> None:
        if not self.as_json:
            self._rich(stderr=True).print(text, style="yellow", markup=False)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        if self.as_json:
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
        for row in rows:
            table.add_row(*(Text(str(cell)) for cell in row))
        self._rich().print(table)

    def json(self, record: Mapping[str, Any]) -> None:
        """The command's result, if JSON was asked for."""
        if self.as_json:
            sys.stdout.write(json.dumps(_strict(record), indent=2, default=str) + "\n")

    def fail(self, message: str, kind: str, code: int) -> int:
        self.json({"error": {"type": kind, "message": message}, "exit_code": code})
        if not self.as_json:
            self._rich(stderr=True).print(f"pynn: {message}", style="red", markup=False)
        return code


def _strict(value: Any) -> Any:
    """JSON has no NaN and no infinity: null stands for them."""
    if isinstance(value, Mapping):
        return {str(key): _strict(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
