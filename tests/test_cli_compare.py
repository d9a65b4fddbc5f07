"""``pynn compare``: text, JSON, plots, data from files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.cli import main

from .comparison.planted import BAD, planted
from .native.models import tiny
from .quantization.nets import data

pytestmark = pytest.mark.ort


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return pynn.to_onnx(planted()).save(tmp_path / "planted.onnx")


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["compare", *map(str, arguments), "--backend", "onnxruntime", "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_json(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = ask(capsys, model, "--precision", "fp16", "--against", "fp32", "--operators", "2")
    assert code == 0 and record["model"] == "planted.onnx" and record["samples"] == 4
    assert BAD in record["operators"][0]["name"] and len(record["operators"]) == 2
    assert record["outputs"]["scores"]["relative"] is None, "infinity"
    assert record["operators"][1]["own"]["relative"] < 1e-3


def test_auto_keep_is_an_argument_of_the_next_call(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = ask(capsys, model, "--precision", "fp16", "--auto-keep", "2e-3")
    assert code == 0 and record["auto_keep"]["met"]
    (name,) = record["recommended_keep"]
    code, again = ask(capsys, model, "--precision", "fp16", "--keep", name)
    assert code == 0 and again["outputs"]["scores"]["relative"] == record["auto_keep"]["error"] < 2e-3
    assert ask(capsys, model, "--precision", "fp16", "--auto-keep=-1")[0] == 1, "not met: no error is negative"


def test_text(model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["compare", str(model), "--precision", "fp16", "--auto-keep", "2e-3", "--backend", "onnxruntime"]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert "worst operators of 5" in captured.out and "auto-keep: 1 operator kept" in captured.out
    assert f"--keep {BAD}/" in captured.out and "rounded after each operator" in captured.err


def test_files_and_plot(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib")
    for number, sample in enumerate(data(planted(), 3)):
        np.savez(tmp_path / f"{number}.npz", **sample)  # type: ignore[arg-type]
    plot = tmp_path / "errors.svg"
    code, record = ask(capsys, model, tmp_path, "--precision", "bf16", "--limit", 2, "--plot", plot)
    assert code == 0 and record["samples"] == 2 and record["plot"] == str(plot)
    assert "<svg" in plot.read_text()


def test_shapes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tiny("batch").save(tmp_path / "tiny.onnx")
    code, record = ask(capsys, path, "--precision", "fp16", "--shapes", "batch=3", "--samples", 2)
    assert code == 0 and record["inputs"] == {"x": "float32[3, 64]"} and record["samples"] == 2


def test_wrong_usage(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "text.npz"
    text.write_text("no arrays")
    half = pynn.to_onnx(_half()).save(tmp_path / "half.onnx")
    cases: list[tuple[list[object], int, str]] = [
        ([model], 2, "give --precision"),
        ([model, "--keep", "x"], 2, "--keep needs --precision"),
        ([model, "--precision", "fp16", "--block", "32"], 2, "--block changes nothing with --precision fp16"),
        ([model, "--precision", "bf16", "--method", "hqq"], 2, "it is for int4, fp4, int8, fp8"),
        ([model, "--precision", "fp16", "--keep", "nothing"], 2, "keep names 'nothing'"),
        ([model, "--precision", "fp16", "--plot", "a.txt"], 2, "must end in"),
        ([model, text, "--precision", "fp16"], 2, "is neither a .npy nor an .npz file"),
        ([text, "--precision", "fp16"], 3, "is not an ONNX model"),
        ([half, "--precision", "fp16"], 2, "computes in float16 already"),
        ([model, "--precision", "fp4"], 1, "cannot be used with ONNX Runtime"),
    ]
    for arguments, expected, message in cases:
        code, record = ask(capsys, *arguments)
        assert message in record["error"]["message"], record
        assert code == expected == record["exit_code"], arguments


def _half() -> pynn.Graph:
    b = pynn.GraphBuilder()
    x = b.input("x", [2, 2], "float16")
    return b.finish({"y": b.matmul(x, x)})
