"""Look at what was installed and packed: everything needed is there, nothing big or foreign is.

python .ci/package.py [SDIST]      with the Python that pynn was installed into, from outside the source tree
"""

from __future__ import annotations

import sys
import tarfile
from importlib import metadata
from pathlib import Path

LARGEST_SDIST = 3 * 2**20
WHEEL_HAS = (
    "pynn/py.typed",
    "pynn/native/pynn_trt.h",
    "pynn/native/libpynn_trt.so",
    "pynn/native/_declarations.py",
    "pynn/__init__.py",
)
SDIST_HAS = ("CMakeLists.txt", "pyproject.toml", "README.md", "csrc/include/pynn_trt.h", "pynn/py.typed")


def check_installed() -> str:
    distribution = metadata.distribution("pynn")
    files = [str(file) for file in distribution.files or []]
    missing = [name for name in WHEEL_HAS if name not in files]
    foreign = [name for name in files if not name.startswith(("pynn/", "pynn-", "../../../bin/pynn"))]
    tags = [line for line in (distribution.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")]
    assert not missing, f"not installed: {missing}"
    assert not foreign, f"installed besides pynn: {foreign}"
    assert all(tag.startswith("Tag: py3-none-") for tag in tags), tags
    return f"{len(files)} files installed, {', '.join(tags)}"


def check_sdist(path: Path) -> str:
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    missing = [name for name in SDIST_HAS if name not in names]
    size = path.stat().st_size
    assert not missing, f"not in {path.name}: {missing}"
    assert size <= LARGEST_SDIST, f"{path.name} has {size:,} bytes"
    return f"{path.name}: {len(names)} files, {size:,} bytes"


if __name__ == "__main__":
    print(check_installed())
    for argument in sys.argv[1:]:
        print(check_sdist(Path(argument)))
