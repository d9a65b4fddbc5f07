from __future__ import annotations

import pytest

stream_map = pytest.importorskip("stream_map")


def test_the_same_both_ways(capsys):
    assert stream_map.main(["--backend", "onnxruntime", "--batches", "2", "--batch", "1", "--check"]) == 0
    assert "the same results both ways: True" in capsys.readouterr().out
