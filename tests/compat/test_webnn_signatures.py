"""Each name of pywebnn with its parameters, in order and with their defaults."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys
from pathlib import Path

import pytest

import pynn
import pynn.compat.webnn as webnn

BINARY = "add sub mul div pow max min matmul equal not_equal greater greater_or_equal lesser lesser_or_equal"
LOGICAL = "logical_and logical_or logical_xor"
UNARY = (
    "relu sigmoid tanh abs ceil floor round_even neg sign exp log sqrt reciprocal sin cos tan erf identity logical_not"
)
PLAIN = "gelu softplus softsign is_nan is_infinite shape"
REDUCTIONS = "sum mean max min product l1 l2 log_sum log_sum_exp sum_square"
POOL = "input, window_dimensions=None, strides=None, dilations=None, pads=None, layout=None"
SCATTER = "input, indices, updates"
RECURRENT = "input, weight, recurrent_weight"

BUILDER = {
    **dict.fromkeys(f"{BINARY} {LOGICAL}".split(), "a, b"),
    **dict.fromkeys(UNARY.split(), "x"),
    **dict.fromkeys(PLAIN.split(), "input"),
    **dict.fromkeys((f"reduce_{name}" for name in REDUCTIONS.split()), "input, axes=None, keep_dimensions=False"),
    **dict.fromkeys(("average_pool2d", "max_pool2d", "l2_pool2d"), POOL),
    **dict.fromkeys(("global_average_pool", "global_max_pool"), "input, layout=None"),
    **dict.fromkeys(("arg_max", "arg_min"), "input, axis, keep_dimensions=False, output_data_type=None"),
    **dict.fromkeys(("quantize_linear", "dequantize_linear"), "input, scale, zero_point"),
    **dict.fromkeys(("gather", "gather_elements"), "input, indices, axis=0"),
    "expand": "input, new_shape",
    "input": "name, shape, data_type='float32'",
    "constant": "value, shape=None, data_type=None",
    "build": "outputs",
    "gemm": "a, b, c=None, alpha=1.0, beta=1.0, a_transpose=False, b_transpose=False",
    "conv2d": "input, filter, strides=None, dilations=None, pads=None, groups=None, input_layout=None, "
    "filter_layout=None, bias=None",
    "conv_transpose2d": "input, filter, strides=None, dilations=None, pads=None, output_padding=None, "
    "output_sizes=None, groups=None, input_layout=None, filter_layout=None, bias=None",
    "batch_normalization": "input, mean, variance, scale=None, bias=None, epsilon=1e-05, axis=1",
    "instance_normalization": "input, scale=None, bias=None, epsilon=1e-05, layout=None",
    "layer_normalization": "input, scale=None, bias=None, epsilon=1e-05, axes=None",
    "softmax": "x, axis=None",
    "reshape": "x, new_shape",
    "transpose": "input, permutation=None",
    "concat": "inputs, axis",
    "slice": "input, starts, sizes, strides=None",
    "split": "input, splits, axis=0",
    "where_": "condition, true_value, false_value",
    "pad": "input, padding, mode=None, value=None",
    "squeeze": "input, axes=None",
    "unsqueeze": "input, axes",
    "cast": "input, data_type",
    "scatter_elements": f"{SCATTER}, axis=0",
    "scatter_nd": SCATTER,
    "gather_nd": "input, indices",
    "tile": "input, repetitions",
    "triangular": "input, upper=True, diagonal=0",
    "hard_sigmoid": "input, alpha=0.2, beta=0.5",
    "hard_swish": f"input, alpha={1 / 6!r}, beta=0.5",
    "clamp": "input, min_value=-inf, max_value=inf",
    "elu": "input, alpha=1.0",
    "leaky_relu": "input, alpha=0.01",
    "prelu": "input, slope",
    "linear": "input, alpha=1.0, beta=0.0",
    "cumulative_sum": "input, axis, exclusive=False, reversed=False",
    "reverse": "input, axes=None",
    "resample2d": "input, sizes=None, scales=None, mode='nearest-neighbor', axes=None",
    "gru": f"{RECURRENT}, steps, hidden_size, bias=None, recurrent_bias=None, initial_hidden_state=None, "
    "reset_after=False, return_sequence=False, direction='forward', layout='zrn'",
    "gru_cell": f"{RECURRENT}, hidden_state, hidden_size, bias=None, recurrent_bias=None, reset_after=False, "
    "layout='zrn'",
    "lstm": f"{RECURRENT}, steps, hidden_size, bias=None, recurrent_bias=None, peephole_weight=None, "
    "initial_hidden_state=None, initial_cell_state=None, return_sequence=False, direction='forward', layout='iofg'",
    "lstm_cell": f"{RECURRENT}, hidden_state, cell_state, hidden_size, bias=None, recurrent_bias=None, "
    "peephole_weight=None, layout='iofg'",
    "operand_shape": "operand",
    "operand_data_type": "operand",
}

OTHERS = {
    "ML": {
        "create_context": "power_preference='default', accelerated=True, device_type='auto', backend='auto'",
    },
    "MLContext": {
        "create_graph_builder": "",
        "compute": "graph, inputs, outputs=None",
        "dispatch": "graph, inputs, outputs",
        "create_tensor": "shape, data_type, readable=True, writable=True, exportable_to_gpu=False",
        "create_host_tensor": "shape, data_type",
        "create_device_tensor": "graph, shape, data_type, device=None",
        "read_tensor": "tensor",
        "write_tensor": "tensor, data",
        "resize_tensor": "tensor, shape",
        "set_tensor_capacity": "tensor, max_shape",
        "op_support_limits": "",
        "backend_info": "",
        "convert_to_onnx": "graph, output_path",
        "convert_to_coreml": "graph, output_path",
    },
    "AsyncMLContext": {
        "dispatch": "graph, inputs, outputs",
        "read_tensor_async": "tensor",
        "write_tensor_async": "tensor, data",
        "create_graph_builder": "",
        "create_tensor": "shape, data_type, readable=True, writable=True, exportable_to_gpu=False",
        "compute": "graph, inputs, outputs=None",
        "read_tensor": "tensor",
        "write_tensor": "tensor, data",
    },
    "MLGraph": {
        "get_input_names": "",
        "get_output_names": "",
        "debug_operand": "idx",
        "count_empty_shapes": "",
        "count_unknown_shapes": "",
        "count_scalar_constants": "",
        "count_unknown_shapes_excluding_scalar_ops": "",
        "debug_unknown_shapes": "",
        "debug_unknown_shapes_structured": "",
        "save": "path, quantized=False, *, format='json', weights='inline'",
    },
    "MLTensor": {"destroy": ""},
    "Hub": {"download_model": "model_id, force=False", "list_cached_models": "", "clear_cache": "model_id=None"},
}

PROPERTIES = {
    "MLContext": ("power_preference", "accelerated"),
    "AsyncMLContext": ("power_preference", "accelerated"),
    "MLOperand": ("data_type", "shape", "name"),
    "MLGraph": ("operand_count", "operation_count"),
    "MLTensor": ("data_type", "shape", "size", "readable", "writable", "exportable_to_gpu"),
}


def signature(function: object) -> str:
    assert callable(function)
    parts, keyword_only = [], False
    for parameter in list(inspect.signature(function).parameters.values()):
        if parameter.name == "self":
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        default = parameter.default
        text = "inf" if default == math.inf else "-inf" if default == -math.inf else repr(default)
        parts.append(parameter.name if default is parameter.empty else f"{parameter.name}={text}")
    return ", ".join(parts)


@pytest.mark.parametrize("method", BUILDER)
def test_builder_methods(method: str) -> None:
    assert signature(getattr(webnn.MLGraphBuilder, method)) == BUILDER[method]


def test_no_other_builder_methods() -> None:
    public = {name for name in dir(webnn.MLGraphBuilder) if not name.startswith("_")}
    assert public == set(BUILDER)


@pytest.mark.parametrize(("kind", "method"), [(kind, method) for kind in OTHERS for method in OTHERS[kind]])
def test_other_methods(kind: str, method: str) -> None:
    assert signature(getattr(getattr(webnn, kind), method)) == OTHERS[kind][method]


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in PROPERTIES for name in PROPERTIES[kind]])
def test_properties(kind: str, name: str) -> None:
    assert isinstance(getattr(getattr(webnn, kind), name), property)


def test_load_is_static() -> None:
    assert signature(webnn.MLGraph.load) == "path, manifest_path=None, weights_path=None"


def test_names_of_the_module() -> None:
    pywebnn = {"ML", "MLContext", "AsyncMLContext", "MLGraphBuilder", "MLOperand", "MLGraph", "MLTensor", "Hub"}
    assert pywebnn <= set(webnn.__all__)
    assert webnn.__version__


def test_pynn_itself_does_not_import_it() -> None:
    source = str(Path(pynn.__file__).parent.parent)
    code = f"import sys; sys.path.insert(0, {source!r}); import pynn; pynn.ML; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not [name for name in loaded if name.startswith("pynn.compat")]
