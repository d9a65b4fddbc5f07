"""Calibration tables: files that are whole, checked and of one model only."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.converter import lower_graph
from pynn.converter.import_model import import_model
from pynn.converter.precision.digest import graph_digest
from pynn.converter.precision.table import CalibrationTable
from pynn.converter.serialize import to_model
from pynn.errors import ModelError, ValidationError

from ..native.models import tiny, with_weights_outside
from ..quantization.nets import mlp, mobile

RANGES = st.dictionaries(st.text(min_size=1), st.floats(0, 1e30), max_size=5)
TABLE = CalibrationTable(
    "ab" * 32, {"x": 1.5, "größe/Relu": 0.0}, {"method": "mse", "notes": ["n"]}, {"x": (1.0, 0.0)}, 0.5
)


@given(RANGES, st.dictionaries(st.text(), st.lists(st.floats(0, 1e30), max_size=3).map(tuple), max_size=2))
def test_back_from_the_file(tmp_path_factory: pytest.TempPathFactory, amax: Any, channels: Any) -> None:
    table = CalibrationTable("m", amax, {"samples": 3}, channels, 0.25)
    assert CalibrationTable.load(table.save(tmp_path_factory.mktemp("t") / "t.json")) == table


def test_saving_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text("old")
    TABLE.save(path)
    assert CalibrationTable.load(path) == TABLE and TABLE.notes == ("n",)
    assert [one.name for one in tmp_path.iterdir()] == ["t.json"]
    with pytest.raises(OSError, match="no_such"):
        TABLE.save(tmp_path / "no_such" / "t.json")


def test_a_write_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = TABLE.save(tmp_path / "t.json")
    before = path.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        CalibrationTable("m", {"x": 2.0}).save(path)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["t.json"]


def test_files_that_are_no_table(tmp_path: Path) -> None:
    path = TABLE.save(tmp_path / "t.json")
    whole = path.read_bytes()
    record = json.loads(whole)
    cases = {
        "is not a calibration table": [b"", b"{}", b"[]", b"\xff\xfe", whole[:-20], b"TRT-8601-EntropyCalibration2\n"],
        "of version 2": [json.dumps({**record, "version": 2}).encode()],
        "is damaged": [
            json.dumps({**record, "amax": {**record["amax"], "x": 1.25}}).encode(),
            json.dumps({key: value for key, value in record.items() if key != "channels"}).encode(),
            json.dumps({**record, "model": "cd" * 32}).encode(),
        ],
    }
    for message, contents in cases.items():
        for content in contents:
            path.write_bytes(content)
            with pytest.raises(ModelError, match=message):
                CalibrationTable.load(path)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf, "3", None])
def test_ranges_are_finite_and_not_negative(value: Any) -> None:
    with pytest.raises(ValidationError, match="'x' must be"):
        CalibrationTable("m", {"x": value})
    if isinstance(value, float):
        with pytest.raises(ValidationError, match="channels of 'x'"):
            CalibrationTable("m", {}, {}, {"x": (1.0, value)})
    for smooth in (-0.1, 1.5, True, "1"):
        with pytest.raises(ValidationError, match="smooth must be"):
            CalibrationTable("m", {}, {}, {}, smooth)  # type: ignore[arg-type]


def test_the_digest_is_of_the_content(tmp_path: Path) -> None:
    graph = lower_graph(mobile())
    digest = graph_digest(graph)
    assert digest == graph_digest(lower_graph(mobile()))
    CalibrationTable(digest, {}).check(graph)
    model = tiny()
    path = model.save(tmp_path / "any name.onnx")
    same = {graph_digest(import_model(one)) for one in (model, with_weights_outside(model), type(model).load(path))}
    assert len(same) == 1


def test_another_batch_is_the_same_model() -> None:
    CalibrationTable(graph_digest(lower_graph(mobile())), {}).check(lower_graph(mobile(batch=4)))


def test_another_model_is_refused() -> None:
    table = CalibrationTable(graph_digest(lower_graph(mobile())), {})
    others = [lower_graph(mobile("float16")), lower_graph(mlp())]
    changed = lower_graph(mobile())
    name = next(name for name, array in changed.initializers.items() if array.ndim == 4)
    changed.initializers[name] = changed.initializers[name].copy()
    changed.initializers[name].flat[5] += 1e-3
    others.append(changed)
    strides = lower_graph(mobile())
    next(node for node in strides.nodes if node.op_type == "Conv").attributes["strides"] = [1, 1]
    others.append(strides)
    for other in others:
        with pytest.raises(ValidationError, match="the calibration table is of another model"):
            table.check(other)


def test_a_written_and_read_graph_has_its_own_digest_but_is_stable() -> None:
    """Names of inputs, outputs and values count; the same file gives the same digest each time."""
    model = to_model(lower_graph(mobile()))
    assert graph_digest(import_model(model)) == graph_digest(import_model(model))
