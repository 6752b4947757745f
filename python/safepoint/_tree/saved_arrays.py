"""Arrays of numpy, jax and torch as memory that is written from where it is.

Copied, once, is only what does not lie in memory in one piece, or on another device.

Torch. Tensors that are the same memory (tied weights) are one buffer. Different views that overlap in one storage are
one buffer with a view for each. Strides are kept where a tensor fills its memory, such as a transposed or
``channels_last`` one: kernels may sum in another order for other strides.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .dtypes import ELEMENTS, FLAGS, Memory, numpy_dtype_text

if TYPE_CHECKING:
    from .encoder import Encoder
    from .path import Path


def encode(encoder: Encoder, value: Any, path: Path) -> Any:
    """The node of an array or of what comes with arrays; ``None`` if it is neither."""
    numpy, torch, jax = (sys.modules.get(name) for name in ("numpy", "torch", "jax"))
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return _encode_numpy(encoder, value, path)
        if isinstance(value, numpy.generic):
            return {"$scalar": numpy_dtype_text(encoder, value.dtype, path), "hex": value.tobytes().hex()}
    if torch is not None and hasattr(torch, "Tensor"):
        if isinstance(value, torch.Tensor):
            return _encode_torch(encoder, value, path)
        if isinstance(value, torch.Size):
            return {"$torch": "Size", "value": list(value)}
        if isinstance(value, torch.dtype):
            return {"$torch": "dtype", "value": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"$torch": "device", "value": str(value)}
        if isinstance(value, torch.Generator) and value.device.type == "cpu":
            from base64 import b64encode

            return {"$generator": b64encode(value.get_state().numpy().tobytes()).decode()}
    if jax is not None and hasattr(jax, "Array") and isinstance(value, jax.Array):
        return _encode_jax(encoder, value, path)
    return None


def _encode_numpy(encoder: Encoder, value: Any, path: Path, *, frozen: bool = False) -> Any:
    import numpy

    if type(value) not in (numpy.ndarray, numpy.memmap):
        kind = type(value).__qualname__
        raise encoder.refuse(
            path, f"is a {kind}, a subclass of numpy.ndarray", "save what it is made of as plain arrays"
        )
    text = numpy_dtype_text(encoder, value.dtype, path)
    key = ("numpy", value.__array_interface__["data"][0], value.shape, value.strides, str(value.dtype))
    known = encoder.known.get(key)
    if known is not None and value.size > 0:
        return dict(encoder.nodes[known])
    encoder.kept.append(value)
    node: dict[str, Any] = {"$array": None}
    held = value
    if value.flags.c_contiguous:
        pass
    elif value.flags.f_contiguous:
        held = value.T
        node["order"] = "F"
    else:
        held = value.copy(order="C")
    memory = Memory(held.__array_interface__["data"][0], held.nbytes, held, frozen)
    element = ELEMENTS.get(value.dtype.name)
    if element is not None and value.dtype.isnative:
        node["$array"] = encoder.add(path, element, held.shape, memory)
    else:
        node["$array"] = encoder.add(path, "u8", [held.nbytes], memory)
        node["dtype"] = text
        node["shape"] = list(held.shape)
    encoder.known[key] = node["$array"]
    encoder.nodes[node["$array"]] = node
    return node


def _encode_jax(encoder: Encoder, value: Any, path: Path) -> Any:
    import jax
    import numpy

    if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise encoder.refuse(path, "is a key of jax.random", "save `jax.random.key_data(key)`")
    try:
        held = numpy.asarray(value)
    except Exception as error:
        raise encoder.refuse(
            path, f"is an array of jax whose values are not here: {error}", "gather it on this host first"
        ) from error
    return {**_encode_numpy(encoder, held, path, frozen=True), "of": "jax"}


def _encode_torch(encoder: Encoder, value: Any, path: Path) -> Any:
    import torch

    if type(value) not in (torch.Tensor, torch.nn.Parameter):
        raise encoder.refuse(
            path,
            f"is a {type(value).__qualname__}, a subclass of torch.Tensor",
            "save the plain tensor; of a distributed one `full_tensor()`",
        )
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        raise encoder.refuse(
            path, "is a sparse, nested or quantized tensor", "save what it is made of as plain tensors"
        )
    if value.device.type == "meta":
        raise encoder.refuse(path, "is a tensor without values (device meta)", "save it when it is materialized")
    node: dict[str, Any] = {"$tensor": None}
    if type(value) is torch.nn.Parameter:
        node["parameter"] = True
    if value.requires_grad:
        node["requires_grad"] = True
    held = value.detach()
    if held.is_conj():
        held = held.resolve_conj()
    if held.is_neg():
        held = held.resolve_neg()
    if held.device.type != "cpu":
        # The same memory there is the same here.
        key = (str(held.device), held.data_ptr(), tuple(held.shape), held.stride(), held.dtype)
        if key not in encoder.moved:
            encoder.kept.append(value)
            encoder.moved[key] = held.cpu()
        held = encoder.moved[key]
    encoder.tensors.append((node, held, path))
    return node


def settle_tensors(encoder: Encoder) -> None:
    """Tells the memory of all tensors, when it is known which of them overlap."""
    by_storage: dict[int, list[tuple[int, int, int]]] = {}
    spans = []
    for number, (_, tensor, _) in enumerate(encoder.tensors):
        begin, end = _span(tensor)
        spans.append((begin, end))
        if end > begin:
            by_storage.setdefault(tensor.untyped_storage().data_ptr(), []).append((begin, end, number))
    together: dict[int, tuple[int, int, list[int]]] = {}
    for members in by_storage.values():
        members.sort()
        group: tuple[int, int, list[int]] | None = None
        for begin, end, number in members:
            if group is not None and begin < group[1]:
                group = (group[0], max(group[1], end), [*group[2], number])
            else:
                group = (begin, end, [number])
            for member in group[2]:
                together[member] = group
    for number, (node, tensor, path) in enumerate(encoder.tensors):
        group = together.get(number)
        if group is None or _are_one(encoder, group[2]):
            _settle_one(encoder, node, tensor, path)
        else:
            _settle_view(encoder, node, tensor, path, group)


def _are_one(encoder: Encoder, members: list[int]) -> bool:
    """Whether all of a group are the same tensor, in one piece or not."""
    if len(members) == 1:
        return True
    keys = {_torch_key(encoder.tensors[number][1]) for number in members}
    return len(keys) == 1


def _torch_key(tensor: Any) -> Any:
    return ("torch", tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)


def _span(tensor: Any) -> tuple[int, int]:
    """From where to where its elements lie."""
    begin = tensor.data_ptr()
    if tensor.numel() == 0:
        return begin, begin
    reach = sum((side - 1) * stride for side, stride in zip(tensor.shape, tensor.stride(), strict=True))
    return begin, begin + (reach + 1) * tensor.element_size()


def _settle_one(encoder: Encoder, node: dict[str, Any], tensor: Any, path: Path) -> None:
    key = _torch_key(tensor)
    known = encoder.known.get(key)
    if known is not None and tensor.numel() > 0:
        node.update({name: held for name, held in encoder.nodes[known].items() if name not in FLAGS})
        return
    held = tensor
    if not tensor.is_contiguous():
        order = sorted(range(tensor.dim()), key=lambda side: (-tensor.stride(side), -tensor.shape[side]))
        begin, end = _span(tensor)
        if tensor.permute(order).is_contiguous():
            held = tensor.permute(order)
            node["shape"], node["stride"] = list(tensor.shape), list(tensor.stride())
        elif end - begin < tensor.numel() * tensor.element_size():
            # Expanded: its elements are told several times.
            _settle_view(encoder, node, tensor, path, (begin, end, []))
            return
        else:
            held = tensor.contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    length = held.numel() * held.element_size()
    memory = Memory(held.data_ptr(), length, held, False)
    element = ELEMENTS.get(name)
    if element is not None:
        node["$tensor"] = encoder.add(path, element, held.shape, memory)
    else:
        node["$tensor"] = encoder.add(path, "u8", [length], memory)
        node["dtype"] = name
        node.setdefault("shape", list(tensor.shape))
    encoder.known[key] = node["$tensor"]
    encoder.nodes[node["$tensor"]] = node


def _settle_view(
    encoder: Encoder, node: dict[str, Any], tensor: Any, path: Path, group: tuple[int, int, list[int]]
) -> None:
    begin, end, _ = group
    if (tensor.data_ptr() - begin) % tensor.element_size():
        # A view that no tensor can have of fresh memory stands for itself.
        encoder.kept.append(tensor)
        _settle_one(encoder, node, tensor.clone(), path)
        return
    key = ("storage", begin, end)
    name = encoder.known.get(key)
    if name is None:
        name = encoder.add(path, "u8", [end - begin], Memory(begin, end - begin, tensor, False))
        encoder.known[key] = name
    node["$tensor"] = name
    node["dtype"] = str(tensor.dtype).removeprefix("torch.")
    node["shape"], node["stride"] = list(tensor.shape), list(tensor.stride())
    node["offset"] = tensor.data_ptr() - begin
