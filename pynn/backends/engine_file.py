"""EngineFile: a built plan together with what is needed to run it, as one file.

Layout, little-endian: magic (8 bytes), format u32, header length u32, plan length u64, SHA-256 of the header (32), the
header as JSON, zeros up to a multiple of 64, the plan. The header has the plan's SHA-256. A plan that TensorRT's own
tools wrote can be loaded too: its inputs and outputs are then asked of the engine.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import secrets
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..converter.model import TensorSpec
from ..errors import PlanError
from ..native.constants import Flavor
from .shapes import Range

MAGIC = b"\x89PYNNE\r\n"
FORMAT = 1
_PREFIX = struct.Struct("<8sIIQ32s")
_ALIGN = 64
_REBUILD = "build it again with 'pynn build'"


@dataclass(frozen=True, eq=False)
class EngineFile:
    """A plan, and for which library, GPUs, inputs and outputs it was built. Without ``version``: a bare plan.

    ``compute_capabilities`` are major * 10 + minor. ``ranges`` has (min, opt, max) of each input's dimensions, over all
    of ``profiles``: the optimisation profiles in the order in which the plan has them; () is at most one.
    """

    plan: bytes | memoryview
    flavor: str = ""
    version: str = ""
    compute_capabilities: tuple[int, ...] = ()
    gpu: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    ranges: Mapping[str, tuple[Range, ...]] = field(default_factory=dict)
    profiles: tuple[Mapping[str, tuple[Range, ...]], ...] = ()
    notes: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    pynn_version: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    """How long parsing and building took; not written to the file."""

    @property
    def is_bare(self) -> bool:
        """A plan without pynn's header."""
        return not self.version

    @property
    def library(self) -> str:
        return f"{Flavor[self.flavor].title} {self.version}" if self.version else "an unknown TensorRT"

    @property
    def provenance(self) -> str:
        """With which library and for which GPUs it was built, as a phrase."""
        if self.is_bare:
            return "a bare TensorRT plan, without a note of its library and GPU"
        targets = ", ".join(f"{c // 10}.{c % 10}" for c in self.compute_capabilities)
        where = f" on {self.gpu}" if self.gpu else ""
        return f"built by pynn {self.pynn_version} with {self.library} for compute capability {targets}{where}"

    def __repr__(self) -> str:
        sides = " -> ".join("(" + ", ".join(map(str, side)) + ")" for side in (self.inputs, self.outputs))
        return f"<EngineFile {sides}, {len(self.plan):,} bytes, {self.provenance}>"

    def to_bytes(self) -> bytes:
        return b"".join(self.parts())

    def parts(self) -> tuple[bytes | memoryview, ...]:
        """What ``to_bytes`` joins: the plan is not copied."""
        if self.is_bare:
            return (self.plan,)
        header = json.dumps(self._header(), ensure_ascii=False, sort_keys=True).encode()
        prefix = _PREFIX.pack(MAGIC, FORMAT, len(header), len(self.plan), hashlib.sha256(header).digest())
        padding = bytes(-(len(prefix) + len(header)) % _ALIGN)
        return prefix, header, padding, self.plan

    def _header(self) -> dict[str, Any]:
        return {
            "flavor": self.flavor,
            "version": self.version,
            "compute_capabilities": self.compute_capabilities,
            "gpu": self.gpu,
            "inputs": [asdict(spec) for spec in self.inputs],
            "outputs": [asdict(spec) for spec in self.outputs],
            "ranges": dict(self.ranges),
            "profiles": [dict(profile) for profile in self.profiles],
            "notes": self.notes,
            "options": dict(self.options),
            "pynn_version": self.pynn_version or pynn_version(),
            "plan_sha256": hashlib.sha256(self.plan).hexdigest(),
        }

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the file; a reader sees the old one or the whole new one, never a part."""
        target = Path(path)
        unfinished = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
        try:
            with unfinished.open("xb") as file:
                for part in self.parts():
                    file.write(part)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(target)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        _sync_directory(target.parent)
        return target

    @classmethod
    def load(cls, source: str | os.PathLike[str] | bytes, *, intact: bool = False) -> EngineFile:
        """Read and check an engine file or a bare plan; ``intact``: the plan's checksum need not be looked at.

        Raises PlanError, or OSError if the file cannot be read."""
        if isinstance(source, bytes):
            return _read(source, f"the engine ({len(source):,} bytes)", intact)
        return _read(Path(source).read_bytes(), os.fspath(source), intact)


@functools.cache
def pynn_version() -> str:
    """Of this installation: by the one folder beside the package that names it, as importing importlib.metadata takes
    12 ms; by that where there is none, as of an editable installation."""
    names = [path.name for path in Path(__file__).parents[2].glob("pynn-*.dist-info")]
    if len(names) == 1:
        return names[0].removeprefix("pynn-").removesuffix(".dist-info")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("pynn")
    except PackageNotFoundError:
        return "0+source"


def _read(data: bytes, where: str, intact: bool) -> EngineFile:
    if not data:
        raise PlanError(f"{where} is empty; {_REBUILD}")
    if not data.startswith(MAGIC[: len(data)]):
        if data[1:4] == b"trt":
            return EngineFile(data)
        raise PlanError(
            f"{where} is neither a pynn engine nor a TensorRT plan; make an engine of an ONNX model with 'pynn build'"
        )
    if len(data) < _PREFIX.size:
        raise PlanError(f"{where} is truncated: {len(data)} bytes, less than its first header; {_REBUILD}")
    _, number, header_size, plan_size, digest = _PREFIX.unpack_from(data)
    if number != FORMAT:
        raise PlanError(
            f"{where} has engine format {number}, made by another pynn; this one reads {FORMAT}: {_REBUILD}"
        )
    start = _PREFIX.size + header_size
    start += -start % _ALIGN
    expected = start + plan_size
    if len(data) < expected:
        raise PlanError(f"{where} is truncated: {len(data):,} bytes of {expected:,}; copy it again, or {_REBUILD}")
    if len(data) > expected:
        raise PlanError(f"{where} is damaged: {len(data):,} bytes where {expected:,} belong; {_REBUILD}")
    header = data[_PREFIX.size : _PREFIX.size + header_size]
    if hashlib.sha256(header).digest() != digest:
        raise PlanError(f"{where} is damaged: its header's checksum is wrong; copy it again, or {_REBUILD}")
    plan = memoryview(data)[start:expected]
    try:
        values = json.loads(header)
        intact = intact or hashlib.sha256(plan).hexdigest() == values["plan_sha256"]
        file = _from_header(values, plan)
    except (ValueError, KeyError, TypeError) as error:
        raise PlanError(f"{where} has a header that makes no sense ({error!r}); {_REBUILD}") from None
    if not intact:
        raise PlanError(f"{where} is damaged: the plan's checksum is wrong; copy it again, or {_REBUILD}")
    return file


def _from_header(values: Mapping[str, Any], plan: memoryview) -> EngineFile:
    Flavor[values["flavor"]]
    return EngineFile(
        plan=plan,
        flavor=values["flavor"],
        version=str(values["version"]),
        compute_capabilities=tuple(values["compute_capabilities"]),
        gpu=str(values["gpu"]),
        inputs=tuple(_spec(spec) for spec in values["inputs"]),
        outputs=tuple(_spec(spec) for spec in values["outputs"]),
        ranges=_ranges(values["ranges"]),
        profiles=tuple(map(_ranges, values.get("profiles", ()))),
        notes=tuple(values["notes"]),
        options=values["options"],
        pynn_version=str(values["pynn_version"]),
    )


def _ranges(values: Mapping[str, Any]) -> dict[str, tuple[Range, ...]]:
    return {name: tuple((a, b, c) for a, b, c in dims) for name, dims in values.items()}


def _spec(values: Mapping[str, Any]) -> TensorSpec:
    return TensorSpec(**{**values, "shape": tuple(values["shape"])})


def _sync_directory(folder: Path) -> None:
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
