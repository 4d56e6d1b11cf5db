"""The operators of torch_npu, NNAL (ATB) and vLLM-Ascend's own library, by subject.

What lies between two products is float32, and a result is rounded once to the tensors'
dtype: so the cards' documents describe these kernels. A card's bits are not claimed.
Importing this package registers them.
"""

from torch_npu.operators import (
    activation,
    attention,
    cache,
    experts,
    norms,
    products,
    quantization,
    rotation,
    sampling,
    storage,
    vocabulary,
)
