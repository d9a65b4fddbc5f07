"""The search for keep-lists, on made-up errors."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pynn.comparison.search import search

NAMES = tuple("abcdefghijklmnop")


class Model:
    """Whose error is the sum of what is not kept; counts how often it is asked."""

    def __init__(self, errors: dict[str, float]) -> None:
        self.errors, self.asked = errors, 0

    def __call__(self, keep: tuple[str, ...]) -> float:
        self.asked += 1
        return sum(error for name, error in self.errors.items() if name not in keep)


def test_one_bad_operator_far_down_is_found_alone() -> None:
    model = Model({name: 1.0 if name == "k" else 1e-4 for name in NAMES})
    found = search(NAMES, model, "relative", 1e-2, 40)
    assert found.keep == ("k",) and found.met and found.minimal
    assert found.evaluations == model.asked <= 20 and found.error == pytest.approx(15e-4)


def test_nothing_to_do_and_nothing_that_helps() -> None:
    fine = search(NAMES, Model(dict.fromkeys(NAMES, 1e-5)), "relative", 1e-3, 40)
    assert (fine.keep, fine.met, fine.minimal, fine.evaluations) == ((), True, True, 1)
    hopeless = search(NAMES, Model({**dict.fromkeys(NAMES, 0.5), "always": 1.0}), "relative", 1e-3, 40)
    assert not hopeless.met and hopeless.keep == NAMES and hopeless.error == 1.0
    assert str(hopeless).startswith("no keep-list meets relative <= 0.001; the best found has 16")
    assert not search((), Model({"always": 1.0}), "relative", 1e-3, 40).met


def test_cosine_is_at_least() -> None:
    model = Model({"a": 0.1, "b": 0.0, "c": 0.2})
    found = search("abc", lambda keep: 1 - model(keep), "cosine", 0.95, 40)
    assert found.keep == ("a", "c") and found.met and ">= 0.95" in str(found)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=16), st.floats(0.01, 3), st.integers(3, 60))
def test_the_list_meets_the_tolerance_within_the_evaluations(errors: list[float], tolerance: float, most: int) -> None:
    model = Model(dict(zip(NAMES, errors, strict=False)))
    ranked = sorted(model.errors, key=lambda name: -model.errors[name])
    found = search(ranked, model, "relative", tolerance, most)
    assert found.met and found.evaluations == model.asked <= most
    assert model(found.keep) <= tolerance
    if found.minimal and found.keep:
        for fewer in itertools.combinations(found.keep, len(found.keep) - 1):
            assert model(fewer) > tolerance
