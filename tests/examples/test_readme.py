"""The Python in README.md runs as it is written. (Its shell commands are run by .ci/run.)"""

from __future__ import annotations

import importlib.util
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import pynn

README = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.filterwarnings("ignore::pynn.FallbackWarning")


def test_the_graph(capsys):
    names = {}
    exec(SNIPPETS[0], names)
    result = names["ctx"].compute(names["g"], {name: np.ones((2, 3), np.float32) for name in "xy"})
    np.testing.assert_array_equal(result["z"], np.full((2, 3), 2, np.float32))
    assert names["ctx"].backend in capsys.readouterr().out


def test_the_model(tmp_path, monkeypatch):
    spec = importlib.util.find_spec("magika")
    if spec is None:
        pytest.skip("the model is in the package magika: pip install magika==1.0.3")
    shutil.copy(Path(spec.origin).parent / "models" / "standard_v3_3" / "model.onnx", tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    names = {"ids": np.zeros((1, 2048), np.int32)}
    exec("import pynn\n" + SNIPPETS[1].replace("model.run(", "result = model.run("), names)
    assert names["result"]["target_label"].shape == (1, 214)


def test_the_tensors():
    names = {}
    exec(SNIPPETS[2], names)
    np.testing.assert_array_equal(names["result"], np.arange(4, dtype=np.float32) * 4)


def test_the_precision(tmp_path, monkeypatch, capsys):
    builder = pynn.GraphBuilder()
    x = builder.input("x", [2, 8], "float32")
    graph = builder.finish({"y": builder.softmax(builder.matmul(x, builder.constant(np.ones((8, 4), np.float32))), 1)})
    pynn.to_onnx(graph).save(tmp_path / "model.onnx")
    monkeypatch.chdir(tmp_path)
    exec("import pynn\n" + SNIPPETS[3], {})
    assert "precision: fp16" in capsys.readouterr().out


def test_the_pywebnn_program(monkeypatch):
    monkeypatch.setitem(sys.modules, "webnn", None)
    names = {}
    exec(SNIPPETS[4], names)
    np.testing.assert_array_equal(names["result"], np.ones((2, 3), np.float32))
