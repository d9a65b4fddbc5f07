"""The command line: what it prints, its JSON, its exit codes, and that a cancelled build leaves nothing behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import pynn
from pynn.backends.base import Probe
from pynn.backends.ort import OrtBackend
from pynn.cli import exit_code, main
from pynn.cli.arguments import parse_shapes
from pynn.cli.console import Console
from pynn.cli.progress import Bars
from pynn.cli.run import random_inputs, read_inputs, write_npz
from pynn.converter import TensorSpec
from pynn.errors import ValidationError
from pynn.native import ProgressEvent

from .converter.quantized_files import weights_file

pytestmark = pytest.mark.ort

SOURCE = str(Path(pynn.__file__).parent.parent)


@pytest.fixture
def add_model(tmp_path: Path) -> Path:
    """y = a + b, float32[n, 2]."""
    kind, shape = TensorProto.FLOAT, ["n", 2]
    values = {name: helper.make_tensor_value_info(name, kind, shape) for name in "aby"}
    node = helper.make_node("Add", ["a", "b"], ["y"])
    graph = helper.make_graph([node], "g", [values["a"], values["b"]], [values["y"]])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path = tmp_path / "add.onnx"
    onnx.save(model, path)
    return path


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run a command with --json: (exit code, the object)."""

    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        code = main([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert captured.err == ""
        return code, json.loads(captured.out)

    return run


# -- run


def test_run_on_files(add_model: Path, tmp_path: Path, run_json: Any) -> None:
    a, b = np.arange(6, dtype=np.float32).reshape(3, 2), np.ones((3, 2), np.float32)
    np.savez(tmp_path / "in.npz", a=a, b=b)
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", np.asfortranarray(b))
    out = tmp_path / "out.npz"
    for inputs in (
        ("--input", tmp_path / "in.npz"),
        ("--input", f"a={tmp_path / 'a.npy'}", "--input", f"b={tmp_path / 'b.npy'}"),
    ):
        out.unlink(missing_ok=True)
        code, record = run_json("run", add_model, *inputs, "--output", out, "--backend", "onnxruntime")
        assert code == 0
        assert record["backend"] == "onnxruntime"
        assert record["outputs"][0]["name"] == "y"
        assert record["outputs"][0]["max"] == 6
        with np.load(out) as written:
            np.testing.assert_array_equal(written["y"], a + b)


def test_run_on_random_data_is_repeatable(add_model: Path, tmp_path: Path, run_json: Any) -> None:
    def run(*more: object) -> Any:
        out = tmp_path / "out.npz"
        code, _ = run_json("run", add_model, "--output", out, "--backend", "onnxruntime", *more)
        assert code == 0
        with np.load(out) as written:
            return written["y"]

    first = run("--shapes", "n=4")
    assert first.shape == (4, 2)
    np.testing.assert_array_equal(first, run("--shapes", "a=4,2"))
    assert not np.array_equal(first, run("--shapes", "n=1:4:8", "--random-seed", 1))
    assert run().shape == (1, 2)


def test_run_for_people(add_model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(add_model)]) == 0
    out, err = capsys.readouterr()
    assert "ONNX Runtime" in out
    assert "y" in out
    assert "float32" in out
    assert "random data" in err
    assert "FallbackWarning" not in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere.onnx"], 2, "nowhere.onnx"),
        (["MODEL", "--shapes", "n"], 2, "is not NAME=SIZE"),
        (["MODEL", "--shapes", "n=x"], 2, "neither a number nor MIN:BEST:MAX"),
        (["MODEL", "--shapes", "n=1:2"], 2, "one number or MIN:BEST:MAX"),
        (["MODEL", "--shapes", "m=1"], 2, "neither an input nor a symbolic dimension"),
        (["MODEL", "--input", "x.npy"], 2, "x.npy"),
        (["MODEL", "--input", "MODEL"], 2, "neither a .npy nor an .npz"),
        (["MODEL", "--input", "a=A"], 2, "input 'b' is missing"),
        (["MODEL", "--input", "A"], 2, "say which input this is, as NAME="),
        (["MODEL", "--output", "out.npy"], 2, "must end in .npz"),
        (["MODEL", "--device", "-1"], 2, "device must be the number of a GPU"),
        (["JUNK"], 3, "is not an ONNX model"),
        (["JUNK_ENGINE"], 3, "truncated"),
        (["MODEL", "--backend", "tensorrt", "--tensorrt-library", "EMPTY"], 4, "cannot be used here"),
    ],
)
def test_run_fails_with_its_own_code(
    add_model: Path, tmp_path: Path, run_json: Any, arguments: list[str], code: int, words: str
) -> None:
    (tmp_path / "junk.onnx").write_bytes(b"not ONNX")
    (tmp_path / "junk.engine").write_bytes(b"\x89PYNNE\r\n")
    (tmp_path / "empty").mkdir()
    np.save(tmp_path / "a.npy", np.ones((1, 2), np.float32))
    stand_ins = {
        "MODEL": add_model,
        "JUNK": tmp_path / "junk.onnx",
        "JUNK_ENGINE": tmp_path / "junk.engine",
        "EMPTY": tmp_path / "empty",
        "A": tmp_path / "a.npy",
        "a=A": f"a={tmp_path / 'a.npy'}",
    }
    got, record = run_json("run", *(stand_ins.get(word, word) for word in arguments))
    assert got == record["exit_code"] == code, record
    assert words in record["error"]["message"]


