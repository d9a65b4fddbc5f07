from __future__ import annotations

import json

import pytest

import pynn

from . import conftest

precision = pytest.importorskip("precision")


def test_a_table_of_a_real_model(tmp_path, capsys):
    pytest.importorskip("magika")
    arguments = ["--models", "magika", "--precisions", "fp16", "int4 rtn", "--seconds", "0.01", "--inputs", "3"]
    assert precision.main([*arguments, "--backend", "onnxruntime", "--output", str(tmp_path / "table")]) == 0
    half, small = json.loads((tmp_path / "table.json").read_text())["rows"]
    assert half["error"] < 2e-3 and half["same_best"] == 1 and half["median_us"] > 0
    assert small["error"] < 0.1 and small["same_best"] == 1 and any("int4" in text for text in small["weights"])
    assert (tmp_path / "table.md").read_text() in capsys.readouterr().out


def test_a_missing_package_is_a_reason(monkeypatch):
    monkeypatch.setitem(precision.CASES, "minilm", lambda seeded: (_ for _ in ()).throw(SystemExit("no package")))
    (row,) = precision.rows_of("minilm", ["fp16"], "onnxruntime", 0.01, False)
    assert row.reason == "no package" and "no package" in precision.table([row])


def test_what_pynn_refuses_is_a_reason(monkeypatch):
    def refuse(*_):
        raise pynn.UnsupportedModelError("not this one")

    monkeypatch.setattr(precision, "compiled", refuse)
    monkeypatch.setattr(precision, "plan_ahead_of_time", lambda *_: None)
    case = precision.Case("a model", conftest.EXAMPLES / "none.onnx", [{}], "y")
    assert precision.measure(case, "fp16", [], "onnxruntime", 0.01).reason == "not this one"


def test_a_hundred_sentences():
    lines = precision.sentences("sentences.txt")
    assert len(lines) == len(set(lines)) == 100
    assert not set(lines) & set(precision.sentences("calibration_sentences.txt"))
