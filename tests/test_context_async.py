"""The awaitable faces of a context: what they give, in what order, and how they fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import numpy as np
import pytest

import pynn
from pynn import InvalidStateError, MLContext, ValidationError

from .test_context import F32, tensor

pytestmark = pytest.mark.ort


@pytest.fixture
def context() -> Iterator[MLContext]:
    with pynn.ML().create_context(backend="onnxruntime") as made:
        yield made


def test_async_faces_give_what_the_others_give() -> None:
    async def work() -> None:
        context = await pynn.ML().create_context_async(backend="onnxruntime")
        b = pynn.MLGraphBuilder(context)
        w = await context.create_constant_tensor_async(np.array([1, 2], F32))
        graph = await b.build_async({"y": b.mul(b.input("x", [2], "float32"), b.constant(w))})
        assert (await context.compute_async(graph, {"x": np.array([3, 4], F32)}))["y"].tolist() == [3, 8]
        x = await context.create_tensor_async([2], "float32", writable=True)
        y = await context.create_tensor_async([2], "float32", readable=True)
        context.write_tensor(x, np.array([5, 6], F32))
        context.dispatch(graph, {"x": x}, {"y": y})
        assert (await context.read_tensor_async(y)).tolist() == [5, 12]  # type: ignore[union-attr]
        buffer = bytearray(8)
        assert await context.read_tensor_async(y, buffer) is None
        assert np.frombuffer(buffer, F32).tolist() == [5, 12]
        asyncio.get_running_loop().call_soon(context.destroy)
        assert "destroy" in (await context.lost).message
        with pytest.raises(InvalidStateError):
            await context.create_tensor_async([2], "float32")

    asyncio.run(work())


def test_reads_queued_before_a_write_see_the_old_contents(context: MLContext) -> None:
    async def work() -> None:
        x = tensor(context, 1, 1)
        reads = []
        for value in range(20):
            context.write_tensor(x, np.full(2, value, F32))
            reads.append(asyncio.ensure_future(context.read_tensor_async(x)))
            await asyncio.sleep(0)
        assert [int(array[0]) for array in await asyncio.gather(*reads)] == list(range(20))  # type: ignore[index]

    asyncio.run(work())


@pytest.mark.parametrize("end", ["tensor", "context"])
def test_a_pending_read_fails_when_its_tensor_goes(context: MLContext, end: str) -> None:
    async def work() -> None:
        x = tensor(context, 1, 1)
        block = threading.Event()
        context._timeline.submit(block.wait)
        read = asyncio.ensure_future(context.read_tensor_async(x))
        await asyncio.sleep(0)
        (x if end == "tensor" else context).destroy()
        block.set()
        with pytest.raises(InvalidStateError, match="destroyed during the read"):
            await read

    asyncio.run(work())


def test_cancelling_an_await_of_lost_does_not_harm_the_context(context: MLContext) -> None:
    async def work() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(context.lost, 0.01)
        context.destroy()
        assert (await context.lost).message

    asyncio.run(work())


def test_async_errors_are_delivered_by_the_awaitable(context: MLContext) -> None:
    pending = context.read_tensor_async(context.create_tensor([2], "float32"))
    with pytest.raises(ValidationError, match="not readable"):
        asyncio.run(pending)  # type: ignore[arg-type]
