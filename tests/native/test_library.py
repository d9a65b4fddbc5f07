"""The binding against the real libraries: opening, the table of statuses, what parsers and builders say."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from pynn.converter.model import numpy_dtype
from pynn.errors import LibraryNotFoundError, OperationError, PlanError, UnsupportedModelError
from pynn.native import (
    Builder,
    BuilderFlag,
    Config,
    Flavor,
    Library,
    Logger,
    MemoryPool,
    Network,
    Parser,
    Profile,
    ProfileSelector,
    Progress,
    Runtime,
    constants,
    find_libraries,
)
from pynn.native.binding import shim
from pynn.native.elf import truncation
from pynn.native.find import header_path
from pynn.native.status import EXCEPTIONS, call

from .models import tiny, with_weights_outside

pytestmark = pytest.mark.trt

HEADER = header_path().read_text(encoding="utf-8")


def enumerators(prefix: str) -> dict[str, int]:
    return {name: int(n) for name, n in re.findall(rf"PYNN_TRT_{prefix}(\w+) = (\d+)", HEADER)}


def test_every_status_has_an_exception() -> None:
    body = re.search(r"typedef enum pynn_trt_status \{(.*?)\}", HEADER, re.S)
    assert body is not None
    numbers = {int(n) for n in re.findall(r"= (\d+)", body[1])}
    assert set(EXCEPTIONS) == numbers - {0}
    assert all(issubclass(kind, OperationError) for kind in EXCEPTIONS.values())


@pytest.mark.parametrize(
    ("prefix", "enum"),
    [("FLAG_", BuilderFlag), ("POOL_", MemoryPool), ("PROFILE_", ProfileSelector), ("FLAVOR_", Flavor)],
)
def test_python_enums_are_the_headers(prefix: str, enum: type) -> None:
    assert {member.name: member.value for member in enum} == enumerators(prefix)  # type: ignore[attr-defined]


def test_data_types_are_the_headers() -> None:
    body = re.search(r"typedef enum pynn_trt_data_type \{(.*?)\}", HEADER, re.S)
    assert body is not None
    named = {int(n): name for name, n in re.findall(r"PYNN_TRT_(\w+) = (\d+)", body[1])}
    ours = dict(enumerate(constants.DATA_TYPES))
    assert {n: name.lower() for n, name in named.items()} == {**ours, 6: "float8e4m3"}
    assert all(numpy_dtype(name).itemsize for name in ours.values())


def test_describes_each_version(trt_library: Library, trt_folder: Path) -> None:
    info = trt_library.info
    assert info.flavor is Flavor.RTX
    assert f"tensorrt-rtx-{info.version}" in str(trt_folder)
    assert info.generation == ("A" if info.version.startswith("1.4") else "B")
    assert info.parser_version in (100, 200) and info.parser_error == "" and not info.forced
    assert Path(info.path).is_file()
    assert "1.7" in Library.known_versions()


def test_parses_and_builds(trt_library: Library) -> None:
    with Logger(trt_library) as logger, Builder(logger) as builder, Network(builder) as network:
        with Parser(network) as parser:
            parser.parse(tiny("batch").proto)
        (x,), (y,) = network.inputs, network.outputs
        assert (x.name, x.data_type, x.shape, x.is_input) == ("x", "float32", (-1, 64), True)
        assert (y.name, y.data_type, y.shape, y.is_output) == ("y", "float32", (-1, 32), True)
        names = [network.layer(i).name for i in range(network.layer_count)]
        assert "product" in names and "positive" in names
        assert network.layer_outputs(names.index("positive"))[0].name == "y"
        with Config(builder) as config, Profile(builder) as profile, Progress() as progress:
            config.set_flag(BuilderFlag.TF32, False)
            assert not config.flag(BuilderFlag.TF32)
            config.set_memory_pool(MemoryPool.WORKSPACE, 1 << 28)
            assert config.memory_pool(MemoryPool.WORKSPACE) == 1 << 28
            config.set_compute_capabilities([86, 89, 120])
            config.set_progress(progress)
            for selector, batch in zip(ProfileSelector, (1, 4, 8), strict=True):
                profile.set_dimensions("x", selector, (batch, 64))
            assert profile.is_valid and config.add_profile(profile) == 0
            plan = builder.build(network, config)
            events, dropped = progress.poll()
    assert bytes(plan.view[:4]) == b"vtrt" and len(plan) > 1000
    assert {event.kind for event in events} == {"start", "step", "finish"} and dropped == 0


def test_initializers_by_reference_are_not_copied_until_built(newest_library: Library) -> None:
    model = with_weights_outside(tiny())
    weight = model.weights["w"]
    with Logger(newest_library) as logger, Builder(logger) as builder:
        network = Network(builder)
        with Parser(network) as parser:
            parser.load_model(model.proto)
            parser.load_initializer("w", weight)
            parser.parse_loaded()
        with Config(builder) as config:
            config.set_compute_capabilities([86])
            first = bytes(builder.build(network, config))
            before, weight[...] = weight.copy(), 0
            second = bytes(builder.build(network, config))
        assert before.tobytes() in first or first != second


def test_refused_operator_is_named(trt_library: Library) -> None:
    model = tiny().proto.replace(b"Relu", b"Rulu")
    with Logger(trt_library) as logger, Builder(logger) as builder, Network(builder) as network:
        parser = Parser(network)
        with pytest.raises(UnsupportedModelError, match="Rulu") as caught:
            parser.parse(model)
        assert (caught.value.node, caught.value.op_type) == ("positive", "Rulu")
        assert "Rulu" in caught.value.log
        assert parser.errors[0].node_operator == "Rulu"
        assert not parser.supports_operator("Rulu") and parser.supports_operator("Relu")


@pytest.mark.parametrize("data", [b"garbage", b"\xff" * 64])
def test_bytes_that_are_not_onnx(newest_library: Library, data: bytes) -> None:
    parser = Parser(Network(Builder(Logger(newest_library))))
    with pytest.raises(UnsupportedModelError, match=r"(?i)parse"):
        parser.parse(data)


def test_supports_model_reports_parts(newest_library: Library) -> None:
    with Logger(newest_library) as logger, Builder(logger) as builder:
        with Network(builder) as network, Parser(network) as parser:
            supported, parts = parser.supports_model(tiny().proto)
            assert supported and parts == [(True, [0, 1])]
        with Network(builder) as network, Parser(network) as parser:
            supported, parts = parser.supports_model(tiny().proto.replace(b"Relu", b"Rulu"))
            assert not supported and [nodes for _, nodes in parts] == [[0]]


def test_garbage_plan_is_a_plan_error(newest_library: Library) -> None:
    with Logger(newest_library) as logger, Runtime(logger) as runtime, pytest.raises(PlanError) as caught:
        runtime.deserialize(b"garbage" * 100)
    assert caught.value.log


def test_library_that_is_not_there() -> None:
    with pytest.raises(LibraryNotFoundError, match=r"/nowhere/libtensorrt_rtx\.so\.1"):
        Library.open("/nowhere/libtensorrt_rtx.so.1")


def test_library_that_is_not_tensorrt() -> None:
    with pytest.raises(LibraryNotFoundError):
        Library.open("libm.so.6")


def test_library_without_its_parser(newest_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "libtensorrt_rtx.so.1").symlink_to(newest_folder / "libtensorrt_rtx.so.1")
    (candidate,) = find_libraries(tmp_path).candidates
    with Library.open_candidate(candidate) as library, Logger(library) as logger, Builder(logger) as builder:
        assert library.info.parser_version == 0
        with Network(builder) as network, pytest.raises(LibraryNotFoundError, match="parser"):
            Parser(network)


def test_parser_that_does_not_open_is_told(newest_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "libtensorrt_rtx.so.1").symlink_to(newest_folder / "libtensorrt_rtx.so.1")
    (tmp_path / "libtensorrt_onnxparser_rtx.so.1").write_bytes(b"not a library")
    (candidate,) = find_libraries(tmp_path).candidates
    with Library.open_candidate(candidate) as library:
        assert library.info.parser_version == 0
        assert "libtensorrt_onnxparser_rtx" in library.info.parser_error


def test_truncated_library_does_not_crash(newest_folder: Path, tmp_path: Path) -> None:
    whole = newest_folder / "libtensorrt_onnxparser_rtx.so.1"
    for size in (0, 100, 5000, whole.stat().st_size // 2):
        part = tmp_path / f"lib{size}.so"
        shutil.copy(whole, part)
        with part.open("r+b") as file:
            file.truncate(size)
        with pytest.raises(LibraryNotFoundError, match=r"is truncated|is empty"):
            Library.open(str(part))


def test_a_whole_library_is_not_called_truncated(newest_folder: Path) -> None:
    for name in ("libtensorrt_rtx.so.1", "libtensorrt_onnxparser_rtx.so.1"):
        assert truncation(str(newest_folder / name)) == ""
    assert truncation("libm.so.6") == truncation(__file__) == ""


def test_unknown_status_and_missing_error_object() -> None:
    native = shim()
    with pytest.raises(OperationError, match=r"INVALID_ARGUMENT|library"):
        call(native, native.lib.pynn_trt_library_describe, native.null, native.null)
    assert native.text(native.lib.pynn_trt_status_name(999)) == "UNKNOWN"


def test_names_with_nul_are_refused(newest_library: Library) -> None:
    network = Network(Builder(Logger(newest_library)))
    with pytest.raises(ValueError, match="NUL"):
        network.mark_output("a\0b")


def test_non_contiguous_initializer_is_refused(newest_library: Library) -> None:
    parser = Parser(Network(Builder(Logger(newest_library))))
    with pytest.raises(ValueError, match="contiguous"):
        parser.load_initializer("w", np.zeros((4, 4), np.float32)[:, ::2])
