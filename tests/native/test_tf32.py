"""float32 is float32 on TensorRT for RTX: settled while the library is loaded, without touching the environment."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pynn.native import shim_path, tf32

from ..conftest import library_folder

pytestmark = [pytest.mark.trt, pytest.mark.skipif(sys.platform != "linux", reason="the loader is Linux's")]

PROGRAM = """
import ctypes, json, os, sys
from pynn.native import Library
core, wishes = sys.argv[1], [word == "tf32" for word in sys.argv[2:]]
before = dict(os.environ)
opened = [Library.open(core, tf32=wish) for wish in wishes]
libc = ctypes.CDLL(None)
libc.getenv.restype = ctypes.c_char_p
print(json.dumps({
    "allowed": [library.tf32.allowed for library in opened],
    "reason": opened[0].tf32.reason,
    "path": opened[0].info.path,
    "same environment": dict(os.environ) == before,
    "getenv": (libc.getenv(b"NVIDIA_TF32_OVERRIDE") or b"").decode(),
}))
"""


def opened(version: str, *wishes: str, **environment: str) -> dict[str, object]:
    core = library_folder(version) / "libtensorrt_rtx.so.1"
    variables = {name: value for name, value in os.environ.items() if name != tf32.VARIABLE} | environment
    command = [sys.executable, "-c", PROGRAM, str(core), *wishes]
    done = subprocess.run(command, env=variables, check=True, capture_output=True, text=True)
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["same environment"] and answer["getenv"] == environment.get(tf32.VARIABLE, "")
    assert answer["path"] == os.path.realpath(core)
    return answer | {"stderr": done.stderr}


@pytest.mark.parametrize("version", ["1.5.0.114", "1.6.1.120", "1.7.1.116"])
def test_float32_is_settled_by_the_first(version: str) -> None:
    answer = opened(version, "float32", "tf32", LD_DEBUG="bindings")
    assert answer["allowed"] == [False, False]
    bound = [line for line in str(answer["stderr"]).splitlines() if "symbol `getenv'" in line]
    to_ours = [line for line in bound if "libpynn_trt_environment.so" in line.partition(" to ")[2]]
    assert len(to_ours) == 1 and "libpynn_trt_000000.so" in to_ours[0], "TensorRT's getenv, and nobody else's"


def test_several_versions_in_one_process() -> None:
    cores = [
        str(library_folder(v) / "libtensorrt_rtx.so.1") for v in ("1.7.1.116", "1.6.1.120", "1.4.0.76", "1.5.0.114")
    ]
    program = (
        "import sys; from pynn.native import Library; libraries = [Library.open(core) for core in sys.argv[1:]]\n"
        "for one in libraries: print(one.info.version, one.info.path, one.tf32.allowed)"
    )
    variables = {name: value for name, value in os.environ.items() if name != tf32.VARIABLE}
    done = subprocess.run(
        [sys.executable, "-c", program, *cores], env=variables, check=True, capture_output=True, text=True
    )
    versions = ("1.7.1.116 {} False", "1.6.1.120 {} False", "1.4.0.76 {} True", "1.5.0.114 {} False")
    assert done.stdout.splitlines() == [
        line.format(os.path.realpath(core)) for line, core in zip(versions, cores, strict=True)
    ]


def test_tf32_when_the_first_model_asks_for_it() -> None:
    assert opened("1.6.1.120", "tf32", "float32")["allowed"] == [True, True]


@pytest.mark.parametrize(("value", "allowed"), [("0", False), ("1", True)])
def test_the_variable_goes_first(value: str, allowed: bool) -> None:
    answer = opened("1.6.1.120", "float32", **{tf32.VARIABLE: value})
    assert answer["allowed"] == [allowed] and tf32.VARIABLE in str(answer["reason"])


def test_early_versions_are_left_alone() -> None:
    answer = opened("1.4.0.76", "float32")
    assert answer["allowed"] == [True] and "this version" in str(answer["reason"])


def test_without_the_environment_library(tmp_path: Path) -> None:
    alone = tmp_path / shim_path().name
    alone.write_bytes(shim_path().read_bytes())
    (tmp_path / "pynn_trt.h").symlink_to(Path(__file__).parents[2] / "csrc" / "include" / "pynn_trt.h")
    answer = opened("1.6.1.120", "float32", PYNN_SHIM_LIBRARY=str(alone))
    assert answer["allowed"] == [True] and "is not installed" in str(answer["reason"])


def test_the_version_is_read_from_the_file(tmp_path: Path) -> None:
    assert tf32.version_of(str(library_folder("1.6.1.120") / "libtensorrt_rtx.so.1")) == (1, 6)
    other = tmp_path / "libtensorrt_rtx.so.1"
    other.write_bytes(b"\x7fELF")
    assert tf32.version_of(str(other)) == (0, 0)
