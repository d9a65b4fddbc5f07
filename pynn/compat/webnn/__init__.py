"""pynn under the names of the package pywebnn, so that code written for it runs on pynn unchanged.

    import sys
    import pynn.compat.webnn
    sys.modules["webnn"] = pynn.compat.webnn

Names, signatures and leniencies are pywebnn's; data types stay exact. What differs: docs/compat.md.
"""

from .builder import MLGraphBuilder
from .context import ML, AsyncMLContext, MLContext
from .graph import MLGraph
from .hub import Hub
from .operand import MLOperand
from .tensor import MLDeviceTensor, MLTensor

__version__ = "0.5.12"
"""The version of pywebnn whose interface this is."""

__all__ = [
    "ML",
    "AsyncMLContext",
    "Hub",
    "MLContext",
    "MLDeviceTensor",
    "MLGraph",
    "MLGraphBuilder",
    "MLOperand",
    "MLTensor",
]
