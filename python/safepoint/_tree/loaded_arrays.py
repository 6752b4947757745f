"""Arrays of numpy and torch over memory that is read once: fresh, or what the caller gave to be filled."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from .._errors import CorruptError, IncompatibleError, InvalidError
from .dtypes import FLAGS, NAMES, element_dtype, is_fillable, is_of_jax, numpy_dtype, torch_dtype, torch_of

if TYPE_CHECKING:
    from .decoder import Decoder
    from .path import Path


def find(
    decoder: Decoder,
    node: dict[str, Any],
    tag: str,
    path: Path,
    into: Any,
    element: str,
    shape: list[int],
    length: int,
    places: list[tuple[str, int, int, object]],
) -> None:
    """Memory for one buffer: what the caller gave for it, if anything, else fresh."""
    name = node[tag]
    array = _numpy_view if tag == "$array" else _torch_view
    given = into if into is not None and is_fillable(into) else None
    if given is not None:
        _check_given(node, tag, path, given, element, shape)
        decoder.use(given)
        decoder.given[id(node)] = given
        address = _address_to_fill(node, tag, given)
        if name not in decoder.held and address is not None:
            decoder.held[name] = _as_base(tag, node, given)
            places.append((name, address, length, given))
            return
        if name not in decoder.held or address is None or address != _address(tag, decoder.held[name]):
            decoder.copies.append(lambda: _copy(tag, given, array(decoder, node, path)))
    if name not in decoder.held:
        fresh = _fresh(tag, path, element, shape)
        if _length(tag, fresh) != length:
            raise CorruptError(f"buffer `{name}` has {length} bytes, which is not what its shape says")
        decoder.held[name] = fresh
        places.append((name, _address(tag, fresh), length, fresh))


def _fresh(tag: str, path: Path, element: str, shape: list[int]) -> Any:
    """Memory that holds anything, to be filled."""
    if tag == "$array":
        import numpy

        return numpy.empty(shape, element_dtype(element))
    torch = torch_of(path)
    return torch.empty(shape, dtype=torch_dtype(torch, NAMES[element]))


def _address(tag: str, array: Any) -> int:
    return int(array.__array_interface__["data"][0] if tag == "$array" else array.data_ptr())


def _length(tag: str, array: Any) -> int:
    return int(array.nbytes if tag == "$array" else array.numel() * array.element_size())


def _address_to_fill(node: dict[str, Any], tag: str, given: Any) -> int | None:
    """Where the bytes can go as they are, if they can."""
    if tag == "$array":
        flags = given.flags
        fits = flags.f_contiguous if node.get("order") == "F" else flags.c_contiguous
        return _address(tag, given) if fits else None
    if given.device.type != "cpu" or "offset" in node or given.is_conj() or given.is_neg():
        return None
    fits = list(given.stride()) == node["stride"] if "stride" in node else given.is_contiguous()
    return _address(tag, given) if fits else None


def _as_base(tag: str, node: dict[str, Any], given: Any) -> Any:
    """What the caller gave, as memory that other places of the tree may share."""
    if tag == "$array":
        return given.T if node.get("order") == "F" else given
    given = given.detach()
    if "stride" in node:
        order = sorted(range(given.dim()), key=lambda side: (-given.stride(side), -given.shape[side]))
        given = given.permute(order)
    return given


def _copy(tag: str, given: Any, from_: Any) -> None:
    if tag == "$array":
        given[...] = from_
    else:
        given.detach().copy_(from_)


def _check_given(node: dict[str, Any], tag: str, path: Path, given: Any, element: str, shape: list[int]) -> None:
    from .path import show

    torch = sys.modules.get("torch")
    is_torch = torch is not None and isinstance(given, torch.Tensor)
    if is_of_jax(given):
        raise InvalidError(
            f"{show(path, 'into')} cannot be filled: arrays of jax do not change",
            hint="take the state that is returned, with `like=` for its classes",
        )
    if is_torch != (tag == "$tensor"):
        raise IncompatibleError(
            f"{show(path, 'into')} cannot be filled: it was saved from {'torch' if tag == '$tensor' else 'numpy'}"
        )
    if tag == "$array":
        stored_type = numpy_dtype(node["dtype"]) if "dtype" in node else element_dtype(element)
        sides = list(node.get("shape", shape))
        if node.get("order") == "F":
            sides.reverse()
        if not given.flags.writeable:
            raise InvalidError(f"{show(path, 'into')} cannot be filled: it may not be written")
    else:
        assert torch is not None
        stored_type = torch_dtype(torch, node.get("dtype", NAMES[element]))
        sides = list(node.get("shape", shape))
    if given.dtype != stored_type or list(given.shape) != sides:
        raise IncompatibleError(
            f"{show(path, 'into')} cannot be filled: it was saved as {stored_type} of shape {tuple(sides)}, and is "
            f"{given.dtype} of shape {tuple(given.shape)}",
            hint="make it as it was when it was saved, or load without `into`",
        )


def decode(decoder: Decoder, node: dict[str, Any], path: Path) -> Any:
    """The array of a node whose memory is filled, or what comes with arrays."""
    tag = next(iter(node))
    if tag == "$scalar":
        return _numpy_scalar(node)
    if tag == "$generator":
        return _torch_generator(node, path)
    if tag == "$torch":
        return _torch_word(node, path)
    given = decoder.given.get(id(node))
    if given is not None:
        return given
    if tag == "$array":
        made = _numpy_view(decoder, node, path)
        return _of_jax(decoder, made, path) if node.get("of") == "jax" else made
    made = _torch_view(decoder, node, path)
    if not any(node.get(flag) for flag in FLAGS):
        return made
    key = ("flagged", id(made), *(bool(node.get(flag)) for flag in FLAGS))
    if key not in decoder.made:
        decoder.made[key] = (
            torch_of(path).nn.Parameter(made, requires_grad=bool(node.get("requires_grad")))
            if node.get("parameter")
            else made.detach().requires_grad_()
        )
    return decoder.made[key]


def _numpy_view(decoder: Decoder, node: dict[str, Any], path: Path) -> Any:
    """The array as it was: the same object wherever it was the same."""
    base = decoder.held[node["$array"]]
    key = (node["$array"], str(node.get("dtype")), str(node.get("shape")), node.get("order"))
    if key not in decoder.made:
        made = base
        if "dtype" in node:
            made = made.view(numpy_dtype(node["dtype"])) if base.size else made.astype(numpy_dtype(node["dtype"]))
            made = made.reshape(node["shape"])
        decoder.made[key] = made.T if node.get("order") == "F" else made
    return decoder.made[key]


def _of_jax(decoder: Decoder, array: Any, path: Path) -> Any:
    """An array of jax again, for numpy promotes types by other rules; without jax it stays one of numpy."""
    from .path import show

    key = ("jax", id(array))
    if key not in decoder.made:
        try:
            from jax import numpy
        except ImportError:
            return array
        made = numpy.asarray(array)
        if made.dtype != array.dtype:
            raise IncompatibleError(
                f"{show(path)} was saved as {array.dtype}, of which jax would make {made.dtype}",
                hint='set `jax.config.update("jax_enable_x64", True)` as when it was saved',
            )
        decoder.made[key] = made
    return decoder.made[key]


def _torch_view(decoder: Decoder, node: dict[str, Any], path: Path) -> Any:
    torch = torch_of(path)
    base = decoder.held[node["$tensor"]]
    key = (node["$tensor"], *(str(node.get(part)) for part in ("dtype", "shape", "stride", "offset")))
    if key not in decoder.made:
        made = base
        if "offset" in node:
            dtype = torch_dtype(torch, node["dtype"])
            offset = node["offset"]
            whole = made[: made.numel() // dtype.itemsize * dtype.itemsize].view(dtype)
            if offset < 0 or offset % dtype.itemsize:
                raise CorruptError(f"a view cannot begin {offset} bytes behind the beginning of its memory")
            made = whole.as_strided(node["shape"], node["stride"], offset // dtype.itemsize)
        elif "dtype" in node:
            made = made.view(torch_dtype(torch, node["dtype"]))
            made = made.as_strided(node["shape"], node["stride"]) if "stride" in node else made.reshape(node["shape"])
        elif "stride" in node:
            made = made.as_strided(node["shape"], node["stride"])
        decoder.made[key] = made
    return decoder.made[key]


def _numpy_scalar(node: dict[str, Any]) -> Any:
    import numpy

    dtype = numpy_dtype(node["$scalar"])
    held = bytes.fromhex(node["hex"])
    return numpy.frombuffer(held, dtype)[0] if dtype.itemsize else dtype.type()


def _torch_generator(node: dict[str, Any], path: Path) -> Any:
    from base64 import b64decode

    torch = torch_of(path)
    made = torch.Generator()
    made.set_state(torch.frombuffer(bytearray(b64decode(node["$generator"])), dtype=torch.uint8))
    return made


def _torch_word(node: dict[str, Any], path: Path) -> Any:
    torch = torch_of(path)
    word, value = node["$torch"], node["value"]
    if word == "Size":
        return torch.Size(value)
    if word == "device":
        return torch.device(value)
    if word == "dtype":
        return torch_dtype(torch, value)
    raise CorruptError(f"torch has no `{word}` that can be saved")
