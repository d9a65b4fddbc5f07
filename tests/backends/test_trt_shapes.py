"""Which shapes an engine is built for."""

from __future__ import annotations

from typing import Any

import pytest

from pynn.backends.base import CompileOptions
from pynn.backends.trt_shapes import BuildShapes, choose_profile, plan_shapes
from pynn.converter.model import OnnxModel, TensorSpec
from pynn.errors import InputError, UnsupportedModelError, ValidationError

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


# -- several profiles -----------------------------------------------------------------------


def profiles(inputs: dict[str, Dims], *given: dict[str, Any]) -> BuildShapes:
    return plan_shapes(model(inputs, ("batch", 5)), CompileOptions(profiles=given))


def test_profiles_and_what_reaches_over_them() -> None:
    shapes = profiles({"x": ("batch", 3), "z": ("batch",)}, {"batch": 1}, {"batch": (2, 8, 32)})
    assert shapes.profiles == (
        {"x": ((1, 1, 1), (3, 3, 3)), "z": ((1, 1, 1),)},
        {"x": ((2, 8, 32), (3, 3, 3)), "z": ((2, 8, 32),)},
    )
    assert shapes.ranges == {"x": ((1, 1, 32), (3, 3, 3)), "z": ((1, 1, 32),)}
    assert shapes.inputs[0].shape == ("batch", 3) and shapes.profile == ("x", "z")


def test_what_all_profiles_fix_is_fixed() -> None:
    shapes = profiles({"x": ("batch", "seq")}, {"batch": 4, "seq": (1, 2, 3)}, {"batch": 4, "seq": (5, 6, 7)})
    assert shapes.inputs[0].shape == (4, "seq") and shapes.outputs[0].shape == (4, 5)


def test_a_batch_that_no_profile_gives_is_one() -> None:
    shapes = profiles({"x": ("batch", "seq")}, {"seq": (1, 2, 3)}, {"seq": (5, 6, 7)})
    assert [one["x"][0] for one in shapes.profiles] == [(1, 1, 1)] * 2 and len(shapes.notes) == 1


def test_a_dimension_that_some_profiles_leave_out() -> None:
    with pytest.raises(ValidationError, match=r"profile 1 gives dimension 0 of input 'x' no size, but profile 0 does"):
        profiles({"x": (None, 3)}, {"x": [(1, 2, 3), 3]}, {})


def ranges(**inputs: list[tuple[int, int, int]]) -> dict[str, tuple[tuple[int, int, int], ...]]:
    return {name: tuple(dims) for name, dims in inputs.items()}


@pytest.mark.parametrize(
    ("shape", "index"),
    [((1, 64), 0), ((2, 64), 1), ((8, 64), 2), ((9, 64), 2), ((4, 64), 1), ((32, 64), 3), ((1, 65), 3)],
)
def test_the_profile_for_a_shape(shape: tuple[int, ...], index: int) -> None:
    """The one that is best at it, else the smallest that takes it."""
    known = [
        ranges(x=[(1, 1, 1), (64, 64, 64)]),
        ranges(x=[(1, 4, 8), (64, 64, 64)]),
        ranges(x=[(2, 8, 16), (64, 64, 64)]),
        ranges(x=[(1, 16, 32), (64, 64, 128)]),
    ]
    assert choose_profile(known, {"x": shape}) == index


def test_no_profile_for_a_shape() -> None:
    with pytest.raises(InputError, match=r"none of 1 profiles takes the shapes x: \[3\]"):
        choose_profile([ranges(x=[(1, 1, 2)])], {"x": (3,)})
