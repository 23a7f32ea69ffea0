"""Runs pickles on a machine that calls nothing.

A pickle is a program for a stack machine, and some of its instructions call functions that the file
names. Here they call nothing: whatever the file would have built becomes a `Record` that holds the
function's name and the arguments. Only numbers, strings and containers are built.
"""

from __future__ import annotations

import mmap
import pickletools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeAlias

Stream: TypeAlias = BinaryIO | mmap.mmap
ReadReference: TypeAlias = Callable[[tuple[Any, ...]], Any]

LONGEST_INT = 512
"""Bits; hashing longer ones again and again would be a way to keep the reader busy."""
LONGEST_KEY = 16


class UnpickleError(ValueError):
    """The file is damaged, or holds what is not needed for a generator; the message says which."""


@dataclass(eq=False)
class Record:
    """What a pickle asks to be built, not built.

    Attributes:
        name: module and name of the class or function.
        args: what it would have been called with; None where it is only named.
        state: what the object's attributes would have been set from.
        pairs, elements: what would have been put into it, as into a dict or a list.
    """

    name: str
    args: tuple[Any, ...] | None = None
    state: Any = None
    pairs: dict[Any, Any] = field(default_factory=dict)
    elements: list[Any] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"Record({self.name})"  # Records may hold each other.


_MARK = object()


def unpickle(stream: Stream, read_reference: ReadReference | None = None) -> Any:
    """Run the next pickle of a stream on a machine that calls nothing.

    Args:
        read_reference: what to make of references to things outside the pickle, as torch has them
            to storages; None refuses them.

    Raises:
        UnpickleError: the pickle is damaged or refused.
    """
    try:
        return _run(stream, read_reference)
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        if isinstance(error, UnpickleError):
            raise
        raise UnpickleError("it is truncated, damaged, or not a pickle") from error


def _run(stream: Stream, read_reference: ReadReference | None) -> Any:
    stack: list[Any] = []
    memo: dict[int, Any] = {}

    def pop() -> Any:
        value = stack.pop()
        if value is _MARK:
            raise UnpickleError("it is damaged")
        return value

    def pop_mark() -> list[Any]:
        index = len(stack) - 1
        while stack[index] is not _MARK:
            index -= 1
            if index < 0:
                raise UnpickleError("it is damaged")
        values = stack[index + 1 :]
        del stack[index:]
        return values

    def top() -> Any:
        if stack[-1] is _MARK:
            raise UnpickleError("it is damaged")
        return stack[-1]

    arg: Any
    for opcode, arg, _ in pickletools.genops(stream):  # type: ignore[arg-type]
        match opcode.name:
            case "PROTO" | "FRAME":
                pass
            case "STOP":
                return pop()
            case "INT" | "BININT" | "BININT1" | "BININT2" | "LONG" | "LONG1" | "LONG4":
                if arg.bit_length() > LONGEST_INT:
                    raise UnpickleError("it holds a number that is too long")
                stack.append(arg)
            case (
                "STRING" | "BINSTRING" | "SHORT_BINSTRING" | "UNICODE" | "SHORT_BINUNICODE"
                | "BINUNICODE" | "BINUNICODE8" | "BINBYTES" | "SHORT_BINBYTES" | "BINBYTES8"
                | "BYTEARRAY8" | "FLOAT" | "BINFLOAT"
            ):  # fmt: skip
                stack.append(arg)
            case "NONE":
                stack.append(None)
            case "NEWTRUE":
                stack.append(True)
            case "NEWFALSE":
                stack.append(False)
            case "MARK":
                stack.append(_MARK)
            case "POP":
                stack.pop()
            case "POP_MARK":
                pop_mark()
            case "DUP":
                stack.append(top())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                memo[arg] = top()
            case "MEMOIZE":
                memo[len(memo)] = top()
            case "GET" | "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(reversed([pop() for _ in range(int(opcode.name[-1]))])))
            case "TUPLE":
                stack.append(tuple(pop_mark()))
            case "EMPTY_LIST" | "EMPTY_SET":  # Order is harmless, so a set is a list.
                stack.append([])
            case "LIST" | "FROZENSET":
                stack.append(pop_mark())
            case "APPEND":
                value = pop()
                _extend(top(), [value])
            case "APPENDS" | "ADDITEMS":
                values = pop_mark()
                _extend(top(), values)
            case "EMPTY_DICT":
                stack.append({})
            case "DICT":
                values = pop_mark()
                stack.append({})
                _update(top(), values)
            case "SETITEM":
                value, key = pop(), pop()
                _update(top(), [key, value])
            case "SETITEMS":
                values = pop_mark()
                _update(top(), values)
            case "GLOBAL":
                stack.append(Record(arg.replace(" ", ".")))
            case "STACK_GLOBAL":
                name, module = pop(), pop()
                if not isinstance(name, str) or not isinstance(module, str):
                    raise UnpickleError("it is damaged")
                stack.append(Record(f"{module}.{name}"))
            case "REDUCE" | "NEWOBJ":
                args, function = pop(), pop()
                stack.append(_call(function, args))
            case "NEWOBJ_EX":
                _, args, function = pop(), pop(), pop()
                stack.append(_call(function, args))
            case "OBJ":
                function, *args = pop_mark()
                stack.append(_call(function, tuple(args)))
            case "INST":
                stack.append(_call(Record(arg.replace(" ", ".")), tuple(pop_mark())))
            case "BUILD":
                state, built = pop(), top()
                if isinstance(built, Record):
                    built.state = state
                elif not isinstance(built, dict):  # An OrderedDict's attributes are not needed.
                    raise UnpickleError("it is damaged")
            case "BINPERSID" if read_reference is not None:
                pid = pop()
                if not isinstance(pid, tuple):
                    raise UnpickleError("it refers to something outside itself")
                stack.append(read_reference(pid))
            case "PERSID" | "BINPERSID":
                raise UnpickleError("it refers to something outside itself")
            case _:
                raise UnpickleError(f"it uses the pickle instruction {opcode.name}")
    raise UnpickleError("it is truncated")


def shown(name: Any) -> str:
    """A name from a file, fit for a message: short, and without control characters."""
    return ascii(name)[:60] if isinstance(name, str) else f"a {type(name).__name__}"


def _call(function: Any, args: Any) -> Any:
    if not isinstance(function, Record) or not isinstance(args, tuple):
        raise UnpickleError("it is damaged")
    if function.name == "collections.OrderedDict" and not args:
        return {}
    return Record(function.name, args)


def _extend(target: Any, values: list[Any]) -> None:
    if isinstance(target, Record):
        target = target.elements
    if not isinstance(target, list):
        raise UnpickleError("it is damaged")
    target.extend(values)


def _update(target: Any, values: list[Any]) -> None:
    """Put keys and values, which take turns, into a dict."""
    if isinstance(target, Record):
        target = target.pairs
    if not isinstance(target, dict) or len(values) % 2:
        raise UnpickleError("it is damaged")
    for key, value in zip(values[::2], values[1::2], strict=True):
        if not _is_key(key):
            raise UnpickleError(f"it uses a {type(key).__name__} as a key")
        target[key] = value


def _is_key(value: Any) -> bool:
    """Whether a value can be hashed in bounded time: nested tuples may take for ever."""
    if isinstance(value, tuple):
        return len(value) <= LONGEST_KEY and all(_is_scalar(part) for part in value)
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | int | float | bool)
