"""Columns passed through to the result: one type for the whole run, which the values of every file take without loss."""

from collections.abc import Callable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError

_Path = tuple[str, ...]


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values, whatever they are packed in, in a layout that every Arrow function takes."""
    return _rebuilt(kind, _unpacked)


def settled(kind: pa.DataType) -> pa.DataType:
    """The type of a column in a result: where nothing but null was seen, text."""
    return _rebuilt(kind, lambda leaf: pa.string() if pa.types.is_null(leaf) else leaf)


def common_type(name: str, one: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type for both: numbers widen, null gives way, anything else that is not equal becomes a string.

    Raises:
        ConfigError: one of them is nested and they differ.
    """
    if one == other:
        return one
    try:
        fields = [pa.schema([pa.field("x", kind)]) for kind in (one, other)]
        return pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except pa.ArrowException:
        if pa.types.is_nested(one) or pa.types.is_nested(other):
            raise ConfigError(f"input.keep: column '{name}' is {one} in one file and {other} in another; drop it") from None
        return pa.string()


def holds(kind: pa.DataType, other: pa.DataType) -> bool:
    """Whether every value of the second type can be one of the first, by the types alone."""
    if kind == other or pa.types.is_null(other):
        return True
    ours, theirs = dict(_leaves(kind)), dict(_leaves(other))
    return theirs.keys() <= ours.keys() and all(_leaf_holds(ours[path], leaf) for path, leaf in theirs.items())


def may_hold(kind: pa.DataType, other: pa.DataType) -> bool:
    """Whether values of the second type can mean the same in the first: 1 is a number of any type, but no day and no truth."""
    ours, theirs = dict(_leaves(kind)), dict(_leaves(other))
    if not theirs.keys() <= ours.keys():
        return False
    families = ({_family(ours[path]), _family(leaf)} - {"null"} for path, leaf in theirs.items())
    return all(len(each) < 2 or "text" in each for each in families)


def fits(array: pa.Array, kind: pa.DataType) -> bool:
    """Whether each value can be read in another type; nothing but null fits any, as pandas writes floats for it."""
    return array.null_count == len(array) or (may_hold(kind, array.type) and is_preserved(array, kind))


def is_preserved(array: pa.Array, kind: pa.DataType) -> bool:
    """Whether each value is the same in another type: it can be cast, and cast back."""
    try:
        return _cast(_cast(array, kind), array.type).equals(array)
    except pa.ArrowException:
        return False


def cast_kept(array: pa.Array, field: pa.Field) -> pa.Array:
    """A kept column in the type that it has in the whole input.

    Raises:
        ConfigError: its values do not fit that type.
    """
    try:
        return _cast(array, field.type)
    except pa.ArrowException:
        raise ConfigError(
            f"input.keep: column '{field.name}' is {array.type} in one file, {field.type} in another; make them alike or drop it"
        ) from None


def misfit(field: pa.Field, source: str, kind: pa.DataType) -> ConfigError:
    """What is said of a file whose values the result's type cannot take."""
    return ConfigError(
        f"input.keep: column '{field.name}' of {source} is {kind}, in the rest of the run {field.type}, and not all its values "
        "can be that; make them alike, or name a new output folder"
    )


def without_nan(array: pa.Array) -> pa.Array:
    """The array with null for each NaN, at any depth of lists and structs."""
    kind = array.type
    if pa.types.is_floating(kind):
        return pc.if_else(pc.is_nan(array), pa.scalar(None, kind), array)
    if not any(pa.types.is_floating(leaf) for _, leaf in _leaves(kind)):
        return array
    if pa.types.is_struct(kind):
        parts = [without_nan(part) for part in array.flatten()]
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=array.is_null())
    # As it is, a slice's lists would not begin at the first of its values.
    array = array.take(pa.array(range(len(array)), pa.int64()))
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(without_nan(array.values), type=kind, mask=array.is_null())
    if pa.types.is_map(kind):
        return pa.MapArray.from_arrays(array.offsets, array.keys, without_nan(array.items), kind, mask=array.is_null())
    lists = pa.LargeListArray if pa.types.is_large_list(kind) else pa.ListArray
    return lists.from_arrays(array.offsets, without_nan(array.values), kind, mask=array.is_null())


def is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def is_bytes(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    if array.null_count == len(array):
        return pa.nulls(len(array), kind)
    if pa.types.is_integer(array.type) and pa.types.is_decimal(kind):
        # Arrow asks for room for the largest number of the type, whatever the values are.
        array = array.cast(pa.decimal256(76, kind.scale))
    return array.cast(kind)


def _unpacked(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return plain(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return plain(kind.storage_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def _rebuilt(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with its innermost types changed, each of which may be null."""

    def changed(field: pa.Field) -> pa.Field:
        return field.with_type(_rebuilt(field.type, change)).with_nullable(True)

    if pa.types.is_struct(kind):
        return pa.struct([changed(field) for field in kind])
    if pa.types.is_map(kind):
        return pa.map_(_rebuilt(kind.key_type, change), _rebuilt(kind.item_type, change))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(changed(kind.value_field), kind.list_size)
    if pa.types.is_list(kind):
        return pa.list_(changed(kind.value_field))
    return pa.large_list(changed(kind.value_field)) if pa.types.is_large_list(kind) else change(kind)


def _leaves(kind: pa.DataType, path: _Path = ()) -> Iterator[tuple[_Path, pa.DataType]]:
    """The innermost types, each with the way to it."""
    if pa.types.is_struct(kind):
        for field in kind:
            yield from _leaves(field.type, (*path, f".{field.name}"))
    elif pa.types.is_map(kind):
        yield from _leaves(kind.key_type, (*path, "key"))
        yield from _leaves(kind.item_type, (*path, "item"))
    elif pa.types.is_fixed_size_list(kind):
        yield from _leaves(kind.value_type, (*path, f"[{kind.list_size}]"))
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        yield from _leaves(kind.value_type, (*path, "[]"))
    else:
        yield path, kind


def _leaf_holds(kind: pa.DataType, other: pa.DataType) -> bool:
    if kind == other or pa.types.is_null(other):
        return True
    if pa.types.is_integer(kind) and pa.types.is_integer(other):
        signs = pa.types.is_signed_integer(kind), pa.types.is_signed_integer(other)
        return kind.bit_width > other.bit_width and signs in ((True, True), (True, False), (False, False))
    if is_text(kind):
        # Bytes need not be text, and a duration would lose its unit.
        return is_text(other) or _family(other) in ("number", "truth", "day", "instant", "time")
    return is_bytes(kind) and (is_text(other) or is_bytes(other))


def _family(kind: pa.DataType) -> str:
    """What a value says, however large or exact it may be."""
    families = {
        "number": (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
        "text": (is_text, is_bytes, pa.types.is_fixed_size_binary),
        "truth": (pa.types.is_boolean,),
        "day": (pa.types.is_date, lambda kind: pa.types.is_timestamp(kind) and kind.tz is None),
        "instant": (pa.types.is_timestamp,),
        "time": (pa.types.is_time,),
        "duration": (pa.types.is_duration,),
        "null": (pa.types.is_null,),
    }
    return next((name for name, tests in families.items() if any(test(kind) for test in tests)), str(kind))
