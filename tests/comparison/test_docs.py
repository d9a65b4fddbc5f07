"""The program in docs/comparison.md runs as written."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import pynn

pytestmark = pytest.mark.ort

ROOT = Path(pynn.__file__).parent.parent
PAGE = Path(__file__).parents[2] / "docs" / "comparison.md"


def test_the_program_of_the_page(tmp_path: Path) -> None:
    if not PAGE.exists():
        pytest.skip(f"{PAGE} is not part of an installed pynn")
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{program}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=tmp_path, text=True)
    assert "Worst operators" in done.stdout
