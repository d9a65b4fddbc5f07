"""The data of constants beside a graph file: a blob with a manifest, or a safetensors file. Reading and writing."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...types import DataType
from .errors import GraphFileError
from .graph_file import Bytes, Constant, GraphFile, WeightsRef, described, pack, unpack
from .text import sanitized

MAGIC = b"WGWT"
MANIFEST_FORMAT = "wg-weights-manifest"
_SAFE_TYPES = {
    "float32": "F32", "float16": "F16", "int32": "I32", "uint32": "U32", "int64": "I64", "uint64": "U64", "int8": "I8",
    "uint8": "U8",
}  # fmt: skip
_SUFFIXES = (".safetensors", ".safetensor")

Lookup = Callable[[str, Constant], Bytes]


def resolve(
    file: GraphFile, path: Path, manifest: str | os.PathLike[str] | None, weights: str | os.PathLike[str] | None
) -> None:
    """Give every constant of ``file`` its data, from files named or found beside ``path``.

    Raises GraphFileError for a missing or damaged file or entry.
    """
    wanted = {name: c for name, c in file.constants.items() if isinstance(c.init, WeightsRef)}
    if not wanted:
        return
    blob = _find(path, weights, "weights", ("model.safetensors", ".safetensors", ".weights", "model.weights"))
    if blob.suffix.lower() in _SUFFIXES:
        look = _safetensors(blob)
    else:
        look = _manifest(_find(path, manifest, "manifest", ("manifest.json", ".manifest.json")), blob)
    for name, constant in wanted.items():
        constant.init = look(name, constant)


def _find(path: Path, given: str | os.PathLike[str] | None, what: str, names: Iterable[str]) -> Path:
    """The file that was named (relative to the graph's folder), else the first there is."""
    if given is not None:
        found = path.parent / given
        if not found.is_file() and Path(given).is_file():
            found = Path(given)
        if not found.is_file():
            raise GraphFileError(f"{path.name}: the {what} file {found} does not exist")
        return found
    candidates = [path.with_name(path.stem + n if n.startswith(".") else n) for n in names]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    raise GraphFileError(
        f"{path.name} refers to weights, but beside it is no {what} file ({', '.join(c.name for c in candidates)}); "
        f"give {what}_path"
    )


def _pick(entries: Mapping[str, Any], name: str, key: str, source: Path) -> Any:
    """The entry ``key``; exporters' names may have been made identifiers in the graph."""
    if key in entries:
        return entries[key]
    alike = [entry for entry in entries if sanitized(entry) == sanitized(key)]
    if len(alike) > 1:
        raise GraphFileError(f"constant {name!r}: {key!r} may be any of {', '.join(alike)} in {source.name}")
    if not alike:
        raise GraphFileError(f"constant {name!r}: {source.name} has no tensor {key!r}")
    return entries[alike[0]]


def _manifest(source: Path, blob: Path) -> Lookup:
    try:
        manifest = json.loads(source.read_text(encoding="utf-8"))
        entries = manifest["tensors"]
        if not isinstance(entries, dict):
            raise TypeError("tensors is no object")
    except (ValueError, TypeError, KeyError) as error:
        raise GraphFileError(f"{source.name} is no weights manifest: {type(error).__name__}: {error}") from error
    if manifest.get("endianness", "little") != "little":
        raise GraphFileError(f"{source.name}: weights are {manifest['endianness']}-endian; only little is known")
    data: Bytes = np.memmap(blob, np.uint8, "r") if blob.stat().st_size else np.zeros(0, np.uint8)

    def look(name: str, constant: Constant) -> Bytes:
        assert isinstance(constant.init, WeightsRef)
        entry = _pick(entries, name, constant.init.key, source)
        try:
            start, length = int(entry["byteOffset"]), int(entry["byteLength"])
            declared = {key: entry[key] for key in ("dataType", "shape") if key in entry}
        except (ValueError, TypeError, KeyError) as error:
            raise GraphFileError(f"{source.name}: tensor {constant.init.key!r}: {error!r}") from error
        graph_has = described(constant.descriptor)
        if declared != {key: graph_has[key] for key in declared}:
            raise GraphFileError(f"constant {name!r} is {graph_has} in the graph, {declared} in {source.name}")
        if start < 0 or length < 0 or start + length > data.size:
            raise GraphFileError(
                f"constant {name!r}: bytes {start}..{start + length} of {blob.name}, which has {data.size}; truncated?"
            )
        return data[start : start + length]

    return look


def _safetensors(source: Path) -> Lookup:
    library = _library()
    try:
        opened = library.safe_open(source, "np")
    except library.SafetensorError as error:
        raise GraphFileError(f"{source.name} is no safetensors file, or truncated: {error}") from error
    keys = {key: key for key in opened.keys()}  # noqa: SIM118  (the handle is no mapping)

    def look(name: str, constant: Constant) -> Bytes:
        assert isinstance(constant.init, WeightsRef)
        descriptor = constant.descriptor
        key = _pick(keys, name, constant.init.key, source)
        part = opened.get_slice(key)
        stored, shape = part.get_dtype(), part.get_shape()
        if tuple(shape) != descriptor.shape:
            raise GraphFileError(
                f"constant {name!r} has shape {list(descriptor.shape)} in the graph, {shape} in {source.name}"
            )
        if stored == "BF16" and descriptor.data_type is DataType.FLOAT32:
            return _widened(dict(library.deserialize(source.read_bytes()))[key]["data"])
        if stored != _SAFE_TYPES.get(descriptor.data_type.value):
            raise GraphFileError(f"constant {name!r} is {descriptor.data_type} in the graph, {stored} in {source.name}")
        return pack(opened.get_tensor(key), descriptor.data_type)

    return look


def _widened(data: bytes) -> Bytes:
    """bfloat16 as float32, whose upper half it is. numpy has no such type, so the data comes as it is in the file."""
    wide = np.frombuffer(data, "<u2").astype("<u4") << 16
    return wide.view(np.uint8)


def _library() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise GraphFileError("safetensors files need the package safetensors: pip install safetensors") from error
    return safetensors


# -- writing


def detach(file: GraphFile, kind: str) -> dict[str, Constant]:
    """Leave references in ``file`` and return the constants with their data, for ``write``.

    Raises GraphFileError for what ``kind`` cannot hold.
    """
    data = {name: Constant(c.descriptor, c.init) for name, c in file.constants.items()}
    for name, constant in data.items():
        data_type = constant.descriptor.data_type
        if kind == "safetensors" and data_type.value not in _SAFE_TYPES:
            raise GraphFileError(
                f"constant {name!r}: safetensors files cannot hold {data_type}; save with weights='manifest'"
            )
        file.constants[name].init = WeightsRef(name)
    return data


def write(data: Mapping[str, Constant], path: Path, kind: str) -> None:
    """Write the data into files beside ``path``."""
    if kind == "safetensors":
        arrays = {name: unpack(name, constant) for name, constant in data.items()}
        _library().numpy.save_file(arrays, path.with_suffix(".safetensors"))
    else:
        _write_manifest(data, path.with_suffix(".weights"), path.with_name(path.stem + ".manifest.json"))


def _write_manifest(data: Mapping[str, Constant], blob: Path, manifest: Path) -> None:
    entries: dict[str, Any] = {}
    part = blob.with_name(blob.name + ".part")  # the blob itself may be mapped by the graph that is saved
    with part.open("wb") as out:
        out.write(MAGIC + (1).to_bytes(4, "little"))
        for name, constant in data.items():
            content = constant.init
            assert isinstance(content, np.ndarray)
            place = {"byteOffset": out.tell(), "byteLength": content.size, "layout": "row-major"}
            entries[name] = described(constant.descriptor) | place
            out.write(content.data)
    part.replace(blob)
    record = {"format": MANIFEST_FORMAT, "version": 1, "endianness": "little", "tensors": entries}
    manifest.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
