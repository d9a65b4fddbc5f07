"""The runner: what a crash, a hang, a refusal or a wrong number becomes; reports, expectations and exit codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest

from . import pool, report
from .__main__ import main, select
from .vectors import OWN_FOLDER, array, number

FAKES = f"{__package__}.fakes"
pytestmark = pytest.mark.ort


def vector(name: str, operator: str, expected: Sequence[float]) -> dict[str, Any]:
    tensor = {"data": [-1, 2], "shape": [2], "dataType": "float32"}
    graph = {
        "inputs": {"x": tensor | {"constant": False}},
        "operators": [{"name": operator, "arguments": {"input": "x"}, "outputs": "y"}],
        "expectedOutputs": {"y": tensor | {"data": list(expected)}},
    }
    return {"name": name, "graph": graph, "tolerance": {"type": "ULP", "value": 0}}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files: abs and neg are harmless, relu is what the fakes stumble over."""
    made = tmp_path / "vectors"
    made.mkdir()
    for name, expected in (("abs", [1, 2]), ("neg", [1, -2]), ("relu", [0, 2])):
        content = {
            "operation": name,
            "source": "",
            "tests": [vector("first", name, expected), vector("again", name, expected)],
        }
        (made / f"{name}.json").write_text(json.dumps(content))
    return made


def run(folder: Path, fake: str, *arguments: str) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
    """The exit code, the results by case and the header."""
    file = folder.parent / "report.json"
    code = main([str(folder), "--backend", f"{FAKES}:{fake}", "--jobs", "2", "--json", str(file), *arguments])
    found = json.loads(file.read_text())
    return code, {r["id"]: r for r in found["results"]}, found["header"]


