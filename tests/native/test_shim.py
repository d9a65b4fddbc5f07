"""Loading libpynn_trt itself: the wrong file, the wrong version, and TensorRT by the system's loader."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pynn.errors import LibraryNotFoundError, LibraryVersionError
from pynn.native import binding
from pynn.native.find import DIRECTORY_VARIABLE, SHIM_VARIABLE, header_path, shim_path

pytestmark = pytest.mark.trt


def test_another_interface_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = header_path().read_text(encoding="utf-8")
    (tmp_path / "pynn_trt.h").write_text(text.replace("PYNN_TRT_ABI_VERSION = 1", "PYNN_TRT_ABI_VERSION = 99"))
    monkeypatch.setattr(binding, "header_path", lambda: tmp_path / "pynn_trt.h")
    with pytest.raises(LibraryVersionError, match=r"interface version \d+, this pynn needs 99: reinstall pynn"):
        binding.Shim()


def test_a_file_that_is_no_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libpynn_trt.so").write_text("not a library")
    monkeypatch.setenv(SHIM_VARIABLE, str(tmp_path / "libpynn_trt.so"))
    with pytest.raises(LibraryNotFoundError, match=r"libpynn_trt\.so cannot be loaded"):
        binding.Shim()


def test_another_library(monkeypatch: pytest.MonkeyPatch, newest_folder: Path) -> None:
    monkeypatch.setenv(SHIM_VARIABLE, str(newest_folder / "libtensorrt_onnxparser_rtx.so.1"))
    with pytest.raises(LibraryNotFoundError, match="is not libpynn_trt"):
        binding.Shim()


@pytest.mark.skipif(sys.platform != "linux", reason="LD_LIBRARY_PATH is Linux's")
@pytest.mark.parametrize("named_too", [False, True])
def test_found_by_the_systems_loader_once(newest_folder: Path, named_too: bool) -> None:
    """The loader's name and the directory named by the environment are one library."""
    code = (
        "from pynn.backends.trt import TensorRTBackend\n"
        "for probe in TensorRTBackend().probe(): print(probe.details.get('path'), probe.details.get('origin'), sep='|')"
    )
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        "LD_LIBRARY_PATH": str(newest_folder),
        SHIM_VARIABLE: str(shim_path()),
        DIRECTORY_VARIABLE: str(newest_folder) if named_too else "",
    }
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    path, _, origin = result.stdout.strip().partition("|")
    assert Path(path).resolve() == (newest_folder / "libtensorrt_rtx.so.1").resolve()
    assert origin == (f"{DIRECTORY_VARIABLE} ({newest_folder})" if named_too else "the system's loader")
