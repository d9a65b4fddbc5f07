"""Where TensorRT and the shim are looked for, and in which order."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from pynn.errors import LibraryNotFoundError
from pynn.native import find
from pynn.native.find import find_libraries, shim_path

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="file names of Linux")

RTX, RTX_PARSER = "libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def package(root: Path, name: str, *files: str) -> Path:
    touch(root / name / "__init__.py", *(root / name / file for file in files))
    return root / name


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(find.DIRECTORY_VARIABLE, raising=False)
    monkeypatch.setattr(find, "PACKAGES", ())


def test_order_is_environment_then_packages_then_loader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "env" / RTX, tmp_path / "env" / RTX_PARSER)
    monkeypatch.setenv(find.DIRECTORY_VARIABLE, str(tmp_path / "env"))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(find, "PACKAGES", ("test_rtx_libs", "test_trt_libs"))
    package(tmp_path, "test_trt_libs", "libnvinfer.so.10", "libnvonnxparser.so.10")
    package(tmp_path, "test_rtx_libs", RTX, RTX_PARSER)
    search = find_libraries()
    cores = [candidate.core for candidate in search.candidates]
    assert cores == [
        str(tmp_path / "env" / RTX),
        str(tmp_path / "test_rtx_libs" / RTX),
        str(tmp_path / "test_trt_libs" / "libnvinfer.so.10"),
        RTX,
        "libnvinfer.so.11",
        "libnvinfer.so.10",
    ]
    assert [candidate.system for candidate in search.candidates] == [False] * 3 + [True] * 3
    assert search.problems == ()
    assert "test_rtx_libs" not in sys.modules


def test_an_explicit_directory_is_the_only_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "env" / RTX, tmp_path / "here" / "lib" / "libnvinfer.so.10")
    monkeypatch.setenv(find.DIRECTORY_VARIABLE, str(tmp_path / "env"))
    (only,) = find_libraries(tmp_path / "here").candidates
    assert only.core == str(tmp_path / "here" / "lib" / "libnvinfer.so.10")
    assert only.parser is None


def test_several_directories_and_one_without_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a" / RTX, tmp_path / "b" / "tensorrt_rtx_libs" / RTX)
    (tmp_path / "empty").mkdir()
    places = [tmp_path / "a", tmp_path / "empty", tmp_path / "gone", tmp_path / "b"]
    monkeypatch.setenv(find.DIRECTORY_VARIABLE, os.pathsep.join(map(str, places)))
    search = find_libraries()
    assert [c.core for c in search.candidates if not c.system] == [
        str(tmp_path / "a" / RTX),
        str(tmp_path / "b" / "tensorrt_rtx_libs" / RTX),
    ]
    empty, gone = search.problems
    assert str(tmp_path / "empty") in empty and "holds no TensorRT library" in empty and RTX in empty
    assert str(tmp_path / "gone") in gone and "is not a directory" in gone


def test_the_same_file_found_twice_is_one_candidate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "a" / RTX)
    (tmp_path / "b").symlink_to(tmp_path / "a")
    monkeypatch.setenv(find.DIRECTORY_VARIABLE, f"{tmp_path / 'a'}{os.pathsep}{tmp_path / 'b'}")
    assert [c.core for c in find_libraries().candidates if not c.system] == [str(tmp_path / "a" / RTX)]


def test_versioned_files_without_soname_link_take_the_highest(tmp_path: Path) -> None:
    touch(tmp_path / f"{RTX}.6.1", tmp_path / f"{RTX}.10.0", tmp_path / f"{RTX_PARSER}.10.0")
    (only,) = find_libraries(tmp_path).candidates
    assert only.core == str(tmp_path / f"{RTX}.10.0")
    assert only.parser == str(tmp_path / f"{RTX_PARSER}.10.0")


def test_rtx_comes_before_tensorrt_in_one_directory(tmp_path: Path) -> None:
    touch(tmp_path / "libnvinfer.so.10", tmp_path / "libnvinfer.so.11", tmp_path / RTX)
    names = [Path(candidate.core).name for candidate in find_libraries(tmp_path).candidates]
    assert names == [RTX, "libnvinfer.so.11", "libnvinfer.so.10"]


def test_shim_of_the_environment_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(find.SHIM_VARIABLE, str(tmp_path / "none.so"))
    with pytest.raises(LibraryNotFoundError, match=r"PYNN_SHIM_LIBRARY names .*none\.so, which is not a file"):
        shim_path()


def test_missing_shim_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(find.SHIM_VARIABLE, raising=False)
    monkeypatch.setattr(find, "package_folders", lambda: [tmp_path])
    with pytest.raises(LibraryNotFoundError, match="Reinstall the wheel"):
        shim_path()
