"""The header's numbers that Python code spells. A test holds them against the header."""

from __future__ import annotations

from enum import IntEnum


class Flavor(IntEnum):
    """Which product a library is."""

    TENSORRT = 0
    RTX = 1

    @property
    def title(self) -> str:
        return "TensorRT for RTX" if self is Flavor.RTX else "TensorRT"


class BuilderFlag(IntEnum):
    """pynn's own stable numbers; the shim maps them to those of the library's generation."""

    DEBUG = 0
    GPU_FALLBACK = 1
    REFIT = 2
    DISABLE_TIMING_CACHE = 3
    TF32 = 4
    SPARSE_WEIGHTS = 5
    SAFETY_SCOPE = 6
    DIRECT_IO = 7
    VERSION_COMPATIBLE = 8
    EXCLUDE_LEAN_RUNTIME = 9
    ERROR_ON_TIMING_CACHE_MISS = 10
    DISABLE_COMPILATION_CACHE = 11
    STRIP_PLAN = 12
    REFIT_IDENTICAL = 13
    WEIGHT_STREAMING = 14
    REFIT_INDIVIDUAL = 15
    STRICT_NANS = 16
    MONITOR_MEMORY = 17
    EDITABLE_TIMING_CACHE = 18
    DISTRIBUTIVE_INDEPENDENCE = 19
    REQUIRE_USER_ALLOCATION = 20


class MemoryPool(IntEnum):
    WORKSPACE = 0
    DLA_MANAGED_SRAM = 1
    DLA_LOCAL_DRAM = 2
    DLA_GLOBAL_DRAM = 3
    TACTIC_DRAM = 4
    TACTIC_SHARED_MEMORY = 5


class ProfileSelector(IntEnum):
    MIN = 0
    OPT = 1
    MAX = 2


DATA_TYPES = (
    "float32", "float16", "int8", "int32", "bool", "uint8", "float8e4m3fn", "bfloat16", "int64", "int4", "float4e2m1",
)  # fmt: skip
"""ONNX's names of nvinfer1::DataType, by number."""


def data_type_name(number: int) -> str:
    return DATA_TYPES[number] if 0 <= number < len(DATA_TYPES) else f"type {number}"
