"""The child process of an isolated build: the other end of ``build_isolated``."""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import pickle
import shutil
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..converter.model import OnnxModel, numpy_dtype
from ..errors import LibraryVersionError, PynnError
from ..native import Library, ProgressEvent
from .base import BuildControl
from .build_control import WHOLE, Watch
from .build_isolated import ENGINE, MARK, REQUEST, WEIGHTS, Request, Stored, told
from .cuda import Device, discover
from .engine_file import EngineFile
from .trt_build import build_here


def main(folder: str) -> None:
    """Build what the folder asks for. Does not return: the library's exit handlers have crashed processes before."""
    channel = Channel()
    faulthandler.enable()
    _be_the_first_to_go()
    threading.Thread(target=_die_with_parent, args=(folder,), name="pynn-parent", daemon=True).start()
    try:
        channel.log(f"process {os.getpid()} builds")
        engine = _build(Path(folder), channel)
        engine.save(Path(folder, ENGINE))
        channel.say("done", seconds=dict(engine.seconds))
    except PynnError as error:
        channel.say("error", **told(error))
    except BaseException as error:
        text = told(error)
        text["details"] = {"log": traceback.format_exc()}
        channel.say("error", **text)
    sys.stderr.flush()
    os._exit(0)


class Channel:
    """Lines of JSON on what was standard output. The library prints there too: that goes to standard error now."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._descriptor = os.dup(1)
        os.dup2(2, 1)
        self._lock = threading.Lock()

    def say(self, what: str, /, **values: Any) -> None:
        line = json.dumps({MARK: what, **values}).encode() + b"\n"
        with self._lock:
            while line:
                line = line[os.write(self._descriptor, line) :]

    def event(self, event: ProgressEvent) -> None:
        self.say("event", **asdict(event))

    def log(self, text: str) -> None:
        self.say("log", text=text)


def _be_the_first_to_go() -> None:
    """Where memory runs out, the kernel takes this process before its parent."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def _die_with_parent(folder: str) -> None:
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    for _ in range(100):  # another thread may write into it meanwhile
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):  # noqa: PTH110
            break
        time.sleep(0.01)
    os._exit(1)


def _build(folder: Path, channel: Channel) -> EngineFile:
    with (folder / REQUEST).open("rb") as file:
        request: Request = pickle.load(file)
    asked = request.model
    weights = _read_weights(folder / WEIGHTS, request.weights)
    model = OnnxModel(asked.proto, asked.inputs, asked.outputs, weights, asked.path)
    watch = Watch(BuildControl(progress=channel.event), log=channel.log)
    library = Library.open(request.core, request.parser, force_version=request.forced, tf32=request.tf32.allowed)
    found = library.info
    if found.version != request.version or library.tf32.allowed != request.tf32.allowed:
        raise LibraryVersionError(
            f"the build process opened {found.title} (TF32 {library.tf32.allowed}) where {request.version} "
            f"(TF32 {request.tf32.allowed}) is used: {library.tf32.reason}. Build without isolate"
        )
    library.tf32 = request.tf32
    with library, watch.phase(WHOLE), contextlib.ExitStack() as stack:
        device = None
        if request.device is not None:
            device = Device(discover().require(), request.device)
            stack.enter_context(device.current())
        return build_here(model, library, request.options, request.compute_capabilities, watch, device)


def _read_weights(path: Path, stored: Mapping[str, Stored]) -> dict[str, np.ndarray[Any, Any]]:
    """Views of the file, which is not read before it is used."""
    whole = np.memmap(path, np.uint8, "r") if path.stat().st_size else np.empty(0, np.uint8)
    return {name: _view(whole, one) for name, one in stored.items()}


def _view(whole: np.ndarray[Any, Any], one: Stored) -> np.ndarray[Any, Any]:
    dtype = numpy_dtype(one.data_type)
    size = dtype.itemsize * int(np.prod(one.shape, dtype=np.int64))
    view: np.ndarray[Any, Any] = np.asarray(whole[one.offset : one.offset + size]).view(dtype).reshape(one.shape)
    return view
