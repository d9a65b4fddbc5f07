"""A model file that is parsed only when somebody asks; what is wrong with it is said as early and as well as before."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

import pynn
from pynn.backends import base, selection
from pynn.backends.base import Backend
from pynn.backends.trt_cache import model_digest
from pynn.converter.model import OnnxModel
from pynn.converter.precision import AS_GIVEN, PrecisionReport, apply_precision
from pynn.converter.unread import UnreadModel
from pynn.errors import BackendUnavailableError, ModelError

from ..native.models import tiny


def test_the_same_as_a_read_one(tmp_path: Path) -> None:
    path = tiny().save(tmp_path / "tiny.onnx")
    for source in (path, str(path), path.read_bytes()):
        unread, read = UnreadModel.open(source), OnnxModel.load(source)
        assert (unread.proto, unread.path, unread.weights) == (read.proto, read.path, read.weights)
        assert (unread.inputs, unread.outputs) == (read.inputs, read.outputs)
        assert repr(unread) == repr(read) and type(unread.read()) is OnnxModel
    assert replace(unread.read(), notes=("n",)).inputs == read.inputs
    assert copy.copy(unread).inputs == read.inputs


def test_precision_does_not_read(tmp_path: Path) -> None:
    model = UnreadModel.open(b"not ONNX at all")
    made = apply_precision(model, AS_GIVEN)
    assert isinstance(made, UnreadModel) and isinstance(made.precision, PrecisionReport)
    with pytest.raises(ModelError, match="15 bytes is not an ONNX model"):
        made.read()


def test_the_precision_is_kept() -> None:
    made = apply_precision(UnreadModel.open(tiny().to_bytes()), AS_GIVEN)
    assert made.inputs and made.read().precision is made.precision


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, b"hello"])
def test_a_broken_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    for source in (path, content):
        with pytest.raises(ModelError) as expected:
            OnnxModel.load(source)
        with pytest.raises(ModelError) as caught:
            pynn.compile(source)
        assert str(caught.value) == str(expected.value)


def test_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError):
        pynn.compile("no/such.onnx")


def test_a_broken_model_is_said_before_a_missing_back_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(wish: Any) -> Any:
        raise BackendUnavailableError("no back end can be used here")

    monkeypatch.setattr("pynn.compilation.select", nothing)
    with pytest.raises(ModelError):
        pynn.compile(b"broken")
    with pytest.raises(BackendUnavailableError):
        pynn.compile(tiny().to_bytes())


class Cached(Backend):
    """A TensorRT whose cache has every model's engine."""

    name = "tensorrt"

    def probe(self) -> tuple[base.Probe, ...]:
        return (base.Probe("tensorrt", "a fake", True, "it is here", details={"version": "1.6.1.120"}),)

    def version(self) -> str:
        return "1.6.1.120"

    def compile(self, model: OnnxModel, options: base.CompileOptions) -> Any:
        return type("Executable", (), {"model": model, "report": None})()


def test_a_hit_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(selection, "_tensorrt", lambda wish: Cached())
    executable: Any = pynn.compile(b"not ONNX, but its engine is there")
    assert isinstance(executable.model, UnreadModel)
    with pytest.raises(ModelError):
        pynn.compile(b"not ONNX", cache=False)


def test_a_hit_does_not_load_onnx(tmp_path: Path) -> None:
    path = tiny().save(tmp_path / "tiny.onnx")
    code = (
        "import sys, pynn; from pynn.backends import selection; from tests.converter.test_unread import Cached\n"
        "known = ('onnx', 'google', 'onnxruntime')\n"
        "for name in [n for n in sys.modules if n.partition('.')[0] in known]: del sys.modules[name]\n"
        "sys.modules.pop('pynn.converter.serialize', None); sys.modules['onnx'] = sys.modules['onnxruntime'] = None\n"
        "selection._tensorrt = lambda wish: Cached()\n"
        f"model = pynn.compile({str(path)!r}).model\n"
        "from pynn.backends.trt_cache import model_digest; print(model_digest(model))"
    )
    root = str(Path(__file__).resolve().parents[2])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=False)
    assert done.stdout.strip() == model_digest(tiny()), done.stderr


def test_the_proto_of_a_read_one_is_valid() -> None:
    onnx.checker.check_model(UnreadModel.open(tiny().to_bytes()).to_proto())