def test_errors_for_people_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "nowhere.onnx"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "pynn: " in err
    assert "nowhere.onnx" in err
    assert "Traceback" not in err


def test_exit_codes_of_errors() -> None:
    codes = {
        pynn.BackendUnavailableError: 4,
        pynn.LibraryNotFoundError: 4,
        pynn.LibraryVersionError: 4,
        pynn.DeviceUnsupportedError: 4,
        pynn.ModelError: 3,
        pynn.UnsupportedModelError: 3,
        pynn.PlanError: 3,
        pynn.ValidationError: 2,
        pynn.InputError: 2,
        pynn.BuildCancelledError: 130,
        pynn.ExecutionError: 1,
        pynn.EngineBuildError: 1,
    }
    assert {kind: exit_code(kind("why")) for kind in codes} == codes


def test_arrays_survive_files(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {
        "file": np.arange(3),
        "a/b": np.array(2.5, np.float16),
        "bf": np.array([1.5, -2], ml_dtypes.bfloat16),
        "text": np.array(["a", "bé"], object),
    }
    path = str(tmp_path / "a.npz")
    write_npz(path, arrays)
    specs = tuple(
        TensorSpec(name, name, "string" if array.dtype == object else array.dtype.name, array.shape)
        for name, array in arrays.items()
    )
    read = read_inputs([path], specs)
    for name, array in arrays.items():
        assert read[name].tolist() == array.tolist()
        assert read[name].dtype == array.dtype or name == "text"


@pytest.mark.parametrize("data_type", ["float32", "float16", "bfloat16", "int64", "uint8", "bool", "string"])
def test_random_inputs_have_the_models_type(data_type: str) -> None:
    spec = TensorSpec("x", "x", data_type, ("n", 3, None))
    array = random_inputs((spec,), {"n": 2}, 0)["x"]
    assert array.dtype == spec.numpy
    assert array.shape == (2, 3, 1)


def test_shapes() -> None:
    assert parse_shapes(["n=8", "x=1,3", "m=1:2:3", "v=4,", "a=b=5"]) == {
        "n": 8,
        "x": [1, 3],
        "m": (1, 2, 3),
        "v": [4],
        "a=b": 5,
    }


def test_a_name_given_again_is_the_next_profile() -> None:
    assert parse_shapes(["n=1", "n=2:4:8", "m=3"]) == [{"n": 1, "m": 3}, {"n": (2, 4, 8), "m": 3}]
    with pytest.raises(ValidationError, match="gives 'm' 2 times and another name 3 times"):
        parse_shapes(["n=1", "m=3", "n=2", "m=4", "n=5"])


# -- doctor


def test_doctor(run_json: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run_json("doctor")
    assert code == 0
    assert record["will_use"]["chosen"] in ("tensorrt", "onnxruntime")
    assert {probe["backend"] for probe in record["probes"]} == {"tensorrt", "onnxruntime"}
    assert record["packages"]["numpy"] == np.__version__
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for part in ("NVIDIA GPU", "TensorRT", "ONNX Runtime", "will use"):
        assert part in text


def test_doctor_of_a_machine_without_back_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, run_json: Any) -> None:
    missing = Probe("onnxruntime", "onnxruntime", False, "cannot be imported", "pip install onnxruntime")
    monkeypatch.setattr(OrtBackend, "probe", lambda self: (missing,))
    code, record = run_json("doctor", "--tensorrt-library", tmp_path)
    assert code == 4
    assert record["will_use"] is None
    assert "ONNX Runtime: pip install onnxruntime" in record["advice"]


@pytest.mark.trt
def test_doctor_names_the_library_it_was_pointed_at(trt_folder: Path, run_json: Any) -> None:
    code, record = run_json("doctor", "--tensorrt-library", trt_folder)
    assert code == 0
    version = trt_folder.parent.name.removeprefix("tensorrt-rtx-")
    found = [probe for probe in record["probes"] if probe["details"].get("version") == version]
    assert found
    assert found[0]["reason"]
    assert found[0]["details"]["generation"]
    assert str(trt_folder) in found[0]["details"]["path"]


# -- convert and inspect


GRAPH_CODE = """
import pynn

def graph():
    b = pynn.GraphBuilder()
    x = b.input("x", [2], "uint8")
    return b.finish({"y": b.add(x, x, label="sum")})

def nothing():
    return 5
"""


def test_convert_a_function(tmp_path: Path, run_json: Any) -> None:
    (tmp_path / "made.py").write_text(GRAPH_CODE)
    target = tmp_path / "made.onnx"
    code, record = run_json("convert", f"{tmp_path / 'made.py'}:graph", "-o", target)
    assert code == 0
    assert record["inputs"] == [{"name": "x", "data_type": "uint8", "shape": [2]}]
    assert record["rewrites"] == []
    proto = onnx.load(target)
    onnx.checker.check_model(proto)
    assert "sum" in proto.graph.node[0].name
    code, record = run_json("convert", f"{tmp_path / 'made.py'}:graph", "-o", target, "--for", "tensorrt=1.6.1.120")
    assert code == 0
    assert record["rewrites"]


def test_convert_tidies_an_onnx_file(add_model: Path, tmp_path: Path, run_json: Any) -> None:
    target = tmp_path / "tidy.onnx"
    assert run_json("convert", add_model, "-o", target)[0] == 0
    assert main(["run", str(target), "--backend", "onnxruntime"]) == 0


def test_convert_takes_old_files_whose_weights_are_no_inputs(add_model: Path, tmp_path: Path, run_json: Any) -> None:
    proto = onnx.load(add_model)
    proto.ir_version, proto.opset_import[0].version = 3, 7
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "b"))
    del proto.graph.input[1]
    source, target = tmp_path / "old.onnx", tmp_path / "tidy.onnx"
    onnx.save(proto, source)
    assert run_json("convert", source, "-o", target)[0] == 0
    onnx.checker.check_model(onnx.load(target))


