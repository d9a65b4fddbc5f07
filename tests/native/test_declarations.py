"""What cffi knows of the header is the same whether it was generated or is parsed now, and a stale one is not used."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from pynn.native import declarations
from pynn.native.binding import Shim
from pynn.native.declarations import GENERATED, declared, generate
from pynn.native.find import header_path

NAME = f"pynn.native.{GENERATED}"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Written as CMake has it written: by the file as a script."""
    output = tmp_path_factory.mktemp("declarations") / f"{GENERATED}.py"
    script = declarations.__file__
    subprocess.run([sys.executable, script, str(header_path()), str(output)], check=True, capture_output=True)
    spec = importlib.util.spec_from_file_location(NAME, output)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def header() -> str:
    return header_path().read_text(encoding="utf-8")


def shape_of(ffi: Any) -> dict[str, Any]:
    """Every known struct's size, and its fields with their places."""
    structs = {}
    for name in ffi.list_types()[0]:
        kind = ffi.typeof(name)
        try:
            size = ffi.sizeof(kind)
        except Exception:  # opaque; the two kinds of FFI raise different errors
            continue
        if kind.kind == "struct":
            structs[name] = (size, [(field, entry.offset, entry.type.cname) for field, entry in kind.fields])
    return structs


def test_generated_and_parsed_agree(generated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NAME, None)  # type: ignore[arg-type]
    parsed = declared(header())
    assert len(shape_of(parsed)) > 5 and shape_of(generated.ffi) == shape_of(parsed)


def test_the_generated_ones_load_the_shim(generated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NAME, generated)
    monkeypatch.setitem(sys.modules, "cffi", None)  # type: ignore[arg-type]
    native = Shim()
    assert native.ffi is generated.ffi
    assert native.struct("library_info").struct_size == native.ffi.sizeof("pynn_trt_library_info")
    assert "TensorRT" in native.text(native.lib.pynn_trt_library_known_versions())


def test_those_of_another_header_are_not_used(generated: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NAME, generated)
    assert declared(header()) is generated.ffi
    other = declared(header() + "\n")
    assert other is not generated.ffi and shape_of(other) == shape_of(generated.ffi)


def test_generating_twice_writes_the_same(generated: ModuleType, tmp_path: Path) -> None:
    generate(header_path(), tmp_path / "again.py")
    assert generated.__file__ is not None
    assert (tmp_path / "again.py").read_bytes() == Path(generated.__file__).read_bytes()
