"""What one call of the hot path costs by ctypes, cffi (ABI mode and API mode) and pybind11.

    python benchmarks/binding_overhead [--rounds N] [--json FILE]

Needs a C and a C++ compiler ($CC, $CXX), Python headers, cffi, pybind11 and numpy. The function called has the
signature of ``pynn_trt_runner_run`` and does nothing. Three columns, one input and one output of 1 KB and 0.5 KB: the
call alone with arguments made beforehand; the call with a fresh output array and the addresses of both arrays put into
the pointer tables; the call between assignments to and from numpy views of staging memory, as pynn's run does it. All
candidates take turns in every round; the table has the best rounds, as timeit has.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.util
import json
import os
import platform
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cffi
import numpy as np

HERE = Path(__file__).resolve().parent
FLOOR_US = 10.4
"""The fastest run seen of the tiny net on an H200, numpy to numpy, without any binding."""
LIMIT_PERCENT = 3.0
"""API mode has to save more than this part of the floor to be worth one wheel per platform ABI and a compiler."""
CDEF = """
typedef struct runner runner;
typedef struct error error;
int32_t trivial_run(runner *self, const void *const *inputs, void *const *outputs, error **problem);
"""
CALLS = 500

Task = Callable[[], object]


def compile_shared(command: str, sources: list[Path], target: Path, *flags: str) -> Path:
    include = f"-I{sysconfig.get_paths()['include']}"
    arguments = [*command.split(), "-O2", "-shared", "-fPIC", include, *flags, *map(str, sources), "-o", str(target)]
    subprocess.run(arguments, check=True)
    return target


def load_extension(name: str, path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arrays() -> tuple[np.ndarray[Any, Any], np.dtype[Any], tuple[int, int]]:
    return np.ones((4, 64), np.float32), np.dtype(np.float32), (4, 32)


def ctypes_tasks(library: Path) -> tuple[Task, Task]:
    run = ctypes.CDLL(str(library)).trivial_run
    table = ctypes.c_void_p * 1
    run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    run.restype = ctypes.c_int32
    problem = ctypes.c_void_p()
    given, dtype, shape = arrays()
    source, target = table(given.ctypes.data), table(given.ctypes.data)
    self, first, second, last = ctypes.c_void_p(16), ctypes.byref(source), ctypes.byref(target), ctypes.byref(problem)
    empty = np.empty

    def whole() -> object:
        result = empty(shape, dtype)
        source[0] = given.ctypes.data
        target[0] = result.ctypes.data
        run(self, first, second, last)
        return result

    return lambda: run(self, first, second, last), whole


def cffi_tasks(ffi: Any, run: Any) -> tuple[Task, Task]:
    given, dtype, shape = arrays()
    source, target, problem = ffi.new("void *[1]"), ffi.new("void *[1]"), ffi.new("error **")
    self = ffi.cast("runner *", 16)
    address = ffi.from_buffer
    source[0] = target[0] = address(given)
    empty = np.empty

    def whole() -> object:
        result = empty(shape, dtype)
        source[0] = address(given)
        target[0] = address(result)
        run(self, source, target, problem)
        return result

    return lambda: run(self, source, target, problem), whole


def cffi_abi(library: Path) -> tuple[Task, Task]:
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    return cffi_tasks(ffi, ffi.dlopen(str(library)).trivial_run)


def cffi_api(folder: Path, compiler: str) -> tuple[Task, Task]:
    ffi = cffi.FFI()
    ffi.cdef(CDEF)
    declared = CDEF.replace("int32_t trivial", "extern int32_t trivial")
    ffi.set_source("trivial_cffi", "#include <stdint.h>\n" + declared, py_limited_api=True)
    generated = folder / "trivial_cffi.c"
    ffi.emit_c_code(str(generated))
    sources = [generated, HERE / "trivial.c"]
    module = load_extension("trivial_cffi", compile_shared(compiler, sources, folder / "trivial_cffi.abi3.so"))
    return cffi_tasks(module.ffi, module.lib.trivial_run)


def pybind(folder: Path, compiler: str, library: Path) -> tuple[Task, Task]:
    import pybind11

    suffix = sysconfig.get_config_var("EXT_SUFFIX")
    flags = ["-std=c++17", "-fvisibility=hidden", f"-I{pybind11.get_include()}", f"-Wl,-rpath,{library.parent}"]
    target = folder / f"trivial_pybind{suffix}"
    run = load_extension(
        "trivial_pybind", compile_shared(compiler, [HERE / "trivial_pybind.cpp", library], target, *flags)
    ).run
    given, dtype, shape = arrays()
    source, target_table = np.empty(1, np.uintp), np.empty(1, np.uintp)
    source[0] = target_table[0] = given.ctypes.data
    first, second = source.ctypes.data, target_table.ctypes.data
    empty = np.empty

    def whole() -> object:
        result = empty(shape, dtype)
        source[0] = given.ctypes.data
        target_table[0] = result.ctypes.data
        run(16, first, second)
        return result

    return lambda: run(16, first, second), whole


def staged(call: Task) -> Task:
    given, dtype, shape = arrays()
    source, target = np.empty_like(given), np.zeros(shape, dtype)
    empty = np.empty

    def whole() -> object:
        source[...] = given
        call()
        result = empty(shape, dtype)
        result[...] = target
        return result

    return whole


def nanoseconds(task: Task) -> float:
    repeat = range(CALLS)
    start = time.perf_counter_ns()
    for _ in repeat:
        task()
    return (time.perf_counter_ns() - start) / CALLS


COLUMNS = ("call", "call with addresses", "call with views")


def measure(candidates: dict[str, tuple[Task, Task]], rounds: int) -> dict[str, dict[str, float]]:
    """Nanoseconds by candidate and column."""
    tasks = {name: (call, whole, staged(call)) for name, (call, whole) in candidates.items()}
    samples: dict[str, list[list[float]]] = {name: [[] for _ in COLUMNS] for name in tasks}
    empty_loop = min(nanoseconds(lambda: None) for _ in range(rounds))
    for _ in range(rounds):
        for name, row in tasks.items():
            for column, task in enumerate(row):
                samples[name][column].append(nanoseconds(task) - empty_loop)
    return {
        name: {column: round(min(values), 1) for column, values in zip(COLUMNS, row, strict=True)}
        for name, row in samples.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--json", type=Path, default=HERE.parent / "results" / "binding_overhead.json")
    options = parser.parse_args()
    c, cxx = os.environ.get("CC", "cc"), os.environ.get("CXX", "c++")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        library = compile_shared(c, [HERE / "trivial.c"], folder / "libtrivial.so")
        candidates = {
            "ctypes": ctypes_tasks(library),
            "cffi, ABI mode": cffi_abi(library),
            "cffi, API mode (limited API)": cffi_api(folder, c),
            "pybind11": pybind(folder, cxx, library),
        }
        table = measure(candidates, options.rounds)
    abi, api = table["cffi, ABI mode"], table["cffi, API mode (limited API)"]
    saved = {column: (abi[column] - api[column]) / FLOOR_US / 10 for column in ("call", "call with views")}
    print(f"{'nanoseconds':30}" + "".join(f"{column:>22}" for column in COLUMNS))
    for candidate, row in table.items():
        print(f"{candidate:30}" + "".join(f"{row[column]:>22.0f}" for column in COLUMNS))
    verdict = "API" if max(saved.values()) > LIMIT_PERCENT else "ABI"
    percents = " and ".join(f"{value:.1f} % ({column})" for column, value in saved.items())
    print(f"API mode saves {percents} of the {FLOOR_US} us floor (limit {LIMIT_PERCENT} %): {verdict} mode")
    report = {
        "benchmark": "binding_overhead",
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "machine": platform.processor() or platform.machine(),
        "cpu_count": os.cpu_count(),
        "cffi": cffi.__version__,
        "numpy": np.__version__,
        "rounds": options.rounds,
        "calls_per_round": CALLS,
        "floor_us": FLOOR_US,
        "api_mode_saves_percent_of_floor": {column: round(value, 2) for column, value in saved.items()},
        "limit_percent": LIMIT_PERCENT,
        "nanoseconds": table,
    }
    options.json.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
