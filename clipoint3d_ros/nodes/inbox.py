"""An inbox of one, newest wins, and the thread that empties it.

A camera is faster than a vision tower. A queue would answer about the world of some seconds ago; here a new frame
replaces the waiting one, and the replaced are counted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Inbox(Generic[T]):
    """Holds the newest frame until it is taken."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: T | None = None
        self._closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Frames replaced before anyone took them."""
        return self._dropped

    def put(self, frame: T) -> bool:
        """Leave a frame; True where it replaced a waiting one. Nothing enters a closed inbox."""
        with self._condition:
            if self._closed:
                return False
            replaced = self._frame is not None
            self._dropped += replaced
            self._frame = frame
            self._condition.notify()
            return replaced

    def take(self, timeout_s: float | None = None) -> T | None:
        """The waiting frame, or None after the time-out or once closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._frame is not None or self._closed, timeout_s)
            frame, self._frame = self._frame, None
            return None if self._closed else frame

    def clear(self) -> None:
        """Forget a waiting frame without counting it."""
        with self._condition:
            self._frame = None

    def close(self) -> None:
        """Let nothing in any more and wake whoever waits."""
        with self._condition:
            self._closed, self._frame = True, None
            self._condition.notify_all()


class Worker(Generic[T]):
    """A thread that gives each frame of its inbox to `work`; an exception goes to `failed`, and the thread goes on."""

    def __init__(self, work: Callable[[T], None], failed: Callable[[Exception], None]) -> None:
        self.inbox: Inbox[T] = Inbox()
        self._work, self._failed = work, failed
        self._in_hand = False
        self._thread = threading.Thread(target=self._run, name="perception", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """Whether a frame is in hand."""
        return self._in_hand

    def stop(self, timeout_s: float = 30.0) -> bool:
        """Close the inbox and wait for the frame in hand; False where it took longer than the time-out."""
        self.inbox.close()
        if self._thread is not threading.current_thread():
            self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (frame := self.inbox.take()) is not None:
            self._in_hand = True
            try:
                self._work(frame)
            except Exception as error:  # one bad frame must not end the node
                self._failed(error)
            finally:
                self._in_hand = False
            del frame  # a waiting thread holds no cloud of megabytes
