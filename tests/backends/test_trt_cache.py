"""The engine cache: what is part of the key, hits and misses through TensorRTBackend.compile, many processes."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import pynn
from pynn.backends import trt, trt_cache
from pynn.backends.base import BuildControl, CompileOptions
from pynn.backends.build_control import Watch
from pynn.backends.engine_file import EngineFile
from pynn.backends.trt import TensorRTBackend
from pynn.backends.trt_cache import _NOT_IN_KEY, ENGINES, EngineCache, EngineKey, digest_of, engine_key, model_digest
from pynn.backends.trt_executable import TensorRTExecutable
from pynn.cache.store import Store
from pynn.converter.model import OnnxModel
from pynn.converter.precision.choice import Precision
from pynn.converter.precision.table import CalibrationTable
from pynn.converter.unread import UnreadModel
from pynn.errors import (
    BuildCancelledError,
    BuildDeadlineError,
    CacheError,
    EngineBuildError,
    ModelError,
    UnsupportedModelError,
)
from pynn.native import Flavor, LibraryInfo

from ..native.models import model_of, tiny, weights_of, with_weights_outside
from .trt_fakes import Context, FakeDevice, FakeLibrary, Fakes, spec

INFO = FakeLibrary.info
SOURCE = str(Path(pynn.__file__).parent.parent)


def key_of(model: OnnxModel | None = None, info: LibraryInfo = INFO, tf32: bool = False, **options: Any) -> str:
    made = engine_key(model or tiny(), info, tf32, CompileOptions(**options), (86,), FakeDevice())  # type: ignore[arg-type]
    assert made.text == digest_of(json.loads(json.dumps(made.details)))
    return made.text


# -- the key


def changed(model: OnnxModel) -> OnnxModel:
    outside = with_weights_outside(model)
    weights = {name: array.copy() for name, array in outside.weights.items()}
    weights["w"][3, 5] = np.nextafter(weights["w"][3, 5], np.float32(9))
    return dataclasses.replace(outside, weights=weights)


def test_the_same_gives_the_same_key() -> None:
    assert key_of(tiny()) == key_of(tiny())
    assert key_of(shapes={"batch": (1, 4, 8)}) == key_of(shapes={"batch": [1, 4, 8]})  # type: ignore[dict-item]
    model = with_weights_outside(tiny())
    turned = {name: np.asfortranarray(array) for name, array in model.weights.items()}
    assert key_of(model) == key_of(dataclasses.replace(model, weights=turned))


def test_what_decides_the_engine_is_part_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    newer = dataclasses.replace(INFO, version="1.7.1.116")
    keys = [
        key_of(),
        key_of(tiny(5)),
        key_of(with_weights_outside(tiny())),
        key_of(changed(tiny())),
        key_of(dataclasses.replace(tiny(), inputs=(spec("renamed", "float32", 4, 64),))),
        key_of(info=newer),
        key_of(info=dataclasses.replace(INFO, flavor=Flavor.TENSORRT)),
        key_of(tf32=True),
        key_of(shapes={"batch": (1, 4, 8)}),
        key_of(shapes={"batch": (1, 5, 8)}),
        key_of(tf32=False, optimization_level=3),
        key_of(workspace_bytes=1 << 20),
        key_of(refit=True),
        key_of(weight_streaming_bytes=1 << 20),
        key_of(precision=Precision("fp16")),
        key_of(precision=Precision("fp16", keep=("a",))),
    ]
    gpus = [("Another GPU", 86, 13000), ("Fake GPU", 89, 13000), ("Fake GPU", 86, 12080)]
    for name, capability, driver in gpus:
        monkeypatch.setattr(FakeDevice, "info", dataclasses.replace(FakeDevice.info, name=name))
        monkeypatch.setattr(FakeDevice, "info", dataclasses.replace(FakeDevice.info, compute_capability=capability))
        monkeypatch.setattr(FakeDevice.driver, "version", driver)
        keys.append(key_of())
        monkeypatch.undo()
    monkeypatch.setattr(trt_cache, "pynn_version", lambda: "another")
    keys.append(key_of())
    assert len(set(keys)) == len(keys)


def test_how_it_runs_is_not_part_of_the_key() -> None:
    other: dict[str, Any] = {
        "device": 1, "cuda_graph": False, "cache": False, "cache_dir": "x", "concurrency": 3, "wait": "spin",
        "kernel_specialization": "eager", "control": BuildControl(deadline=3.0),
    }  # fmt: skip
    assert set(other) == _NOT_IN_KEY
    for name, value in other.items():
        assert key_of(**{name: value}) == key_of(), name


def test_minor_driver_versions_share_engines(monkeypatch: pytest.MonkeyPatch) -> None:
    before = key_of()
    monkeypatch.setattr(FakeDevice.driver, "version", 13010)
    assert key_of() == before


def external(folder: Path) -> OnnxModel:
    proto = onnx.load_model_from_string(tiny().proto)
    folder.mkdir()
    onnx.save_model(proto, folder / "m.onnx", save_as_external_data=True, location="m.data", size_threshold=0)
    return OnnxModel.load(folder / "m.onnx")


def test_external_data_is_part_of_the_content(tmp_path: Path) -> None:
    a, b = external(tmp_path / "a"), external(tmp_path / "b")
    assert model_digest(a) == model_digest(b)
    data = (tmp_path / "b" / "m.data").read_bytes()
    (tmp_path / "b" / "m.data").write_bytes(data[:-1] + b"\x01")
    assert model_digest(a) != model_digest(b)
    (tmp_path / "b" / "m.data").unlink()
    cache = EngineCache.of(CompileOptions(), lambda: EngineKey(model_digest(b), {}))
    assert not cache.record.enabled and "m.data" in cache.record.reason


def gathered(rows: list[int], scale: float) -> OnnxModel:
    """y = (x @ w)[rows]: rows are integers, which decide the engine."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["m"]),
        helper.make_node("Gather", ["m", "rows"], ["y"]),
    ]
    x, y = (TensorProto.FLOAT, [4, 64]), (TensorProto.FLOAT, [len(rows), 32])
    return model_of(nodes, {"x": x}, {"y": y}, w=weights_of() * scale, rows=np.array(rows, np.int64))


