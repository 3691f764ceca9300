"""Named tuples of arrays that kernels take by reference.

numba passes a tuple by value: every array of it becomes half a dozen arguments of every function
that it goes through, and compiling a deep simulator of sixty arrays takes minutes. A class
decorated with `record` goes in as one pointer to a table of addresses and shapes instead, which
kernels read by field name. Its arrays must be C-contiguous and outlive the call; kernels may
write their elements, never replace them.

    @record
    class State(NamedTuple):
        now_s: float
        level: Annotated[np.ndarray, "int64", 1]

Each field of the table is one 8-byte word for a scalar, and 1 + ndim words for an array: its
address, then its shape.
"""

from __future__ import annotations

import ctypes
import math
from functools import cache
from typing import Annotated, Any, TypeVar, get_args, get_origin, get_type_hints

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_getattr_generic
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import NativeValue, intrinsic, typeof_impl, unbox
from numba.np import arrayobj

Tuple = TypeVar("Tuple", bound=type)

_SCALARS = {float: types.float64, int: types.int64, bool: types.boolean}


class RecordType(types.Type):
    """Type of a record inside kernels: a pointer to its table.

    Args:
        name: of the class.
        fields: (name, dtype or scalar type, ndim or -1 for a scalar) in order.
    """

    def __init__(self, name: str, fields: tuple[tuple[str, str, int], ...]) -> None:
        self.fields = fields
        super().__init__(name=f"{name}{fields}")

    def find(self, attribute: str) -> tuple[int, str, int] | None:
        """Word at which a field begins, its dtype and its ndim; None without such a field."""
        at = 0
        for name, dtype, ndim in self.fields:
            if name == attribute:
                return at, dtype, ndim
            at += 1 if ndim < 0 else 1 + ndim
        return None


@register_default(RecordType)
class _RecordModel(models.OpaqueModel):
    pass


@infer_getattr
class _RecordAttributes(AttributeTemplate):
    key = RecordType

    def generic_resolve(self, record: RecordType, attribute: str) -> types.Type | None:
        found = record.find(attribute)
        if found is None:
            return None
        _, dtype, ndim = found
        element = numba.from_dtype(np.dtype(dtype))
        return element if ndim < 0 else types.Array(element, ndim, "C")


@lower_getattr_generic(RecordType)
def _load_field(context: Any, builder: Any, record: RecordType, value: Any, attribute: str) -> Any:
    found = record.find(attribute)
    assert found is not None
    at, dtype, ndim = found
    word = ir.IntType(64)
    table = builder.bitcast(value, word.as_pointer())

    def load(offset: int) -> Any:
        return builder.load(builder.gep(table, [ir.Constant(word, at + offset)]))

    element = numba.from_dtype(np.dtype(dtype))
    if ndim < 0:
        raw = load(0)
        if element == types.boolean:
            return builder.icmp_unsigned("!=", raw, ir.Constant(word, 0))
        if element == types.float64:
            return builder.bitcast(raw, ir.DoubleType())
        return raw
    array_type = types.Array(element, ndim, "C")
    array = arrayobj.make_array(array_type)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(element))
    shape = [load(1 + axis) for axis in range(ndim)]
    strides: list[Any] = []
    stride: Any = ir.Constant(word, size)
    for extent in reversed(shape):
        strides.insert(0, stride)
        stride = builder.mul(stride, extent)
    # No owner: the caller keeps the arrays alive, so that nothing has to be counted here.
    arrayobj.populate_array(
        array,
        data=builder.inttoptr(load(0), array.data.type),
        shape=cgutils.pack_array(builder, shape),
        strides=cgutils.pack_array(builder, strides),
        itemsize=ir.Constant(word, size),
        meminfo=None,
    )
    return array._getvalue()


@unbox(RecordType)
def _unbox(record: RecordType, obj: Any, c: Any) -> NativeValue:
    """The address of the table, or the error of `build_table`, which Python then raises."""
    byte = ir.IntType(8).as_pointer()
    pointer = cgutils.alloca_once_value(c.builder, ir.Constant(byte, None))
    failed = cgutils.alloca_once_value(c.builder, cgutils.true_bit)
    held = c.pyapi.object_getattr_string(obj, "table")
    with c.builder.if_then(cgutils.is_not_null(c.builder, held)):
        holder = c.pyapi.object_getattr_string(held, "ctypes")
        with c.builder.if_then(cgutils.is_not_null(c.builder, holder)):
            address = c.pyapi.object_getattr_string(holder, "data")
            with c.builder.if_then(cgutils.is_not_null(c.builder, address)):
                word = c.pyapi.long_as_longlong(address)
                c.builder.store(c.builder.inttoptr(word, byte), pointer)
                c.builder.store(cgutils.false_bit, failed)
                c.pyapi.decref(address)
            c.pyapi.decref(holder)

    def cleanup() -> None:
        c.pyapi.decref(held)

    return NativeValue(c.builder.load(pointer), is_error=c.builder.load(failed), cleanup=cleanup)


