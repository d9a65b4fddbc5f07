from __future__ import annotations

import numpy as np
import pytest

import pynn

from . import reference

mobilenetv2 = pytest.importorskip("mobilenetv2")


@pytest.fixture(scope="module")
def weights():
    return mobilenetv2.seeded_weights()


def scores(weights, image, dtype="float32"):
    builder = pynn.GraphBuilder()
    graph = builder.finish(mobilenetv2.build(builder, weights, dtype=dtype))
    with pynn.compile(graph, backend="onnxruntime") as model:
        return model.run({"image": image.astype(dtype)})["scores"]


def test_equals_an_independent_forward(weights):
    image = mobilenetv2.seeded_image()
    want = reference.mobilenetv2(weights, image[0])
    np.testing.assert_allclose(scores(weights, image)[0], want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def test_normalisation_is_folded(weights, tmp_path):
    random = np.random.default_rng(5)
    raw = {name: value for name, value in weights.items() if name.startswith("classifier") or name.endswith("weight")}
    for conv in (conv for block in mobilenetv2.blocks() for conv in block):
        raw[f"{conv.norm}.running_mean"] = random.standard_normal(conv.after).astype(np.float32) * 0.1
        raw[f"{conv.norm}.running_var"] = random.uniform(0.5, 2, conv.after).astype(np.float32)
        raw[f"{conv.norm}.weight"] = random.uniform(0.5, 1.5, conv.after).astype(np.float32)
        raw[f"{conv.norm}.bias"] = random.standard_normal(conv.after).astype(np.float32) * 0.1
    np.savez(tmp_path / "weights.npz", **raw)
    image = mobilenetv2.seeded_image(9)
    want = reference.mobilenetv2(raw, image[0])
    got = scores(mobilenetv2.load_weights(tmp_path / "weights.npz"), image)[0]
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5 * np.abs(want).max())


def test_pictures_become_input(tmp_path):
    images = pytest.importorskip("PIL.Image")
    images.new("RGB", (300, 260), (255, 0, 0)).save(tmp_path / "red.png")
    image = mobilenetv2.load_image(tmp_path / "red.png")
    assert image.shape == (1, 3, 224, 224)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[0, :, 5, 5], [(1 - 0.485) / 0.229, -0.456 / 0.224, -0.406 / 0.225], rtol=1e-5)
    np.save(tmp_path / "red.npy", image)
    np.testing.assert_array_equal(mobilenetv2.load_image(tmp_path / "red.npy"), image)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_main(dtype, capsys):
    assert mobilenetv2.main(["--backend", "onnxruntime", "--check", "--dtype", dtype]) == 0
    assert "back end: onnxruntime" in capsys.readouterr().out


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_gpu(dtype):
    assert mobilenetv2.main(["--backend", "tensorrt", "--check", "--dtype", dtype]) == 0
