"""A server loop with a dynamic batch: requests of one image each, run together as they come.

    python examples/batch_server.py [--backend tensorrt] [--clients 16] [--requests 50] [--check]

Clients put requests into a queue. The loop takes what is there, at most 32 and not older than two milliseconds, runs
them as one batch of just that size, and answers each client. The network is compiled once for batches of 1 to 32.
"""

from __future__ import annotations

import argparse
import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

import common
import numpy as np

import pynn

SIZE, CLASSES = 784, 10
LARGEST, PATIENCE = 32, 0.002
Array = common.Array


def network() -> pynn.Graph:
    """``image``, float32 ``[batch, 784]``, to ``scores``, float32 ``[batch, 10]``: three layers of made-up weights."""
    random = np.random.default_rng(0)
    b = pynn.GraphBuilder()
    x = b.input("image", ["batch", SIZE], "float32")
    for width in (1024, 1024, CLASSES):
        weight = random.standard_normal((x.shape[1], width)) / np.sqrt(x.shape[1])
        x = b.matmul(x, b.constant(weight.astype(np.float32)))
        x = b.relu(x) if width != CLASSES else b.softmax(x, 1)
    return b.finish({"scores": x})


@dataclass
class Request:
    """One image, and where its scores go."""

    image: Array
    answer: Future[Array] = field(default_factory=Future)
    since: float = field(default_factory=time.perf_counter)


class Server:
    """Runs requests in batches on a thread of its own. A context manager."""

    def __init__(self, model: pynn.Executable) -> None:
        self.batches: list[int] = []
        self._model = model
        self._waiting: queue.SimpleQueue[Request | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="server")

    def ask(self, image: Array) -> Future[Array]:
        request = Request(image)
        self._waiting.put(request)
        return request.answer

    def _serve(self) -> None:
        while (first := self._waiting.get()) is not None:
            batch = self._gather(first)
            self.batches.append(len(batch))
            try:
                scores = self._model.run({"image": np.stack([request.image for request in batch])})["scores"]
            except pynn.PynnError as error:
                for request in batch:
                    request.answer.set_exception(error)
            else:
                for request, row in zip(batch, scores, strict=True):
                    request.answer.set_result(row)

    def _gather(self, first: Request) -> list[Request]:
        batch, end = [first], first.since + PATIENCE
        while len(batch) < LARGEST:
            try:
                request = self._waiting.get(timeout=max(end - time.perf_counter(), 0))
            except queue.Empty:
                break
            if request is None:
                self._waiting.put(None)
                break
            batch.append(request)
        return batch

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._waiting.put(None)
        self._thread.join()


def client(server: Server, seed: int, requests: int, seconds: list[float], kept: list[tuple[Array, Array]]) -> None:
    random = np.random.default_rng(seed)
    for _ in range(requests):
        image = random.standard_normal(SIZE, np.float32)
        start = time.perf_counter()
        scores = server.ask(image).result(30)
        seconds.append(time.perf_counter() - start)
        kept.append((image, scores))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Serve single images in batches of whatever size there is.")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=50, help="of each client")
    common.add_options(parser)
    options = parser.parse_args(arguments)
    graph = network()
    with common.compile_model(graph, options.backend, shapes={"batch": (1, 8, LARGEST)}) as model:
        seconds: list[float] = []
        kept: list[tuple[Array, Array]] = []
        start = time.perf_counter()
        with Server(model) as server:
            clients = [
                threading.Thread(target=client, args=(server, seed, options.requests, seconds, kept))
                for seed in range(options.clients)
            ]
            for thread in clients:
                thread.start()
            for thread in clients:
                thread.join()
        passed = time.perf_counter() - start
        print(
            f"{len(kept)} requests in {len(server.batches)} batches of {min(server.batches)} to {max(server.batches)}"
        )
        print(f"{len(kept) / passed:.0f} requests a second, median latency {np.median(seconds) * 1e3:.2f} ms")
        common.print_backend(model)
    if not options.check:
        return 0
    images, scores = (np.stack(side) for side in zip(*kept, strict=True))
    with pynn.compile(graph, backend="onnxruntime") as exact:
        return common.check(scores, exact.run({"image": images})["scores"], "float32")


if __name__ == "__main__":
    raise SystemExit(main())
