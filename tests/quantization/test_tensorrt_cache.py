"""Calibration caches of old TensorRT: scales in, tables out, foreign ones refused."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pynn
from pynn import ModelError, ValidationError
from pynn.converter import lower_graph
from pynn.converter.precision.qdq import insert_qdq

from .nets import mlp

HEADER = "TRT-8601-EntropyCalibration2"
NAMES = ("layerNormalization_0/LayerNormalization", "gelu_0/Gelu")


def line(name: str, scale: float) -> str:
    return f"{name}: {struct.pack('>f', scale).hex()}"


def cache(path: Path, *lines: str, header: str = HEADER) -> Path:
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


def test_known_bits(tmp_path: Path) -> None:
    """3c010a14 is 0.007876...: a range of 1.0003, as NVIDIA's samples have it."""
    graph = mlp()
    table = pynn.import_calibration_cache(cache(tmp_path / "c", "x: 3c010a14", line(NAMES[0], 0.25)), graph)
    assert table.amax == {"x": 127 * float(np.float32(0.0078759379684925079)), NAMES[0]: 31.75}
    assert table.details["tensorrt"] == "8601" and table.details["method"] == "EntropyCalibration2"


def test_a_cache_quantises_its_model(tmp_path: Path) -> None:
    graph = mlp()
    lowered = lower_graph(graph)
    names = [name for name in lowered.values if name not in lowered.initializers]
    lines = [line(name, 0.03) for name in names] + [line("(Unnamed Layer* 3) [Shuffle]_output", 1.0), ""]
    table = pynn.import_calibration_cache(cache(tmp_path / "c", *lines), graph)
    assert table.notes == ("'(Unnamed Layer* 3) [Shuffle]_output' is TensorRT's own name: left out",)
    assert {d.precision for d in insert_qdq(lowered, table, "int8")} == {"int8"}


def test_missing_tensors_are_notes(tmp_path: Path) -> None:
    table = pynn.import_calibration_cache(cache(tmp_path / "c", line("x", 1.0)), mlp())
    assert len(table.notes) == 2 and all("has no scale in the cache" in note for note in table.notes)


def test_foreign_tensors(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match=r"has 2 of 3 tensors that this one lacks, such as 'conv1', 'fc: 2'"):
        pynn.import_calibration_cache(cache(tmp_path / "c", line("x", 1), line("conv1", 1), line("fc: 2", 1)), mlp())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not a TensorRT calibration cache"),
        ("hello\nx: 3c010a14\n", "is not a TensorRT calibration cache"),
        (f"{HEADER}\n", "without a scale"),
        (f"{HEADER}\nx 3c010a14\n", "line 2: 'x 3c010a14' is not a name"),
        (f"{HEADER}\nx: 3c010a1\n", "line 2"),
        (f"{HEADER}\nx: 3c010a14\ny: 7fc00000\n", "line 3"),
        (f"{HEADER}\nx: bf800000\n", "line 2"),
    ],
)
def test_files_that_are_no_cache(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "c"
    path.write_text(text)
    with pytest.raises(ModelError, match=message):
        pynn.import_calibration_cache(path, mlp())
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ModelError, match="is not a TensorRT calibration cache"):
        pynn.import_calibration_cache(path, mlp())


@given(st.lists(st.floats(0, 2**100, width=32), min_size=2, max_size=2))
def test_every_scale_comes_back(tmp_path_factory: pytest.TempPathFactory, scales: list[float]) -> None:
    path = cache(tmp_path_factory.mktemp("c") / "c", *(line(n, s) for n, s in zip(NAMES, scales, strict=True)))
    assert list(pynn.import_calibration_cache(path, mlp()).amax.values()) == [127 * scale for scale in scales]
