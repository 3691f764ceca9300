"""How compiled functions are put together: what is inlined, what is compiled on its own.

numba optimises and loads every function together with all that it calls, so that in a deep
simulator the innermost functions are compiled once for each level above them. Here

* a *kernel* is only translated; whoever calls it takes in its code. It becomes machine code of
  its own only when Python calls it;
* a *part* is compiled once, on its own. Kernels call it by address, and the first call of all
  compiles it or loads it from disk: what is never called is never compiled.

The addresses lie in one word for each part, which compiled code finds by its symbol.
"""

from __future__ import annotations

import contextlib
import ctypes
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import llvmlite.binding as llvm
import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.imputils import impl_ret_new_ref
from numba.core.registry import CPUDispatcher
from numba.core.typed_passes import NativeLowering
from numba.core.types.misc import unliteral
from numba.core.typing.templates import make_concrete_template
from numba.extending import intrinsic

from marl_sched.compiled.caching import KernelCache
from marl_sched.compiled.records import record_type

PARTS: dict[str, Part] = {}
"""All parts by symbol, in order of their definition."""

OPTIONS = {"nopython": True, "boundscheck": None, "error_model": "numpy"}
"""Dividing by zero gives inf or NaN, as in numpy."""

_WORD = ir.IntType(64)
_NOTHING = ir.Constant(_WORD, 0)

_OWN_ARGUMENTS = 2
"""Arguments that numba's calling convention puts first: where results and exceptions go."""

_RESOLVE = "marl_sched.resolve"
_pending: list[BaseException] = []


class NotCompiledError(RuntimeError):
    """A part that a kernel called could not be compiled; the reason follows at the call."""


class _LinkedLibrary(JITCodeLibrary):
    """Code that is neither optimised nor loaded by itself, only taken in by others."""

    def finalize(self) -> None:
        self._finalized = True


class _OwnLibrary(JITCodeLibrary):
    """Code that takes in all that it calls, directly or not."""

    _linking_libraries: list[Any]

    def finalize(self) -> None:
        found = dict.fromkeys(self._linking_libraries)
        todo = list(found)
        while todo:
            library = todo.pop()
            if isinstance(library, _LinkedLibrary):
                new = [inner for inner in library._linking_libraries if inner not in found]
                found.update(dict.fromkeys(new))
                todo += new
        self._linking_libraries = list(found)
        super().finalize()


class _Address:
    """Stands for linked code among numba's functions, which are told apart by their address."""


@register_pass(mutates_CFG=True, analysis_only=False)
class _LinkedLowering(NativeLowering):
    """Translation without an executable."""

    _name = "linked_lowering"

    def run_pass(self, state: Any) -> bool:
        state.flags.no_compile = True
        super().run_pass(state)
        made = state["cr"]._replace(cfunc=_Address())
        state.targetctx.insert_user_function(made.cfunc, made.fndesc, [state.library])
        state["cr"] = made
        return True


class _OwnCompiler(CompilerBase):
    """numba's compiler with a library of ours."""

    library: type[JITCodeLibrary] = _OwnLibrary
    lowering: type[NativeLowering] = NativeLowering

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        self.state.library = self.library(self.state.targetctx.codegen(), func.__qualname__)
        self.state.library.enable_object_caching()
        return super().compile_extra(func)

    def define_pipelines(self) -> list[PassManager]:
        passes = PassManager("nopython")
        for item, text in DefaultPassBuilder.define_nopython_pipeline(self.state).passes:
            passes.add_pass(self.lowering if item is NativeLowering else item, text)
        passes.finalize()
        return [passes]


class _LinkedCompiler(_OwnCompiler):
    library = _LinkedLibrary
    lowering = _LinkedLowering


class _Linked(CPUDispatcher):
    """A kernel as other kernels see it."""

    def add_overload(self, cres: Any) -> None:
        self.overloads[tuple(cres.signature.args)] = cres


