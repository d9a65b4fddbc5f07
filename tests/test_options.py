"""The keyword arguments that compile, create_context and build_engine share."""

from __future__ import annotations

import re
import threading
from dataclasses import fields
from typing import Any, get_type_hints

import pytest

import pynn
from pynn import CompileOptions, Precision, ValidationError
from pynn.options import EngineOptions, Options, RunOptions, parse_options


def parsed(**options: Any) -> CompileOptions:
    return parse_options("compile", options)[1]


def test_nothing_said_is_the_default() -> None:
    wish, options = parse_options("compile", {})
    assert options == CompileOptions() and (wish.backend, wish.device) == ("auto", 0)


def test_everything_arrives() -> None:
    cancel = threading.Event()
    wish, options = parse_options(
        "compile",
        {
            "backend": "tensorrt",
            "device": 1,
            "cuda_graph": False,
            "cache": False,
            "cache_dir": "/somewhere",
            "concurrency": 3,
            "wait": "block",
            "kernel_specialization": "eager",
            "optimization_level": 2,
            "workspace_bytes": 1 << 20,
            "refit": True,
            "weight_streaming_bytes": 1 << 30,
            "precision": "fp16",
            "cancel": cancel,
            "deadline": 3.5,
            "isolate": True,
        },
        {"batch": (1, 2, 3)},
    )
    assert (wish.backend, wish.device) == ("tensorrt", 1)
    assert options.shapes == {"batch": (1, 2, 3)} and options.precision == Precision("fp16")
    assert options.control.cancel is cancel and options.control.deadline == 3.5 and options.control.isolate
    changed = {f.name for f in fields(options) if getattr(options, f.name) != getattr(CompileOptions(), f.name)}
    assert changed >= {
        "shapes", "cuda_graph", "cache", "cache_dir", "concurrency", "wait", "kernel_specialization",
        "optimization_level", "workspace_bytes", "refit", "weight_streaming_bytes", "precision", "control",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"wait": "sleep"}, "wait must be one of 'auto', 'spin', 'block'; got 'sleep'"),
        ({"kernel_specialization": 1}, "kernel_specialization must be one of"),
        ({"cache": 1}, "cache must be True or False"),
        ({"cuda_graph": None}, "cuda_graph must be True or False"),
        ({"isolate": "yes"}, "isolate must be True or False"),
        ({"concurrency": 0}, "concurrency must be a positive integer or None"),
        ({"workspace_bytes": 1.5}, "workspace_bytes must be a positive integer"),
        ({"weight_streaming_bytes": -1}, "weight_streaming_bytes must be"),
        ({"optimization_level": 6}, "optimization_level must be an integer from 0 to 5 or None, got 6"),
        ({"optimization_level": "3"}, "optimization_level must be an integer"),
        ({"deadline": 0}, "deadline must be a positive number of seconds"),
        ({"deadline": "soon"}, "deadline must be"),
        ({"tf32": "no"}, "tf32 must be True, False or None"),
        ({"progress": 3}, "progress must be a function of one event"),
        ({"cancel": True}, "cancel must be a threading.Event"),
        ({"cache_dir": 3}, "cache_dir must be a directory"),
        ({"precision": "half"}, "precision must be one of"),
        ({"precision": 16}, "precision must be a name or a pynn.Precision"),
        ({"precision": "fp32", "tf32": True}, "contradict each other"),
        ({"precision": "tf32", "tf32": False}, "contradict each other"),
        ({"device": -1}, "device must be the number of a GPU"),
        ({"backend": "cuda"}, "backend must be one of"),
    ],
)
def test_wrong_values_name_the_argument(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words.replace("(", r"\(")):
        parsed(**options)


def test_an_unknown_argument_is_a_type_error_that_lists_the_known() -> None:
    with pytest.raises(
        TypeError, match=r"create_context\(\) got an unexpected keyword argument 'gpu'; known: .*device"
    ):
        pynn.ML().create_context(gpu=0)  # type: ignore[call-arg]


def test_precision_settles_tf32() -> None:
    assert parsed(precision="tf32").tf32 is True and parsed(precision="fp32").tf32 is False
    assert parsed(precision="fp16").tf32 is None and parsed(tf32=True).tf32 is True


def test_each_option_is_described() -> None:
    told = "".join(kind.__doc__ or "" for kind in (EngineOptions, RunOptions, Options))
    assert [name for name in get_type_hints(Options) if f"``{name}``" not in told] == []


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"keep": "Softmax"}, "keep must be a tuple of names, as ('Softmax',); got 'Softmax'"),
        ({"keep": [1]}, "keep must be a tuple of names"),
        ({"io": 1}, "io must be True or False"),
        ({"calibration": {"x": 1.0}}, "calibration must be a pynn.CalibrationTable (CalibrationTable.load"),
        ({"activations": 3}, "activations must map products' names"),
    ],
)
def test_a_wrong_precision_names_the_field(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match="precision " + re.escape(words)):
        Precision("int8", **fields)


def test_a_list_of_operators_to_keep_becomes_a_tuple() -> None:
    assert Precision("fp16", keep=["Softmax"]) == Precision("fp16", keep=("Softmax",))  # type: ignore[arg-type]
