"""Where libpynn_trt, its header and TensorRT's libraries are. Opens nothing: it only looks at directories."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..errors import LibraryNotFoundError

SHIM_VARIABLE = "PYNN_SHIM_LIBRARY"
DIRECTORY_VARIABLE = "PYNN_TENSORRT_LIBRARY_DIR"
SHIM_NAME = "pynn_trt.dll" if sys.platform == "win32" else "libpynn_trt.so"
HEADER_NAME = "pynn_trt.h"
PACKAGES = ("tensorrt_rtx_libs", "tensorrt_libs")
SUBFOLDERS = ("", "lib", "lib64", "bin", *PACKAGES)
INSTALL_HINT = (
    "pip install tensorrt-rtx cuda-python, or set PYNN_TENSORRT_LIBRARY_DIR to the folder that holds TensorRT"
)

_HERE = Path(__file__).resolve().parent


@dataclass(frozen=True, slots=True)
class Product:
    """File names of one product and major version: for the loader, and as patterns inside a directory."""

    core: str
    parser: str
    core_pattern: str
    parser_pattern: str


if sys.platform == "win32":
    PRODUCTS = (
        Product("tensorrt_rtx.dll", "tensorrt_onnxparser_rtx.dll", "tensorrt_rtx*.dll", "tensorrt_onnxparser_rtx*.dll"),
        Product("nvinfer_11.dll", "nvonnxparser_11.dll", "nvinfer_11.dll", "nvonnxparser_11.dll"),
        Product("nvinfer_10.dll", "nvonnxparser_10.dll", "nvinfer_10.dll", "nvonnxparser_10.dll"),
    )
else:
    PRODUCTS = tuple(
        Product(core, parser, core + "*", parser + "*")
        for core, parser in (
            ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"),
            ("libnvinfer.so.11", "libnvonnxparser.so.11"),
            ("libnvinfer.so.10", "libnvonnxparser.so.10"),
        )
    )


@dataclass(frozen=True, slots=True)
class Candidate:
    """A library worth opening. ``parser`` is None when the directory has no ONNX parser beside it."""

    core: str
    parser: str | None
    origin: str
    system: bool = False
    """Found by nobody yet: a name for the system's loader."""


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, and a sentence for each place that was named and has no library."""

    candidates: tuple[Candidate, ...]
    problems: tuple[str, ...] = ()


def find_libraries(directory: str | os.PathLike[str] | None = None) -> Search:
    """TensorRT libraries in order of preference.

    A ``directory`` given is the only place looked at. Otherwise: the directories in PYNN_TENSORRT_LIBRARY_DIR (split at
    ``os.pathsep``), the packages tensorrt_rtx_libs and tensorrt_libs (located, not imported), the system's loader.
    """
    if directory is not None:
        return _search([(Path(directory), f"directory {os.fspath(directory)}")])
    named = [Path(p).expanduser() for p in os.environ.get(DIRECTORY_VARIABLE, "").split(os.pathsep) if p]
    first = _search([(path, f"{DIRECTORY_VARIABLE} ({path})") for path in named])
    packages = [(Path(place), f"package {package}") for package in PACKAGES for place in _package_directories(package)]
    system = _system_candidates()
    found = (*first.candidates, *_search(packages).candidates, *system)
    unique = {(_real(c.core) if not c.system else c.core): c for c in reversed(found)}
    return Search(tuple(c for c in found if c in unique.values()), first.problems)


def _search(places: Sequence[tuple[Path, str]]) -> Search:
    candidates: list[Candidate] = []
    problems: list[str] = []
    for place, origin in places:
        found = list(_in_directory(place, origin))
        candidates += found
        if not found:
            why = "holds no TensorRT library" if place.is_dir() else "is not a directory"
            names = ", ".join(product.core for product in PRODUCTS)
            problems.append(f"{origin} {why}; looked for {names}")
    return Search(tuple(candidates), tuple(problems))


def _in_directory(place: Path, origin: str) -> Iterator[Candidate]:
    for folder in (place / sub for sub in SUBFOLDERS):
        for product in PRODUCTS:
            core = _best(folder, product.core, product.core_pattern)
            if core is not None:
                parser = _best(folder, product.parser, product.parser_pattern)
                yield Candidate(str(core), str(parser) if parser else None, origin)


def _best(folder: Path, exact: str, pattern: str) -> Path | None:
    if (folder / exact).is_file():
        return folder / exact
    try:
        found = [path for path in folder.glob(pattern) if path.is_file()]
    except OSError:
        return None
    return max(found, key=lambda path: _numbers(path.name), default=None)


def _numbers(name: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", name)))


def _package_directories(package: str) -> list[str]:
    try:
        spec = find_spec(package)
    except (ImportError, ValueError):
        return []
    return list(spec.submodule_search_locations or ()) if spec else []


def _system_candidates() -> list[Candidate]:
    if sys.platform != "win32":
        return [Candidate(p.core, p.parser, "the system's loader", system=True) for p in PRODUCTS]
    folders = [Path(p) for p in os.environ.get("PATH", "").split(os.pathsep) if p]
    return [candidate for folder in folders for candidate in _in_directory(folder, f"PATH ({folder})")]


def _real(path: str) -> str:
    return os.path.realpath(path)


def shim_path() -> Path:
    """libpynn_trt: $PYNN_SHIM_LIBRARY, else beside this package. Raises LibraryNotFoundError."""
    named = os.environ.get(SHIM_VARIABLE)
    if named:
        path = Path(named)
        if not path.is_file():
            raise LibraryNotFoundError(f"{SHIM_VARIABLE} names {named}, which is not a file")
        return path
    for folder in package_folders():
        if (folder / SHIM_NAME).is_file():
            return folder / SHIM_NAME
    raise LibraryNotFoundError(
        f"{SHIM_NAME} is not in {_HERE}: pynn was installed without its TensorRT part. "
        f"Reinstall the wheel, or build it (pip install . needs CMake and a C++ compiler), or set {SHIM_VARIABLE}"
    )


def header_path() -> Path:
    """pynn_trt.h: beside this package in a wheel, in csrc/include in the source tree."""
    for folder in (*package_folders(), _HERE.parents[1] / "csrc" / "include"):
        if (folder / HEADER_NAME).is_file():
            return folder / HEADER_NAME
    raise LibraryNotFoundError(f"{HEADER_NAME} is not in {_HERE}: the installation of pynn is incomplete, reinstall it")


def package_folders() -> list[Path]:
    """The folders of this package: an editable install has two, the sources and the built files."""
    package = sys.modules.get(__package__ or "")
    return [_HERE, *(Path(p) for p in getattr(package, "__path__", ()) if Path(p) != _HERE)]
