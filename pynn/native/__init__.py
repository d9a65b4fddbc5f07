"""The only place that knows cffi: finds and loads libpynn_trt, and wraps its handles in typed classes.

No cdata leaves this package: what it takes and gives are Python objects, numpy arrays, memoryviews and addresses as
numbers. See docs/binding.md for why it is cffi's ABI mode.
"""

from __future__ import annotations

from .build import Builder, Config, Network, Parser, ParserError, Profile, Progress, ProgressEvent
from .constants import BuilderFlag, Flavor, MemoryPool, ProfileSelector
from .find import Candidate, Search, find_libraries, shim_path
from .handle import Handle
from .library import Blob, Library, LibraryInfo, Logger, LogLine, TensorInfo
from .run import Binding, Context, Engine, EngineInfo, Runner, RunnerInfo, Runtime

__all__ = [
    "Binding",
    "Blob",
    "Builder",
    "BuilderFlag",
    "Candidate",
    "Config",
    "Context",
    "Engine",
    "EngineInfo",
    "Flavor",
    "Handle",
    "Library",
    "LibraryInfo",
    "LogLine",
    "Logger",
    "MemoryPool",
    "Network",
    "Parser",
    "ParserError",
    "Profile",
    "ProfileSelector",
    "Progress",
    "ProgressEvent",
    "Runner",
    "RunnerInfo",
    "Runtime",
    "Search",
    "TensorInfo",
    "find_libraries",
    "shim_path",
]
