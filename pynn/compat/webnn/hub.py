"""Hub: models in webnn-graph's files from the Hugging Face Hub, kept in a folder."""

from __future__ import annotations

import os
import shutil
import urllib.request
from pathlib import Path
from urllib.error import URLError
from urllib.parse import quote

from .errors import ArgumentError, GraphFileError, StateError
from .text import read_text

_FILES = {"graph": "model.webnn", "weights": "model.weights", "manifest": "manifest.json"}


class Hub:
    """``Hub().download_model("user/name")`` gives the paths for ``MLGraph.load``. HF_ENDPOINT names another server."""

    def __init__(self, cache_dir: str | os.PathLike[str] | None = None) -> None:
        self.cache_dir = Path(cache_dir) if cache_dir is not None else Path.home() / ".cache" / "webnn"
        self.cache_dir.mkdir(parents=True, exist_ok=True)

    def download_model(self, model_id: str, force: bool = False) -> dict[str, str]:
        """The paths of "graph", "weights" and "manifest"; files that are here are not fetched again without ``force``.

        Raises ValueError for a name without its user, RuntimeError when a file cannot be had or the graph is damaged.
        """
        folder = self._folder(model_id)
        folder.mkdir(parents=True, exist_ok=True)
        server = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        for name in _FILES.values():
            target = folder / name
            if force or not target.exists():
                _fetch(f"{server}/{quote(model_id)}/resolve/main/{name}", target)
        graph = folder / _FILES["graph"]
        try:
            text = graph.read_text(encoding="utf-8")
            if not text.lstrip().startswith("{"):
                read_text(text)
        except (GraphFileError, UnicodeDecodeError) as error:
            raise StateError(f"{model_id}: {graph} is damaged ({error}); fetch it again with force=True") from error
        return {key: str(folder / name) for key, name in _FILES.items()}

    def list_cached_models(self) -> list[str]:
        """The names of the models that are here."""
        if not self.cache_dir.exists():
            return []
        return sorted(entry.name.replace("--", "/", 1) for entry in self.cache_dir.iterdir() if entry.is_dir())

    def clear_cache(self, model_id: str | None = None) -> None:
        """Remove one model's files, or all."""
        folder = self.cache_dir if model_id is None else self._folder(model_id)
        shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, model_id: str) -> Path:
        user, slash, name = model_id.partition("/")
        if not (user and slash and name) or "/" in name or ".." in (user, name):
            raise ArgumentError(f"{model_id!r} is no model's name; it must be 'user/name'")
        return self.cache_dir / f"{user}--{name}"


def _fetch(url: str, target: Path) -> None:
    part = target.with_name(target.name + ".part")
    try:
        with urllib.request.urlopen(url, timeout=60) as response, part.open("wb") as out:
            shutil.copyfileobj(response, out)
    except (URLError, OSError) as error:
        part.unlink(missing_ok=True)
        raise StateError(f"cannot fetch {url}: {error}") from error
    part.replace(target)
