"""Verdicts that outlive a process: when a smoke engine is not built, and what happens when a verdict was wrong."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import pynn
from pynn.backends import cuda, selection, trt, trt_kept, trt_probe
from pynn.backends.base import CompileOptions
from pynn.backends.cuda import DeviceInfo, Discovery
from pynn.backends.trt import TensorRTBackend
from pynn.backends.trt_kept import PROBES, KeptVerdicts
from pynn.backends.trt_probe import ProbeCache
from pynn.errors import BackendUnavailableError, DeviceUnsupportedError, EngineBuildError
from pynn.native import Flavor, LibraryInfo, Search
from pynn.native.find import Candidate
from pynn.native.tf32 import Settled
from pynn.options import parse_options

from ..native.models import tiny

HOPPER = DeviceInfo(0, "NVIDIA H200", 90, 139 << 30)
REFUSED = DeviceUnsupportedError("not this GPU")


class FakeDevice:
    def __init__(self, driver: Any, index: int) -> None:
        self.info, self.driver = driver.devices[index], driver

    def current(self) -> Any:
        return nullcontext()

    def close(self) -> None: ...


class World:
    """One version per folder under ``root``. ``smoked`` counts the smoke engines, ``refused`` names versions that
    refuse the GPU, ``new_process`` forgets what is in memory."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self._patch = root, monkeypatch
        self.smoked: list[str] = []
        self.refused: set[str] = set()
        self.driver = SimpleNamespace(devices=[HOPPER], version=13000, version_text="13.0")
        self.versions = ["1.6.1.120"]
        self.tf32 = False
        monkeypatch.setattr(
            trt_probe, "find_libraries", lambda directory: Search(tuple(map(self._file, self.versions)))
        )
        monkeypatch.setattr(trt_probe, "shim", lambda: None)
        monkeypatch.setattr(trt_probe, "Library", SimpleNamespace(open_candidate=self._open))
        monkeypatch.setattr(cuda, "discover", lambda: Discovery(self.driver))  # type: ignore[arg-type]
        monkeypatch.setattr(cuda, "Device", FakeDevice)
        monkeypatch.setattr(trt_probe, "_smoke", self._smoke)
        self.new_process()

    def new_process(self) -> None:
        self.smoked.clear()
        self._patch.setattr(trt, "probe_cache", ProbeCache())

    def _file(self, version: str) -> Candidate:
        folder = self.root / version
        folder.mkdir(exist_ok=True)
        for name in ("libtensorrt_rtx.so.1", "libparser.so.1"):
            if not (folder / name).exists():
                (folder / name).write_bytes(b"\x7fELF")
        return Candidate(str(folder / "libtensorrt_rtx.so.1"), str(folder / "libparser.so.1"), "test")

    def _open(self, candidate: Candidate, *, tf32: bool = False) -> Any:
        version = Path(candidate.core).parent.name
        info = LibraryInfo(Flavor.RTX, version, "B", candidate.core, 200, "", False)
        return SimpleNamespace(info=info, tf32=Settled(self.tf32, "a fake"), files=(candidate.core, candidate.parser))

    def _smoke(self, library: Any, info: LibraryInfo, device: Any) -> None:
        self.smoked.append(info.version)
        if info.version in self.refused:
            raise REFUSED

    def keep(self) -> KeptVerdicts:
        found = KeptVerdicts.of(True, str(self.root / "cache"))
        assert found is not None
        return found

    def backend(self) -> TensorRTBackend:
        return TensorRTBackend(keep=self.keep())


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def test_the_second_process_builds_no_smoke_engine(world: World) -> None:
    first = world.backend().probe()
    assert world.smoked == ["1.6.1.120"]
    world.new_process()
    assert world.backend().probe() == first
    assert world.smoked == []


def test_without_the_cache_the_library_is_always_asked(world: World) -> None:
    world.backend().probe()
    world.new_process()
    TensorRTBackend().probe()
    assert world.smoked == ["1.6.1.120"]
    assert KeptVerdicts.of(False, None) is None


def test_a_believed_verdict_does_not_answer_who_asks_in_earnest(world: World) -> None:
    world.backend().probe()
    world.new_process()
    world.backend().probe()
    TensorRTBackend().probe()
    assert world.smoked == ["1.6.1.120"]


def test_what_was_asked_in_earnest_is_not_asked_again(world: World) -> None:
    TensorRTBackend().probe()
    world.backend().probe()
    assert world.smoked == ["1.6.1.120"]


def test_a_refusal_is_not_kept(world: World) -> None:
    world.refused = {"1.6.1.120"}
    assert not world.backend().probe()[0].usable
    world.refused = set()
    world.new_process()
    assert world.backend().probe()[0].usable and world.smoked == ["1.6.1.120"]


def touched(world: World) -> None:
    os.utime(world.root / "1.6.1.120" / "libtensorrt_rtx.so.1", (1, 1))


