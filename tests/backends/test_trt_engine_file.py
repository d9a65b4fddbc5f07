"""EngineFile: round trips, atomic saving, and every way a file can be broken."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import struct
from dataclasses import replace
from pathlib import Path

import pytest

from pynn.backends import engine_file
from pynn.backends.engine_file import FORMAT, MAGIC, EngineFile
from pynn.converter.model import TensorSpec
from pynn.errors import PlanError

PLAN = b"vtrt" + bytes(range(256)) * 8


@pytest.fixture
def engine() -> EngineFile:
    return EngineFile(
        plan=PLAN,
        flavor="RTX",
        version="1.6.1.120",
        compute_capabilities=(86, 120),
        inputs=(TensorSpec("größe", "x_0", "uint32", ("batch", 64), "int32"), TensorSpec("s", "s", "float32", ())),
        outputs=(TensorSpec("y", "y", "bfloat16", ("batch", None)),),
        ranges={"größe": ((1, 4, 8), (64, 64, 64)), "s": ()},
        notes=("a note",),
        options={"tf32": False},
        pynn_version="9.8",
    )


def test_round_trip(engine: EngineFile, tmp_path: Path) -> None:
    path = engine.save(tmp_path / "m.engine")
    back = EngineFile.load(path)
    for name in ("flavor", "version", "compute_capabilities", "inputs", "outputs", "ranges", "notes", "options"):
        assert getattr(back, name) == getattr(engine, name), name
    assert bytes(back.plan) == PLAN and not back.is_bare
    assert back.provenance == ("built by pynn 9.8 with TensorRT for RTX 1.6.1.120 for compute capability 8.6, 12.0")
    assert "größe: uint32[batch, 64]" in repr(back)
    assert EngineFile.load(back.to_bytes()).to_bytes() == path.read_bytes()


def test_profiles_are_kept_and_may_be_missing(engine: EngineFile, tmp_path: Path) -> None:
    """Files from before there were several profiles have no key for them."""
    two = ({"größe": ((1, 1, 1), (64, 64, 64)), "s": ()}, {"größe": ((2, 4, 8), (64, 64, 64)), "s": ()})
    path = replace(engine, profiles=two).save(tmp_path / "m.engine")
    assert EngineFile.load(path).profiles == two
    header = json.dumps({k: v for k, v in engine._header().items() if k != "profiles"}).encode()
    prefix = engine_file._PREFIX.pack(MAGIC, FORMAT, len(header), len(PLAN), hashlib.sha256(header).digest())
    padding = bytes(-(len(prefix) + len(header)) % 64)
    old = EngineFile.load(prefix + header + padding + PLAN)
    assert old.profiles == () and old.ranges == engine.ranges


def test_the_plan_is_aligned_and_not_copied(engine: EngineFile) -> None:
    data = engine.to_bytes()
    assert data.index(PLAN) % 64 == 0
    assert isinstance(EngineFile.load(data).plan, memoryview)


def test_the_same_engine_gives_the_same_bytes(engine: EngineFile) -> None:
    assert engine.to_bytes() == engine.to_bytes()


def test_saved_atomically(engine: EngineFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.engine"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(engine_file.os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            engine.save(path)
    assert [p.name for p in tmp_path.iterdir()] == ["m.engine"]
    assert path.read_bytes() == b"old"
    engine.save(path)
    assert EngineFile.load(path).version == "1.6.1.120"
    assert [p.name for p in tmp_path.iterdir()] == ["m.engine"]


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_saved_with_the_usual_mode(engine: EngineFile, tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    assert engine.save(tmp_path / "m").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_truncated_anywhere(engine: EngineFile, tmp_path: Path) -> None:
    data = engine.to_bytes()
    path = tmp_path / "m.engine"
    sizes = {0, 1, 4, 7, 8, 12, 55, 56, 57, 300, 700, data.index(PLAN), data.index(PLAN) + 1, len(data) - 1}
    for size in sorted(sizes):
        path.write_bytes(data[:size])
        with pytest.raises(PlanError, match=r"truncated|is empty|damaged|neither") as caught:
            EngineFile.load(path)
        assert str(path) in str(caught.value) and "pynn build" in str(caught.value)


def test_one_flipped_bit_anywhere(engine: EngineFile) -> None:
    data = bytearray(engine.to_bytes())
    start = data.index(PLAN)
    header_end = 56 + struct.unpack_from("<I", data, 12)[0]
    for position in [*range(8, header_end, 13), *range(start, len(data), 97), len(data) - 1]:
        data[position] ^= 1
        with pytest.raises(PlanError):
            EngineFile.load(bytes(data))
        data[position] ^= 1
    EngineFile.load(bytes(data))


def test_bytes_after_the_end(engine: EngineFile) -> None:
    with pytest.raises(PlanError, match="damaged"):
        EngineFile.load(engine.to_bytes() + b"x")


def test_another_format(engine: EngineFile) -> None:
    data = engine.to_bytes()
    with pytest.raises(PlanError, match="engine format 7, made by another pynn"):
        EngineFile.load(data[:8] + struct.pack("<I", 7) + data[12:])


@pytest.mark.parametrize(
    "change", [{"flavor": "FOO"}, {"inputs": [{"nope": 1}]}, {"ranges": {"x": [1]}}, {"plan_sha256": None}]
)
def test_a_foreign_header(engine: EngineFile, monkeypatch: pytest.MonkeyPatch, change: dict[str, object]) -> None:
    header = engine._header() | change
    monkeypatch.setattr(EngineFile, "_header", lambda _: header)
    with pytest.raises(PlanError):
        EngineFile.load(engine.to_bytes())
    header.clear()
    with pytest.raises(PlanError, match="makes no sense"):
        EngineFile.load(engine.to_bytes())


def test_header_is_json_with_a_checksum_of_the_plan(engine: EngineFile) -> None:
    data = engine.to_bytes()
    magic, _, size, plan_size, _ = struct.unpack_from("<8sIIQ32s", data)
    assert magic == MAGIC and plan_size == len(PLAN)
    assert len(json.loads(data[56 : 56 + size])["plan_sha256"]) == 64


def test_a_bare_plan_is_taken() -> None:
    file = EngineFile.load(PLAN)
    assert file.is_bare and file.plan == PLAN and file.to_bytes() == PLAN
    assert "bare" in file.provenance


@pytest.mark.parametrize("data", [b"\x08\x0a\x12\x04onnx", b"PK\x03\x04", b"x"])
def test_other_files_are_refused_with_advice(data: bytes) -> None:
    with pytest.raises(PlanError, match=r"neither a pynn engine nor a TensorRT plan.*pynn build"):
        EngineFile.load(data)


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        EngineFile.load(tmp_path / "none.engine")


@pytest.mark.parametrize(
    ("folders", "expected"),
    [
        (["pynn-1.2.3.dist-info"], "1.2.3"),
        (["pynn-1.2.3.dist-info", "pynn-1.2.4.dist-info"], "metadata"),
        ([], "metadata"),
    ],
)
def test_the_version_of_the_installation(
    folders: list[str], expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (*folders, "pynn_other-9.dist-info"):
        (tmp_path / folder).mkdir()
    monkeypatch.setattr(engine_file, "__file__", str(tmp_path / "pynn" / "backends" / "engine_file.py"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "metadata")
    assert engine_file.pynn_version.__wrapped__() == expected
