"""Put TensorRT for RTX libraries, each version in its own folder, where the tests look for them.

    python tests/fetch_tensorrt.py [VERSION ...]        # default: the four versions CI runs

Folder: $PYNN_TEST_LIBRARIES or ~/.cache/pynn-test; one subfolder `tensorrt-rtx-VERSION` a version, with
`tensorrt_rtx_libs/libtensorrt_rtx.so.1` inside. Prints the folder of each. A version already there is kept.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

DISTRIBUTION = "tensorrt-rtx-cu13-libs"
VERSIONS = ("1.4.0.76", "1.5.0.114", "1.6.1.120", "1.7.1.116")


def library_root() -> Path:
    return Path(os.environ.get("PYNN_TEST_LIBRARIES", Path.home() / ".cache" / "pynn-test"))


def fetch(version: str) -> Path:
    folder = library_root() / f"tensorrt-rtx-{version}"
    if (folder / "tensorrt_rtx_libs" / "libtensorrt_rtx.so.1").exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as work:
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
        command += ["--disable-pip-version-check", "--target", work, f"{DISTRIBUTION}=={version}"]
        subprocess.run(command, check=True)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(work, folder)
    return folder


if __name__ == "__main__":
    for wanted in sys.argv[1:] or VERSIONS:
        print(fetch(wanted))