def another_parser(world: World) -> None:
    (world.root / "1.6.1.120" / "libparser.so.1").write_bytes(b"longer than before")


def another_gpu(world: World) -> None:
    world.driver.devices = [replace(HOPPER, name="NVIDIA L4", compute_capability=89)]


def another_driver(world: World) -> None:
    world.driver.version = 13010


def with_tf32(world: World) -> None:
    world.tf32 = True


@pytest.mark.parametrize("change", [touched, another_parser, another_gpu, another_driver, with_tf32])
def test_what_makes_a_verdict_stale(change: Callable[[World], None], world: World) -> None:
    world.backend().probe()
    world.new_process()
    change(world)
    world.backend().probe()
    assert world.smoked == ["1.6.1.120"]


def test_another_pynn(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.backend().probe()
    world.new_process()
    monkeypatch.setattr(trt_kept, "pynn_version", lambda: "99")
    world.backend().probe()
    assert world.smoked == ["1.6.1.120"]


def test_a_damaged_entry_is_asked_again(world: World) -> None:
    world.backend().probe()
    world.new_process()
    (entry,) = (world.root / "cache").glob(f"v*/{PROBES}/*")
    entry.write_bytes(b"damaged")
    assert world.backend().probe()[0].usable and world.smoked == ["1.6.1.120"]


def broken(world: World, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A verdict is kept, then the library refuses engines and the smoke engine. Collects the versions tried."""
    world.backend().probe()
    world.new_process()
    world.refused = {"1.6.1.120"}
    tried: list[str] = []

    def compile(backend: TensorRTBackend, model: Any, options: CompileOptions) -> Any:  # noqa: A001
        library, _ = backend._usable(options)
        tried.append(library.info.version)
        if library.info.version in world.refused:
            raise EngineBuildError("TensorRT built an engine of the model but cannot make it ready to run")
        return "an executable"

    monkeypatch.setattr(TensorRTBackend, "_compile", compile)
    return tried


def test_a_wrong_verdict_is_found_out_and_forgotten(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = broken(world, monkeypatch)
    with pytest.raises(BackendUnavailableError, match=r"refuses NVIDIA H200 .* not this GPU"):
        world.backend().compile(tiny(), CompileOptions())
    assert tried == ["1.6.1.120"] and world.smoked == ["1.6.1.120"]
    assert not list((world.root / "cache").glob(f"v*/{PROBES}/*"))
    assert not world.backend().probe()[0].usable


def test_the_next_library_is_used_instead(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.versions = ["1.6.1.120", "1.5.0.114"]
    tried = broken(world, monkeypatch)
    assert world.backend().compile(tiny(), CompileOptions()) == "an executable"  # type: ignore[comparison-overlap]
    assert tried == ["1.6.1.120", "1.5.0.114"]


def test_a_failure_of_the_model_alone_stays_what_it_is(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = broken(world, monkeypatch)
    world.refused = set()

    def fail(*_: Any) -> Any:
        tried.append("failed")
        raise EngineBuildError("no tactic")

    monkeypatch.setattr(TensorRTBackend, "_compile", fail)
    backend = world.backend()
    backend.probe()
    for _ in range(2):
        with pytest.raises(EngineBuildError, match="no tactic"):
            backend.compile(tiny(), CompileOptions())
    assert tried == ["failed"] * 2 and world.smoked == ["1.6.1.120"]
    assert list((world.root / "cache").glob(f"v*/{PROBES}/*"))


def test_a_wrong_verdict_falls_back_to_the_cpu(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    broken(world, monkeypatch)
    with pytest.warns(pynn.FallbackWarning, match="TensorRT cannot be used here: .* refuses NVIDIA H200"):
        executable = pynn.compile(tiny(), cache_dir=str(world.root / "cache"))
    assert executable.backend == "onnxruntime"
    assert executable.report is not None and "not this GPU" in executable.report.refused["tensorrt"]


def test_load_engine_asks_in_earnest_after_a_failure(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.backend().probe()
    world.new_process()
    world.refused = {"1.6.1.120"}

    def opened(*_: Any, **__: Any) -> Any:
        raise pynn.PlanError("cannot read the plan")

    monkeypatch.setattr(trt, "open_engine", opened)
    file = trt.EngineFile(b"vtrt", "RTX", "1.6.1.120", (90,), pynn_version="1")
    with pytest.raises(DeviceUnsupportedError, match=r"this engine cannot run here: .*refuses NVIDIA H200"):
        trt.load_engine(file, options=CompileOptions(cache_dir=str(world.root / "cache")))


def test_the_wish_follows_the_options(tmp_path: Path) -> None:
    wish, _ = parse_options("compile", {"cache_dir": tmp_path}, None)
    assert wish.cache and wish.cache_dir == str(tmp_path)
    wish, _ = parse_options("compile", {"cache": False}, None)
    assert not wish.cache
    assert not selection.check_wish(None, "default", True, 0, None).cache