def test_small_float_weights_are_no_part_of_a_topology_but_scalars_are() -> None:
    def biased(bias: float, bound: float) -> OnnxModel:
        nodes = [helper.make_node("Add", ["x", "b"], ["s"]), helper.make_node("Clip", ["s", "bound"], ["y"])]
        spec = (TensorProto.FLOAT, [4, 64])
        return model_of(nodes, {"x": spec}, {"y": spec}, b=np.full(64, bias, np.float32), bound=np.float32(bound))

    one = model_digest(biased(1, 0), topology=True)
    assert one == model_digest(biased(2, 0), topology=True)
    assert one != model_digest(biased(1, 1), topology=True)


@pytest.mark.parametrize("outside", [False, True])
def test_a_topology_is_the_same_for_other_float_weights(outside: bool) -> None:
    rows = [0, 1, 2, 3] * 64

    def digest(model: OnnxModel) -> str:
        return model_digest(with_weights_outside(model) if outside else model, topology=True)

    one = digest(gathered(rows, 1.0))
    assert one == digest(gathered(rows, 2.0))
    assert one != digest(gathered([*rows[:-1], 0], 1.0))
    assert one != digest(gathered(rows[:-1], 1.0))
    assert model_digest(gathered(rows, 1.0)) != model_digest(gathered(rows, 2.0))


def test_a_large_calibration_is_part_of_the_key_by_its_digest() -> None:
    def key(last: float) -> EngineKey:
        channels = {"x": tuple([0.1] * 5000 + [last])}
        options = CompileOptions(
            precision=Precision("int8", calibration=CalibrationTable("m", {"x": 1.0}, {}, channels))
        )
        return engine_key(tiny(), INFO, False, options, (86,))

    assert len(json.dumps(key(0.2).details)) < 4096
    assert key(0.2).text == key(0.2).text != key(0.3).text


def test_an_option_without_a_text() -> None:
    with pytest.raises(CacheError, match="an option of type object cannot be part of a key"):
        key_of(shapes={"x": object()})


# -- compile


