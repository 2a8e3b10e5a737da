"""Between NumPy arrays, which records hold, and torch tensors, which models take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

Array: TypeAlias = np.ndarray[Any, Any]


def to_tensors(arrays: Mapping[str, Array]) -> dict[str, torch.Tensor]:
    """Arrays as tensors on the CPU; bfloat16 arrays (of ml_dtypes) become torch.bfloat16.

    Copies: a forward that works in place must change neither what ONNX Runtime is fed next nor what a user holds.
    """
    import torch

    def one(array: Array) -> torch.Tensor:
        array = np.array(array, order="C")  # ascontiguousarray makes a scalar one of rank 1
        if array.dtype.name == "bfloat16":
            return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
        return torch.from_numpy(array)

    return {name: one(array) for name, array in arrays.items()}


def to_arrays(tensors: Mapping[str, torch.Tensor]) -> dict[str, Array]:
    """Tensors as arrays; torch.bfloat16 becomes the bfloat16 of ml_dtypes, which ONNX uses too."""
    import torch

    def one(tensor: torch.Tensor) -> Array:
        tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
        if tensor.dtype == torch.bfloat16:
            import ml_dtypes

            return np.asarray(tensor.view(torch.int16).numpy().view(ml_dtypes.bfloat16))
        array: Array = tensor.numpy()
        return array

    return {name: one(tensor) for name, tensor in tensors.items()}


def dtype_name(array: Array) -> str:
    """NumPy's name of the dtype, as a TensorSpec holds it."""
    return str(array.dtype.name)
