from __future__ import annotations

import pytest

pytorch_interop = pytest.importorskip("pytorch_interop")


@pytest.mark.ort
def test_main(capsys):
    assert pytorch_interop.main(["--backend", "onnxruntime", "--size", "1000", "--rounds", "3"]) == 0
    printed = capsys.readouterr().out
    assert "memory is shared both ways" in printed
    assert "tensors: host" in printed
