"""Runs pickles on a machine that calls nothing.

A pickle is a program for a stack machine, and some of its instructions call functions that the file
names. Here they call nothing: whatever the file would have built becomes a `Record` that holds the
function's name and the arguments. Only numbers, strings and containers are built.

What a program may cost is bounded: how many instructions it has, and all that could make a few of
them cost much, such as long names that are joined again and again, or keys made to collide.
"""

from __future__ import annotations

import io
import mmap
import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

ReadReference: TypeAlias = Callable[[tuple[Any, ...]], Any]

MOST_OPCODES = 250_000
"""Of all pickles in a file. A training checkpoint of StyleGAN2 at 1024 pixels has about 40,000."""
MOST_WIDE = 2**24
"""Bytes of texts in a file that hold more than Latin letters: Python takes four for each of them,
and no weights are written so."""
LONGEST_INT = 512
"""Bits; hashing longer ones again and again would be a way to keep the reader busy."""
LONGEST_NAME = 500
"""Characters of a module's and a function's name, of a weight's or a setting's."""
LONGEST_KEY = 16
MOST_NUMBERED = 1024
"""Keys of a dict that are not text. Python's hashes of numbers are known, so that a file could have
them collide, which takes the square of their number; an optimiser numbers its hundreds of weights.
"""
SHORT = 4096
"""Bytes up to which strings are copied out of the file; longer ones are views of it."""


class UnpickleError(ValueError):
    """The file is damaged, or holds what is not needed for a generator; the message says which."""


@dataclass
class Budget:
    """What reading a file may still cost, however its parts are arranged and nested.

    Attributes:
        made: bytes that tensors may have.
        copied: bytes that may be read or copied for them.
        opcodes: instructions that may be run.
        wide: bytes of texts with other than Latin letters.
    """

    made: int
    copied: int
    opcodes: int = MOST_OPCODES
    wide: int = MOST_WIDE

    def spend(self, copied: int, made: int = 0) -> None:
        self.made -= made
        self.copied -= copied
        if self.made < 0 or self.copied < 0:
            raise UnpickleError("its tensors claim more than the file holds")


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
_OPCODES = {ord(opcode.code): opcode for opcode in pickletools.opcodes}
# How the count is written of what follows it -> its bytes, and whether it could be negative.
_COUNTS = {
    pickletools.TAKEN_FROM_ARGUMENT1: (1, False),
    pickletools.TAKEN_FROM_ARGUMENT4: (4, True),
    pickletools.TAKEN_FROM_ARGUMENT4U: (4, False),
    pickletools.TAKEN_FROM_ARGUMENT8U: (8, False),
}
# In UTF-8, how characters begin that Latin-1 does not have.
_WIDE = re.compile(rb"[\xc4-\xff]")


