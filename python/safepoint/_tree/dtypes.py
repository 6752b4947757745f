"""What the kinds of arrays have in common: memory, types of elements and their names."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from .._errors import CorruptError, IncompatibleError

if TYPE_CHECKING:
    from .encoder import Encoder
    from .path import Path


class Memory(NamedTuple):
    """A piece of memory and the object it belongs to. The address of ``bytes`` is found by the native half."""

    address: int
    length: int
    owner: object
    #: Never changes, so that a save in the background needs no copy.
    frozen: bool


#: Types that the format has, by what numpy calls them.
ELEMENTS = {
    "float64": "f64",
    "float32": "f32",
    "float16": "f16",
    "bfloat16": "bf16",
    "int64": "i64",
    "int32": "i32",
    "int16": "i16",
    "int8": "i8",
    "uint64": "u64",
    "uint32": "u32",
    "uint16": "u16",
    "uint8": "u8",
    "bool": "bool",
}
NAMES = {element: name for name, element in ELEMENTS.items()}

#: What is said of a tensor beside its memory.
FLAGS = ("parameter", "requires_grad")


def is_fillable(value: Any) -> bool:
    """Whether a load is to fill it."""
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return True
    if torch is not None and hasattr(torch, "Tensor") and isinstance(value, torch.Tensor):
        return True
    return is_of_jax(value)


def is_of_jax(value: Any) -> bool:
    """Whether it is an array of jax, which cannot be changed."""
    jax = sys.modules.get("jax")
    return jax is not None and hasattr(jax, "Array") and isinstance(value, jax.Array)


def numpy_dtype_text(encoder: Encoder, dtype: Any, path: Path) -> Any:
    import numpy

    if dtype.hasobject or dtype.kind == "T":
        raise encoder.refuse(
            path, f"has elements of type {dtype}, which are Python objects", "save it as a list, or as numbers"
        )
    if dtype.type.__module__.partition(".")[0] == "ml_dtypes":
        return f"ml_dtypes.{dtype.name}"
    return numpy.lib.format.dtype_to_descr(dtype)


def numpy_dtype(text: Any) -> Any:
    import numpy

    if isinstance(text, str) and text.startswith("ml_dtypes."):
        return _small_dtype(text.removeprefix("ml_dtypes."))
    dtype = numpy.lib.format.descr_to_dtype(_with_tuples(text))
    if dtype.hasobject:
        raise CorruptError(f"an array cannot have the type {dtype}: its elements would be Python objects")
    return dtype


def _with_tuples(text: Any) -> Any:
    """A description of a type with records, whose tuples JSON made lists."""
    if not isinstance(text, list):
        return text
    fields = []
    for field in text:
        name, kind, *shape = field
        made = tuple(name) if isinstance(name, list) else name
        fields.append((made, _with_tuples(kind), *(tuple(sides) for sides in shape)))
    return fields


def _small_dtype(name: str) -> Any:
    import numpy

    try:
        import ml_dtypes
    except ImportError:
        raise IncompatibleError(
            f"numpy has no {name} without the package ml_dtypes", hint="pip install ml_dtypes"
        ) from None
    kind = getattr(ml_dtypes, name, None)
    if not isinstance(kind, type):
        raise IncompatibleError(f"the package ml_dtypes has no type {name}", hint="install a newer one")
    return numpy.dtype(kind)


def element_dtype(element: str) -> Any:
    import numpy

    name = NAMES[element]
    return _small_dtype(name) if name == "bfloat16" else numpy.dtype(name)


def torch_of(path: Path) -> Any:
    from .path import show

    try:
        import torch
    except ImportError:
        raise IncompatibleError(f"{show(path)} is a tensor of torch, which is not installed") from None
    return torch


def torch_dtype(torch: Any, name: str) -> Any:
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype):
        raise IncompatibleError(f"torch has no type {name}", hint="install the version that saved it")
    return dtype
