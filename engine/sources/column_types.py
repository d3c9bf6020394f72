"""Columns passed through to the result: one type for the whole run, which takes the values of every file without loss."""

from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError

_Path = tuple[str, ...]


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column's values without dictionary, extension or view, in a layout that every Arrow function takes."""
    return _rebuilt(kind, _unpacked)


def result_type(kind: pa.DataType) -> pa.DataType:
    """The type of a column in a result: text if only null was seen."""
    return _rebuilt(kind, lambda leaf: pa.string() if pa.types.is_null(leaf) else leaf)


def common_type(name: str, kind: pa.DataType, other: pa.DataType) -> pa.DataType:
    """The type for both: numbers widen, null gives way, other differences give a string.

    Raises:
        ConfigError: one of them is nested and they differ.
    """
    if kind == other:
        return kind
    try:
        fields = [pa.schema([("x", each)]) for each in (kind, other)]
        return pa.unify_schemas(fields, promote_options="permissive").field("x").type
    except pa.ArrowException:
        if pa.types.is_nested(kind) or pa.types.is_nested(other):
            raise ConfigError(f"input.keep: column '{name}' is {kind} in one file and {other} in another; drop it") from None
        return pa.string()


def always_fits(kind: pa.DataType, target: pa.DataType) -> bool:
    """Whether the target type takes every value of a type."""
    if kind == target or pa.types.is_null(kind):
        return True
    leaves, targets = dict(_leaves(kind)), dict(_leaves(target))
    return leaves.keys() <= targets.keys() and all(_leaf_fits(leaf, targets[path]) for path, leaf in leaves.items())


def may_fit(kind: pa.DataType, target: pa.DataType) -> bool:
    """Whether values of a type can mean the same in the target type: 1 is a number of any type, but neither a day nor true."""
    leaves, targets = dict(_leaves(kind)), dict(_leaves(target))
    if not leaves.keys() <= targets.keys():
        return False
    families = ({_family(leaf), _family(targets[path])} - {"null"} for path, leaf in leaves.items())
    return all(len(names) < 2 or "text" in names for names in families)


def values_fit(array: pa.Array, target: pa.DataType) -> bool:
    """Whether each value can be read in the target type. Nulls fit any type, since pandas writes floats for them."""
    return array.null_count == len(array) or (may_fit(array.type, target) and survives_cast(array, target))


def survives_cast(array: pa.Array, target: pa.DataType) -> bool:
    """Whether each value can be cast to the target type and back."""
    try:
        return _cast(_cast(array, target), array.type).equals(array)
    except pa.ArrowException:
        return False


def cast_column(array: pa.Array, field: pa.Field) -> pa.Array:
    """A kept column in its type in the whole input.

    Raises:
        ConfigError: its values do not fit that type.
    """
    try:
        return _cast(array, field.type)
    except pa.ArrowException:
        raise ConfigError(
            f"input.keep: column '{field.name}' is {array.type} in one file, {field.type} in another; make them alike or drop it"
        ) from None


def plain(field: pa.Field, array: pa.Array) -> list[Any]:
    """The values of a kept column as JSON can hold them; `from_plain` reads them back.

    Raises:
        ConfigError: the type has values that JSON cannot hold.
    """
    if pa.types.is_decimal(array.type) or pa.types.is_date(array.type) or _family(array.type) in ("day", "instant", "time"):
        return array.cast(pa.string()).to_pylist()
    if any(_family(leaf) not in ("number", "text", "truth", "null") or is_bytes(leaf) for _, leaf in _leaves(array.type)):
        raise ConfigError(f"input.keep: column '{field.name}' is {array.type}, which cannot be kept of a table of paths; drop it")
    return array.to_pylist()


def from_plain(value: Any, field: pa.Field) -> pa.Array:
    """One value of a kept column, as `plain` gave it, in the column's type in the whole input."""
    is_whole = isinstance(value, int) and pa.types.is_integer(field.type)
    return pa.array([value], field.type) if is_whole or pa.types.is_nested(field.type) else cast_column(pa.array([value]), field)


def holds_images(kind: pa.DataType) -> bool:
    """Whether cells hold the bytes of image files: one, one as `{bytes, path}`, or a list of either."""
    kind = value_type(kind)
    if is_list(kind):
        kind = kind.value_type
    return is_bytes(kind) or (pa.types.is_struct(kind) and any(each.name == "bytes" and is_bytes(each.type) for each in kind))


def misfit(field: pa.Field, source: str, kind: pa.DataType) -> ConfigError:
    """The error for a file with values that the result's type cannot take."""
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
    # The lists of a slice need not begin at the first of its values; a copy's do.
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


def is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind)


def _cast(array: pa.Array, kind: pa.DataType) -> pa.Array:
    if array.type == kind:
        return array
    if array.null_count == len(array):
        return pa.nulls(len(array), kind)
    if pa.types.is_integer(array.type) and pa.types.is_decimal(kind):
        # Arrow reserves digits for the largest number of the integer type, whatever the values are.
        array = array.cast(pa.decimal256(76, kind.scale))
    return array.cast(kind)


def _unpacked(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return value_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType):
        return value_type(kind.storage_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    return pa.binary() if pa.types.is_binary_view(kind) else kind


def _rebuilt(kind: pa.DataType, change: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """The type with its innermost types changed and made nullable."""

    def changed(field: pa.Field) -> pa.Field:
        return field.with_type(_rebuilt(field.type, change)).with_nullable(True)

    if pa.types.is_struct(kind):
        return pa.struct(map(changed, kind))
    if pa.types.is_map(kind):
        return pa.map_(_rebuilt(kind.key_type, change), _rebuilt(kind.item_type, change))
    if pa.types.is_large_list(kind):
        return pa.large_list(changed(kind.value_field))
    if is_list(kind):
        return pa.list_(changed(kind.value_field), kind.list_size if pa.types.is_fixed_size_list(kind) else -1)
    return change(kind)


def _leaves(kind: pa.DataType, path: _Path = ()) -> Iterator[tuple[_Path, pa.DataType]]:
    """The innermost types, each with the path to it."""
    if pa.types.is_struct(kind):
        inner = [(f".{field.name}", field.type) for field in kind]
    elif pa.types.is_map(kind):
        inner = [("key", kind.key_type), ("item", kind.item_type)]
    elif is_list(kind):
        inner = [(f"[{kind.list_size}]" if pa.types.is_fixed_size_list(kind) else "[]", kind.value_type)]
    else:
        yield path, kind
        return
    for step, part in inner:
        yield from _leaves(part, (*path, step))


def _leaf_fits(kind: pa.DataType, target: pa.DataType) -> bool:
    if kind == target or pa.types.is_null(kind):
        return True
    if pa.types.is_integer(kind) and pa.types.is_integer(target):
        signed = pa.types.is_signed_integer(target) or not pa.types.is_signed_integer(kind)
        return kind.bit_width < target.bit_width and signed
    if is_text(target):
        # Bytes need not be text, and a duration would lose its unit.
        return is_text(kind) or _family(kind) in ("number", "truth", "day", "instant", "time")
    return is_bytes(target) and (is_text(kind) or is_bytes(kind))


def _family(kind: pa.DataType) -> str:
    """The meaning of a type's values, whatever their size or precision."""
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
