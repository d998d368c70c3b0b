"""Forbids a process to call anybody: seccomp, which needs no rights and no other program, and misses no thread.

A process that connects, or sends to an address, is ended by SIGSYS at that very call. Accepting connections, and answering on
them, is allowed.
"""

import ctypes
import os
import platform

# connect, sendto, and what could stand in for them.
CALLS = {
    "x86_64": {"connect": 42, "sendto": 44, "sendmsg": 46, "sendmmsg": 307, "io_uring_setup": 425},
    "aarch64": {"connect": 203, "sendto": 206, "sendmsg": 211, "sendmmsg": 269, "io_uring_setup": 425},
}

PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_NO_NEW_PRIVS = 22, 2, 38
LOAD, EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, KILL = 0x7FFF0000, 0x80000000
# Where struct seccomp_data holds the call's number, and the two halves of its fifth argument: sendto's address.
NUMBER, ADDRESS = 0, (48, 52)


class Instruction(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("then", ctypes.c_ubyte), ("otherwise", ctypes.c_ubyte), ("k", ctypes.c_uint)]


class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(Instruction))]


def program():
    """The filter: a call that is not named passes; `sendto` passes without an address, as on a connection."""
    calls = dict(CALLS[platform.machine()])
    sendto = calls.pop("sendto")
    lines = [(LOAD, 0, 0, NUMBER)]
    lines += [(EQUAL, len(calls) - at + 5, 0, number) for at, number in enumerate(calls.values())]
    lines += [
        (EQUAL, 0, 4, sendto),
        (LOAD, 0, 0, ADDRESS[0]),
        (EQUAL, 0, 3, 0),
        (LOAD, 0, 0, ADDRESS[1]),
        (EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW),
        (RETURN, 0, 0, KILL),
    ]
    return (Instruction * len(lines))(*lines)


def confine():
    """For the time between fork and exec: the program then executed, with all its threads, cannot open connections."""
    libc = ctypes.CDLL(None, use_errno=True)
    instructions = program()
    filter = Program(len(instructions), instructions)
    for call in [(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(filter), 0, 0)]:
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
