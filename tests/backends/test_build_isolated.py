"""Builds in a child process: the same engine, and a child that crashes, hangs, prints or lies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import pynn
from pynn.backends import build_isolated as module
from pynn.backends.base import BuildControl, CompileOptions
from pynn.backends.build_control import PARSING, Watch
from pynn.backends.build_isolated import ENGINE, build_isolated
from pynn.backends.build_worker import _read_weights
from pynn.backends.engine_file import EngineFile
from pynn.backends.trt_build import build_plan
from pynn.converter.model import OnnxModel
from pynn.errors import (
    BuildCancelledError,
    BuildCrashedError,
    BuildDeadlineError,
    EngineBuildError,
    HostOutOfMemoryError,
    UnsupportedModelError,
)
from pynn.native import Library, ProgressEvent
from pynn.native.tf32 import Settled

from ..native.models import deep, tiny, with_weights_outside
from .test_build_control import cancel_at

pytestmark = pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="children are found in /proc")


def children() -> set[int]:
    """The processes that this one has started and not yet waited for."""
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before, descriptors = children(), open_files()
    threads = threading.active_count()
    yield
    assert children() == before
    assert [path for path in folder.iterdir() if path.name.startswith("pynn-build-")] == []
    assert open_files() <= descriptors and threading.active_count() <= threads


class FakeInfo:
    title, version, forced = "TensorRT for RTX 9.9", "9.9.9.9", False


class FakeLibrary:
    """What the parent asks of a library."""

    info, files, tf32 = FakeInfo(), ("core.so", None), Settled(False, "")


SAY = "import json, os, sys, time, signal; say = lambda what, **v: print(json.dumps({'pynn': what, **v}), flush=True);"


def isolated(code: str, **control: Any) -> EngineFile:
    """A build by a child that runs ``code``."""
    options = CompileOptions(control=BuildControl(isolate=True, **control))
    command = [sys.executable, "-c", SAY + code]
    library: Any = FakeLibrary()
    return build_isolated(OnnxModel(b"", (), ()), library, options, (86,), Watch(options.control), command=command)


@pytest.mark.trt
def test_the_same_engine_for_every_version(trt_library: Library) -> None:
    model = with_weights_outside(tiny())
    here, there = (
        build_plan(model, trt_library, CompileOptions(control=BuildControl(isolate=isolate)), (86,))
        for isolate in (False, True)
    )
    assert there.to_bytes() == here.to_bytes()
    assert there.seconds["build"] > 0


@pytest.mark.trt
def test_progress_refusals_and_cancelling(newest_library: Library) -> None:
    events: list[ProgressEvent] = []
    options = CompileOptions(control=BuildControl(progress=events.append, isolate=True))
    build_plan(deep(2), newest_library, options, (86,))
    count = len(events)
    assert events[0].phase == events[-1].phase == "Compiling model" and count > 20
    model = tiny()
    with pytest.raises(UnsupportedModelError, match="Rulu") as caught:
        build_plan(
            OnnxModel(model.proto.replace(b"Relu", b"Rulu"), model.inputs, model.outputs), newest_library, options
        )
    assert (caught.value.node, caught.value.op_type) == ("positive", "Rulu") and caught.value.log
    for n in (1, 4, count // 2, count):
        control = BuildControl(**cancel_at(n), isolate=True)
        with pytest.raises(BuildCancelledError):
            build_plan(deep(2), newest_library, CompileOptions(control=control), (86,))


@pytest.mark.trt
def test_killed_in_the_middle(newest_library: Library) -> None:
    def kill(event: ProgressEvent) -> None:
        if (event.kind, event.phase) == ("start", PARSING):
            for pid in children():
                os.kill(pid, signal.SIGKILL)

    options = CompileOptions(control=BuildControl(progress=kill, isolate=True))
    with pytest.raises(BuildCrashedError, match=r"was killed by SIGKILL in phase .* MiB of main memory") as caught:
        build_plan(deep(200), newest_library, options)
    assert caught.value.signal == "SIGKILL" and "memory ran out" in str(caught.value)


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGKILL", "SIGBUS", "SIGFPE"])
def test_killed_by(name: str) -> None:
    code = f"say('log', text='hello'); print('the last words', file=sys.stderr); os.kill(os.getpid(), signal.{name})"
    with pytest.raises(
        BuildCrashedError, match=rf"TensorRT for RTX 9\.9 was killed by {name}.*the last words"
    ) as caught:
        isolated(code)
    assert caught.value.signal == name and sorted(caught.value.log.split("\n")) == ["hello", "the last words"]


def test_signals_have_the_numbers_of_this_system() -> None:
    assert {number: signal.Signals(number).name for number in module._SIGNALS} == module._SIGNALS


@pytest.mark.parametrize("exit_code", [0, 3])
def test_it_ends_without_an_engine(exit_code: int) -> None:
    with pytest.raises(BuildCrashedError, match=f"ended with exit code {exit_code} and without an engine") as caught:
        isolated(f"sys.exit({exit_code})")
    assert (caught.value.signal, caught.value.exit_code) == ("", exit_code)


def test_garbage_is_only_quoted() -> None:
    garbage = [
        "os.write(1, bytes(range(256)) * 100)",
        "os.write(1, b'x' * (3 << 20))",
        """print('{"pynn": ')""",
        """print('{"pynn": 5}\\n[1]\\n"pynn"')""",
        "say('event', junk=1); say('log'); say('done'); say('error', type='PlanError'); say('error', type=[])",
    ]
    with pytest.raises(BuildCrashedError, match="without an engine") as caught:
        isolated("; ".join(garbage))
    assert '{"pynn":' in caught.value.log


def test_it_hangs() -> None:
    start = time.monotonic()
    with pytest.raises(BuildDeadlineError, match=r"deadline of 0\.3 s"):
        isolated("say('log', text='hello'); time.sleep(60)", deadline=0.3)
    assert time.monotonic() - start < 10


def test_it_hangs_and_does_not_take_the_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_END_SECONDS", 0.2)
    with pytest.raises(KeyboardInterrupt):
        isolated(
            "signal.signal(signal.SIGTERM, signal.SIG_IGN); say('event', kind='start', phase='p'); time.sleep(60)",
            progress=lambda event: (_ for _ in ()).throw(KeyboardInterrupt),
        )


def test_it_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_START_SECONDS", 0.2)
    with pytest.raises(EngineBuildError, match=r"did not start within 0\.2 s; is .* a Python that has pynn"):
        isolated("time.sleep(60)")
    library: Any = FakeLibrary()
    with pytest.raises(EngineBuildError, match=r"cannot be started \(/no/such/python\)"):
        build_isolated(
            OnnxModel(b"", (), ()), library, CompileOptions(), (86,), Watch(BuildControl()), command=["/no/such/python"]
        )


DONE = "say('done', seconds={});"


@pytest.mark.parametrize("code", ["", f"open(sys.argv[1] + '/{ENGINE}', 'wb').write(open('{{}}', 'rb').read()[:-1]);"])
def test_no_engine_or_half_of_one(code: str, tmp_path: Path) -> None:
    whole = EngineFile(b"plan", flavor="RTX", version="9.9.9.9").save(tmp_path / "whole")
    with pytest.raises(BuildCrashedError, match="said it was done, but its engine cannot be used"):
        isolated(code.format(whole) + DONE)


def test_a_crash_after_the_end_does_no_harm(tmp_path: Path) -> None:
    whole = EngineFile(b"plan", flavor="RTX", version="9.9.9.9").save(tmp_path / "whole")
    copy = f"open(sys.argv[1] + '/{ENGINE}', 'wb').write(open('{whole}', 'rb').read());"
    assert bytes(isolated(copy + DONE + "os.abort()").plan) == b"plan"


def test_an_error_that_is_not_pynns() -> None:
    with pytest.raises(EngineBuildError, match="the build process failed: ZeroDivisionError: by 0"):
        isolated("say('error', type='ZeroDivisionError', message='by 0', details={'log': ''})")
    with pytest.raises(HostOutOfMemoryError, match="ran out of memory"):
        isolated("say('error', type='MemoryError', message='', details={'log': ''})")


def test_the_folder_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/proc/self")
    with pytest.raises(EngineBuildError, match="TMPDIR names another directory"):
        isolated("")


def test_no_interpreter_is_known(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module.spawn, "get_executable", lambda: None)
    assert Path(module._command()[0]).is_file()
    monkeypatch.setattr(sys, "exec_prefix", str(tmp_path))
    with pytest.raises(EngineBuildError, match=r"multiprocessing\.set_executable"):
        module._command()


def test_a_frozen_application_is_no_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would start the application once more, which builds once more."""
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    with pytest.raises(EngineBuildError, match=r"multiprocessing\.set_executable"):
        module._command()
    monkeypatch.setattr(module.spawn, "get_executable", lambda: b"/a/python")
    assert module._command()[0] == "/a/python"


