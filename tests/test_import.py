"""``import pynn`` is light: nothing heavy is loaded, and it takes little time beyond numpy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pynn

HEAVY = (
    "onnx", "onnxruntime", "cffi", "_cffi_backend", "cuda", "rich", "google.protobuf", "ml_dtypes", "asyncio",
    "filelock", "platformdirs",
)  # fmt: skip
SOURCE = str(Path(pynn.__file__).parent.parent)


def python(code: str) -> str:
    program = f"import sys; sys.path.insert(0, {SOURCE!r})\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(
    "code",
    [
        "import pynn",
        "import pynn; pynn.DataType, pynn.ValidationError, pynn.OperandDescriptor",
        "import pynn\nb = pynn.GraphBuilder()\nx = b.input('x', [2], 'float32')\nb.finish({'y': b.add(x, x)})",
        "import pynn; pynn.EngineFile",
    ],
)
def test_loads_nothing_heavy(code: str) -> None:
    loaded = set(python(f"{code}\nprint(*sys.modules)").split())
    heavy = {name for name in HEAVY if name in loaded} - ({"asyncio"} if "EngineFile" in code else set())
    assert heavy == set()


def test_takes_little_time_beyond_numpy() -> None:
    code = "import time, numpy; start = time.perf_counter(); import pynn; print(time.perf_counter() - start)"
    best = min(float(python(code)) for _ in range(3))
    print(f"import pynn: {best * 1000:.2f} ms beyond numpy")
    assert best < 0.060


def test_a_context_without_a_model_does_not_load_onnxs_file_format() -> None:
    code = "import pynn; pynn.ML().create_context(backend='onnxruntime'); print('onnx' in sys.modules)"
    assert python(code).strip() == "False"


def test_every_public_name_is_there_and_typed() -> None:
    source = Path(pynn.__file__).read_text(encoding="utf-8")
    for name in pynn.__all__:
        assert getattr(pynn, name).__name__ == name
        assert f" import {name} as {name}" in source
    assert set(pynn.__all__) < set(dir(pynn))


def test_a_submodule_does_not_hide_a_public_function() -> None:
    code = "import pynn.cli, pynn.compilation, pynn.context, pynn.ml; print(callable(pynn.compile))"
    assert python(code).strip() == "True"


def test_version_is_a_string() -> None:
    assert isinstance(pynn.__version__, str)


def test_unknown_names_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        _ = pynn.frobnicate  # type: ignore[attr-defined]
