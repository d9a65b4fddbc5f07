"""Look after the cache of built engines and compiled kernels on disk: docs/caches.md.

list shows what is kept, verify reads and checks all of it (what is damaged goes to quarantine, exit code 3), clear
removes it, export writes one engine to a file for pynn run. KEY is the beginning of a key as list shows it.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..cache.store import Entry, Store
from ..errors import ValidationError
from .console import Console

HELP = "list, verify, clear or export engines kept on disk"
ACTIONS = ("list", "verify", "clear", "export")
_SHOWN = 16


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    parser.add_argument("key", metavar="KEY", nargs="*", help="export: the one to write; clear: those to remove")
    parser.add_argument("-o", "--output", metavar="FILE", help="export: the file to write (default: KEY.engine)")
    parser.add_argument(
        "--cache-dir", metavar="DIR", help="this cache (default: PYNN_CACHE_DIR, else the user's cache directory)"
    )


def execute(options: argparse.Namespace, console: Console) -> int:
    store = Store.open(options.cache_dir)
    if options.key and options.action not in ("clear", "export"):
        raise ValidationError(f"pynn cache {options.action} takes no KEY")
    actions = {"list": _list, "verify": _verify, "clear": _clear, "export": _export}
    return actions[options.action](store, options, console)


def _list(store: Store, options: argparse.Namespace, console: Console) -> int:
    entries, quarantined, size = store.entries(), store.quarantined(), store.size()
    console.json(
        {
            "directory": str(store.root),
            "bytes": size,
            "limit": store.limit,
            "entries": [_record(entry) for entry in entries],
            "quarantine": [{"path": str(q.path), "bytes": q.size, "reason": q.reason} for q in quarantined],
        }
    )
    console.text(f"{store.root}: {len(entries)} entries, {size:,} of {store.limit:,} bytes")
    if entries:
        rows = [
            (entry.kind, entry.key[:_SHOWN], f"{entry.size:,}", _ago(entry.used), entry.problem or describe(entry))
            for entry in entries
        ]
        console.table(("kind", "key", "bytes", "last used", "what"), rows)
    if quarantined:
        console.heading("quarantine")
        console.table(("file", "reason"), [(q.path.name[:40], q.reason) for q in quarantined])
    return 0


def _verify(store: Store, options: argparse.Namespace, console: Console) -> int:
    checked = store.verify()
    damaged = [entry for entry in checked if entry.problem]
    console.json(
        {"directory": str(store.root), "checked": len(checked), "damaged": [_record(entry) for entry in damaged]}
    )
    for entry in damaged:
        console.text(f"{entry.kind} {entry.key[:_SHOWN]}: {entry.problem}; put into quarantine", style="red")
    console.text(f"{len(checked) - len(damaged)} of {len(checked)} entries are as they were written")
    return 3 if damaged else 0


def _clear(store: Store, options: argparse.Namespace, console: Console) -> int:
    before = store.entries()
    keys = [entry.key for text in options.key for entry in _starting(before, text)]
    removed = store.clear(keys)
    kept = [entry for entry in store.entries() if not options.key or entry.key in keys]
    console.json({"directory": str(store.root), "bytes": removed, "kept": [_record(entry) for entry in kept]})
    console.text(f"{store.root}: {removed:,} bytes removed")
    for entry in kept:
        console.remark(f"{entry.kind} {entry.key[:_SHOWN]} is in use by another process and was kept")
    return 0


def _export(store: Store, options: argparse.Namespace, console: Console) -> int:
    if len(options.key) != 1:
        raise ValidationError("pynn cache export takes one KEY; pynn cache list shows them")
    engines = [entry for entry in store.entries() if entry.kind == "engines"]
    found = _starting(engines, options.key[0])
    if len(found) > 1:
        raise ValidationError(f"{options.key[0]!r} begins {len(found)} keys; give more of it")
    reading = store.read(found[0].kind, found[0].key)
    if reading.payload is None:
        raise ValidationError(f"{found[0].key} cannot be exported: {reading.reason}")
    output = Path(options.output or f"{found[0].key[:_SHOWN]}.engine")
    output.write_bytes(reading.payload)
    console.json({"key": found[0].key, "engine": str(output), "bytes": len(reading.payload)})
    console.text(f"{output}: {len(reading.payload):,} bytes; pynn run takes it")
    return 0


def _starting(entries: Sequence[Entry], text: str) -> list[Entry]:
    """Raises ValidationError when there is none."""
    found = [entry for entry in entries if entry.key.startswith(text)]
    if not found:
        raise ValidationError(f"no entry has a key that begins with {text!r}; pynn cache list shows them")
    return found


def _record(entry: Entry) -> dict[str, Any]:
    details = dict(entry.header.details) if entry.header is not None else {}
    return {
        "kind": entry.kind,
        "key": entry.key,
        "path": str(entry.path),
        "bytes": entry.size,
        "last_used": entry.used,
        "problem": entry.problem,
        "details": details,
    }


def describe(entry: Entry) -> str:
    """For which library and GPU, and of what, as one line."""
    details = entry.header.details if entry.header is not None else {}
    library, gpu = details.get("library") or {}, details.get("gpu") or {}
    sides = [
        "(" + ", ".join(f"{spec['name']}: {spec['data_type']}" for spec in details[side]) + ")"
        for side in ("inputs", "outputs")
        if side in details
    ]
    where = f"{library.get('flavor', '')} {library.get('version', '')}".strip()
    parts = [" -> ".join(sides), where, gpu.get("name", ""), f"pynn {details['pynn']}" if "pynn" in details else ""]
    return ", ".join(part for part in parts if part)


def _ago(moment: float) -> str:
    seconds = max(time.time() - moment, 0.0)
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"
