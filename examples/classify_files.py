"""What kind of file is this? The ONNX model of the PyPI package ``magika`` answers, run by pynn.

    python examples/classify_files.py FILE ...

Only the model and its settings are taken from the package; the features are computed here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import common
import numpy as np

HERE = Path(__file__).resolve()
DEFAULT_FILES = [HERE, HERE.parent.parent / "README.md", HERE.parent.parent / "pyproject.toml"]


class Runnable(Protocol):
    def run(self, inputs: dict[str, np.ndarray[Any, Any]]) -> dict[str, np.ndarray[Any, Any]]: ...


@dataclass(frozen=True)
class Settings:
    """What the package says about its model."""

    model: Path
    begin: int
    end: int
    block: int
    padding: int
    smallest: int
    labels: tuple[str, ...]
    threshold: float
    thresholds: dict[str, float]
    renamed: dict[str, str]
    texts: frozenset[str]

    @classmethod
    def of_package(cls, name: str = "standard_v3_3") -> Settings:
        """Find the model inside the installed package, without importing it."""
        spec = importlib.util.find_spec("magika")
        if spec is None or spec.origin is None:
            raise SystemExit("the package magika is missing: pip install magika==1.0.3")
        package = Path(spec.origin).parent
        config = json.loads((package / "models" / name / "config.min.json").read_text("utf-8"))
        kinds = json.loads((package / "config" / "content_types_kb.min.json").read_text("utf-8"))
        if config["mid_size"] or config["use_inputs_at_offsets"]:
            raise SystemExit(f"model {name} of magika wants features that this example does not compute")
        return cls(
            model=package / "models" / name / "model.onnx",
            begin=config["beg_size"],
            end=config["end_size"],
            block=config["block_size"],
            padding=config["padding_token"],
            smallest=config["min_file_size_for_dl"],
            labels=tuple(config["target_labels_space"]),
            threshold=config["medium_confidence_threshold"],
            thresholds=config["thresholds"],
            renamed=config["overwrite_map"],
            texts=frozenset(kind for kind, facts in kinds.items() if facts["is_text"]),
        )


def features(content: bytes, settings: Settings) -> np.ndarray[Any, Any] | None:
    """The model's input, int32 ``[1, begin + end]``: the first bytes, padded behind, then the last, padded in front.

    White space before the first and behind the last does not count. None when too few bytes are left to judge.
    """
    first = content[: settings.block].lstrip()[: settings.begin]
    last = content[-settings.block :].rstrip()[-settings.end :]
    if len(content) < settings.smallest or len(first) < settings.smallest:
        return None
    row = np.full((1, settings.begin + settings.end), settings.padding, np.int32)
    row[0, : len(first)] = np.frombuffer(first, np.uint8)
    row[0, row.shape[1] - len(last) :] = np.frombuffer(last, np.uint8)
    return row


def answer(scores: np.ndarray[Any, Any], settings: Settings) -> tuple[str, float]:
    """The label for one row of scores; what the model is unsure of is only called "txt" or "unknown"."""
    best = int(np.argmax(scores))
    label, score = settings.labels[best], float(scores[best])
    sure = score >= settings.thresholds.get(label, settings.threshold)
    label = settings.renamed.get(label, label)
    if sure:
        return label, score
    return ("txt" if label in settings.texts else "unknown"), score


def classify(content: bytes, model: Runnable, settings: Settings) -> tuple[str, float]:
    """Label and score of ``content``; content too short for the model is judged by whether it is UTF-8."""
    row = features(content, settings)
    if row is not None:
        return answer(model.run({"bytes": row})["target_label"][0], settings)
    if not content:
        return "empty", 1.0
    try:
        content[: settings.block].decode("utf-8")
    except UnicodeDecodeError:
        return "unknown", 1.0
    return "txt", 1.0


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Say what kind of file each FILE is.")
    parser.add_argument("files", nargs="*", type=Path, default=DEFAULT_FILES, metavar="FILE")
    common.add_backend(parser)
    options = parser.parse_args(arguments)
    settings = Settings.of_package()
    with common.compile_model(settings.model, options.backend) as model:
        for path in options.files:
            label, score = classify(path.read_bytes(), model, settings)
            print(f"{path}: {label} ({score:.1%})")
        common.print_backend(model)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
