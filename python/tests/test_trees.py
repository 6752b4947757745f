"""State trees: what is saved comes back as it was, and what cannot is refused by its place."""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import json
import math
import pathlib
import struct
import uuid
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from hypothesis.extra import numpy as hnp

import safepoint
from safepoint._tree import Decoder, Encoder, classes_of


def through(state: Any, like: Any = None, **flags: Any) -> Any:
    """Encodes and decodes, with the memory in between copied as a file would."""
    import ctypes

    encoded = Encoder(**flags).encode(state)
    decoder = Decoder(classes_of(like), **flags)
    stored = {}
    for name, element, shape, address, length, owner, _ in encoded.buffers:
        if isinstance(owner, bytes):
            stored[name] = (element, shape, owner)
        else:
            stored[name] = (element, shape, ctypes.string_at(address, length))
    encoding, value = encoded.value or ("none", None)
    if stored:
        rows = [(name, element, shape, len(held)) for name, (element, shape, held) in stored.items()]
        places = decoder.place(value, encoding, rows)
        assert {name for name, *_ in places} == set(stored)
        for name, address, length, owner in places:
            held = stored[name][2]
            assert length == len(held)
            if isinstance(owner, bytes):
                decoder.held[name] = held
            else:
                ctypes.memmove(address, held, length)
    return decoder.decode(value, encoding)


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit, in type too."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack(">d", one) == struct.pack(">d", other)
    if isinstance(one, complex):
        return same(one.real, other.real) and same(one.imag, other.imag)
    if isinstance(one, (np.ndarray, np.generic)):
        return bool(one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes())
    if isinstance(one, dict):
        return len(one) == len(other) and all(
            same(a, b) and same(one[a], other[b]) for a, b in zip(one, other, strict=True)
        )
    if isinstance(one, (list, tuple, collections.deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    return bool(one == other)


KINDS = hnp.boolean_dtypes() | hnp.integer_dtypes() | hnp.floating_dtypes() | hnp.complex_number_dtypes()
ARRAYS = hnp.arrays(
    KINDS | hnp.byte_string_dtypes() | hnp.datetime64_dtypes(), hnp.array_shapes(min_dims=0, min_side=0)
)
# Text in full: also halves of surrogates, as in names of files.
TEXT = st.text(st.characters(exclude_categories=()))
LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=-(1 << 200), max_value=1 << 200)
    | st.floats()
    | TEXT
    | st.binary(max_size=600)
    | st.complex_numbers()
    | st.datetimes(timezones=st.none() | st.just(datetime.timezone.utc))
    | st.dates()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.fractions()
    | st.uuids()
    | ARRAYS
)
KEYS = TEXT | st.integers() | st.booleans() | st.none() | st.tuples(st.integers(), TEXT) | st.just("$dict")
TREES = st.recursive(
    LEAVES,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(KEYS, inner, max_size=4)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXT, inner, max_size=4).map(collections.OrderedDict)
        | st.lists(inner, max_size=3).map(lambda items: collections.deque(items, maxlen=9))
    ),
    max_leaves=12,
)


@settings(max_examples=400, suppress_health_check=list(HealthCheck))
@given(TREES)
def test_any_tree_comes_back_to_the_last_bit(tree: Any) -> None:
    assert same(through(tree), tree)


@settings(max_examples=30, suppress_health_check=list(HealthCheck))
@given(TREES)
def test_any_tree_comes_back_from_a_file(tmp_path_factory: pytest.TempPathFactory, tree: Any) -> None:
    with safepoint.CheckpointStore(tmp_path_factory.mktemp("c") / "c") as store:
        store.save(tree)
        found = store.latest()
        assert found is not None and same(found.state, tree)


def test_what_json_can_say_is_plain_json() -> None:
    state = {"step": 3, "losses": [0.5, 1], "who": "me", "done": False, "last": None}
    encoded = Encoder().encode(state)
    assert encoded.value is not None
    assert json.loads(encoded.value[1]) == state and encoded.buffers == []


class Colour(enum.Enum):
    RED = 1


class Point(NamedTuple):
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Inner:
    weights: np.ndarray
    colour: Colour = Colour.RED


