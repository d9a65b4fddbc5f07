"""A stream of images through MobileNetV2: one after another, and with copies and computing overlapped by ``map``.

    python examples/stream_map.py [--backend tensorrt] [--batches 40] [--batch 8] [--check]

``map`` keeps a few batches under way on streams of their own: while one is computed, the next is copied to the GPU and
the last one's result comes back. Results keep the order of the inputs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence

import common
import mobilenetv2
import numpy as np

import pynn


def images(batches: int, batch: int) -> Iterator[dict[str, common.Array]]:
    """Made-up photos, float16 ``[batch, 3, 224, 224]``; a camera or a decoder would be here."""
    noise = np.random.default_rng(0).standard_normal((batch + batches, 3, 224, 224), np.float32).astype(np.float16)
    for i in range(batches):
        yield {"image": np.ascontiguousarray(noise[i : i + batch])}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Overlap copies and computing over a stream of images.")
    parser.add_argument("--batches", type=int, default=40)
    parser.add_argument("--batch", type=int, default=8)
    common.add_options(parser)
    options = parser.parse_args(arguments)
    builder = pynn.GraphBuilder()
    weights = mobilenetv2.seeded_weights()
    graph = builder.finish(mobilenetv2.build(builder, weights, batch=options.batch, dtype="float16"))
    with common.compile_model(graph, options.backend) as model:
        stream = list(images(options.batches, options.batch))
        ways = {"one by one": lambda: [model.run(one) for one in stream], "map": lambda: list(model.map(stream))}
        results = {}
        for way, work in ways.items():
            work()
            start = time.perf_counter()
            results[way] = work()
            seconds = time.perf_counter() - start
            print(f"{way}: {options.batches * options.batch / seconds:.0f} images a second")
        common.print_backend(model)
    same = all(np.array_equal(a["scores"], b["scores"]) for a, b in zip(*results.values(), strict=True))
    print(f"the same results both ways: {same}")
    if not options.check:
        return 0
    builder = pynn.GraphBuilder()
    exact = builder.finish(mobilenetv2.build(builder, weights, batch=options.batch))
    want = common.onnx_runtime(exact, {"image": stream[0]["image"].astype(np.float32)})["scores"]
    return common.check(results["map"][0]["scores"], want, "float16") or int(not same)


if __name__ == "__main__":
    raise SystemExit(main())