def test_a_model_without_outputs_is_refused_when_it_is_read(add_model: Path, run_json: Any) -> None:
    proto = onnx.load(add_model)
    del proto.graph.output[:]
    onnx.save(proto, add_model)
    for command in ("run", "inspect"):
        code, record = run_json(command, add_model)
        assert code == 3 and "add.onnx has no outputs" in record["error"]["message"]


def test_convert_rewrites_the_quantised_operators_of_a_file(add_model: Path, tmp_path: Path, run_json: Any) -> None:
    source, target = tmp_path / "quantised.onnx", tmp_path / "made.onnx"
    weights_file("uint4", 8, 32, "left").save(source)
    code, record = run_json("convert", source, "-o", target, "--for", "tensorrt=1.6.1.120")
    assert code == 0 and "decompose_quantization" in record["rewrites"][0]
    code, record = run_json("convert", add_model, "-o", tmp_path / "tidy.onnx", "--for", "tensorrt=1.6.1.120")
    assert code == 0 and record["rewrites"] == []
    assert main(["run", str(target), "--backend", "onnxruntime"]) == 0


@pytest.mark.parametrize(
    ("source", "more", "code", "words"),
    [
        ("made.py:missing", [], 2, "has no function 'missing'"),
        ("made.py:nothing", [], 2, "returned int, expected a pynn.Graph"),
        ("no.such.module:graph", [], 2, "cannot import no.such.module"),
        ("gone.py:graph", [], 2, "gone.py"),
        ("made.py:graph", ["--for", "cuda=1"], 2, "is not tensorrt=VERSION"),
        ("made.py", [], 3, "is not an ONNX model"),
    ],
)
def test_convert_fails(
    tmp_path: Path, run_json: Any, monkeypatch: pytest.MonkeyPatch, source: str, more: list[str], code: int, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "made.py").write_text(GRAPH_CODE)
    got, record = run_json("convert", source, "-o", "out.onnx", *more)
    assert got == code
    assert words in record["error"]["message"]
    assert not (tmp_path / "out.onnx").exists()