@dataclasses.dataclass(frozen=True)
class Outer:
    inner: Inner
    points: list[Point]
    rest: dict[str, Inner] = dataclasses.field(default_factory=dict)


def outer() -> Outer:
    return Outer(Inner(np.arange(3.0)), [Point(1.0, 2.0)], {"a": Inner(np.ones(2))})


@pytest.mark.parametrize("like", [Outer, outer(), [Outer]])
def test_dataclasses_come_back_as_the_classes_that_were_given(like: Any) -> None:
    assert same(through(outer(), like), outer())


def test_a_class_that_was_not_given_is_not_made() -> None:
    with pytest.raises(safepoint.InvalidError, match=r"state is a dataclass `.*Outer`.*not given") as caught:
        through(outer())
    assert "like=" in str(caught.value.hint)
    with pytest.raises(safepoint.InvalidError, match=r'state\["a"\] is an enum `.*Colour`'):
        through({"a": Colour.RED})


def test_fields_that_came_later_have_their_defaults_and_lost_ones_are_told() -> None:
    Old = dataclasses.make_dataclass("Changed", ["a"])
    New = dataclasses.make_dataclass("Changed", ["a", ("b", int, 7)])
    Gone = dataclasses.make_dataclass("Changed", ["b"])
    Needs = dataclasses.make_dataclass("Changed", ["a", "c"])
    assert through(Old(1), New).b == 7
    with pytest.raises(safepoint.IncompatibleError, match="has `a`, which"):
        through(Old(1), Gone)
    with pytest.raises(safepoint.IncompatibleError, match="has no `c`"):
        through(Old(1), Needs)


@pytest.mark.parametrize(
    "value",
    [
        pathlib.Path("/tmp/x"),
        {1, 2},
        frozenset("ab"),
        bytearray(b"abc"),
        bytearray(700),
        decimal.Decimal("0.10"),
        decimal.Decimal("NaN"),
        fractions.Fraction(1, 3),
        uuid.UUID(int=5),
        np.float32(1.5),
        np.str_("x"),
        np.datetime64("2026-01-01"),
        np.zeros(2, [("a", "<i4"), ("b", "<f8", (2,))]),
        np.arange(6, dtype=">i4").reshape(2, 3),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10)[::-2],
        np.array("text"),
        datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone(datetime.timedelta(hours=2))),
        -0.0,
        struct.unpack(">d", bytes.fromhex("7ff8000000000123"))[0],
        {"$tuple": [1]},
        {"": {}},
        collections.Counter("abca"),
        1 << 70,
    ],
)
def test_values_of_many_kinds(value: Any) -> None:
    back = through({"x": value})["x"]
    if isinstance(value, decimal.Decimal) and value.is_nan():
        assert back.is_nan()
    else:
        assert same(back, value)


def test_arrays_keep_their_order_in_memory_and_are_writable() -> None:
    fortran = np.asfortranarray(np.arange(6.0).reshape(2, 3))
    back = through([fortran])[0]
    assert back.flags.f_contiguous and not back.flags.c_contiguous and back.flags.writeable


def test_the_same_array_is_saved_once_and_is_one_again() -> None:
    array = np.arange(1000.0)
    encoded = Encoder().encode({"a": array, "b": [array, array[:]], "c": array[1:]})
    assert len(encoded.buffers) == 2
    back = through({"a": array, "b": [array, array[:]], "c": array[1:]})
    assert back["a"] is back["b"][0] is back["b"][1]
    back["a"][5] = -1
    assert back["b"][0][5] == -1


def test_buffers_are_where_the_arrays_are() -> None:
    array = np.arange(1000.0)
    (buffer,) = Encoder().encode({"model": {"weights": array}}).buffers
    assert buffer[0] == "model/weights"
    assert buffer[3] == array.__array_interface__["data"][0]


def test_a_temporary_array_is_not_taken_for_another_at_its_address() -> None:
    names = [f"x{number}" for number in range(50)]
    # Gives a fresh array at each look, which is gone when nobody holds it.
    made = dataclasses.make_dataclass("Made", names)
    for name in names:
        setattr(made, name, property(lambda self: np.zeros((64, 64))[:, ::2], lambda self, value: None))
    assert len(Encoder().encode(made(*names)).buffers) == len(names)