class World:
    """TensorRTBackend over a fake GPU: counts builds; a plan that starts with "bad" is refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.fakes = Fakes(monkeypatch)
        self.builds = 0
        self.plan = b"vtrt"
        self.folder = folder
        x, y = spec("x", "float32", 4), spec("y", "float32", 4)
        self.fakes.executable([x], [y], lambda arrays: {"y_onnx": arrays["x_onnx"] + 1}).close()

        def build(model: OnnxModel, library: Any, options: CompileOptions, capabilities: Any, *, device: Any) -> Any:
            self.builds += 1
            self.options = options
            if options.control.cancel is not None and options.control.cancel.is_set():
                raise BuildCancelledError("the build was cancelled")
            return EngineFile(
                self.plan, "RTX", "1.6.1.120", (86,), "Fake GPU", (x,), (y,), {"x": ((4, 4, 4),)}, pynn_version="1"
            )

        monkeypatch.setattr(trt, "build_plan", build)
        monkeypatch.setattr(TensorRTBackend, "_usable", lambda *_: (FakeLibrary(), FakeDevice()))

    def compile(self, model: OnnxModel | None = None, **options: Any) -> TensorRTExecutable:
        options = {"cache_dir": str(self.folder), **options}
        made = TensorRTBackend().compile(model or tiny(), CompileOptions(**options))
        assert isinstance(made, TensorRTExecutable)
        np.testing.assert_array_equal(made.run({"x": np.zeros(4, np.float32)})["y"], np.ones(4))
        assert made.stats["cache"] == made.cache.to_dict()
        return made

    @property
    def store(self) -> Store:
        return Store.open(self.folder)

    def engines(self) -> list[str]:
        return [entry.key for entry in self.store.entries() if entry.kind == ENGINES]

    def entry(self) -> Path:
        (path,) = (self.folder / "v1" / ENGINES).iterdir()
        return path


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> World:
    return World(monkeypatch, tmp_path / "cache")


def test_a_miss_then_a_hit(world: World) -> None:
    first, second = world.compile().cache, world.compile().cache
    assert world.builds == 1
    assert first.enabled and not first.hit and first.reason == "no entry has this key"
    assert second.enabled and second.hit and second.reason == "an entry has this key"
    assert first.key == second.key and first.path == second.path == str(world.entry())
    assert set(first.seconds) == {"key", "wait", "write"} and set(second.seconds) == {"key", "read"}
    assert all(seconds >= 0 for seconds in first.seconds.values())


def test_a_file_is_parsed_for_a_miss_alone(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    content = tiny().to_bytes()
    cold = world.compile(UnreadModel.open(content)).cache
    (entry,) = (entry for entry in world.store.entries() if entry.kind == ENGINES)
    assert entry.header is not None and [side["name"] for side in entry.header.details["inputs"]] == ["x"]
    monkeypatch.delitem(sys.modules, "pynn.converter.serialize")
    monkeypatch.setitem(sys.modules, "onnx", None)
    warm = world.compile(UnreadModel.open(content)).cache
    assert not cold.hit and warm.hit and world.builds == 1
    with pytest.raises(ImportError):
        world.compile(UnreadModel.open(tiny(5).to_bytes()))


def test_a_broken_file_is_told_from_one_that_is_not_cached(world: World) -> None:
    world.compile(UnreadModel.open(tiny().to_bytes()))
    with pytest.raises(ModelError, match="5 bytes is not an ONNX model"):
        world.compile(UnreadModel.open(b"hello"))
    assert len(world.engines()) == world.builds == 1


def test_a_deadline_is_told_as_it_was_given(world: World) -> None:
    world.compile(control=BuildControl(deadline=0.5))
    control = world.options.control
    assert control.deadline is not None and 0.1 < control.deadline < 0.5
    watch = Watch(dataclasses.replace(control, deadline=1e-9))
    with pytest.raises(BuildDeadlineError, match=r"its deadline of 0\.5 s"):
        watch.check()


@pytest.mark.parametrize("refit", [False, True])
def test_a_broken_file_that_is_looked_into_for_its_key(world: World, tmp_path: Path, refit: bool) -> None:
    """External data are looked for where a file has the word."""
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\xff no location")
    with pytest.raises(ModelError, match=r"broken\.onnx is not an ONNX model"):
        world.compile(UnreadModel.open(path), refit=refit)


def test_kernels_are_kept_beside_the_engine(world: World) -> None:
    cold, warm = (world.compile().stats["kernel_cache"] for _ in range(2))
    assert cold["enabled"] and not cold["hit"] and cold["reason"] == "no entry has this key"
    assert warm["hit"] and warm["key"] == cold["key"] != world.compile().cache.key
    assert Context.caches[-1] == b"kernels"
    assert not world.compile(cache=False).stats["kernel_cache"]["enabled"]


def test_a_miss_says_what_is_different(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.compile()
    again = world.compile(optimization_level=2)
    assert again.cache.reason == "no entry has this key; there is one of this model with another options"
    monkeypatch.setattr(FakeDevice.driver, "version", 14000)
    assert world.compile().cache.reason.endswith("with another gpu")
    assert world.compile(tiny(7)).cache.reason == "no entry has this key"


def test_cache_false_touches_nothing(world: World) -> None:
    for _ in range(2):
        record = world.compile(cache=False).cache
        assert not record.enabled and not record.hit and record.reason == "cache=False"
    assert world.builds == 2 and not world.folder.exists()


def test_the_environment_names_the_directory(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYNN_CACHE_DIR", str(tmp_path / "by environment"))
    record = world.compile(cache_dir=None).cache
    assert record.path.startswith(str(tmp_path / "by environment")) and Path(record.path).is_file()


@pytest.mark.parametrize("damage", ["truncated", "flipped", "emptied", "an engine of another format", "refused"])
def test_an_entry_of_no_use_is_put_away_and_built_again(world: World, damage: str) -> None:
    world.compile()
    path = world.entry()
    content = path.read_bytes()
    (details,) = [e.header.details for e in world.store.entries() if e.kind == ENGINES and e.header is not None]
    key = path.name.removesuffix(".entry")
    if damage == "truncated":
        path.write_bytes(content[:-3])
    elif damage == "flipped":
        path.write_bytes(content[:-1] + b"T")
    elif damage == "emptied":
        path.write_bytes(b"")
    else:
        payload = b"\x89PYNNE\r\n" + bytes(100)
        if damage == "refused":
            payload = EngineFile(b"bad", "RTX", "1.6.1.120", (86,), pynn_version="1").to_bytes()
        world.store.write(ENGINES, key, [payload], details)
    record = world.compile().cache
    assert not record.hit and "was put into quarantine" in record.reason
    assert world.builds == 2
    (one,) = world.store.quarantined()
    assert one.reason in record.reason or one.reason.startswith("refused: cannot read the plan")
    assert world.compile().cache.hit and world.builds == 2


def test_an_engine_that_nobody_takes_does_not_stay(world: World) -> None:
    world.plan = b"bad"
    for builds in (1, 2):
        with pytest.raises(EngineBuildError, match="cannot make it ready to run: cannot read the plan"):
            world.compile()
        assert world.builds == builds and world.engines() == []


def test_what_does_not_build_is_not_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> EngineFile:
        raise UnsupportedModelError("no such operator", node="n", op_type="Rulu")

    monkeypatch.setattr(trt, "build_plan", refuse)
    for _ in range(2):
        with pytest.raises(UnsupportedModelError, match="no such operator"):
            world.compile()
    assert world.engines() == []


@pytest.mark.parametrize("where", ["under a file", "limit", "no text"])
def test_no_cache_is_no_error(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, where: str) -> None:
    options: dict[str, Any] = {}
    if where == "under a file":
        (tmp_path / "file").write_text("")
        options["cache_dir"] = str(tmp_path / "file" / "cache")
    elif where == "limit":
        monkeypatch.setenv("PYNN_CACHE_LIMIT", "a lot")
    else:
        options["shapes"] = {"x": object()}
    record = world.compile(**options).cache
    assert not record.enabled and record.reason
    assert world.builds == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing(world: World, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr("pynn.cache.store._write", fail)
        record = world.compile().cache
    assert record.enabled and not record.hit
    assert "not kept: the cache directory" in record.reason and os.strerror(number) in record.reason
    assert not world.compile().cache.hit and world.compile().cache.hit


def test_weights_without_bytes(world: World) -> None:
    strings = np.array(["a", "b"], object)
    record = world.compile(dataclasses.replace(tiny(), weights={"s": strings})).cache
    assert not record.enabled and record.reason


def test_more_than_the_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYNN_CACHE_LIMIT", "100")
    assert "not kept" in world.compile().cache.reason
    assert world.engines() == []


# -- waiting for another


def held(store: Store, key: str) -> tuple[threading.Thread, threading.Event]:
    ready, done = threading.Event(), threading.Event()

    def hold() -> None:
        with store.locked(ENGINES, key):
            ready.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert ready.wait(30)
    return thread, done


@pytest.fixture
def busy(world: World) -> Iterator[threading.Event]:
    """Somebody else builds what ``world.compile()`` needs, until the event is set."""
    key = world.compile().cache.key
    world.store.clear()
    world.builds = 0
    thread, done = held(world.store, key)
    yield done
    done.set()
    thread.join()


def test_the_wait_ends_when_the_other_is_done(world: World, busy: threading.Event) -> None:
    threading.Timer(0.15, busy.set).start()
    record = world.compile().cache
    assert world.builds == 1 and record.seconds["wait"] > 0


def test_the_wait_can_be_cancelled(world: World, busy: threading.Event) -> None:
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(BuildCancelledError, match="was cancelled"):
        world.compile(control=BuildControl(cancel=cancel))
    assert world.builds == 0


def test_the_wait_has_the_deadline_of_the_build(world: World, busy: threading.Event) -> None:
    start = time.monotonic()
    with pytest.raises(BuildDeadlineError, match=r"deadline of 0\.1 s"):
        world.compile(control=BuildControl(deadline=0.1))
    assert time.monotonic() - start < 10 and world.builds == 0


def test_the_build_has_what_is_left_of_the_deadline(world: World, busy: threading.Event) -> None:
    threading.Timer(0.1, busy.set).start()
    world.compile(control=BuildControl(deadline=60.0))
    assert world.options.control.deadline is not None and 1 < world.options.control.deadline < 60.0


def test_a_wait_that_is_too_long_is_given_up(
    world: World, busy: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trt_cache, "WAIT_SECONDS", 0.05)
    record = world.compile().cache
    assert world.builds == 1 and not record.hit
    assert "built without keeping it, because another process still held the lock" in record.reason
    assert world.engines() == []


def test_threads_that_meet_build_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    build = trt.build_plan

    def slow(*arguments: Any, **more: Any) -> EngineFile:
        time.sleep(0.2)
        return build(*arguments, **more)

    monkeypatch.setattr(trt, "build_plan", slow)
    records = []
    threads = [threading.Thread(target=lambda: records.append(world.compile().cache)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert world.builds == 1
    assert sorted(record.hit for record in records) == [False] + [True] * 7
    assert {record.reason for record in records if record.hit} <= {
        "another process built it meanwhile",
        "an entry has this key",
    }


PROCESSES = 8
RACE = """
import json, os, sys
sys.path.insert(0, {source!r})
from pathlib import Path
from pynn.backends.base import BuildControl, CompileOptions
from pynn.backends.trt import open_library
from pynn.backends.trt_build import build_plan
from pynn.backends.trt_cache import EngineCache, engine_key
from tests.native.models import deep

