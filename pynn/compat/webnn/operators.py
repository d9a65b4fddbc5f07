"""The other operators, with pywebnn's signatures."""

from __future__ import annotations

from collections.abc import Sequence

from .elementwise import ElementwiseMethods
from .operand import MLOperand

Ints = Sequence[int] | None


class StructuralMethods(ElementwiseMethods):
    # -- matrices and convolutions; ``pads`` is the spec's padding: height before, after, width before, after

    def matmul(self, a: MLOperand, b: MLOperand) -> MLOperand:
        """The matrix product of the last two dimensions; those before are broadcast."""
        return self._one("matmul", a, b)

    def gemm(
        self,
        a: MLOperand,
        b: MLOperand,
        c: MLOperand | None = None,
        alpha: float = 1.0,
        beta: float = 1.0,
        a_transpose: bool = False,
        b_transpose: bool = False,
    ) -> MLOperand:
        """``alpha * a @ b + beta * c``, of matrices that may be transposed first."""
        return self._one("gemm", a, b, c=c, alpha=alpha, beta=beta, a_transpose=a_transpose, b_transpose=b_transpose)

    def conv2d(
        self,
        input: MLOperand,
        filter: MLOperand,
        strides: Ints = None,
        dilations: Ints = None,
        pads: Ints = None,
        groups: int | None = None,
        input_layout: str | None = None,
        filter_layout: str | None = None,
        bias: MLOperand | None = None,
    ) -> MLOperand:
        """2-D convolution."""
        return self._one(
            "conv2d",
            input,
            filter,
            strides=strides,
            dilations=dilations,
            padding=pads,
            groups=groups,
            input_layout=input_layout,
            filter_layout=filter_layout,
            bias=bias,
        )

    def conv_transpose2d(
        self,
        input: MLOperand,
        filter: MLOperand,
        strides: Ints = None,
        dilations: Ints = None,
        pads: Ints = None,
        output_padding: Ints = None,
        output_sizes: Ints = None,
        groups: int | None = None,
        input_layout: str | None = None,
        filter_layout: str | None = None,
        bias: MLOperand | None = None,
    ) -> MLOperand:
        """2-D transposed convolution."""
        return self._one(
            "conv_transpose2d",
            input,
            filter,
            strides=strides,
            dilations=dilations,
            padding=pads,
            output_padding=output_padding,
            output_sizes=output_sizes,
            groups=groups,
            input_layout=input_layout,
            filter_layout=filter_layout,
            bias=bias,
        )

    # -- pools

    def average_pool2d(
        self,
        input: MLOperand,
        window_dimensions: Ints = None,
        strides: Ints = None,
        dilations: Ints = None,
        pads: Ints = None,
        layout: str | None = None,
    ) -> MLOperand:
        """The mean of each window; a window is one element by default."""
        return self._pool("average_pool2d", input, window_dimensions, strides, dilations, pads, layout)

    def max_pool2d(
        self,
        input: MLOperand,
        window_dimensions: Ints = None,
        strides: Ints = None,
        dilations: Ints = None,
        pads: Ints = None,
        layout: str | None = None,
    ) -> MLOperand:
        """The maximum of each window; a window is one element by default."""
        return self._pool("max_pool2d", input, window_dimensions, strides, dilations, pads, layout)

    def l2_pool2d(
        self,
        input: MLOperand,
        window_dimensions: Ints = None,
        strides: Ints = None,
        dilations: Ints = None,
        pads: Ints = None,
        layout: str | None = None,
    ) -> MLOperand:
        """The L2 norm of each window; a window is one element by default."""
        return self._pool("l2_pool2d", input, window_dimensions, strides, dilations, pads, layout)

    def _pool(
        self,
        method: str,
        input: MLOperand,
        window: Ints,
        strides: Ints,
        dilations: Ints,
        pads: Ints,
        layout: str | None,
    ) -> MLOperand:
        return self._one(
            method,
            input,
            window_dimensions=[1, 1] if window is None else window,
            strides=strides,
            dilations=dilations,
            padding=pads,
            layout=layout,
        )

    def global_average_pool(self, input: MLOperand, layout: str | None = None) -> MLOperand:
        """The mean over height and width, both kept as 1."""
        return self._one("global_average_pool", input, layout=layout)

    def global_max_pool(self, input: MLOperand, layout: str | None = None) -> MLOperand:
        """The maximum over height and width, both kept as 1."""
        return self._one("global_max_pool", input, layout=layout)

    # -- normalization and quantization

    def batch_normalization(
        self,
        input: MLOperand,
        mean: MLOperand,
        variance: MLOperand,
        scale: MLOperand | None = None,
        bias: MLOperand | None = None,
        epsilon: float = 1e-5,
        axis: int = 1,
    ) -> MLOperand:
        """Normalize by given means and variances along ``axis``."""
        return self._one(
            "batch_normalization", input, mean, variance, scale=scale, bias=bias, epsilon=epsilon, axis=axis
        )

    def instance_normalization(
        self,
        input: MLOperand,
        scale: MLOperand | None = None,
        bias: MLOperand | None = None,
        epsilon: float = 1e-5,
        layout: str | None = None,
    ) -> MLOperand:
        """Normalize each channel of each image."""
        return self._one("instance_normalization", input, scale=scale, bias=bias, epsilon=epsilon, layout=layout)

    def layer_normalization(
        self,
        input: MLOperand,
        scale: MLOperand | None = None,
        bias: MLOperand | None = None,
        epsilon: float = 1e-5,
        axes: Ints = None,
    ) -> MLOperand:
        """Normalize over ``axes``; by default over as many last ones as ``scale`` or ``bias`` has, else the last."""
        if axes is None:
            rank, given = len(input.shape), scale if scale is not None else bias
            count = len(given.shape) if given is not None and 0 < len(given.shape) <= rank else 1
            axes = range(max(rank - count, 0), rank)
        return self._one("layer_normalization", input, scale=scale, bias=bias, epsilon=epsilon, axes=list(axes))

    def dequantize_linear(self, input: MLOperand, scale: MLOperand, zero_point: MLOperand) -> MLOperand:
        """``(input - zero_point) * scale``, in the data type of ``scale``."""
        return self._one("dequantize_linear", input, scale, zero_point)

    def quantize_linear(self, input: MLOperand, scale: MLOperand, zero_point: MLOperand) -> MLOperand:
        """``input / scale + zero_point``, in the data type of ``zero_point``."""
        return self._one("quantize_linear", input, scale, zero_point)

    # -- shapes

    def reshape(self, x: MLOperand, new_shape: Sequence[int]) -> MLOperand:
        """The same elements in another shape."""
        return self._one("reshape", x, new_shape)

    def squeeze(self, input: MLOperand, axes: Ints = None) -> MLOperand:
        """Without the dimensions ``axes``, which must be 1; by default without all that are 1."""
        return self._one("squeeze", input, axes=axes)

    def unsqueeze(self, input: MLOperand, axes: Sequence[int]) -> MLOperand:
        """With dimensions of 1 where ``axes`` counts in the result."""
        return self._one("unsqueeze", input, axes)

    def shape(self, input: MLOperand) -> MLOperand:
        """The shape as an int64 operand of rank 1."""
        return self._one("shape", input)

    def transpose(self, input: MLOperand, permutation: Ints = None) -> MLOperand:
        """The dimensions in another order, by default reversed."""
        return self._one("transpose", input, permutation=permutation)

    def expand(self, input: MLOperand, new_shape: Sequence[int]) -> MLOperand:
        """Broadcast to ``new_shape``."""
        return self._one("expand", input, new_shape)

    def concat(self, inputs: Sequence[MLOperand], axis: int) -> MLOperand:
        """Joined along ``axis``."""
        return self._one("concat", list(inputs), axis)

    def split(self, input: MLOperand, splits: int | Sequence[int], axis: int = 0) -> list[MLOperand]:
        """Pieces along ``axis``: so many equal ones, or of these sizes."""
        return self._many("split", input, splits, axis=axis)

    def slice(self, input: MLOperand, starts: Sequence[int], sizes: Sequence[int], strides: Ints = None) -> MLOperand:
        """The window of ``sizes`` from ``starts``."""
        return self._one("slice", input, starts, sizes, strides=strides)

    def tile(self, input: MLOperand, repetitions: Sequence[int]) -> MLOperand:
        """Repeated so often in each dimension."""
        return self._one("tile", input, repetitions)

    def reverse(self, input: MLOperand, axes: Ints = None) -> MLOperand:
        """Backwards along ``axes``, by default all."""
        return self._one("reverse", input, axes=axes)

    def pad(
        self, input: MLOperand, padding: Sequence[int], mode: str | None = None, value: float | None = None
    ) -> MLOperand:
        """Padded; ``padding`` has first each dimension's beginning, then each one's end."""
        half = len(padding) // 2
        return self._one("pad", input, list(padding[:half]), list(padding[half:]), mode=mode, value=value)

    def triangular(self, input: MLOperand, upper: bool = True, diagonal: int = 0) -> MLOperand:
        """The upper or lower triangle of the last two dimensions, zero elsewhere."""
        return self._one("triangular", input, upper=upper, diagonal=diagonal)

    def resample2d(
        self,
        input: MLOperand,
        sizes: Ints = None,
        scales: Sequence[float] | None = None,
        mode: str = "nearest-neighbor",
        axes: Ints = None,
    ) -> MLOperand:
        """Resized along ``axes``, by default the last two."""
        rank = len(input.shape)
        axes = [max(rank - 2, 0), max(rank - 1, 0)] if axes is None else axes
        return self._one("resample2d", input, sizes=sizes, scales=scales or None, mode=mode, axes=axes)

    # -- selection

    def where_(self, condition: MLOperand, true_value: MLOperand, false_value: MLOperand) -> MLOperand:
        """``true_value`` where ``condition`` is not zero, else ``false_value``."""
        return self._one("where", condition, true_value, false_value)

    def gather(self, input: MLOperand, indices: MLOperand, axis: int = 0) -> MLOperand:
        """The slices that ``indices`` name along ``axis``."""
        return self._one("gather", input, indices, axis=axis)

    def gather_elements(self, input: MLOperand, indices: MLOperand, axis: int = 0) -> MLOperand:
        """The elements that ``indices`` name along ``axis``."""
        return self._one("gather_elements", input, indices, axis=axis)

    def gather_nd(self, input: MLOperand, indices: MLOperand) -> MLOperand:
        """The slices that the last dimension of ``indices`` names."""
        return self._one("gather_nd", input, indices)

    def scatter_elements(self, input: MLOperand, indices: MLOperand, updates: MLOperand, axis: int = 0) -> MLOperand:
        """``input`` with elements replaced along ``axis``."""
        return self._one("scatter_elements", input, indices, updates, axis=axis)

    def scatter_nd(self, input: MLOperand, indices: MLOperand, updates: MLOperand) -> MLOperand:
        """``input`` with slices replaced."""
        return self._one("scatter_nd", input, indices, updates)

    def arg_max(
        self, input: MLOperand, axis: int, keep_dimensions: bool = False, output_data_type: str | None = None
    ) -> MLOperand:
        """Where the maximum is along ``axis``; int64 by default."""
        return self._one(
            "arg_max", input, axis, keep_dimensions=keep_dimensions, output_data_type=output_data_type or "int64"
        )

    def arg_min(
        self, input: MLOperand, axis: int, keep_dimensions: bool = False, output_data_type: str | None = None
    ) -> MLOperand:
        """Where the minimum is along ``axis``; int64 by default."""
        return self._one(
            "arg_min", input, axis, keep_dimensions=keep_dimensions, output_data_type=output_data_type or "int64"
        )

    def cumulative_sum(self, input: MLOperand, axis: int, exclusive: bool = False, reversed: bool = False) -> MLOperand:
        """The running sum along ``axis``."""
        return self._one("cumulative_sum", input, axis, exclusive=exclusive, reversed=reversed)
