"""Where the cache is, how large it may be, and whether its directory is the user's alone."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from ..errors import CacheError

DIRECTORY_VARIABLE = "PYNN_CACHE_DIR"
LIMIT_VARIABLE = "PYNN_CACHE_LIMIT"
DEFAULT_LIMIT = 10 << 30
_MOST = 1 << 60
_UNITS = {"": 0, "K": 10, "M": 20, "G": 30, "T": 40}


def cache_folder(given: str | os.PathLike[str] | None = None) -> Path:
    """``given``, else what PYNN_CACHE_DIR names, else the user's cache directory. Raises CacheError without a home."""
    named = given or os.environ.get(DIRECTORY_VARIABLE)
    if named:
        return Path(named).absolute()
    from platformdirs import user_cache_path

    try:
        return user_cache_path("pynn").absolute()
    except (OSError, RuntimeError, KeyError) as error:
        raise CacheError(
            f"there is no user cache directory ({error}); name one with {DIRECTORY_VARIABLE} or cache_dir="
        ) from None


def cache_limit() -> int:
    """Bytes that the cache may take, by PYNN_CACHE_LIMIT ("10GiB", "500M", bytes). Raises CacheError."""
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    if not text:
        return DEFAULT_LIMIT
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", text, re.IGNORECASE)
    if found is None:
        raise CacheError(f"{LIMIT_VARIABLE} is {text!r}, which is not a size such as 10GiB, 500M or a number of bytes")
    return int(min(float(found[1]) * (1 << _UNITS[found[2].upper()]), _MOST))


def make_private(folder: Path) -> None:
    """Create ``folder`` with mode 0700 if it is not there. Raises CacheError when others could write to it: an engine
    is code that runs on the GPU. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if os.name != "posix":
        return
    found = folder.stat()
    if found.st_uid != os.geteuid():
        raise CacheError(
            f"{folder} belongs to user {found.st_uid}, and this is user {os.geteuid()}; name a directory of your own "
            f"with {DIRECTORY_VARIABLE} or cache_dir="
        )
    if found.st_mode & stat.S_IWOTH:
        raise CacheError(
            f"{folder} can be written by every user; name a directory of your own with {DIRECTORY_VARIABLE} or "
            "cache_dir="
        )