def test_inspect(add_model: Path, run_json: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run_json("inspect", add_model)
    assert code == 0
    assert record["operators"] == {"Add": 1}
    assert record["inputs"][0] == {"name": "a", "data_type": "float32", "shape": ["n", 2]}
    assert record["opsets"] == {"ai.onnx": 21}
    assert main(["inspect", str(add_model)]) == 0
    assert "[n, 2]" in capsys.readouterr().out


# -- build


@pytest.mark.trt
def test_build_and_inspect(add_model: Path, newest_folder: Path, tmp_path: Path, run_json: Any) -> None:
    engine = tmp_path / "add.engine"
    code, record = run_json(
        "build",
        add_model,
        "--target",
        "8.6",
        "--target",
        "12.0",
        "--shapes",
        "n=1:4:8",
        "--tensorrt-library",
        newest_folder,
    )
    assert code == 0
    assert record["engine"] == str(engine)
    assert record["compute_capabilities"] == [86, 120]
    assert record["bytes"] == engine.stat().st_size
    code, record = run_json("inspect", engine)
    assert code == 0
    assert record["kind"] == "engine"
    assert record["compute_capabilities"] == ["8.6", "12.0"]
    code, record = run_json("build", engine)
    assert code == 2
    assert "is an engine already" in record["error"]["message"]
    code, record = run_json("run", engine, "--backend", "onnxruntime")
    assert code == 2


@pytest.mark.parametrize(
    ("more", "code", "words"),
    [
        (["-o", "/no/such/x.engine"], 2, "the directory for the engine does not exist: '/no/such'"),
        (["--target", "8"], 2, "'8' is not a compute capability"),
        (["--tensorrt-library", "EMPTY"], 4, ""),
    ],
)
def test_build_fails(add_model: Path, tmp_path: Path, run_json: Any, more: list[str], code: int, words: str) -> None:
    (tmp_path / "empty").mkdir()
    arguments = [str(tmp_path / "empty") if word == "EMPTY" else word for word in more]
    got, record = run_json("build", add_model, *arguments)
    assert got == code, record
    assert words in record["error"]["message"]
    assert not (tmp_path / "add.engine").exists()


CTRL_C = """
import os, signal, sys
import pynn
from pynn.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
build = pynn.build_engine

def interrupted(*arguments, **options):
    return build(*arguments, **options | {"progress": lambda event: os.kill(os.getpid(), signal.SIGINT)})

pynn.build_engine = interrupted
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.trt
@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT, which Windows has in another form")
@pytest.mark.parametrize("more", [[], ["--isolate"]])
def test_ctrl_c_cancels_a_build(add_model: Path, newest_folder: Path, tmp_path: Path, more: list[str]) -> None:
    command = [sys.executable, "-c", CTRL_C, "build", str(add_model), "--tensorrt-library", str(newest_folder), *more]
    environment = {**os.environ, "PYTHONPATH": SOURCE}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert result.returncode == 130, (result.stdout, result.stderr)
    assert result.stderr == "pynn: cancelled\n"
    assert [path.name for path in tmp_path.iterdir()] == ["add.onnx"]


@pytest.mark.trt
def test_weights_outside_the_engine(add_model: Path, newest_folder: Path, run_json: Any) -> None:
    code, record = run_json("build", add_model, "--tensorrt-library", newest_folder, "--weight-streaming", "1000")
    assert code == 0, record
    assert pynn.EngineFile.load(record["engine"]).options["weight_streaming_bytes"] == 1000
    code, record = run_json("build", add_model, "--tensorrt-library", newest_folder, "--weight-streaming", "0")
    assert code == 2 and "weight_streaming_bytes must be a positive integer" in record["error"]["message"]
    code, record = run_json("run", add_model, "--weights", add_model)
    assert code == 2 and "is for engines built with --refit" in record["error"]["message"]


@pytest.mark.trt
def test_deadline_of_a_build(add_model: Path, newest_folder: Path, tmp_path: Path, run_json: Any) -> None:
    library = ("--tensorrt-library", newest_folder)
    code, record = run_json("build", add_model, *library, "--isolate", "--deadline", "1e-3")
    assert (code, record["error"]["type"]) == (1, "BuildDeadlineError")
    assert [path.name for path in tmp_path.iterdir()] == ["add.onnx"]
    assert run_json("build", add_model, *library, "--isolate", "--deadline", "60")[0] == 0
    code, record = run_json("build", add_model, *library, "--deadline", "0")
    assert code == 2 and "deadline must be a positive number" in record["error"]["message"]


@pytest.mark.trt
def test_bars_are_drawn_on_a_terminal(
    add_model: Path, newest_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(Console, "is_terminal", True)
    assert main(["build", str(add_model), "--tensorrt-library", str(newest_folder)]) == 0
    assert "Compiling model" in capsys.readouterr().err
    assert main(["run", str(add_model), "--backend", "onnxruntime", "--isolate", "--deadline", "9"]) == 0


def test_names_in_bars_are_no_markup(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(Console, "is_terminal", True)
    with Bars(Console(as_json=False)) as bars:
        for kind in ("start", "step", "finish"):
            bars.update(ProgressEvent(kind, "{ForeignNode[/model/layer]}", steps=3))
            bars._rich.refresh()
    assert "[/model/layer]" in capsys.readouterr().err


# -- the program


def test_help_lists_commands_and_exit_codes() -> None:
    command = [sys.executable, "-m", "pynn", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": SOURCE})
    assert result.returncode == 0
    for part in ("doctor", "run", "build", "convert", "inspect", "exit codes:", "130"):
        assert part in result.stdout


@pytest.mark.parametrize("arguments", [[], ["bogus"], ["run"], ["run", "m", "--backend", "cuda"]])
def test_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: pynn" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"pynn {pynn.__version__}\n"
