"""CacheRecord: what a cache did for one executable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class CacheRecord:
    """Whether an engine came from the cache, and why or why not.

    ``key`` is the SHA-256 of all that decides the engine, ``path`` the file that was read or written. ``seconds`` by
    phase: "key", "wait" (for another process that builds the same), "read", "write".
    """

    enabled: bool
    hit: bool = False
    key: str = ""
    reason: str = ""
    path: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


DISABLED = CacheRecord(False, reason="there is no cache for this")