class Kernel(CPUDispatcher):
    """A compiled function that those who call it take in."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function, targetoptions=dict(OPTIONS), pipeline_class=_OwnCompiler)
        options = dict(OPTIONS, no_cpython_wrapper=True, no_cfunc_wrapper=True)
        self._linked = _Linked(function, targetoptions=options, pipeline_class=_LinkedCompiler)
        self._cache = KernelCache(function)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        # Not once more for each constant that it is called with.
        args = [unliteral(arg) for arg in args]
        return self._linked.get_call_template(args, kws)

    def get_overload(self, sig: Any) -> Any:
        return self._linked.get_overload(sig)


class Part(CPUDispatcher):
    """A compiled function that kernels call by address.

    Its annotations say its types: float, int, bool, a record, or an array of `types`.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        options = dict(OPTIONS, no_cfunc_wrapper=True)
        super().__init__(function, targetoptions=options, pipeline_class=_OwnCompiler)
        self._cache = KernelCache(function)
        self.symbol = f"{function.__module__}.{function.__qualname__}"
        self._cell = ctypes.c_int64(0)
        self._key = _Address()
        llvm.add_symbol(self.symbol, ctypes.addressof(self._cell))
        PARTS[self.symbol] = self
        _by_cell[ctypes.addressof(self._cell)] = self

    @cached_property
    def own_types(self) -> Any:
        """Its signature, by the annotations."""
        hints = get_type_hints(self.py_func, include_extras=True)
        result = _type_of(hints.pop("return"))
        return result(*(_type_of(hint) for hint in hints.values()))

    @property
    def marker(self) -> Path:
        """File that is there once the part has been compiled on this machine."""
        return Path(self._cache.cache_path) / f"{self.symbol}.compiled"

    def ready(self) -> None:
        """Compile it, or load it from disk, and tell the kernels its address."""
        if self._cell.value:
            return
        began = time.perf_counter()
        self.compile(self.own_types)
        (made,) = self.overloads.values()
        self._cell.value = made.library.get_pointer_to_function(made.fndesc.llvm_func_name)
        self._can_compile = False
        if self.marker.exists():
            return
        with contextlib.suppress(OSError):
            self.marker.write_text(f"{time.perf_counter() - began:.2f}\n", encoding="utf-8")

    def __call__(self, *args: Any) -> Any:
        self.ready()
        try:
            return super().__call__(*args)
        except NotCompiledError as error:
            raise _pending.pop() from error

    def get_call_template(self, args: Any, kws: Any) -> Any:
        signature, args = self._compiler.fold_argument_types(args, kws)
        if not self.targetctx._defns.get(self._key):
            call = _call(self.symbol, self.own_types)
            self.targetctx.insert_func_defn([(call, self._key, self.own_types.args)])
        name = self.py_func.__name__
        return make_concrete_template(name, name, [self.own_types]), signature, args, {}

    def get_overload(self, sig: Any) -> Any:
        return self._key


class PartTable:
    """Parts of one signature, which compiled code calls by their number: `call` of the table.

    The numbers are those of the process, in order of `add`. Parts may be added at any time, after
    the code that calls them was compiled too.

    Args:
        symbol: name of the table for compiled code, the same in every process.
        capacity: most parts.
    """

    def __init__(self, symbol: str, capacity: int = 4096) -> None:
        self.symbol = symbol
        self.capacity = capacity
        self.parts: list[Part] = []
        self._cells = (ctypes.c_int64 * capacity)()
        llvm.add_symbol(symbol, ctypes.addressof(self._cells))

    def add(self, part: Part) -> int:
        """The number by which `part` is called; the same again for one that is there.

        Raises:
            TypeError: for a part of another signature than the first one.
        """
        if part in self.parts:
            return self.parts.index(part)
        if not isinstance(part, Part):  # compilation is off
            self.parts.append(part)
            return len(self.parts) - 1
        if self.parts and part.own_types != self.parts[0].own_types:
            raise TypeError(
                f"{part.symbol} has the signature {part.own_types}, and {self.symbol} calls parts "
                f"of {self.parts[0].own_types}"
            )
        self._cells[len(self.parts)] = ctypes.addressof(part._cell)
        self.parts.append(part)
        return len(self.parts) - 1

    def caller(self, like: Any) -> Any:
        """A function for kernels, `f(number, one, two, three)`, which calls a part by its number.

        Args:
            like: one of the parts, which all take the same three arguments.
        """
        if not isinstance(like, Part):  # compilation is off

            def call_in_python(number: int, *arguments: Any) -> Any:
                return self.parts[number](*arguments)

            return call_in_python
        full = like.own_types.return_type(types.int64, *like.own_types.args)
        lower = _call_by_number(self, full)

        @intrinsic
        def call(typing_context: Any, number: Any, one: Any, two: Any, three: Any) -> Any:
            return full, lower

        return call


def _type_of(hint: Any) -> types.Type:
    """numba's type of an annotation."""
    if hint is type(None):
        return types.none
    if get_origin(hint) is Annotated:
        _, dtype, ndim = get_args(hint)
        return types.Array(numba.from_dtype(np.dtype(dtype)), ndim, "C")
    if hint in (float, int, bool):
        return numba.from_dtype(np.dtype(hint))
    return record_type(hint)