@pytest.mark.parametrize(
    ("state", "place"),
    [
        ({"optimizer": {"hook": print}}, r'state\["optimizer"\]\["hook"\] is a builtin_function'),
        ([1, (2, {"x": {object()}})], r"state\[1\]\[1\]\[\"x\"\]\[0\] is an object"),
        (Point(1.0, print), r"state\.y is a builtin"),  # type: ignore[arg-type]
        ({(1, 2): print}, r"state\[\(1, 2\)\] is a builtin"),
        ({"a": np.array([{}])}, r'state\["a"\] has elements of type object'),
        ({"a": np.ma.masked_array([1])}, r'state\["a"\] is a MaskedArray'),
        ({object(): 1}, r"state is a|state\[<object"),
        ({"g": np.random.default_rng()}, r'state\["g"\] is a numpy.random'),
        ({"c": collections.defaultdict(list)}, r'state\["c"\] is a collections.defaultdict'),
    ],
)
def test_what_cannot_be_saved_is_named_by_its_place(state: Any, place: str) -> None:
    with pytest.raises(safepoint.InvalidError, match=place) as caught:
        Encoder().encode(state)
    assert caught.value.hint


def test_a_tree_that_contains_itself_and_one_without_end_are_refused() -> None:
    loop: list[Any] = []
    loop.append([loop])
    with pytest.raises(safepoint.InvalidError, match=r"state\[0\]\[0\] contains itself"):
        Encoder().encode(loop)
    deep: list[Any] = []
    for _ in range(10_000):
        deep = [deep]
    with pytest.raises(safepoint.InvalidError, match="levels deep"):
        Encoder().encode(deep)


def test_the_deepest_tree_comes_back() -> None:
    deep: Any = 1
    for depth in range(60):
        deep = {depth: deep}
    assert same(through(deep), deep)


def test_pickle_only_where_both_sides_ask_for_it() -> None:
    state = {"a": [1, range(5)]}
    with pytest.raises(safepoint.InvalidError, match=r'state\["a"\]\[1\] is a range'):
        Encoder().encode(state)
    assert through(state, allow_pickle=True) == state
    encoded = Encoder(allow_pickle=True).encode(state)
    decoder = Decoder({})
    assert encoded.value is not None
    (buffer,) = encoded.buffers
    decoder.place(encoded.value[1], "json", [(buffer[0], "u8", buffer[2], buffer[4])])
    with pytest.raises(safepoint.InvalidError, match=r'state\["a"\]\[1\] was saved as a pickle'):
        decoder.decode(encoded.value[1], "json")
    with pytest.raises(safepoint.InvalidError, match="cannot be pickled"):
        Encoder(allow_pickle=True).encode(lambda: 1)


@pytest.mark.parametrize(
    "tree",
    [
        {"$array": "nowhere"},
        {"$array": "a", "dtype": "O", "shape": [1]},
        {"$array": "a", "dtype": [["x", "O"]], "shape": [1]},
        {"$array": "a", "dtype": "<f8", "shape": [5]},
        {"$array": "a", "dtype": 5, "shape": [2]},
        {"$array": ["a"]},
        {"$pickle": "a"},
        {"$bytes": None, "buffer": "nowhere"},
        {"$bytes": "not base64!"},
        {"$float": "zz"},
        {"$int": {}},
        {"$tuple": 5},
        {"$dict": [[1]]},
        {"$dict": [[[], 1]]},
        {"$namedtuple": "os.system", "fields": {}},
        {"$dataclass": "subprocess.Popen", "fields": {}},
        {"$enum": "x", "name": "y"},
        {"$scalar": "O", "hex": "00"},
        {"$path": 5},
        {"$new": 1},
        {"$datetime": "yesterday"},
    ],
)
def test_a_file_made_to_be_stumbled_over_is_an_error_of_ours(tree: Any) -> None:
    value = json.dumps(tree).encode()
    decoder = Decoder({})
    with pytest.raises(safepoint.Error):
        decoder.place(value, "json", [("a", "u8", [16], 16)])
        decoder.decode(value, "json")


def test_floats_are_floats() -> None:
    assert math.isnan(through(float("nan")))
    assert through([1.0, 1]) == [1.0, 1] and type(through([1.0])[0]) is float
