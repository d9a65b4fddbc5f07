"""Handles: any order of destruction, garbage collection, use after close, interpreter exit, fork."""

from __future__ import annotations

import gc
import os
import random
import subprocess
import sys
import textwrap
import threading
import weakref
from pathlib import Path

import pytest

from pynn.errors import InvalidStateError
from pynn.native import Blob, Builder, Config, Handle, Library, Logger, Network, Parser, Profile, Progress, Runtime

from .models import tiny, with_weights_outside

pytestmark = pytest.mark.trt


def family(library: Library) -> list[Handle]:
    """One of each handle that needs no GPU, each the child of another."""
    logger = Logger(library)
    builder = Builder(logger)
    network = Network(builder)
    parser = Parser(network)
    model = with_weights_outside(tiny())
    parser.load_model(model.proto)
    parser.load_initializer("w", model.weights["w"])
    parser.parse_loaded()
    config = Config(builder)
    profile = Profile(builder)
    progress = Progress()
    config.set_progress(progress)
    return [logger, builder, network, parser, config, profile, progress, Runtime(logger)]


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_closing(trt_library: Library, seed: int) -> None:
    handles = family(trt_library)
    random.Random(seed).shuffle(handles)
    for handle in handles:
        handle.close()
        handle.close()
        assert handle.closed and "closed" in repr(handle)


def test_children_work_after_their_parents_are_closed(newest_folder: Path) -> None:
    from pynn.backends.trt import open_library

    library = open_library(newest_folder)
    logger, builder, network, parser, config, *_ = family(library)
    config.set_compute_capabilities([86])
    for parent in (library, logger, parser):
        parent.close()
    plan = builder.build(network, config)
    builder.close(), network.close(), config.close()
    gc.collect()
    assert bytes(plan.view[:4]) == b"vtrt"


def test_garbage_collection_destroys_at_once(newest_library: Library) -> None:
    handles = family(newest_library)
    finalizers = [handle._finalizer for handle in handles]
    watched = [weakref.ref(handle) for handle in handles]
    del handles
    assert all(ref() is None for ref in watched), "a handle is in a reference cycle"
    assert not any(finalizer.alive for finalizer in finalizers)


def test_cycles_are_collected(newest_library: Library) -> None:
    handles = family(newest_library)
    for a, b in zip(handles, [*handles[1:], handles[0]], strict=True):
        a.friend = b  # type: ignore[attr-defined]
    watched = [weakref.ref(handle) for handle in handles]
    del handles, a, b
    gc.collect()
    assert all(ref() is None for ref in watched)


def test_use_after_close_is_an_error(newest_library: Library) -> None:
    for handle in family(newest_library):
        handle.close()
        with pytest.raises(InvalidStateError, match=f"this {type(handle).__name__} is closed"):
            handle._pointer  # noqa: B018


def test_views_keep_a_blob_alive(newest_library: Library) -> None:
    logger, builder, network, _, config, *_ = family(newest_library)
    config.set_compute_capabilities([86])
    blob = builder.build(network, config)
    assert isinstance(blob, Blob)
    view, whole = blob.view[10:20], bytes(blob)
    blob.close()
    blob.close()
    del blob
    for handle in (logger, builder, network, config):
        handle.close()
    gc.collect()
    assert bytes(view) == whole[10:20]
    assert view.readonly


def test_many_threads_open_and_close(newest_library: Library) -> None:
    problems: list[BaseException] = []

    def work(seed: int) -> None:
        try:
            for _ in range(3):
                handles = family(newest_library)
                random.Random(seed).shuffle(handles)
                for handle in handles:
                    handle.close()
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems


def run_python(code: str, folder: Path) -> subprocess.CompletedProcess[str]:
    prelude = f"""
        import gc, os, sys, threading, time
        from tests.native.test_lifetimes import family
        from pynn.backends.trt import open_library
        from pynn.errors import ForkError
        library = open_library({str(folder)!r})
        """
    return subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(prelude) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[2],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )


EXITS = {
    "globals": "handles = family(library)",
    "cycles": "class C: pass\nc = C(); c.c = c; c.handles = family(library)",
    "thread_locals": "local = threading.local(); local.handles = family(library)",
    "blob": "h = family(library); h[4].set_compute_capabilities([86]); view = h[1].build(h[2], h[4]).view",
    "exception": "handles = family(library)\nimport atexit\natexit.register(lambda: print(len(handles)))",
    "building_daemon": """
        h = family(library); h[4].set_compute_capabilities([86, 89, 120])
        threading.Thread(target=lambda: h[1].build(h[2], h[4]), daemon=True).start()
        time.sleep(0.01)
    """,
}


@pytest.mark.parametrize("how", EXITS)
def test_interpreter_exit(newest_folder: Path, how: str) -> None:
    result = run_python(textwrap.dedent(EXITS[how]), newest_folder)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr and "Error" not in result.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork exists on POSIX only")
def test_fork_makes_handles_unusable_in_the_child_only(trt_folder: Path) -> None:
    code = """
        handles = family(library)
        pid = os.fork()
        if pid == 0:
            failures = 0
            for handle in [library, *handles]:
                try:
                    handle._pointer
                except ForkError as error:
                    failures += "spawn" in str(error)
            finalizers = [handle._finalizer for handle in handles]
            [handle.close() for handle in handles]
            del handles, handle
            gc.collect()
            sys.stdout.write(f"{failures} {any(f.alive for f in finalizers)}")
            sys.stdout.flush()
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        print("", handles[2].layer_count)
    """
    result = run_python(code, trt_folder)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["9", "False", "3"]
