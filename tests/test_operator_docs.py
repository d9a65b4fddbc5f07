"""docs/operators is what its generator writes today."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pynn.ops.registry import operators

SCRIPT = Path(__file__).parents[1] / "docs" / "generate_operators.py"
FOLDER = SCRIPT.with_name("operators")
REMEDY = "run `python docs/generate_operators.py`"
LARGEST = 600_000


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_operators", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_operator_has_a_page_that_is_up_to_date(generator: ModuleType) -> None:
    wanted = generator.pages()
    assert {f"{operator.method}.md" for operator in operators.values()} | {"README.md", "passes.md"} == set(wanted)
    committed = {path.name: path.read_text("utf-8") for path in FOLDER.glob("*.md")}
    assert set(committed) == set(wanted), REMEDY
    stale = [name for name, text in wanted.items() if committed[name] != text]
    assert stale == [], REMEDY


def test_the_index_is_in_the_order_of_the_standard(generator: ModuleType) -> None:
    text = (FOLDER / "README.md").read_text("utf-8")
    places = [text.index(f"]({operator.method}.md)") for operator in generator.in_order()]
    assert places == sorted(places)
    assert len(places) == 95


def test_examples_are_of_operators_and_pages_small(generator: ModuleType) -> None:
    assert set(generator.EXAMPLES) | set(generator.VARIED) <= {operator.method for operator in operators.values()}
    assert sum(path.stat().st_size for path in FOLDER.glob("*.md")) < LARGEST
