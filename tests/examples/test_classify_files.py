from __future__ import annotations

import gzip
import importlib.util
import io
import json
import struct
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

import pynn

classify_files = pytest.importorskip("classify_files")
if importlib.util.find_spec("magika") is None:
    pytest.skip("the model is in the package magika: pip install magika==1.0.3", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def settings():
    return classify_files.Settings.of_package()


@pytest.fixture(scope="module")
def model(settings):
    with pynn.compile(settings.model, backend="onnxruntime") as model:
        yield model


def zipped() -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name in ("one.txt", "two.txt"):
            archive.writestr(name, "some text\n" * 200)
    return target.getvalue()


def png() -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = np.random.default_rng(0).integers(0, 255, (64, 1 + 64 * 3), np.uint8)
    pixels[:, 0] = 0
    header = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels.tobytes())) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def table() -> bytes:
    rows = [f"{i},{i * i},name {i},{i / 7:.3f}" for i in range(100)]
    return "\n".join(["id,square,name,seventh", *rows]).encode()


KINDS = {
    "python": lambda: Path(__file__).read_bytes(),
    "markdown": lambda: (ROOT / "README.md").read_bytes(),
    "c": lambda: (ROOT / "csrc/include/pynn_trt.h").read_bytes(),
    "toml": lambda: (ROOT / "pyproject.toml").read_bytes(),
    "json": lambda: json.dumps({"name": "pynn", "list": [{"id": i, "on": True} for i in range(50)]}, indent=2).encode(),
    "csv": table,
    "png": png,
    "zip": zipped,
    "gzip": lambda: gzip.compress(Path(__file__).read_bytes()),
    "elf": lambda: Path(sys.executable).read_bytes(),
    "empty": lambda: b"",
    "txt": lambda: b"ab",
    "unknown": lambda: b"\xff\xfe\xfd",
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_right(kind, model, settings):
    if kind == "elf" and not KINDS[kind]().startswith(b"\x7fELF"):
        pytest.skip("this Python is no ELF program")
    label, score = classify_files.classify(KINDS[kind](), model, settings)
    assert label == kind
    assert score > 0.5


def test_agrees_with_the_package_itself(model, settings):
    judge = pytest.importorskip("magika").Magika()
    contents = [make() for make in KINDS.values()]
    contents += [path.read_bytes() for path in sorted((ROOT / "pynn").rglob("*.py"))]
    contents += [b"   \n" * 300, b" " * 5000 + b"x", b"\n" * 3000 + contents[0] + b" " * 3000, contents[0] * 3]
    contents += [size * b"a = 1\n" for size in (1, 2, 170, 171, 682, 683)]
    for content in contents:
        want = judge.identify_bytes(content)
        label, score = classify_files.classify(content, model, settings)
        assert label == want.output.label, content[:40]
        assert score == pytest.approx(want.score, abs=1e-5)


def test_main_prints_answers_and_back_end(tmp_path, capsys):
    (tmp_path / "picture").write_bytes(png())
    assert classify_files.main([str(tmp_path / "picture"), "--backend", "onnxruntime"]) == 0
    printed = capsys.readouterr().out
    assert "picture: png (" in printed
    assert "back end: onnxruntime" in printed


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_the_gpu_gives_the_same_answer(kind, model, settings):
    with pynn.compile(settings.model, backend="tensorrt") as on_gpu:
        assert on_gpu.backend == "tensorrt"
        want = classify_files.classify(KINDS[kind](), model, settings)
        label, score = classify_files.classify(KINDS[kind](), on_gpu, settings)
    assert label == want[0]
    assert score == pytest.approx(want[1], rel=1e-3)
