"""The rewrites for TensorRT on a real GPU: the tests of tests/converter, whose expected values are numpy's."""

from __future__ import annotations

import pytest

from pynn.backends.base import CompileOptions
from pynn.backends.trt import TensorRTBackend
from pynn.converter.passes import backend_passes
from pynn.converter.serialize import to_model
from pynn.errors import EngineBuildError

from ..converter import legal
from ..converter import test_passes_tensorrt as integers
from ..converter import test_passes_tensorrt_operators as operators
from ..converter.legal import Array, Legal

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module")
def backend() -> TensorRTBackend:
    return TensorRTBackend()


@pytest.fixture(autouse=True)
def on_the_gpu(backend: TensorRTBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    version = str(next(probe for probe in backend.probe() if probe.usable).details.get("version", "1.7"))
    monkeypatch.setattr(legal, "PASSES", backend_passes("tensorrt", version))

    def run(self: Legal, reference: bool = False) -> list[Array]:
        if not self.passes:
            return self.run_on_cpu(reference)
        try:
            executable = backend.compile(to_model(self.graph), CompileOptions())
        except EngineBuildError as error:
            if "No valid engine configs for Matmul" in str(error):
                pytest.xfail(
                    "TensorRT for RTX has no kernel for this product on this GPU: 4-bit blocks of 2 rows on 9.0"
                )
            raise
        with executable:
            results = executable.run(self.feeds)
        return [results[name] for name in self.graph.outputs]

    monkeypatch.setattr(Legal, "run", run)


test_layer_normalization = integers.test_half_layer_normalization_rounds_once
test_arithmetic = integers.test_arithmetic_wraps_as_the_type_does
test_constant_power = integers.test_constant_power_is_exact
test_order = integers.test_order_is_unsigned_above_the_sign_bit
test_clamp_and_where = integers.test_clamp_and_where
test_cast = integers.test_cast_keeps_low_bits_and_rounds_once
test_casts_in_a_row = integers.test_casts_in_a_row
test_cast_of_floats = integers.test_cast_of_floats_truncates
test_uint64_to_float = integers.test_uint64_to_float_rounds_to_nearest_even
test_reductions = integers.test_reductions
test_arg_extremes = integers.test_arg_extremes
test_cumulative_sum = integers.test_cumulative_sum_wraps
test_data_movement = integers.test_data_movement_keeps_every_bit
test_large_table = integers.test_a_large_table_of_bytes_stays_one
test_two_names = integers.test_two_names_for_one_result
test_max_pool = operators.test_max_pool
test_dilated_sums = operators.test_dilated_sums
test_conv_transpose = operators.test_conv_transpose_with_stride_and_dilation
test_constant_weights = operators.test_constant_weights_stay_small
test_quantization = operators.test_quantization_is_exact
test_low_ranks = operators.test_one_dimension_and_scalars
test_logic = operators.test_logic_with_a_constant
test_equal_branches = operators.test_where_between_equal_constants
test_float_only = operators.test_relu_prelu_sign_on_integers
test_resample = operators.test_resample_of_bytes
