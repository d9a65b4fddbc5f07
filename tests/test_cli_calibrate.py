"""``pynn calibrate``: data from files, tables to files, exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.cli import main
from pynn.cli.console import Console

from .native.models import tiny

pytestmark = pytest.mark.ort


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny().save(tmp_path / "tiny.onnx")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for i in range(4):
        array = rng.standard_normal((4, 64)).astype("f")
        if i % 2:
            np.save(folder / f"{i}.npy", array)
        else:
            np.savez(folder / f"{i}.npz", x=array)
    return folder


def ask(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, dict[str, Any]]:
    code = main(["calibrate", *map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_folder(model: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = ask(capsys, model, folder, "--method", "percentile", "--percentile", "99")
    assert code == 0 and record["samples"] == 4 and record["percentile"] == 99
    table = pynn.CalibrationTable.load(record["output"])
    assert record["output"] == str(model.with_suffix(".calibration.json"))
    assert record["digest"] == table.model and record["amax"] == table.amax
    arrays = [np.load(path) for path in sorted(folder.iterdir())]
    given = [one if isinstance(one, np.ndarray) else one["x"] for one in arrays]
    assert table.amax == pynn.calibrate(model, given, method="percentile", percentile=99).amax


def test_text_and_notes(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "zero.npy", np.zeros((4, 64), np.float32))
    assert main(["calibrate", str(model), str(tmp_path / "zero.npy"), "-o", str(tmp_path / "t.json")]) == 0
    captured = capsys.readouterr()
    assert "1 activations from 1 samples, method minmax" in captured.out and "±0" in captured.out
    assert "'x' was all zero in every sample" in captured.err


def test_resumed(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state = tmp_path / "state.npz"
    assert ask(capsys, model, folder, "--resume", state, "--limit", 2)[1]["samples"] == 2
    code, record = ask(capsys, model, folder, "--resume", state)
    assert code == 0 and record["amax"] == ask(capsys, model, folder)[1]["amax"]


def test_a_bar_on_a_terminal(
    model: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
    assert main(["calibrate", str(model), str(folder), "-o", str(tmp_path / "t.json")]) == 0
    assert "4 samples" in capsys.readouterr().out


def test_an_old_cache(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = tmp_path / "calib.cache"
    cache.write_text("TRT-8601-EntropyCalibration2\nx: 3c010a14\n")
    code, record = ask(capsys, model, "--from-tensorrt-cache", cache)
    assert code == 0 and record["tensorrt"] == "8601" and list(record["amax"]) == ["x"]


def test_wrong_usage(model: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = tmp_path / "text.npz"
    text.write_text("no arrays")
    wrong = tmp_path / "wrong.npz"
    np.savez(wrong, z=np.ones((4, 64), np.float32))
    cases: list[tuple[list[object], int, str]] = [
        ([model], 2, "give either DATA"),
        ([model, folder, "--from-tensorrt-cache", text], 2, "give either DATA"),
        ([model, empty], 2, "has no .npz or .npy file"),
        ([model, text], 2, "is neither a .npy nor an .npz file"),
        ([model, tmp_path / "nothing.npz"], 2, "nothing.npz"),
        ([model, wrong], 2, "calibration sample 0"),
        ([text, folder], 3, "is not an ONNX model"),
        ([model, folder, "--smooth", 3], 2, "smooth must be"),
        ([model, folder, "--percentile", 99], 2, "--percentile is for --method percentile, not minmax"),
        ([model, "--from-tensorrt-cache", text], 3, "is not a TensorRT calibration cache"),
    ]
    for arguments, expected, message in cases:
        code, record = ask(capsys, *arguments)
        assert code == expected == record["exit_code"], arguments
        assert message in record["error"]["message"], record