def one():
    model, options, builds = deep(12), CompileOptions(cache_dir=sys.argv[2]), []
    with open_library(sys.argv[1]) as library:
        def build(control):
            builds.append(1)
            return build_plan(model, library, options, (86,))
        cache = EngineCache.of(options, lambda: engine_key(model, library.info, library.tf32.allowed, options, (86,)))
        file = cache.obtain(build, lambda file: file, BuildControl())
    assert len(file.plan) > 1000 and file.compute_capabilities == (86,)
    record = cache.record
    answer = {{"builds": len(builds), "hit": record.hit, "reason": record.reason, "size": len(file.plan)}}
    os.write(1, (json.dumps(answer) + "\\n").encode())

gate = os.pipe()
children = []
for _ in range({processes}):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.close(gate[1])
            os.read(gate[0], 1)
            one()
            status = 0
        finally:
            os._exit(status)
    children.append(pid)
os.close(gate[1])
sys.exit(any(os.waitpid(pid, 0)[1] for pid in children))
"""


@pytest.mark.trt
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the processes are forked, which is POSIX's")
def test_of_many_processes_one_builds(newest_folder: Path, tmp_path: Path) -> None:
    """A cold key met by all at once; the engines are real, for compute capability 8.6."""
    code = RACE.format(source=SOURCE, processes=PROCESSES)
    command = [sys.executable, "-c", code, str(newest_folder), str(tmp_path / "cache")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, cwd=SOURCE)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == PROCESSES
    assert sum(answer["builds"] for answer in answers) == 1
    assert sorted(answer["hit"] for answer in answers) == [False] + [True] * (PROCESSES - 1)
    assert len({answer["size"] for answer in answers}) == 1
    assert len(Store.open(tmp_path / "cache").entries()) == 1