@pytest.mark.parametrize("isolated", [False, True])
def test_the_child_takes_no_module_of_the_working_directory(tmp_path: Path, isolated: bool) -> None:
    (tmp_path / "json.py").write_text("raise SystemExit('a json.py that happens to be here')")
    folder = tmp_path / "folder"
    folder.mkdir()
    source = str(Path(pynn.__file__).parents[1])
    code = (
        f"import sys; sys.path[:] = [{source!r}, *filter(None, sys.path)]\n"
        "import json, pathlib, subprocess; from pynn.backends.build_isolated import PATHS, _command\n"
        f"pathlib.Path({str(folder)!r}, PATHS).write_text(json.dumps(sys.path))\n"
        f"child = subprocess.Popen([*_command(), {str(folder)!r}], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "print(child.stdout.read().decode()); child.stdin.close(); child.wait()"  # it goes when stdin is closed
    )
    environment = {**os.environ, "PYTHONPATH": ""} | ({"PYTHONHOME": "/no/such/home"} if isolated else {})
    command = [sys.executable, *(["-I"] if isolated else []), "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, check=False)
    assert '"type": "FileNotFoundError"' in done.stdout, done.stderr


def test_weights_as_they_were(tmp_path: Path) -> None:
    numbers = np.arange(24, dtype=np.float32).reshape(4, 6)
    weights: dict[str, Any] = {
        "transposed": numbers.T,
        "scalar": np.float16(2.5).reshape(()),
        "empty": np.empty((0, 3), np.int64),
        "brain": numbers.astype(ml_dtypes.bfloat16),
        "eight": numbers.astype(ml_dtypes.float8_e4m3fn),
        "four": np.array([1, -2, 7], ml_dtypes.int4),
        "truth": numbers > 3,
    }
    back = _read_weights(tmp_path / "w", module._write_weights(tmp_path / "w", weights))
    for name, array in weights.items():
        assert back[name].dtype == array.dtype and back[name].shape == array.shape
        assert back[name].tobytes() == array.tobytes() and not back[name].flags.writeable
    assert _read_weights(tmp_path / "none", module._write_weights(tmp_path / "none", {})) == {}
    with pytest.raises(UnsupportedModelError, match="weight 's' holds strings"):
        module._write_weights(tmp_path / "strings", {"s": np.array(["a"], object)})


PARENT = """
import os, sys, threading
sys.path.insert(0, "")
from pynn.backends.base import BuildControl, CompileOptions
from pynn.backends.trt import open_library
from pynn.backends.trt_build import build_plan
from tests.native.models import deep
del sys.modules["__main__"]

def end(event):
    if sys.argv[2] == "die" and event.kind == "start":
        os.kill(os.getpid(), 9)

def work():
    options = CompileOptions(control=BuildControl(progress=end, isolate=True))
    with open_library(sys.argv[1]) as library:
        os.write(1, str(len(build_plan(deep(40), library, options, (86,)).plan)).encode())

thread = threading.Thread(target=work)
thread.start()
thread.join()
"""


@pytest.mark.trt
@pytest.mark.parametrize("end", ["live", "die"])
def test_a_parent_without_a_main_in_a_thread_and_one_that_dies(newest_folder: Path, tmp_path: Path, end: str) -> None:
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary"), "PYTHONPATH": ""}
    done = subprocess.run(
        [sys.executable, "-", str(newest_folder), end],
        input=PARENT.encode(),
        capture_output=True,
        env=environment,
        cwd=Path(pynn.__file__).parents[1],
        check=False,
    )
    if end == "live":
        assert (done.returncode, done.stderr) == (0, b"") and int(done.stdout) > 1000
        return
    assert done.returncode == -9
    limit = time.monotonic() + 20
    while list((tmp_path / "temporary").glob("pynn-build-*")) and time.monotonic() < limit:
        time.sleep(0.05)


@pytest.mark.trt
@pytest.mark.parametrize("isolate", [False, True])
def test_paths_that_are_no_utf8(newest_folder: Path, tmp_path: Path, isolate: bool) -> None:
    folder = tmp_path / os.fsdecode(b"f \xff")
    folder.mkdir()
    (folder / "libraries").symlink_to(newest_folder)
    path = tiny().save(folder / "tiny.onnx")
    made = pynn.build_engine(path, folder / "e", tensorrt_library=folder / "libraries", isolate=isolate)
    assert EngineFile.load(folder / "e").plan == made.plan


@pytest.mark.trt
def test_public_interface(newest_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(tiny().proto)
    path = tmp_path / "tiny.engine"
    pynn.build_engine(tmp_path / "tiny.onnx", path, tensorrt_library=newest_folder, isolate=True, deadline=60)
    assert EngineFile.load(path).inputs[0].name == "x"
