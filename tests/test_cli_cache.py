"""pynn cache: list, verify, clear, export."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pynn.backends.engine_file import EngineFile
from pynn.cache.store import Store
from pynn.cli import main

DETAILS = {
    "inputs": [{"name": "x", "data_type": "float32"}],
    "outputs": [{"name": "y", "data_type": "float16"}],
    "library": {"flavor": "RTX", "version": "1.6.1.120"},
    "gpu": {"name": "NVIDIA H200"},
    "pynn": "0.1.0",
}
ENGINE = EngineFile(b"vtrt" * 10, "RTX", "1.6.1.120", (90,), "NVIDIA H200", pynn_version="0.1.0")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("PYNN_CACHE_DIR", str(tmp_path / "cache"))
    store = Store.open()
    for kind, key, payload in (("engines", "abc" * 20, ENGINE.to_bytes()), ("kernels", "def" * 20, b"kernels")):
        with store.locked(kind, key):
            assert store.write(kind, key, [payload], DETAILS) == ""
    return store


@pytest.fixture
def run_json(capsys: pytest.CaptureFixture[str]) -> Any:
    def run(*arguments: object) -> tuple[int, dict[str, Any]]:
        code = main(["cache", *map(str, arguments), "--json"])
        captured = capsys.readouterr()
        assert captured.err == ""
        return code, json.loads(captured.out)

    return run


def test_list(store: Store, run_json: Any, capsys: pytest.CaptureFixture[str]) -> None:
    code, record = run_json("list")
    assert code == 0 and record["directory"] == str(store.root)
    assert record["bytes"] == store.size() and record["limit"] == store.limit
    assert {(entry["kind"], entry["key"]) for entry in record["entries"]} == {
        ("engines", "abc" * 20),
        ("kernels", "def" * 20),
    }
    assert record["entries"][0]["details"] == DETAILS and record["quarantine"] == []
    assert main(["cache", "list"]) == 0
    text = capsys.readouterr().out
    assert "2 entries" in text and "(x: float32) -> (y: float16), RTX 1.6.1.120, NVIDIA H200, pynn 0.1.0" in text


def test_verify(store: Store, run_json: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_json("verify")[1] == {"directory": str(store.root), "checked": 2, "damaged": []}
    path = store.path("kernels", "def" * 20)
    path.write_bytes(path.read_bytes()[:-1])
    code, record = run_json("verify")
    assert code == 3 and [entry["kind"] for entry in record["damaged"]] == ["kernels"]
    assert "truncated" in run_json("list")[1]["quarantine"][0]["reason"]
    assert main(["cache", "verify"]) == 0
    assert "1 of 1 entries are as they were written" in capsys.readouterr().out
    assert main(["cache", "list"]) == 0
    assert "quarantine" in capsys.readouterr().out


def test_clear(store: Store, run_json: Any) -> None:
    code, record = run_json("clear", "abc")
    assert code == 0 and record["bytes"] > 0 and record["kept"] == []
    assert [entry.kind for entry in store.entries()] == ["kernels"]
    assert run_json("clear")[0] == 0
    assert store.entries() == [] and store.size() == 0


def test_clear_keeps_what_is_in_use(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    with store.locked("engines", "abc" * 20):
        assert main(["cache", "clear"]) == 0
    assert "is in use by another process and was kept" in capsys.readouterr().err
    assert [entry.kind for entry in store.entries()] == ["engines"]


def test_export(store: Store, tmp_path: Path, run_json: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out.engine"
    code, record = run_json("export", "abcabc", "-o", out)
    assert code == 0 and record["engine"] == str(out) and record["key"] == "abc" * 20
    assert EngineFile.load(out).provenance == ENGINE.provenance
    monkeypatch.chdir(tmp_path)
    assert run_json("export", "a")[1]["engine"] == "abcabcabcabcabca.engine"
    assert (tmp_path / "abcabcabcabcabca.engine").read_bytes() == out.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("export",), "takes one KEY"),
        (("export", "def"), "no entry has a key that begins with 'def'"),
        (("clear", "zzz"), "no entry has a key that begins with 'zzz'"),
        (("list", "abc"), "pynn cache list takes no KEY"),
    ],
)
def test_wrong_usage(store: Store, run_json: Any, arguments: tuple[str, ...], message: str) -> None:
    code, record = run_json(*arguments)
    assert code == 2 and message in record["error"]["message"]


def test_another_directory(store: Store, tmp_path: Path, run_json: Any) -> None:
    code, record = run_json("list", "--cache-dir", tmp_path / "other")
    assert code == 0 and record["entries"] == [] and record["directory"] == str(tmp_path / "other")
    (tmp_path / "file").write_text("")
    code, record = run_json("list", "--cache-dir", tmp_path / "file")
    assert code == 2 and record["error"]["type"] == "CacheError"