def _calling(signature: Any, function_in: Callable[[Any, ir.Module], ir.Function]) -> Any:
    """Code that calls a function of numba's convention.

    Args:
        signature: of the function.
        function_in: (context, module) -> the function, declared in the module.
    """

    def call(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        convention = context.call_conv
        function = function_in(context, builder.module)
        status, value = convention.call_function(
            builder, function, signature.return_type, signature.args, args
        )
        with cgutils.if_unlikely(builder, status.is_error):
            convention.return_status_propagate(builder, status)
        return impl_ret_new_ref(context, builder, signature.return_type, value)

    return call


def _call(symbol: str, signature: Any) -> Any:
    """Code that calls the part `symbol` by its address, for numba's table of functions."""
    call = _calling(
        signature, lambda context, module: _trampoline(context, module, symbol, signature)
    )
    call.signature = signature.args
    call.libs = ()
    return call


def _call_by_number(table: PartTable, signature: Any) -> Any:
    """Code that calls a part by its place in a table, the first of the arguments."""
    return _calling(
        signature, lambda context, module: _table_trampoline(context, module, table, signature)
    )


def _trampoline(context: Any, module: ir.Module, symbol: str, signature: Any) -> ir.Function:
    """A function of `module` that goes on to the part, and sees to it that there is one."""
    name = f"call.{symbol}"
    if name in module.globals:
        return module.globals[name]
    function, builder = _begun(context, module, name, signature)
    cell = _declared(module, symbol, lambda: ir.GlobalVariable(module, _WORD, symbol))
    shape = function.function_type
    target = _resolved(context, builder, cell, shape, symbol)
    builder.ret(builder.call(target, function.args))
    return function


def _table_trampoline(
    context: Any, module: ir.Module, table: PartTable, signature: Any
) -> ir.Function:
    """A function of `module` that goes on to the part of the number that comes first."""
    name = f"call.{table.symbol}"
    if name in module.globals:
        return module.globals[name]
    function, builder = _begun(context, module, name, signature)
    cells_type = ir.ArrayType(_WORD, table.capacity)
    cells = _declared(
        module, table.symbol, lambda: ir.GlobalVariable(module, cells_type, table.symbol)
    )
    shape = context.call_conv.get_function_type(signature.return_type, signature.args[1:])
    # The convention's own arguments come first, then the number, then those of the part.
    own = _OWN_ARGUMENTS
    number = function.args[own]
    inside = builder.icmp_unsigned("<", number, ir.Constant(_WORD, table.capacity))
    with builder.if_then(builder.not_(inside), likely=False):
        context.call_conv.return_user_exc(builder, IndexError, (table.symbol,))
    word = builder.load(builder.gep(cells, [ir.Constant(_WORD, 0), number]))
    with builder.if_then(builder.icmp_unsigned("==", word, _NOTHING), likely=False):
        context.call_conv.return_user_exc(builder, IndexError, (table.symbol,))
    cell = builder.inttoptr(word, _WORD.as_pointer())
    target = _resolved(context, builder, cell, shape, table.symbol)
    builder.ret(builder.call(target, [*function.args[:own], *function.args[own + 1 :]]))
    return function


def _begun(
    context: Any, module: ir.Module, name: str, signature: Any
) -> tuple[ir.Function, ir.IRBuilder]:
    """An empty function of numba's calling convention, taken in by whoever calls it."""
    shape = context.call_conv.get_function_type(signature.return_type, signature.args)
    function = ir.Function(module, shape, name)
    function.linkage = "linkonce_odr"
    function.attributes.add("alwaysinline")
    return function, ir.IRBuilder(function.append_basic_block())


def _resolved(
    context: Any, builder: ir.IRBuilder, cell: Any, shape: ir.FunctionType, symbol: str
) -> Any:
    """The part whose address lies in `cell`, which is compiled or loaded where it is missing."""
    module = builder.module
    resolve_type = ir.FunctionType(ir.VoidType(), [_WORD.as_pointer()])
    resolve = _declared(module, _RESOLVE, lambda: ir.Function(module, resolve_type, _RESOLVE))
    with builder.if_then(builder.icmp_unsigned("==", builder.load(cell), _NOTHING), likely=False):
        builder.call(resolve, [cell])
        absent = builder.icmp_unsigned("==", builder.load(cell), _NOTHING)
        with builder.if_then(absent, likely=False):
            context.call_conv.return_user_exc(builder, NotCompiledError, (symbol,))
    return builder.inttoptr(builder.load(cell), shape.as_pointer())


def _declared(module: ir.Module, name: str, declare: Callable[[], Any]) -> Any:
    return module.globals[name] if name in module.globals else declare()


_by_cell: dict[int, Part] = {}


@ctypes.CFUNCTYPE(None, ctypes.c_int64)
def _resolve(cell: int) -> None:
    """Called by compiled code: the part whose address is still missing is needed."""
    try:
        _by_cell[cell].ready()
    except BaseException as error:  # noqa: BLE001  it cannot pass through compiled code
        _pending.append(error)


llvm.add_symbol(_RESOLVE, ctypes.cast(_resolve, ctypes.c_void_p).value)
