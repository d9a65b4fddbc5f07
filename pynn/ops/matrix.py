"""Matrix products. Spec: https://www.w3.org/TR/webnn/#api-mlgraphbuilder-gemm and -matmul."""

from __future__ import annotations

from ..graph import Node, Operand
from ..types import FLOAT_TYPES, OperandDescriptor
from .call import Call
from .emitter import Emitter, Tensor
from .methods import OperatorMethods
from .registry import ANY_RANK, Param, define

SECTION = "matrix"

_MATRICES = (2, ANY_RANK[1])


def _infer_gemm(c: Call) -> OperandDescriptor:
    a, b, bias = c.operand("a"), c.operand("b"), c.optional("c")
    c.finite("alpha", a.data_type)
    c.finite("beta", a.data_type)
    rows, inner = reversed(a.shape) if c.flag("a_transpose") else a.shape
    depth, columns = reversed(b.shape) if c.flag("b_transpose") else b.shape
    if inner != depth:
        c.fail(
            f"a {list(a.shape)} and b {list(b.shape)} do not multiply: [{rows}, {inner}] by [{depth}, {columns}] after "
            "the transposes"
        )
    if bias is not None:
        target = (rows, columns)[2 - bias.rank :]
        if any(have not in (1, want) for have, want in zip(bias.shape, target, strict=True)):
            c.fail(f"c of shape {list(bias.shape)} does not broadcast to the result [{rows}, {columns}]")
    return c.descriptor(a.data_type, (rows, columns))


def _lower_gemm(e: Emitter, n: Node) -> Tensor:
    a = n.attributes
    return e.op(
        "Gemm",
        e.input(n, "a"),
        e.input(n, "b"),
        e.optional(n, "c"),
        shape=n.outputs[0].shape,
        alpha=a["alpha"],
        beta=a["beta"],
        transA=int(a["a_transpose"]),
        transB=int(a["b_transpose"]),
    )


def _infer_matmul(c: Call) -> OperandDescriptor:
    a, b = c.operand("a"), c.operand("b")
    if a.shape[-1] != b.shape[-2]:
        c.fail(f"a {list(a.shape)} has {a.shape[-1]} columns but b {list(b.shape)} has {b.shape[-2]} rows")
    batch = c.broadcast(a.shape[:-2], b.shape[:-2], "the batches of a and b")
    return c.descriptor(a.data_type, (*batch, a.shape[-2], b.shape[-1]))


def _lower_matmul(e: Emitter, n: Node) -> Tensor:
    return e.op("MatMul", e.input(n, "a"), e.input(n, "b"), shape=n.outputs[0].shape)


GEMM = define(
    "gemm",
    SECTION,
    Param("a", FLOAT_TYPES, rank=2),
    Param("b", FLOAT_TYPES, rank=2, like="a"),
    Param("c", FLOAT_TYPES, rank=(0, 2), like="a", optional=True),
    infer=_infer_gemm,
    lower=_lower_gemm,
)
MATMUL = define(
    "matmul",
    SECTION,
    Param("a", FLOAT_TYPES, rank=_MATRICES),
    Param("b", FLOAT_TYPES, rank=_MATRICES, like="a"),
    infer=_infer_matmul,
    lower=_lower_matmul,
)


class Matrix(OperatorMethods):
    """float32 or float16; all operands have the same data type.

    Each raises ValidationError (a TypeError) for another data type or rank and for shapes that do not fit together.
    """

    def gemm(
        self,
        a: Operand,
        b: Operand,
        *,
        c: Operand | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        a_transpose: bool = False,
        b_transpose: bool = False,
        label: str = "",
    ) -> Operand:
        """``alpha * a @ b + beta * c`` of matrices, ``a`` and ``b`` transposed if so asked.

        ``c`` (rank 0 to 2) broadcasts to the result ``[M, N]``; rank 1 is a row of length N or 1. ``alpha`` and
        ``beta`` are finite numbers, rounded to the data type of ``a``.
        """
        return self._add(
            GEMM,
            label,
            {"a": a, "b": b, "c": c},
            alpha=alpha,
            beta=beta,
            a_transpose=a_transpose,
            b_transpose=b_transpose,
        )

    def matmul(self, a: Operand, b: Operand, *, label: str = "") -> Operand:
        """Matrix products over the last two dimensions, at least rank 2; the dimensions before broadcast."""
        return self._add(MATMUL, label, {"a": a, "b": b})
