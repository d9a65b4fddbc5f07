"""Which shapes an engine is built for."""

from __future__ import annotations

from typing import Any

import pytest

from pynn.backends.base import CompileOptions
from pynn.backends.trt_shapes import BuildShapes, plan_shapes
from pynn.converter.model import OnnxModel, TensorSpec
from pynn.errors import UnsupportedModelError, ValidationError

Dims = tuple[int | str | None, ...]


def model(inputs: dict[str, Dims], output: Dims = (1,)) -> OnnxModel:
    specs = tuple(TensorSpec(name, name, "float32", dims) for name, dims in inputs.items())
    return OnnxModel(b"", specs, (TensorSpec("y", "y", "float32", output),))


def plan(inputs: dict[str, Dims], output: Dims = (1,), **shapes: Any) -> BuildShapes:
    return plan_shapes(model(inputs, output), CompileOptions(shapes=shapes))


def test_static_needs_nothing() -> None:
    shapes = plan({"x": (2, 3), "s": ()})
    assert shapes.ranges == {"x": ((2, 2, 2), (3, 3, 3)), "s": ()}
    assert shapes.profile == () and shapes.notes == ()


def test_symbolic_batch_is_one_and_a_note_says_so() -> None:
    shapes = plan({"x": ("batch", 3), "z": ("batch",)}, ("batch", 5))
    assert shapes.inputs[0].shape == (1, 3) and shapes.inputs[1].shape == (1,)
    assert shapes.outputs[0].shape == (1, 5)
    assert shapes.profile == ("x", "z")
    (note,) = shapes.notes
    assert "dimension 'batch' has no size and was compiled as 1" in note and "{'batch': N}" in note


def test_unnamed_batch_is_one_too() -> None:
    shapes = plan({"x": (None, 3)})
    assert shapes.inputs[0].shape == (1, 3)
    assert "dimension 0 of input 'x'" in shapes.notes[0] and "{'x': [N, 3]}" in shapes.notes[0]


def test_a_range_stays_dynamic() -> None:
    shapes = plan({"x": ("batch", 3)}, ("batch", 5), batch=(1, 4, 8))
    assert shapes.inputs[0].shape == ("batch", 3) and shapes.outputs[0].shape == ("batch", 5)
    assert shapes.ranges["x"] == ((1, 4, 8), (3, 3, 3))
    assert shapes.notes == () and shapes.profile == ("x",)


def test_a_number_pins_the_symbol_everywhere() -> None:
    shapes = plan({"x": (1, "seq"), "mask": (1, "seq", "seq")}, (1, "seq"), seq=7)
    assert [spec.shape for spec in (*shapes.inputs, *shapes.outputs)] == [(1, 7), (1, 7, 7), (1, 7)]


def test_a_whole_shape_by_input_name() -> None:
    shapes = plan({"x": (None, None)}, x=[(1, 2, 3), 5])
    assert shapes.ranges["x"] == ((1, 2, 3), (5, 5, 5))
    assert shapes.inputs[0].shape == (None, 5)


@pytest.mark.parametrize(
    ("dims", "what", "advice"),
    [
        (("b", "seq"), "dimension 'seq' of input 'x'", "shapes={'seq': (1, 128, 512)}"),
        (("b", None, 3), "dimension 1 of input 'x'", "shapes={'x': [(1, 128, 512), (1, 128, 512), 3]}"),
    ],
)
def test_other_dimensions_must_be_given(dims: Dims, what: str, advice: str) -> None:
    with pytest.raises(UnsupportedModelError) as caught:
        plan({"x": dims})
    assert what in str(caught.value) and advice in str(caught.value)


@pytest.mark.parametrize("shapes", [{"nope": 3}, {"batch": (3, 2, 1)}, {"batch": 0}, {"x": [1]}])
def test_wrong_shapes_are_validation_errors(shapes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        plan({"x": ("batch", 3)}, **shapes)
