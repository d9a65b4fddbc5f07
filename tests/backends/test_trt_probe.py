"""Probing: every reason a user may meet, with driver, GPU and library played by stand-ins where there is none here."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, ClassVar

import onnx
import pytest

from pynn.backends import cuda, trt, trt_executable, trt_probe
from pynn.backends.base import CompileOptions, Probe
from pynn.backends.cuda import DeviceInfo, Discovery
from pynn.backends.trt import TensorRTBackend, load_engine
from pynn.backends.trt_probe import SMOKE_MODEL, ProbeCache
from pynn.errors import (
    BackendUnavailableError,
    CudaError,
    DeviceUnsupportedError,
    FeatureNotSupportedError,
    LibraryNotFoundError,
    LibraryVersionError,
    PlanError,
)
from pynn.native import Flavor, LibraryInfo, Search
from pynn.native.find import Candidate
from pynn.native.tf32 import Settled

from ..native.models import tiny

NO_DRIVER = Discovery(None, "there is no NVIDIA driver: libcuda.so.1: cannot open", "install the NVIDIA driver")
HOPPER = DeviceInfo(0, "NVIDIA H200", 90, 139 << 30)


class FakeDriver:
    devices = (HOPPER, DeviceInfo(1, "NVIDIA L4", 89, 24 << 30))
    version, version_text = 13000, "13.0"


class FakeDevice:
    closed: ClassVar[list[int]] = []

    def __init__(self, driver: FakeDriver, index: int) -> None:
        if index >= len(driver.devices):
            raise DeviceUnsupportedError(f"there is no GPU {index}; found 0: NVIDIA H200, 1: NVIDIA L4")
        self.info, self.driver = driver.devices[index], driver

    def current(self) -> Any:
        return nullcontext()

    def close(self) -> None:
        self.closed.append(self.info.index)


class FakeLibrary:
    """Opens every candidate; its version is the name of its folder."""

    @staticmethod
    def known_versions() -> str:
        return "TensorRT-RTX 1.3-1.7"

    @classmethod
    def open_candidate(cls, candidate: Candidate, *, tf32: bool = False) -> FakeLibrary:
        version = Path(candidate.core).parent.name
        if candidate.system:
            raise LibraryNotFoundError(f"cannot load {candidate.core}")
        if version.startswith("9"):
            raise LibraryVersionError(f"TensorRT for RTX {version} is unknown; known: 1.3 to 1.7")
        if version.startswith("0"):
            raise LibraryNotFoundError(f"{candidate.core}: not TensorRT")
        library = cls()
        library.tf32 = Settled(tf32, "a fake")  # type: ignore[attr-defined]
        library.files = (candidate.core, candidate.parser)  # type: ignore[attr-defined]
        parser = 0 if candidate.parser is None else 200
        library.info = LibraryInfo(Flavor.RTX, version, "B", candidate.core, parser, "", False)  # type: ignore[attr-defined]
        return library


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """``world(versions, discovery, refuse)``: what is installed, what the driver says, what a library refuses."""

    def make(
        *versions: str,
        discovery: Discovery | None = None,
        refuse: dict[str, Exception] | None = None,
        parser: bool = True,
    ) -> None:
        found = [Candidate(f"/t/{v}/libtensorrt_rtx.so.1", "p" if parser else None, "test") for v in versions]
        found.append(Candidate("libnvinfer.so.10", None, "the system's loader", system=True))
        monkeypatch.setattr(trt_probe, "find_libraries", lambda directory: Search(tuple(found)))
        monkeypatch.setattr(trt_probe, "shim", lambda: None)
        monkeypatch.setattr(trt_probe, "Library", FakeLibrary)
        monkeypatch.setattr(cuda, "discover", lambda: discovery or Discovery(FakeDriver()))  # type: ignore[arg-type]
        monkeypatch.setattr(cuda, "Device", FakeDevice)
        FakeDevice.closed = []

        def smoke(library: Any, info: LibraryInfo, device: FakeDevice) -> None:
            error = (refuse or {}).get(info.version)
            if error is not None:
                raise error

        monkeypatch.setattr(trt_probe, "_smoke", smoke)
        monkeypatch.setattr(trt, "probe_cache", ProbeCache())

    return make


def probe(device: int | None = 0) -> tuple[Probe, ...]:
    probes = TensorRTBackend(device=device).probe()
    assert all(p.backend == "tensorrt" and p.reason and (p.usable or p.hint) for p in probes)
    return probes


def test_smoke_model_is_valid() -> None:
    model = onnx.load_model_from_string(SMOKE_MODEL)
    onnx.checker.check_model(model, full_check=True)
    assert [node.op_type for node in model.graph.node] == ["Relu"]


def test_usable(world: Callable[..., None]) -> None:
    world("1.6.1.120")
    (only,) = probe()
    assert only.usable and only.reason == "TensorRT for RTX 1.6.1.120 on NVIDIA H200, compute capability 9.0"
    assert only.details["version"] == "1.6.1.120" and only.details["generation"] == "B"
    assert only.details["gpu"] == "NVIDIA H200" and only.details["compute_capability"] == "9.0"
    assert TensorRTBackend().version() == "1.6.1.120"


def test_refused_gpu_in_the_librarys_words_and_the_next_candidate(world: Callable[..., None]) -> None:
    words = "The engine cannot run on this GPU, which has compute capability 9.0"
    world("1.7.1.116", "1.6.1.120", refuse={"1.7.1.116": DeviceUnsupportedError(words, log=words)})
    first, second = probe()
    assert not first.usable and second.usable
    assert first.reason == f"TensorRT for RTX 1.7.1.116 refuses NVIDIA H200 (compute capability 9.0): {words}"
    assert FakeDevice.closed == [0]
    assert TensorRTBackend().version() == "1.6.1.120"


def test_no_library(world: Callable[..., None]) -> None:
    world(discovery=NO_DRIVER)
    (only,) = probe()
    assert "no TensorRT library was found" in only.reason and "no NVIDIA driver" in only.reason
    assert only.hint.startswith("pip install tensorrt-rtx cuda-python, or set")


def test_no_driver(world: Callable[..., None]) -> None:
    world("1.6.1.120", discovery=NO_DRIVER)
    (only,) = probe()
    assert only.reason.startswith("TensorRT for RTX 1.6.1.120 was found, but there is no NVIDIA driver")
    assert only.hint == "install the NVIDIA driver" and only.details["version"] == "1.6.1.120"


def test_unknown_version(world: Callable[..., None]) -> None:
    world("9.1.0.0", "1.6.1.120")
    first, second = probe()
    assert "9.1.0.0 is unknown" in first.reason and "TensorRT-RTX 1.3-1.7" in first.hint and second.usable


def test_not_a_library(world: Callable[..., None]) -> None:
    world("0.0", "1.6.1.120")
    first, second = probe()
    assert "not TensorRT" in first.reason and second.usable


def test_no_parser(world: Callable[..., None]) -> None:
    world("1.6.1.120", parser=False)
    (only,) = probe()
    assert "has no ONNX parser" in only.reason


def test_broken_gpu_is_no_refusal(world: Callable[..., None]) -> None:
    world("1.6.1.120", refuse={"1.6.1.120": CudaError("cuCtxPushCurrent failed: uncorrectable ECC error")})
    (only,) = probe()
    assert "NVIDIA H200 (compute capability 9.0) cannot be used now" in only.reason and "ECC" in only.reason


def test_another_device(world: Callable[..., None]) -> None:
    world("1.6.1.120")
    assert "NVIDIA L4" in probe(1)[0].reason
    assert "there is no GPU 2" in probe(2)[0].reason
    assert ["H200" in p.reason for p in probe(None)] == [True, False]


def test_probed_once(world: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    world("1.6.1.120")
    count = []
    monkeypatch.setattr(trt_probe, "_smoke", lambda *_: count.append(1))
    probe(), probe(), TensorRTBackend().version()
    assert len(count) == 1
    monkeypatch.setenv("PYNN_TENSORRT_LIBRARY_DIR", "/elsewhere")
    probe()
    assert len(count) == 2


def test_missing_shim(world: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise LibraryNotFoundError("libpynn_trt.so is not in /here")

    world("1.6.1.120")
    monkeypatch.setattr(trt_probe, "shim", fail)
    (only,) = probe()
    assert not only.usable and "pynn's TensorRT part cannot be loaded: libpynn_trt.so is not in /here" in only.reason


def test_compile_without_a_candidate(world: Callable[..., None]) -> None:
    world("1.7.1.116", refuse={"1.7.1.116": DeviceUnsupportedError("not this GPU")})
    with pytest.raises(BackendUnavailableError, match=r"refuses NVIDIA H200 .* not this GPU"):
        TensorRTBackend().compile(tiny(), CompileOptions())


def test_tf32_after_float32_was_settled(world: Callable[..., None]) -> None:
    world("1.6.1.120")
    backend = TensorRTBackend()
    backend.require(CompileOptions())
    with pytest.raises(FeatureNotSupportedError, match="TF32 was asked for"):
        backend.require(CompileOptions(tf32=True))


def test_load_engine_says_what_is_missing(world: Callable[..., None]) -> None:
    plan = b"vtrt" * 100
    world(discovery=NO_DRIVER)
    with pytest.raises(LibraryNotFoundError, match="no TensorRT library was found"):
        load_engine(plan)
    world("1.6.1.120", discovery=NO_DRIVER)
    with pytest.raises(DeviceUnsupportedError, match="no NVIDIA driver"):
        load_engine(plan)


def test_load_engine_prefers_the_library_it_was_built_with(
    world: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    world("1.4.0.76", "1.6.1.120")
    tried = []

    def opened(file: Any, library: Any, device: Any, **_: Any) -> Any:
        tried.append(library.info.version)
        raise PlanError("cannot read the plan: version", log="log of it")

    monkeypatch.setattr(trt_executable, "TensorRTExecutable", opened)
    file = trt.EngineFile(b"vtrt", "RTX", "1.6.1.120", (86,), pynn_version="1")
    with pytest.raises(PlanError) as caught:
        load_engine(file)
    assert tried == ["1.6.1.120"] and caught.value.log == "log of it"
    text = str(caught.value)
    assert "built by pynn 1 with TensorRT for RTX 1.6.1.120 for compute capability 8.6" in text
    assert "here is TensorRT for RTX 1.6.1.120 on NVIDIA H200 (compute capability 9.0)" in text


def test_engine_of_another_product(world: Callable[..., None]) -> None:
    world("1.6.1.120")
    with pytest.raises(
        PlanError, match=r"TensorRT 10\.9\.0\.34 .*here is TensorRT for RTX 1\.6\.1\.120 on NVIDIA H200"
    ):
        load_engine(trt.EngineFile(b"ptrt", "TENSORRT", "10.9.0.34", (86,), pynn_version="1"))


@pytest.mark.trt
def test_real_library_without_a_gpu(newest_folder: Path) -> None:
    if cuda.discover().driver is not None:
        pytest.skip("a GPU is here")
    (only,) = TensorRTBackend(library_dir=newest_folder).probe()
    assert not only.usable and "was found, but" in only.reason
    with pytest.raises(BackendUnavailableError):
        TensorRTBackend(library_dir=newest_folder).compile(tiny(), CompileOptions())


def test_looking_loads_nothing_heavy() -> None:
    code = (
        "import sys; from pynn.backends import trt; "
        "print([m for m in ('cffi', 'onnx', 'onnxruntime', 'cuda.bindings') if m in sys.modules])"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True)
    assert result.stdout.strip() == "[]"
