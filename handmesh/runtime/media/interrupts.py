"""Ctrl-C that waits until what is being written is whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C, or being terminated, inside takes effect at the end. Other threads than the main one see neither."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    held: list[int] = []
    usual: dict[int, object] = {}
    try:
        for number in _SIGNALS:
            usual[number] = signal.signal(number, lambda came, _: held.append(came))
        yield
    finally:
        for number, handler in usual.items():
            _restore(number, handler, held)
        if held:
            signal.raise_signal(held[0])


def _restore(number: int, handler: object, held: list[int]) -> None:
    """Set a signal's usual handler. One whose own is set already may come just now: it is held back as well."""
    while True:
        try:
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
            return
        except KeyboardInterrupt:
            held.append(number)
