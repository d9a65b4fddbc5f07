"""libpynn_trt's declarations for cffi: read from its header, or as the build left them.

Reading them takes 50 ms of each process, most of it in cffi's parser of C. So CMake runs this file as a script, outside
the package, and what it writes is installed beside it:

    python pynn/native/declarations.py HEADER OUTPUT
"""

from __future__ import annotations

import hashlib
import importlib
import sys
from pathlib import Path
from typing import Any

GENERATED = "_declarations"
_BEGIN, _END, _EXPORT = "/* PYNN_TRT_CDEF_BEGIN */", "/* PYNN_TRT_CDEF_END */", "PYNN_TRT_API "


def declared(header: str) -> Any:
    """A cffi ``FFI`` that knows the header: the generated one if it is of this very header."""
    try:
        generated = importlib.import_module(f"{__package__}.{GENERATED}")
    except ImportError:
        generated = None
    if generated is not None and getattr(generated, "DIGEST", None) == _digest(header):
        return generated.ffi
    return _parsed(header)


def _parsed(header: str) -> Any:
    import cffi

    ffi = cffi.FFI()
    ffi.cdef(header.partition(_BEGIN)[2].partition(_END)[0].replace(_EXPORT, ""))
    return ffi


def _digest(header: str) -> str:
    return hashlib.sha256(header.encode()).hexdigest()


def generate(header: Path, output: Path) -> None:
    """Write the module that ``declared`` loads."""
    text = header.read_text(encoding="utf-8")
    ffi = _parsed(text)
    ffi.set_source(f"pynn.native.{GENERATED}", None)
    ffi.emit_python_code(str(output))
    with output.open("a", encoding="utf-8") as file:
        file.write(f"DIGEST = {_digest(text)!r}\n")


if __name__ == "__main__":
    generate(Path(sys.argv[1]), Path(sys.argv[2]))
