"""Print README.md's set-up command number N (1 or 2): the N-th block marked ``sh``.

python .ci/readme_command.py N [README.md]
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def command(text: str, number: int) -> str:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)[number - 1].strip()


if __name__ == "__main__":
    readme = Path(sys.argv[2] if len(sys.argv) > 2 else "README.md")
    print(command(readme.read_text(encoding="utf-8"), int(sys.argv[1])))
