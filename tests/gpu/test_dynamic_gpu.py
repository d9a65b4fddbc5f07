"""Named dimensions on a real GPU: every operator at several sizes, profiles, errors, more shapes than are kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pytest

import pynn
from pynn.errors import InputError, ValidationError
from pynn.graph import Graph
from pynn.ops.dimensions import bind_dimensions
from pynn.ops.registry import operators

from ..converter.test_dynamic import example, values

pytestmark = pytest.mark.gpu

Array = np.ndarray[Any, Any]
RANGE = (1, 4, 8)
TOLERANCE = {"rtol": 3e-3, "atol": 2e-3}
"""float32 products may be TF32 where the library has settled that; exactness of operators is tested elsewhere."""


def feeds_of(graph: Graph, sizes: Mapping[str, int], seed: int = 3) -> dict[str, Array]:
    bound = bind_dimensions(graph, sizes)
    return {name: values(x.shape, x.data_type.value, seed) for name, x in bound.inputs.items()}


def on_cpu(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    with pynn.compile(graph, backend="onnxruntime") as model:
        return model.run(feeds)


def close(got: Mapping[str, Array], wanted: Mapping[str, Array], where: str) -> None:
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        assert (got[name].dtype, got[name].shape) == (array.dtype, array.shape), f"{name} {where}"
        np.testing.assert_allclose(
            got[name].astype(np.float64), array.astype(np.float64), **TOLERANCE, err_msg=f"{name} {where}"
        )


def network() -> Graph:
    """A convolution, attention-like products and a reshape over a batch, and rows of a table."""
    b = pynn.GraphBuilder()
    x = b.input("x", ["batch", 3, 16, 16], "float32")
    w = b.constant(values((8, 3, 3, 3), "float32", 1))
    y = b.relu(b.conv2d(x, w, padding=[1, 1, 1, 1], strides=[2, 2]))
    rows = b.reshape(y, [x.shape[0], 8, 64])
    scores = b.softmax(b.matmul(rows, b.transpose(rows, permutation=[0, 2, 1])), 2)
    mixed = b.matmul(scores, rows)
    table = b.constant(values((64, 8), "float32", 2))
    places = b.slice(table, [0, 0], [x.shape[0], 8])
    return b.finish(
        {
            "y": b.add(
                b.average_pool2d(b.reshape(mixed, [x.shape[0], 8, 8, 8])), b.reshape(places, [x.shape[0], 8, 1, 1])
            )
        }
    )


@pytest.fixture(scope="module")
def batches() -> Iterator[tuple[Graph, pynn.Executable]]:
    graph = network()
    with pynn.compile(graph, backend="tensorrt", shapes={"batch": (1, 8, 32)}, cache=False) as model:
        yield graph, model


@pytest.mark.parametrize("method", [operator.method for operator in operators.values()])
def test_operator_at_several_sizes(method: str) -> None:
    graph = example(method, "n")
    with pynn.compile(graph, backend="tensorrt", shapes={"n": RANGE}, cache=False) as model:
        assert model.backend == "tensorrt"
        for n in (1, 3, 8):
            feeds = feeds_of(graph, {"n": n})
            if method.startswith("scatter"):  # which of two updates of one place wins is undefined
                feeds[list(feeds)[-1]][...] = 0.5
            close(model.run(feeds), on_cpu(graph, feeds), f"with n={n}")


@pytest.mark.parametrize("n", [1, 2, 8, 31, 32])
def test_sizes_in_the_range(batches: tuple[Graph, pynn.Executable], n: int) -> None:
    graph, model = batches
    feeds = feeds_of(graph, {"batch": n})
    close(model.run(feeds), on_cpu(graph, feeds), f"with batch={n}")


def test_a_size_outside_is_an_error(batches: tuple[Graph, pynn.Executable]) -> None:
    graph, model = batches
    with pytest.raises(InputError, match=r"'batch'\) is 33, outside the compiled 1\.\.32"):
        model.run(feeds_of(graph, {"batch": 33}))


def test_more_shapes_than_are_kept(batches: tuple[Graph, pynn.Executable]) -> None:
    """Twice over all sizes, in an order that comes back to old ones."""
    graph, model = batches
    for n in [*range(1, 33), *range(32, 0, -3), 1, 32, 1]:
        feeds = feeds_of(graph, {"batch": n}, seed=n)
        close(model.run(feeds), on_cpu(graph, feeds), f"with batch={n}")


def test_two_profiles() -> None:
    graph = network()
    shapes = [{"batch": 1}, {"batch": (4, 16, 32)}]
    with pynn.compile(graph, backend="tensorrt", shapes=shapes, cache=False) as model:
        for n in (1, 16, 4, 32, 1, 5):
            feeds = feeds_of(graph, {"batch": n})
            close(model.run(feeds), on_cpu(graph, feeds), f"with batch={n}")
        with pytest.raises(InputError, match=r"'batch'\) is 2, outside the compiled profiles, which take 1 or 4\.\.32"):
            model.run(feeds_of(graph, {"batch": 2}))


def test_profiles_from_an_engine_file(tmp_path: Any) -> None:
    graph = network()
    with pynn.compile(graph, backend="tensorrt", shapes=[{"batch": 2}, {"batch": (4, 8, 8)}], cache=False) as model:
        path = model.engine_file.save(tmp_path / "m.engine")  # type: ignore[attr-defined]
    with pynn.load_engine(path) as loaded:
        for n in (2, 4, 8):
            feeds = feeds_of(graph, {"batch": n})
            close(loaded.run(feeds), on_cpu(graph, feeds), f"with batch={n}")
        with pytest.raises(InputError, match=r"'batch'\) is 3"):
            loaded.run(feeds_of(graph, {"batch": 3}))


def test_one_size_is_a_static_engine() -> None:
    graph = network()
    with pynn.compile(graph, backend="tensorrt", shapes={"batch": 4}, cache=False) as model:
        assert model.inputs[0].shape == (4, 3, 16, 16)
        feeds = feeds_of(graph, {"batch": 4})
        close(model.run(feeds), on_cpu(graph, feeds), "with batch=4")
        assert model.stats["cuda_graph"], model.stats["cuda_graph_reason"]


def test_rules_are_checked_at_the_ends_of_the_range() -> None:
    with pytest.raises(ValidationError, match=r"slice.*with batch=65"):
        pynn.compile(network(), backend="tensorrt", shapes={"batch": (1, 8, 65)}, cache=False)


def test_tensors_of_several_sizes() -> None:
    with pynn.ML().create_context(backend="tensorrt") as context:
        b = context.create_graph_builder()
        x = b.input("x", ["batch", 64], "float32")
        graph = b.build({"y": b.mul(x, b.constant("float32", 2))}, shapes={"batch": (1, 4, 8)})
        assert str(graph.inputs["x"].shape) == "(batch, 64)"
        for n in (4, 1, 8):
            source = context.create_tensor([n, 64], "float32", writable=True)
            target = context.create_tensor([n, 64], "float32", readable=True)
            data = values((n, 64), "float32", n)
            context.write_tensor(source, data)
            context.dispatch(graph, {"x": source}, {"y": target})
            np.testing.assert_array_equal(context.read_tensor(target), 2 * data)
        big = context.create_tensor([9, 64], "float32")
        with pytest.raises(InputError, match="'batch'"):
            context.dispatch(graph, {"x": big}, {"y": context.create_tensor([9, 64], "float32")})
