"""Values on the GPU are compared in float32: TensorRT for RTX reads this when it is loaded, which comes later."""

from __future__ import annotations

import os

os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
