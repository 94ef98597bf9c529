# SPDX-License-Identifier: Apache-2.0
"""The calling thread's capabilities, and its keyring, by system calls that Python's library lacks."""

from __future__ import annotations

import ctypes
import errno
import os
import platform

_PR_SET_PDEATHSIG = 1
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38
_PR_GET_NO_NEW_PRIVS = 39
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_IS_SET = 1
_PR_CAP_AMBIENT_CLEAR_ALL = 4

_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219}
"""glibc has no function for it. Elsewhere there is no TDX, nor one of its captures to look at as root."""
_KEYCTL_JOIN_SESSION_KEYRING = 1

_VERSION_3 = 0x20080522
_CAPABILITIES = 64
"""As many as the kernel's format has room for."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def empty_bounding_set() -> None:
    """Take every capability out of the bounding set, as far as CAP_SETPCAP is there to do it."""
    for number in _known():
        try:
            _prctl(_PR_CAPBSET_DROP, number)
        except PermissionError:
            return


def leave_session_keyring() -> None:
    """Join a new session keyring: a process in root's may read the keys in it, whatever its user id.

    Does nothing where the kernel has no keyrings, or a container's filter refuses the call.
    """
    number = _SYS_KEYCTL.get(platform.machine())
    if number is not None:
        _libc.syscall(ctypes.c_long(number), ctypes.c_long(_KEYCTL_JOIN_SESSION_KEYRING), None)


def empty_sets() -> None:
    """Empty the effective, permitted, inheritable and ambient sets.

    Raises:
        OSError: the kernel refuses.
    """
    try:
        _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    except OSError as error:
        # Linux before 4.3 has no ambient set.
        if error.errno != errno.EINVAL:
            raise
    _check(_libc.capset(ctypes.byref(_Header(_VERSION_3, 0)), ctypes.byref((_Data * 2)())))


def set_no_new_privs() -> None:
    """No program that this process starts gains privileges.

    Raises:
        OSError: the kernel refuses.
    """
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def no_new_privs() -> bool:
    """Whether it is set."""
    return _prctl(_PR_GET_NO_NEW_PRIVS) == 1


def sets() -> dict[str, int]:
    """The effective, permitted, inheritable and ambient sets as bit masks."""
    low_high = (_Data * 2)()
    _check(_libc.capget(ctypes.byref(_Header(_VERSION_3, 0)), ctypes.byref(low_high)))
    low, high = low_high
    found = {name: getattr(low, name) | getattr(high, name) << 32 for name, _ in _Data._fields_}
    found["ambient"] = sum(
        1 << number for number in _known() if _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_IS_SET, number) == 1
    )
    return found


def bounding_set() -> int:
    """The bounding set as a bit mask."""
    return sum(1 << number for number in _known() if _prctl(_PR_CAPBSET_READ, number) == 1)


def _known() -> list[int]:
    """Numbers of the capabilities that this kernel has."""
    known = []
    for number in range(_CAPABILITIES):
        try:
            _prctl(_PR_CAPBSET_READ, number)
        except OSError:
            break
        known.append(number)
    return known


def end_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when the one that started it ends (``PR_SET_PDEATHSIG``).

    Raises:
        OSError: the kernel refuses it.
    """
    _prctl(_PR_SET_PDEATHSIG, number)


def _prctl(option: int, *arguments: int) -> int:
    four = [ctypes.c_ulong(value) for value in (*arguments, 0, 0, 0, 0)[:4]]
    return _check(_libc.prctl(ctypes.c_int(option), *four))


def _check(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
