"""What all tests share: ``--require=trt,gpu,ort`` and where the real TensorRT libraries are."""

from __future__ import annotations

import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .fetch_tensorrt import VERSIONS, library_root

if TYPE_CHECKING:
    from pynn.native import Library

REQUIREMENTS = ("trt", "gpu", "ort")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require",
        default="",
        metavar="LIST",
        help=f"comma list of {', '.join(REQUIREMENTS)}: what a test needs of these and is missing fails it, not skips",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "ort: needs ONNX Runtime (--require=ort turns the skip into a failure)")
    # Children get it too. No test may see or fill the user's own cache.
    os.environ["PYNN_CACHE_DIR"] = tempfile.mkdtemp(prefix="pynn-test-cache-")
    config.add_cleanup(functools.partial(shutil.rmtree, os.environ["PYNN_CACHE_DIR"], ignore_errors=True))
    unknown = required(config) - set(REQUIREMENTS)
    if unknown:
        raise pytest.UsageError(f"--require knows {', '.join(REQUIREMENTS)}; not {', '.join(sorted(unknown))}")


def required(config: pytest.Config) -> set[str]:
    return {part.strip() for part in str(config.getoption("--require")).split(",") if part.strip()}


def pytest_runtest_setup(item: pytest.Item) -> None:
    for name, check in MISSING.items():
        if item.get_closest_marker(name) is not None:
            lack(item.config, name, check())


def lack(config: pytest.Config, requirement: str, reason: str) -> None:
    """Skip for ``reason``, or fail when the requirement was demanded. No reason: carry on."""
    if not reason:
        return
    if requirement in required(config):
        pytest.fail(f"--require={requirement}: {reason}", pytrace=False)
    pytest.skip(reason)


@functools.cache
def missing_trt() -> str:
    from pynn.backends.trt import open_library
    from pynn.errors import PynnError
    from pynn.native.binding import shim

    try:
        shim()
        if not any(library_folder(version).is_dir() for version in VERSIONS):
            open_library()
    except PynnError as error:
        return str(error)
    return ""


@functools.cache
def missing_gpu() -> str:
    from pynn.backends.cuda import discover

    return missing_trt() or discover().reason


@functools.cache
def missing_ort() -> str:
    try:
        import onnxruntime  # noqa: F401
    except ImportError as error:
        return f"onnxruntime cannot be imported: {error}"
    return ""


MISSING: dict[str, Callable[[], str]] = {"trt": missing_trt, "gpu": missing_gpu, "ort": missing_ort}


def library_folder(version: str) -> Path:
    return library_root() / f"tensorrt-rtx-{version}" / "tensorrt_rtx_libs"


@pytest.fixture(params=VERSIONS)
def trt_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of each real TensorRT for RTX that the project supports, one after the other."""
    lack(request.config, "trt", missing_trt())
    folder = library_folder(request.param)
    if not (folder / "libtensorrt_rtx.so.1").is_file():
        lack(request.config, "trt", f"{folder} is not there; run python tests/fetch_tensorrt.py {request.param}")
    return folder


@pytest.fixture
def trt_library(trt_folder: Path) -> Iterator[Library]:
    """Each real library, opened."""
    from pynn.backends.trt import open_library

    with open_library(trt_folder) as library:
        yield library


@pytest.fixture
def newest_folder(request: pytest.FixtureRequest) -> Path:
    """The folder of the newest real library that is here; on a GPU machine the one named by the environment."""
    lack(request.config, "trt", missing_trt())
    for version in reversed(VERSIONS):
        if (library_folder(version) / "libtensorrt_rtx.so.1").is_file():
            return library_folder(version)
    named = os.environ.get("PYNN_TENSORRT_LIBRARY_DIR", "").split(os.pathsep)[0]
    if not named:
        lack(request.config, "trt", f"no library in {library_root()}; run python tests/fetch_tensorrt.py")
    return Path(named)


@pytest.fixture
def newest_library(newest_folder: Path) -> Iterator[Library]:
    from pynn.backends.trt import open_library

    with open_library(newest_folder) as library:
        yield library