def statuses(results: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {case: result["status"] for case, result in results.items()}


def test_all_pass(folder: Path) -> None:
    code, results, header = run(folder, "Honest")
    assert code == 0
    assert list(results) == [f"{op}/{name}" for op in ("abs", "neg", "relu") for name in ("first", "again")]
    assert set(statuses(results).values()) == {"passed"}
    assert header["backends"][f"{FAKES}:Honest"]["counts"] == {"passed": 6}


def test_a_crash_is_a_result_and_the_rest_goes_on(folder: Path) -> None:
    code, results, _ = run(folder, "Crashing")
    assert code == 1
    assert statuses(results) == dict.fromkeys(results, "passed") | {"relu/first": "crash", "relu/again": "crash"}
    assert "SIGKILL" in results["relu/first"]["reason"] and "kernel exploded" in results["relu/first"]["reason"]


def test_a_hang_is_a_timeout_and_the_rest_goes_on(folder: Path) -> None:
    code, results, _ = run(folder, "Hanging", "--timeout", "2")
    assert code == 1
    assert statuses(results) == dict.fromkeys(results, "passed") | {"relu/first": "timeout", "relu/again": "timeout"}
    assert results["relu/first"]["reason"] == "no answer in 2 s"


def test_a_refusal_is_unsupported_with_the_librarys_words(folder: Path) -> None:
    code, results, _ = run(folder, "Refusing")
    assert code == 1
    assert results["relu/first"]["status"] == "unsupported"
    assert (
        "no Relu here" in results["relu/first"]["reason"] and "[E] unknown operator" in results["relu/first"]["reason"]
    )


def test_a_wrong_number_fails_with_place_and_distance(folder: Path) -> None:
    code, results, _ = run(folder, "Inexact", "--case", "abs/first")
    assert code == 1
    assert statuses(results) == {"abs/first": "failed"}
    assert results["abs/first"]["worst"] == 2**23
    assert results["abs/first"]["reason"].startswith("y[0]: 2.0, expected 1.0:")


def test_a_fallback_does_not_count(folder: Path) -> None:
    code, results, _ = run(folder, "Elsewhere", "--op", "abs")
    assert code == 1
    assert {result["reason"] for result in results.values()} == {"fell back to onnxruntime"}


@pytest.mark.parametrize(("fake", "words"), [("Unusable", "no such device"), ("DyingAtBirth", "missing library")])
def test_an_unusable_back_end_runs_nothing_and_says_why(folder: Path, fake: str, words: str) -> None:
    code, results, _ = run(folder, fake)
    assert code == 1
    assert set(statuses(results).values()) == {"not-run"}
    assert all(words in result["reason"] for result in results.values())


def test_no_case_starts_after_the_limit(folder: Path) -> None:
    code, results, _ = run(folder, "Honest", "--limit-seconds", "0")
    assert code == 1
    assert set(statuses(results).values()) == {"not-run"}
    assert "time limit" in results["abs/first"]["reason"]


def test_an_operator_that_pynn_lacks_is_an_error(folder: Path) -> None:
    content = {"operation": "frobnicate", "source": "", "tests": [vector("first", "frobnicate", [1, 2])]}
    (folder / "frobnicate.json").write_text(json.dumps(content))
    _, results, _ = run(folder, "Honest", "--op", "frobnicate")
    assert results["frobnicate/first"]["status"] == "error"
    assert "frobnicate" in results["frobnicate/first"]["reason"]


def test_expectations_excuse_a_failure_and_report_a_surprise(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    entries = [
        {"backend": "onnxruntime", "case": case, "reason": "this fake refuses it"}
        for case in ("relu/first", "relu/again", "abs/first")
    ]
    file = folder.parent / "expect.json"
    file.write_text(json.dumps(entries))
    code, _, _ = run(folder, "Refusing", "--expect", str(file))
    assert code == 0
    printed = capsys.readouterr().out
    assert "2 not passed, as expected" in printed
    assert "passes, but is expected not to: onnxruntime abs/first" in printed
    file.write_text(json.dumps([{"backend": "onnxruntime", "case": "relu/first"}]))
    with pytest.raises(SystemExit):
        run(folder, "Refusing", "--expect", str(file))


def test_the_table_has_a_line_for_each_operator(folder: Path) -> None:
    file = folder.parent / "report.md"
    run(folder, "Refusing", "--markdown", str(file))
    text = file.read_text()
    assert "| abs | 2 | 2 | 0 | 0 | 0 | 0 of 0 ULP |" in text
    assert "| relu | 2 | 0 | 0 | 2 | 0 |  |" in text
    assert "- unsupported: `relu/first`: compile: UnsupportedModelError: no Relu here" in text


def test_gpu_workers_are_started_without_tf32() -> None:
    assert pool.ENVIRONMENT["tensorrt"] == {"NVIDIA_TF32_OVERRIDE": "0"}
    run = report.Run(Path("vectors"), {"tensorrt": {"usable": True, "version": "1.6.1.120"}}, {"tensorrt": []})
    run.seconds["tensorrt"] = 1.0
    assert "workers run with `NVIDIA_TF32_OVERRIDE=0`" in run.to_markdown()
    assert run.header()["backends"]["tensorrt"]["environment"] == {"NVIDIA_TF32_OVERRIDE": "0"}


def test_shards_are_disjoint_and_complete() -> None:
    every = [case.id for case in select(OWN_FOLDER, [], "", (1, 1))]
    parts = [[case.id for case in select(OWN_FOLDER, [], "", (i, 3))] for i in (1, 2, 3)]
    assert sorted(chain.from_iterable(parts)) == sorted(every)
    assert len(set(every)) == len(every)


@pytest.mark.parametrize("bad", [["--shard", "4/3"], ["--backend", "abacus"], ["--op", "nothing"], ["/no/such/folder"]])
def test_bad_arguments_are_refused(bad: list[str], folder: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main([*bad] if bad[0].startswith("/") else [str(folder), *bad])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("text", "value"), [("123n", 123), ("-9223372036854775808n", -(2**63)), ("12", 12), ("-Infinity", float("-inf"))]
)
def test_numbers_of_the_schema(text: str, value: float) -> None:
    assert number(text) == value


def test_arrays_of_the_schema() -> None:
    filled = array({"data": 3, "shape": [2, 2], "dataType": "uint8"})
    assert filled.tolist() == [[3, 3], [3, 3]] and filled.dtype == "uint8"
    scalar = array({"data": "18446744073709551615n", "shape": [], "dataType": "uint64"})
    assert scalar.shape == () and int(scalar) == 2**64 - 1
    half = array({"data": [1.00048828125000001, "NaN"], "shape": [2], "dataType": "float16"})
    assert half[0] == 1 and half[1] != half[1]
