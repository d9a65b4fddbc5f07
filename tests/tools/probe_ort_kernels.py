"""Ask an installed ONNX Runtime which (operator, type) pairs its CPU provider has no kernel for, or computes wrongly.

    python tests/tools/probe_ort_kernels.py > /tmp/kernels-1.20.json        # with each version of onnxruntime
    python tests/tools/probe_ort_kernels.py --write /tmp/kernels-*.json     # writes converter/passes/ort_kernels.py

Every pair that ONNX (opset 21) allows is loaded and run as a one-node model without optimizations; integer results are
compared with numpy where it has the operator. Needs only onnx, onnxruntime and numpy: for an old version,
``pip install --no-deps --target DIR onnxruntime==1.21.*`` and PYTHONPATH=DIR are enough.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper

OPSET = 21
TYPES = ("float32", "float16", "int64", "int32", "int8", "uint64", "uint32", "uint8", "bool")
TARGET = Path(__file__).parents[2] / "pynn" / "converter" / "passes" / "ort_kernels.py"
Array = np.ndarray[Any, Any]
Shaped = tuple[int, ...]


@dataclass(frozen=True)
class Probe:
    """A one-node model. An input is a shape (of the type in question) or an array (a constant); ``output`` is a type,
    or "" for the type in question; input ``nonzero`` is never 0 or -1. ``reference`` computes the result from the
    same arrays, also with the first input of the shapes ``more`` (vectorised kernels have more than one path)."""

    inputs: Sequence[Shaped | Array]
    attributes: dict[str, Any] = field(default_factory=dict)
    output: str = ""
    outputs: int = 1
    reference: Callable[..., Array] | None = None
    nonzero: int = -1
    more: Sequence[Shaped] = ()


def ints(*values: int) -> Array:
    return np.array(values, np.int64)


def _divide(a: Array, b: Array) -> Array:
    if a.dtype.kind == "f":
        return a / b
    exact = [int(abs(int(x)) // abs(int(y))) * (1 if (x < 0) == (y < 0) else -1) for x, y in zip(a, b, strict=True)]
    return np.array([v & ((1 << (a.dtype.itemsize * 8)) - 1) for v in exact], dtype=np.uint64).astype(a.dtype)


def _power(a: Array, b: Array) -> Array:
    mask = (1 << (a.dtype.itemsize * 8)) - 1
    return np.array([pow(int(x), int(y)) & mask for x, y in zip(a, b, strict=True)], dtype=np.uint64).astype(a.dtype)


def _binary(reference: Callable[..., Array], output: str = "", **more: Any) -> Probe:
    return Probe([(67,), (67,)], output=output, reference=reference, **more)


def _reduce(reference: Callable[..., Array] | None = None, attributes: dict[str, Any] | None = None) -> Probe:
    return Probe(
        [(3, 67, 5), ints(1)], attributes or {"keepdims": 0}, reference=reference, more=[(3, 5, 7), (1, 5), (5, 67)]
    )


def _wrapping(function: Callable[..., Array]) -> Callable[..., Array]:
    return lambda x, axes: function(x, axis=1, dtype=x.dtype)


X4 = (1, 2, 4, 4)
PROBES: dict[str, Probe] = {
    "Add": _binary(np.add), "Sub": _binary(np.subtract), "Mul": _binary(np.multiply),
    "Div": _binary(_divide, nonzero=1), "Mod": _binary(np.mod, nonzero=1),
    "Max": _binary(np.maximum), "Min": _binary(np.minimum),
    "Pow": Probe([(67,), np.arange(67)], reference=_power),
    "Equal": _binary(np.equal, "bool"), "Greater": _binary(np.greater, "bool"), "Less": _binary(np.less, "bool"),
    "GreaterOrEqual": _binary(np.greater_equal, "bool"), "LessOrEqual": _binary(np.less_equal, "bool"),
    "And": _binary(np.logical_and, "bool"), "Or": _binary(np.logical_or, "bool"),
    "Xor": _binary(np.logical_xor, "bool"),
    "BitwiseAnd": _binary(np.bitwise_and), "BitwiseOr": _binary(np.bitwise_or), "BitwiseXor": _binary(np.bitwise_xor),
    "BitShift": Probe([(67,), (67,)], {"direction": "RIGHT"}),
    "Not": Probe([(67,)], reference=np.logical_not), "BitwiseNot": Probe([(67,)], reference=np.bitwise_not),
    "IsNaN": Probe([(67,)], output="bool"), "IsInf": Probe([(67,)], output="bool"),
    "Abs": Probe([(67,)], reference=np.abs), "Neg": Probe([(67,)], reference=np.negative),
    "Sign": Probe([(67,)], reference=np.sign), "Relu": Probe([(67,)], reference=lambda x: np.maximum(x, 0)),
    "Clip": Probe([(67,), np.array(1), np.array(5)], reference=lambda x, a, b: np.clip(x, a, b)),
    "PRelu": Probe([(67,), (67,)], reference=lambda x, s: np.where(x < 0, x * s, x)),
    "Identity": Probe([(67,)], reference=lambda x: x),
    **{op: Probe([(67,)]) for op in (
        "Ceil", "Cos", "Erf", "Exp", "Floor", "Log", "Reciprocal", "Round", "Sin", "Sqrt", "Tan", "Elu", "Gelu",
        "HardSigmoid", "HardSwish", "LeakyRelu", "Sigmoid", "Softplus", "Softsign", "Tanh", "Mish", "Selu",
        "ThresholdedRelu", "Atan")},
    "Softmax": Probe([(2, 4)]), "LogSoftmax": Probe([(2, 4)]),
    "Conv": Probe([X4, (2, 2, 2, 2)]), "ConvTranspose": Probe([X4, (2, 2, 2, 2)]),
    "AveragePool": Probe([X4], {"kernel_shape": [2, 2]}), "MaxPool": Probe([X4], {"kernel_shape": [2, 2]}),
    "LpPool": Probe([X4], {"kernel_shape": [2, 2]}), "GlobalAveragePool": Probe([X4]), "GlobalMaxPool": Probe([X4]),
    "GlobalLpPool": Probe([X4]),
    "BatchNormalization": Probe([X4, (2,), (2,), (2,), (2,)]), "InstanceNormalization": Probe([X4, (2,), (2,)]),
    "LayerNormalization": Probe([X4, (4,), (4,)]),
    "ArgMax": Probe([(5, 67)], {"axis": 1, "keepdims": 0}, "int64", reference=lambda x: np.argmax(x, axis=1)),
    "ArgMin": Probe([(5, 67)], {"axis": 1, "keepdims": 0}, "int64", reference=lambda x: np.argmin(x, axis=1)),
    "ReduceSum": _reduce(_wrapping(np.sum)), "ReduceProd": _reduce(_wrapping(np.prod)),
    "ReduceMax": _reduce(lambda x, a: np.max(x, axis=1)), "ReduceMin": _reduce(lambda x, a: np.min(x, axis=1)),
    "ReduceSumSquare": _reduce(lambda x, a: np.sum(x * x, axis=1, dtype=x.dtype)),
    "ReduceL1": _reduce(lambda x, a: np.sum(np.abs(x), axis=1, dtype=x.dtype)),
    "ReduceL2": _reduce(), "ReduceLogSum": _reduce(), "ReduceLogSumExp": _reduce(), "ReduceMean": _reduce(),
    "CumSum": Probe([(5, 67), np.array(1)], reference=lambda x, a: np.cumsum(x, axis=1, dtype=x.dtype)),
    "Gemm": Probe([(2, 4), (4, 3)]), "MatMul": Probe([(5, 67), (67, 1)], reference=np.matmul),
    "GRU": Probe([(2, 1, 3), (1, 6, 3), (1, 6, 2)], {"hidden_size": 2}),
    "LSTM": Probe([(2, 1, 3), (1, 8, 3), (1, 8, 2)], {"hidden_size": 2}),
    "Concat": Probe([(4,), (4,)], {"axis": 0}, reference=lambda a, b: np.concatenate([a, b])),
    "Expand": Probe([(1, 4), ints(3, 4)], reference=lambda x, s: np.broadcast_to(x, (3, 4))),
    "Pad": Probe([(4,), ints(1, 2), np.array(3)], reference=lambda x, p, v: np.pad(x, (1, 2), constant_values=v)),
    "Pad.reflect": Probe([(4,), ints(1, 2)], {"mode": "reflect"}, reference=lambda x, p: np.pad(x, (1, 2), "reflect")),
    "Pad.edge": Probe([(4,), ints(1, 2)], {"mode": "edge"}, reference=lambda x, p: np.pad(x, (1, 2), "edge")),
    "Reshape": Probe([(8,), ints(2, 4)], reference=lambda x, s: x.reshape(2, 4)),
    "Squeeze": Probe([(1, 8), ints(0)], reference=lambda x, a: x[0]),
    "Unsqueeze": Probe([(8,), ints(0)], reference=lambda x, a: x[None]),
    "Flatten": Probe([(2, 4)], reference=lambda x: x),
    "Resize.nearest": Probe(
        [X4, np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)], {"mode": "nearest"},
        reference=lambda x, r, s: np.repeat(np.repeat(x, 2, 2), 2, 3)),
    "Resize.linear": Probe([X4, np.array([], np.float32), np.array([1, 1, 2, 2], np.float32)], {"mode": "linear"}),
    "Slice": Probe([(8,), ints(6), ints(1), ints(0), ints(-2)], reference=lambda x, *a: x[6:1:-2]),
    "Split": Probe([(8,), ints(3, 5)], {"axis": 0}, outputs=2, reference=lambda x, s: x[:3]),
    "Tile": Probe([(8,), ints(2)], reference=lambda x, r: np.tile(x, 2)),
    "Transpose": Probe([(2, 4)], {"perm": [1, 0]}, reference=np.transpose),
    "Trilu": Probe([(4, 4)], {"upper": 1}, reference=np.triu),
    "Where": Probe([np.arange(67) % 3 == 0, (67,), (67,)], reference=np.where),
    "Gather": Probe([(8,), ints(7, 0, 2)], reference=lambda x, i: x[i]),
    "GatherElements": Probe([(8,), ints(7, 0, 2)], reference=lambda x, i: x[i]),
    "GatherND": Probe([(8,), np.array([[7], [0]], np.int64)], reference=lambda x, i: x[i[:, 0]]),
    "ScatterElements": Probe([(8,), ints(7, 0), (2,)]),
    "ScatterND": Probe([(8,), np.array([[7], [0]], np.int64), (2,)]),
    "DepthToSpace": Probe([(1, 4, 2, 2)], {"blocksize": 2}), "SpaceToDepth": Probe([X4], {"blocksize": 2}),
    "TopK": Probe([(8,), ints(8)], {}, outputs=2, reference=lambda x, k: np.sort(x)[::-1]),
    "Sum": _binary(np.add), "Mean": Probe([(67,), (67,)]), "NonZero": Probe([(67,)], output="int64"),
    "ReverseSequence": Probe([(2, 4), ints(2, 2, 2, 2)]), "EyeLike": Probe([(4, 4)]),
}  # fmt: skip
PROBES |= {f"Cast.{t}": Probe([(67,)], {"to": t}, t) for t in TYPES}
PROBES |= {
    f"QuantizeLinear.{t}": Probe([(8,), np.array(0.5, np.float32), np.array(1, t)], {}, t)
    for t in ("int8", "uint8", "int32", "uint32")
}


def values_of(dtype: np.dtype[Any], shape: Shaped, kind: str, generator: np.random.Generator) -> Array:
    """Values of a kind: "edges" (the ends of the range, the sign bit, small ones), "any" (the whole range) or "words"
    (equal in the upper half of the word or near it, where a vectorised comparison by halves would go wrong)."""
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        return generator.uniform(-2.5, 3.5, shape).astype(dtype)
    info = np.iinfo(dtype)
    low, high = int(info.min), int(info.max)
    half = 1 << (info.bits // 2)
    if kind == "edges":
        pool = np.array([high, 3, low, high // 2, 7, high - 2, 0, 5, high // 3, 1], dtype)
        return generator.choice(pool, shape)
    if kind == "words":
        low, high = max(-3 * (half // 2), low), min(2 * half, high)
    return generator.integers(low, high, shape, dtype, endpoint=True)


def arrays_of(op: str, probe: Probe, data_type: str, kind: str, seed: int, first: Shaped = ()) -> list[Array]:
    dtype = np.dtype(data_type)
    generator = np.random.default_rng(seed)
    arrays = []
    for i, item in enumerate(probe.inputs):
        if isinstance(item, tuple):
            value = values_of(dtype, first if first and i == 0 else item, kind, generator)
            if i == probe.nonzero:
                value = np.where((value == 0) | (value == np.array(-1).astype(dtype)), np.array(3, dtype), value)
        else:
            value = item.astype(dtype) if op in ("Clip", "Pad") and item.ndim == 0 else item
        arrays.append(value)
    return arrays


def model_of(op: str, probe: Probe, data_type: str, arrays: Sequence[Array]) -> tuple[onnx.ModelProto, list[str]]:
    """The model, and which of ``arrays`` it takes as inputs, by name."""
    dtype = np.dtype(data_type)
    names = [f"i{i}" for i in range(len(arrays))]
    fed = [name for name, item in zip(names, probe.inputs, strict=True) if isinstance(item, tuple)]
    initializers = [numpy_helper.from_array(a, n) for n, a in zip(names, arrays, strict=True) if n not in fed]
    attributes = dict(probe.attributes)
    if op.startswith("Cast."):
        attributes["to"] = element(attributes["to"])
    if op == "Mod" and dtype.kind == "f":
        attributes["fmod"] = 1
    outputs = [f"o{i}" for i in range(probe.outputs)]
    if op in ("GRU", "LSTM"):
        outputs = ["", "o0"]
    if op == "TopK":
        outputs = ["o0", "unused"]
    node = helper.make_node(op.split(".")[0], names, outputs, name=op, **attributes)
    result = helper.make_tensor_value_info("o0", element(probe.output or data_type), None)
    shapes = dict(zip(names, (a.shape for a in arrays), strict=True)) | ({names[0]: None} if probe.more else {})
    inputs = [helper.make_tensor_value_info(n, element(data_type), shapes[n]) for n in fed]
    graph = helper.make_graph([node], "probe", inputs, [result], initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10), fed


def element(data_type: str) -> int:
    return int(helper.np_dtype_to_tensor_dtype(np.dtype(data_type)))


def ask(op: str, probe: Probe, data_type: str) -> str:
    """ "ok", "missing", "wrong", "invalid" (ONNX does not allow the type), or what ONNX Runtime said."""
    first = arrays_of(op, probe, data_type, "edges", 0)
    model, fed = model_of(op, probe, data_type, first)
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    settings.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
        for kind, shape, seed in product(("edges", "any", "words"), [(), *probe.more], range(10)):
            arrays = arrays_of(op, probe, data_type, kind, seed, shape)
            got = session.run(["o0"], {name: arrays[int(name[1:])] for name in fed})[0]
            if probe.reference is None or np.dtype(data_type).kind not in "iub":
                break
            with np.errstate(over="ignore"):
                want = probe.reference(*arrays)
            if got.dtype != want.dtype or not np.array_equal(got, want):
                return "wrong"
    except Exception as error:
        text = str(error)
        if "NOT_IMPLEMENTED" in text:
            return "missing"
        return "invalid" if "Type Error" in text or "INVALID_GRAPH" in text else f"error: {text}"
    return "ok"


def survey() -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for op, probe in PROBES.items():
        for data_type in TYPES:
            answer = ask(op, probe, data_type)
            if answer not in ("ok", "invalid"):
                found.setdefault(op, {})[data_type] = answer
    return found


HEADER = '''"""Generated by tests/tools/probe_ort_kernels.py from the installed wheels of each version: do not edit.

For ONNX Runtime's CPU provider, from each version on: the types (of the operator's main type parameter) that ONNX opset
21 allows but that have no kernel, or (marked "!") whose kernel computes some integers wrongly (x86-64 wheels).
"""

from __future__ import annotations

LACKS: dict[tuple[int, int], dict[str, str]] = {
'''


def write(files: Sequence[str]) -> None:
    lines, last = [HEADER], None
    for record in sorted((json.loads(Path(f).read_text()) for f in files), key=lambda r: _version(r["onnxruntime"])):
        if record["lacks"] == last:
            continue
        last = record["lacks"]
        lines.append(f"    {_version(record['onnxruntime'])}: {{\n")
        for op, types in sorted(last.items()):
            text = " ".join(t + ("!" if answer == "wrong" else "") for t, answer in types.items())
            lines.append(f'        "{op}": "{text}",\n')
        lines.append("    },\n")
    TARGET.write_text("".join([*lines, "}\n"]))


def _version(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--write"]:
        write(sys.argv[2:])
    else:
        print(json.dumps({"onnxruntime": onnxruntime.__version__, "lacks": survey()}, indent=1))
