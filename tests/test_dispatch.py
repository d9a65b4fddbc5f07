"""Dispatch of graphs with named dimensions, on tensors in main memory."""

from __future__ import annotations

import numpy as np
import pytest

import pynn
from pynn import ValidationError

pytestmark = pytest.mark.ort


def test_named_dimensions_take_their_sizes_from_the_inputs() -> None:
    with pynn.ML().create_context(backend="onnxruntime") as context:
        b = context.create_graph_builder()
        x, y = (b.input(name, ["batch", 3], "float32") for name in "xy")
        graph = b.build({"z": b.concat([x, y], 0)})
        for batch in (1, 4):
            shapes = {"x": [batch, 3], "y": [batch, 3]}
            inputs = {name: context.create_tensor(shape, "float32", writable=True) for name, shape in shapes.items()}
            z = context.create_tensor([2 * batch, 3], "float32", readable=True)
            for i, tensor in enumerate(inputs.values()):
                context.write_tensor(tensor, np.full((batch, 3), i + 1, np.float32))
            context.dispatch(graph, inputs, {"z": z})
            assert context.read_tensor(z)[:, 0].tolist() == [1] * batch + [2] * batch
        other = context.create_tensor([5, 3], "float32")
        with pytest.raises(ValidationError, match=r"'y'\] is float32\[5, 3\], the graph has .* with batch 4"):
            context.dispatch(graph, inputs | {"y": other}, {"z": z})
        with pytest.raises(ValidationError, match=r"'z'\] is float32\[5, 3\], the graph has .* with batch 4"):
            context.dispatch(graph, inputs, {"z": other})
        flat = context.create_tensor([12], "float32")
        with pytest.raises(ValidationError, match=r"'x'\] is float32\[12\]"):
            context.dispatch(graph, inputs | {"x": flat}, {"z": z})