@cache
def fields_of(cls: type) -> tuple[tuple[str, str, int], ...]:
    """(name, dtype, ndim) of the fields that kernels see; fields of other types are left out."""
    fields = []
    for name, hint in get_type_hints(cls, include_extras=True).items():
        if hint in _SCALARS:
            fields.append((name, np.dtype(hint).name, -1))
        elif get_origin(hint) is Annotated:
            _, dtype, ndim = get_args(hint)
            fields.append((name, str(dtype), int(ndim)))
    return tuple(fields)


@cache
def record_type(cls: type) -> RecordType:
    """The type that an instance of a record class has inside kernels."""
    return RecordType(cls.__name__, fields_of(cls))  # type: ignore[arg-type]


def build_table(values: Any) -> np.ndarray:
    """(words,) int64, the table of an instance's present arrays.

    A class may name the axes of its array fields, a letter each, by a method `axes`: fields that
    share a letter have as many entries along it.

    Raises:
        TypeError: for a field of another type or shape than the class says.
    """
    cls = type(values)
    words: list[int] = []
    axes: dict[str, str] = getattr(cls, "axes", dict)()
    extents: dict[str, tuple[int, str]] = {}
    for name, dtype, ndim in fields_of(cls):  # type: ignore[arg-type]
        value = getattr(values, name)
        if ndim < 0:
            words.append(_word(f"{cls.__name__}.{name}", dtype, value))
            continue
        good = isinstance(value, np.ndarray) and value.dtype == dtype and value.ndim == ndim
        if not (good and value.flags.c_contiguous):
            raise TypeError(
                f"{cls.__name__}.{name} must be a contiguous {dtype} array with {ndim} axes, and "
                f"is {_described(value)}"
            )
        for axis, extent in zip(axes.get(name, ""), value.shape, strict=False):
            first, field = extents.setdefault(axis, (extent, name))
            if extent != first:
                raise TypeError(
                    f"{cls.__name__}.{name} has {extent} entries along axis {axis}, and {field} "
                    f"has {first}"
                )
        words += [value.ctypes.data, *value.shape]
    return np.array(words, dtype=np.int64)


def _word(name: str, dtype: str, value: Any) -> int:
    kinds = {"float64": "fiu", "int64": "iu", "bool": "b"}[dtype]
    scalar = np.asarray(value)
    if scalar.ndim or scalar.dtype.kind not in kinds:
        raise TypeError(f"{name} must be a {dtype}, and is {_described(value)}")
    return int(np.float64(value).view(np.int64)) if dtype == "float64" else int(value)


def _described(value: Any) -> str:
    if not isinstance(value, np.ndarray):
        return f"a {type(value).__name__}"
    order = "" if value.flags.c_contiguous else ", not contiguous"
    return f"a {value.dtype} array of shape {value.shape}{order}"


def record(cls: Tuple) -> Tuple:
    """Let kernels take instances of a `NamedTuple` class by reference; see the module."""
    if "table" not in cls._fields:  # type: ignore[attr-defined]
        cls.table = property(build_table)  # type: ignore[attr-defined]

    def typeof(value: Any, c: Any) -> RecordType:
        return record_type(cls)

    typeof_impl.register(cls)(typeof)
    return cls


@intrinsic
def _compiled_copy(typing_context: Any, target: Any, source: Any) -> Any:
    """`target[:] = source` for contiguous arrays of one type and equal shapes, unchecked.

    numba's own assignment brings the text of its error along, which takes seconds to compile.
    """
    if target != source or target.layout != "C":
        raise TypeError(f"cannot copy {source} into {target}")

    def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, of = (arrayobj.make_array(target)(context, builder, arg) for arg in args)
        cgutils.raw_memcpy(builder, to.data, of.data, to.nitems, to.itemsize)
        return context.get_dummy_value()

    return types.void(target, source), lower


copy_into: Any = np.copyto if numba.config.DISABLE_JIT else _compiled_copy


def at_address(cls: type) -> Any:
    """A function for kernels: the record of class `cls` whose table begins in an int64 array."""
    if numba.config.DISABLE_JIT:
        return lambda table: _from_table(cls, table)
    made = record_type(cls)

    @intrinsic
    def view(typing_context: Any, table: Any) -> Any:
        def lower(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            array = arrayobj.make_array(signature.args[0])(context, builder, args[0])
            return builder.bitcast(array.data, ir.IntType(8).as_pointer())

        return made(table), lower

    return view


def _from_table(cls: type, table: np.ndarray) -> Any:
    """The record whose table begins in `table`: its arrays share their memory."""
    values: dict[str, Any] = dict.fromkeys(cls._fields)  # type: ignore[attr-defined]
    words = iter(table)
    for name, dtype, ndim in fields_of(cls):  # type: ignore[arg-type]
        word = next(words)
        if ndim < 0:
            values[name] = word.view(dtype) if dtype == "float64" else np.dtype(dtype).type(word)
            continue
        shape = tuple(int(next(words)) for _ in range(ndim))
        size = math.prod(shape) * np.dtype(dtype).itemsize
        memory: Any = (ctypes.c_char * size).from_address(int(word))
        values[name] = np.frombuffer(memory, dtype).reshape(shape)
    if "table" in values:
        values["table"] = table
    return cls(**values)
