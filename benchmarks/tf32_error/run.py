"""How exact are float32 products on TensorRT: relative error of two MatMuls against float64.

    python benchmarks/tf32_error/run.py [--tf32]

About 3e-4 is TF32, 1e-6 to 5e-6 is float32. One process has one of the two: run it twice.
"""

from __future__ import annotations

import argparse

import numpy as np

import pynn


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tf32", action="store_true", help="ask for TF32")
    wanted = parser.parse_args().tf32
    random = np.random.default_rng(0)
    for rows, inner, columns in ((64, 256, 128), (512, 512, 512)):
        b = pynn.GraphBuilder()
        weights = random.standard_normal((inner, columns), np.float32)
        graph = b.finish({"y": b.matmul(b.input("x", [rows, inner], "float32"), b.constant(weights))})
        x = random.standard_normal((rows, inner), np.float32)
        exact = x.astype(np.float64) @ weights
        with pynn.compile(graph, backend="tensorrt", tf32=wanted) as model:
            error = np.linalg.norm(model.run({"x": x})["y"] - exact) / np.linalg.norm(exact)
            stats = model.stats
        print(f"{rows}x{inner} @ {inner}x{columns}: {error:.2e}  {stats['library']}, tf32 {stats['tf32']}")


if __name__ == "__main__":
    main()