class Program:
    """The bytes of a file, read instruction by instruction and without copying the long ones.

    Attributes:
        place: of the next byte.
    """

    def __init__(self, data: bytes | mmap.mmap, budget: Budget) -> None:
        self._data, self.view, self.budget = data, memoryview(data), budget
        self.place = 0

    def next(self) -> tuple[str, Any]:
        """The next instruction: its name in `pickletools`, and its argument."""
        self.budget.opcodes -= 1
        if self.budget.opcodes < 0:
            raise UnpickleError("it has more instructions than a network needs")
        opcode = _OPCODES.get(self._take(1)[0])
        if opcode is None:
            raise UnpickleError("it is truncated, damaged, or not a pickle")
        kind = opcode.arg
        if kind is None:
            return opcode.name, None
        if kind.n in _COUNTS:
            width, signed = _COUNTS[kind.n]
            count = int.from_bytes(self._take(width), "little", signed=signed)
            return opcode.name, self._decoded(kind.name, self._take(count))
        if kind.n != pickletools.UP_TO_NEWLINE:
            return opcode.name, kind.reader(io.BytesIO(self._take(kind.n)))
        lines = b"".join(self._line() for _ in range(2 if kind.name.endswith("_pair") else 1))
        return opcode.name, kind.reader(io.BytesIO(lines))

    def _take(self, count: int) -> memoryview:
        part = self.view[self.place : self.place + count]
        if count < 0 or len(part) < count:
            raise UnpickleError("it is truncated")
        self.place += count
        return part

    def _line(self) -> bytes:
        end = self._data.find(b"\n", self.place)
        if not 0 <= end - self.place < 2**16:
            raise UnpickleError("it is truncated, damaged, or not a pickle")
        return bytes(self._take(end + 1 - self.place))

    def _decoded(self, kind: str, data: memoryview) -> Any:
        if kind.startswith("unicode"):
            if len(data) > SHORT and _WIDE.search(data):
                self.budget.wide -= len(data)
                if self.budget.wide < 0:
                    raise UnpickleError("it holds too much text")
            return str(data, "utf-8", "surrogatepass")
        if kind.startswith("string"):
            return str(data, "latin-1")
        if kind.startswith("long"):
            if len(data) > LONGEST_INT // 8 + 1:
                raise UnpickleError("it holds a number that is too long")
            return int.from_bytes(data, "little", signed=True)
        return data if len(data) > SHORT else bytes(data)


def unpickle(program: Program, read_reference: ReadReference | None = None) -> Any:
    """Run the next pickle of a file on a machine that calls nothing.

    Args:
        read_reference: what to make of references to things outside the pickle, as torch has them
            to storages; None refuses them.

    Raises:
        UnpickleError: the pickle is damaged, refused, or costs too much.
    """
    try:
        return _run(program, read_reference)
    except (ValueError, LookupError, TypeError, ArithmeticError, struct.error) as error:
        if isinstance(error, UnpickleError):
            raise
        raise UnpickleError("it is truncated, damaged, or not a pickle") from error


def _run(program: Program, read_reference: ReadReference | None) -> Any:
    stack: list[Any] = []
    memo: list[Any] = []

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

    def remember(place: int) -> None:
        if not 0 <= place < MOST_OPCODES:
            raise UnpickleError("it is damaged")
        memo.extend([_MARK] * (place + 1 - len(memo)))
        memo[place] = top()

    while True:
        opcode, arg = program.next()
        match opcode:
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
                remember(arg)
            case "MEMOIZE":
                remember(len(memo))
            case "GET" | "BINGET" | "LONG_BINGET":
                if arg < 0 or memo[arg] is _MARK:
                    raise UnpickleError("it is damaged")
                stack.append(memo[arg])
            case "EMPTY_TUPLE":
                stack.append(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(reversed([pop() for _ in range(int(opcode[-1]))])))
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
                stack.append(_named(*arg.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = pop(), pop()
                stack.append(_named(module, name))
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
                stack.append(_call(_named(*arg.split(" ", 1)), tuple(pop_mark())))
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
                raise UnpickleError(f"it uses the pickle instruction {opcode}")


def shown(name: Any) -> str:
    """A name from a file, fit for a message: short, and without control characters."""
    return ascii(name)[:60] if isinstance(name, str) else f"a {type(name).__name__}"


def _named(module: Any, name: Any) -> Record:
    if not isinstance(name, str) or not isinstance(module, str):
        raise UnpickleError("it is damaged")
    if len(module) + len(name) > LONGEST_NAME:
        raise UnpickleError("it names something too long to be known")
    return Record(f"{module}.{name}")


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
        if len(target) >= MOST_NUMBERED and not isinstance(key, str | bytes):
            raise UnpickleError("it numbers more things than a network has")
        target[key] = value


def _is_key(value: Any) -> bool:
    """Whether a value can be hashed in bounded time: nested tuples may take for ever."""
    if isinstance(value, tuple):
        return len(value) <= LONGEST_KEY and all(_is_scalar(part) for part in value)
    return _is_scalar(value)


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, str | bytes | int | float)
