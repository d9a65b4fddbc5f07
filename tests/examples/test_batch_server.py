from __future__ import annotations

import numpy as np
import pytest

import pynn

batch_server = pytest.importorskip("batch_server")


def test_runs_and_is_right(capsys):
    assert batch_server.main(["--backend", "onnxruntime", "--clients", "4", "--requests", "5", "--check"]) == 0
    assert "20 requests in" in capsys.readouterr().out


def test_requests_that_wait_are_batched():
    with pynn.compile(batch_server.network(), backend="onnxruntime") as model:
        server = batch_server.Server(model)
        random = np.random.default_rng(1)
        images = [random.standard_normal(784, np.float32) for _ in range(70)]
        answers = [server.ask(image) for image in images]
        with server:
            rows = np.stack([answer.result(30) for answer in answers])
        assert server.batches == [32, 32, 6]
        want = model.run({"image": np.stack(images)})["scores"]
    np.testing.assert_allclose(rows, want, rtol=1e-5, atol=1e-7)


def test_an_error_reaches_its_clients():
    with pynn.compile(batch_server.network(), backend="onnxruntime") as model:
        server = batch_server.Server(model)
        answer = server.ask(np.zeros(784, np.float64))
        with server, pytest.raises(pynn.InputError, match="float64"):
            answer.result(30)
