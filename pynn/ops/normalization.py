"""Normalisation. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-batchnorm and its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..graph import Node, Operand
from ..types import FLOAT_TYPES, OperandDescriptor, Shape
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import ANY_RANK, Param, define
from .spatial import LAYOUTS, channel_axis, from_nchw, to_nchw

SECTION = "normalization"


def _check_vector(c: Call, name: str, length: int) -> None:
    vector = c.optional(name)
    if vector is not None and vector.shape != (length,):
        c.fail(f"{name} has shape {list(vector.shape)}, expected [{length}]: one number for each channel of input")


def _filled(e: Emitter, n: Node, name: str, value: float, shape: Shape, data_type: str) -> Tensor:
    """An optional operand, or a constant in its place."""
    return e.optional(n, name) or e.constant(np.full(shape, value, dtype=data_type))


def _own_mean(e: Emitter, x: Tensor, scale: Tensor | None, bias: Tensor | None) -> Tensor:
    """Each element is its own mean: 0 (NaN of NaN and infinity), scaled and shifted."""
    x = e.op("Sub", x, x)
    x = e.op("Mul", x, scale) if scale is not None else x
    return e.op("Add", x, bias) if bias is not None else x


def _per_channel(e: Emitter, vector: Tensor | None) -> Tensor | None:
    return e.reshape(vector, (vector.shape[0], 1, 1)) if vector is not None else None


# -- batchNormalization ---------------------------------------------------------------------


def _infer_batch(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    axis = c.axis(x.rank)
    c.finite("epsilon", x.data_type)
    for name in ("mean", "variance", "scale", "bias"):
        _check_vector(c, name, x.shape[axis])
    return x.descriptor


def _lower_batch(e: Emitter, n: Node) -> Tensor:
    x = e.input(n, "input")
    axis = n.attributes["axis"]
    if axis == 1:
        return _batch_normalization(e, n, x)
    if axis == 3 and x.rank == 4:
        # In a channels-last network these transposes cancel against those of the convolutions around.
        return from_nchw(e, _batch_normalization(e, n, to_nchw(e, x, "nhwc")), "nhwc")
    if axis == 0:
        flat = e.reshape(x, (1, x.shape[0], *x.shape[1:]))
        return e.reshape(_batch_normalization(e, n, flat), x.shape)
    shape = tuple(d if i == axis else 1 for i, d in enumerate(x.shape))[axis:]
    mean, variance = (e.reshape(e.input(n, name), shape) for name in ("mean", "variance"))
    scale, bias = (e.optional(n, name) for name in ("scale", "bias"))
    epsilon = e.scalar(n.attributes["epsilon"], x.data_type)
    x = e.op("Div", e.op("Sub", x, mean), e.op("Sqrt", e.op("Add", variance, epsilon)))
    if scale is not None:
        x = e.op("Mul", x, e.reshape(scale, shape))
    if bias is not None:
        x = e.op("Add", x, e.reshape(bias, shape))
    return x


def _batch_normalization(e: Emitter, n: Node, x: Tensor) -> Tensor:
    channels = (x.shape[1],)
    return e.op(
        "BatchNormalization",
        x,
        _filled(e, n, "scale", 1, channels, x.data_type),
        _filled(e, n, "bias", 0, channels, x.data_type),
        e.input(n, "mean"),
        e.input(n, "variance"),
        epsilon=n.attributes["epsilon"],
    )


# -- instanceNormalization ------------------------------------------------------------------


def _infer_instance(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    c.finite("epsilon", x.data_type)
    channels = x.shape[channel_axis(c.enum("layout", *LAYOUTS))]
    for name in ("scale", "bias"):
        _check_vector(c, name, channels)
    return x.descriptor


def _lower_instance(e: Emitter, n: Node) -> Tensor:
    layout = n.attributes["layout"]
    x = to_nchw(e, e.input(n, "input"), layout)
    if x.shape[2] * x.shape[3] == 1:
        return from_nchw(e, _own_mean(e, x, *(_per_channel(e, e.optional(n, p)) for p in ("scale", "bias"))), layout)
    scale = _filled(e, n, "scale", 1, (x.shape[1],), x.data_type)
    bias = _filled(e, n, "bias", 0, (x.shape[1],), x.data_type)
    return from_nchw(e, e.op("InstanceNormalization", x, scale, bias, epsilon=n.attributes["epsilon"]), layout)


# -- layerNormalization ---------------------------------------------------------------------


def _infer_layer(c: Call) -> OperandDescriptor:
    x = c.operand("input")
    if c.attributes["axes"] is None:
        c.attributes["axes"] = tuple(range(1, x.rank))
    axes = c.axes(x.rank)
    c.finite("epsilon", x.data_type)
    shape = tuple(x.shape[axis] for axis in axes)
    for name in ("scale", "bias"):
        operand = c.optional(name)
        if operand is not None and operand.shape != shape:
            c.fail(
                f"{name} has shape {list(operand.shape)}, expected {list(shape)}: the dimensions {list(axes)} of input "
                f"{list(x.shape)}"
            )
    return x.descriptor


def _lower_layer(e: Emitter, n: Node) -> Tensor:
    x, scale, bias = e.input(n, "input"), e.optional(n, "scale"), e.optional(n, "bias")
    axes: tuple[int, ...] = n.attributes["axes"]
    if not axes:
        return _own_mean(e, x, scale, bias)
    ascending = sorted(range(len(axes)), key=axes.__getitem__)
    outer = [axis for axis in range(x.rank) if axis not in axes]
    order = outer + sorted(axes)
    x = e.transpose(x, order)
    inner = x.shape[len(outer) :]
    result = e.op(
        "LayerNormalization",
        x,
        e.transpose(scale, ascending) if scale is not None else e.constant(np.ones(inner, dtype=x.data_type)),
        e.transpose(bias, ascending) if bias is not None else None,
        axis=len(outer),
        epsilon=n.attributes["epsilon"],
    )
    return e.transpose(result, [order.index(axis) for axis in range(len(order))])


BATCH_NORMALIZATION = define(
    "batchNormalization",
    SECTION,
    Param("input", FLOAT_TYPES, rank=(1, ANY_RANK[1])),
    Param("mean", FLOAT_TYPES, rank=1, like="input"),
    Param("variance", FLOAT_TYPES, rank=1, like="input"),
    Param("scale", FLOAT_TYPES, rank=1, like="input", optional=True),
    Param("bias", FLOAT_TYPES, rank=1, like="input", optional=True),
    infer=_infer_batch,
    lower=_lower_batch,
)
INSTANCE_NORMALIZATION = define(
    "instanceNormalization",
    SECTION,
    Param("input", FLOAT_TYPES, rank=4),
    Param("scale", FLOAT_TYPES, rank=1, like="input", optional=True),
    Param("bias", FLOAT_TYPES, rank=1, like="input", optional=True),
    infer=_infer_instance,
    lower=_lower_instance,
)
LAYER_NORMALIZATION = define(
    "layerNormalization",
    SECTION,
    Param("input", FLOAT_TYPES),
    Param("scale", FLOAT_TYPES, like="input", optional=True),
    Param("bias", FLOAT_TYPES, like="input", optional=True),
    infer=_infer_layer,
    lower=_lower_layer,
)


class Normalization(OperatorMethods):
    """float32 or float16; the result has the data type and shape of ``input``.

    All operands have the data type of ``input``. ``epsilon`` is a finite number, rounded to that type. A missing
    ``scale`` is 1, a missing ``bias`` 0. Each raises ValidationError (a TypeError) for another data type or rank, an
    operand that has not the shape said, an axis out of range, and an epsilon that is not finite.
    """

    def batch_normalization(
        self,
        input: Operand,
        mean: Operand,
        variance: Operand,
        *,
        scale: Operand | None = None,
        bias: Operand | None = None,
        axis: int = 1,
        epsilon: float = 1e-5,
        label: str = "",
    ) -> Operand:
        """``(x - mean) / sqrt(variance + epsilon) * scale + bias`` with given statistics.

        ``mean``, ``variance``, ``scale`` and ``bias`` have shape ``[input.shape[axis]]``. ``axis`` is 1 for nchw;
        channels-last inputs need 3, rank 1 needs 0.
        """
        return self._add(
            BATCH_NORMALIZATION,
            label,
            {"input": input, "mean": mean, "variance": variance, "scale": scale, "bias": bias},
            axis=axis,
            epsilon=epsilon,
        )

    def instance_normalization(
        self,
        input: Operand,
        *,
        scale: Operand | None = None,
        bias: Operand | None = None,
        epsilon: float = 1e-5,
        layout: str = "nchw",
        label: str = "",
    ) -> Operand:
        """Each image's channel of ``input`` (rank 4, ``layout`` "nchw" or "nhwc") normalised by its own mean and
        variance.

        The variance is the population's (divided by height times width). ``scale`` and ``bias`` have shape
        ``[channels]``.
        """
        return self._add(
            INSTANCE_NORMALIZATION,
            label,
            {"input": input, "scale": scale, "bias": bias},
            epsilon=epsilon,
            layout=layout,
        )

    def layer_normalization(
        self,
        input: Operand,
        *,
        scale: Operand | None = None,
        bias: Operand | None = None,
        axes: Sequence[int] | None = None,
        epsilon: float = 1e-5,
        label: str = "",
    ) -> Operand:
        """``input`` normalised by mean and population variance over ``axes``.

        ``axes`` are distinct, in any order; by default all but the first. ``scale`` and ``bias`` have shape
        ``[input.shape[a] for a in axes]``, in that order. Without any axis every element is its own mean: the result is
        ``bias``.
        """
        return self._add(
            LAYER_NORMALIZATION,
            label,
            {"input": input, "scale": scale, "bias": bias},
            axes=axes,
            epsilon=epsilon,
        )
