"""What ``pynn run`` says of inputs that it makes up."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from pynn.cli import main

pytestmark = pytest.mark.ort


@pytest.mark.parametrize(
    ("shape", "arguments", "words"),
    [
        (["n", 2], [], "random data; sizes that x leaves open are 1: --shapes gives others"),
        ([None, 2], [], "random data; sizes that x leaves open are 1"),
        (["n", 2], ["--shapes", "n=3"], "random data\n"),
        (["n", None], ["--shapes", "x=3,4"], "random data\n"),
        ([3, 2], [], "random data\n"),
    ],
)
def test_sizes_that_nobody_gave_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], shape: list[object], arguments: list[str], words: str
) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    path = tmp_path / "relu.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10), path)
    assert main(["run", str(path), "--backend", "onnxruntime", *arguments]) == 0
    captured = capsys.readouterr()
    assert words in captured.out + captured.err
