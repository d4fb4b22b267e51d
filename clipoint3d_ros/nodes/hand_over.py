"""How an adapter reaches perception: by its `bundle` parameter, which it checks and answers for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterEvent, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters

_STRING = 4  # rcl_interfaces/ParameterType.PARAMETER_STRING
_ANSWER_S = 10.0  # for perception to load a bundle and say whether it will
CLASSES_CHANGED = "perception's classes were changed; give this node the same, clean it up and configure it"


class Answer(NamedTuple):
    """What came of setting `bundle`.

    why: it was not taken, as a sentence; "" where it was. decided: by perception, which else may not even have heard.
    """

    why: str = ""
    decided: bool = True


class Theirs(NamedTuple):
    """What somebody else has changed of perception: its `bundle`, or where that is None its classes; and in words."""

    why: str
    bundle: str | None = None


class HandOver:
    """Sets perception's `bundle`, and notices when somebody else does."""

    def __init__(self, node: Any, perception: str, found_s: float = 10.0) -> None:
        """
        Args:
            node: through which it speaks; it must be spun by another thread than the one that calls `give` or `given`.
            perception: the node's name, in the same namespace, or absolute.
            found_s: seconds for perception to be found: on a busy machine DDS takes some, and here nobody waits.
        """
        self._set: Any = node.create_client(SetParameters, f"{perception}/set_parameters")
        self._get: Any = node.create_client(GetParameters, f"{perception}/get_parameters")
        there = "" if perception.startswith("/") else f"{node.get_namespace().rstrip('/')}/"
        self._name = there + perception
        self.perception, self._found_s = perception, found_s
        self._node = node
        self._one = threading.Lock()  # at a time
        self._answered = threading.Condition()
        self._hurried = 0
        self._unseen: deque[str] = deque(maxlen=64)  # what `bundle` was set to from here; events tell of it late

    def close(self) -> None:
        """Ask nothing more of that node."""
        for client in (self._set, self._get):
            self._node.destroy_client(client)

    @property
    def busy(self) -> bool:
        """Whether perception is being asked for something."""
        return self._one.locked()

    def give(self, path: str, still: Callable[[], bool] = lambda: True) -> Answer:
        """Set `bundle` to a folder, or "" for the frozen model.

        Args:
            still: whether that is wanted; asked at the last moment.
        """
        with self._one:
            if not self._found(self._set):
                return Answer(f"no node '{self.perception}' is there to take it", decided=False)
            if not still():
                return Answer("it is wanted no longer", decided=False)
            value = ParameterValue(type=_STRING, string_value=path)
            request = SetParameters.Request(parameters=[ParameterMessage(name="bundle", value=value)])
            self._unseen.append(path)
            answer, wrong = self._asked(self._set, request)
            if wrong:
                return Answer(wrong, decided=False)
            result = answer.results[0]
            if not result.successful:
                self._unseen.remove(path)
            return Answer() if result.successful else Answer(f"perception refused it: {result.reason}")

    def given(self) -> str | None:
        """What `bundle` is, whoever set it; None where perception does not say."""
        with self._one:
            if not self._found(self._get):
                return None
            answer, wrong = self._asked(self._get, GetParameters.Request(names=["bundle"]))
            return None if wrong or not answer.values else str(answer.values[0].string_value)

    @contextmanager
    def hurried(self) -> Iterator[None]:
        """A time in which nobody waits for perception; what is under way is told so at once.

        Answers come through the node's executor: whoever keeps it busy, as a transition of the node does, and waits for
        a thread that waits for an answer, would wait in vain.
        """
        with self._answered:
            self._hurried += 1
            self._answered.notify_all()
        try:
            yield
        finally:
            with self._answered:
                self._hurried -= 1

    def set_by_others(self, event: ParameterEvent) -> Theirs | None:
        """What somebody else has changed of perception that adapting depends on; None where nothing."""
        if event.node != self._name:
            return None
        for parameter in event.changed_parameters:
            given = parameter.value.string_value
            if parameter.name == "bundle" and not self._was_ours(given):
                return Theirs(by_others(given), given)
            if parameter.name == "classes":
                return Theirs(CLASSES_CHANGED)
        for parameter in event.new_parameters:  # perception was started anew, with a bundle of somebody's
            given = parameter.value.string_value
            if parameter.name == "bundle" and given:
                return Theirs(by_others(given), given)
        return None

    def _found(self, client: Any) -> bool:
        end = time.monotonic() + self._found_s
        while not client.service_is_ready():
            if self._hurried or time.monotonic() > end:
                return False
            time.sleep(0.02)
        return True

    def _asked(self, client: Any, request: Any) -> tuple[Any, str]:
        """The answer, or why there is none."""
        future = client.call_async(request)
        future.add_done_callback(lambda _: self._wake())
        with self._answered:
            self._answered.wait_for(lambda: future.done() or self._hurried, _ANSWER_S)
            hurried = self._hurried
        if future.done():
            return future.result(), ""
        if hurried:
            return None, "perception's answer was not waited for, since this node stops"
        return None, f"perception did not answer within {_ANSWER_S:g} s"

    def _wake(self) -> None:
        with self._answered:
            self._answered.notify_all()

    def _was_ours(self, given: str) -> bool:
        """Whether this was set from here; what was set before it will not be told of any more."""
        ours = given in self._unseen
        while ours and self._unseen.popleft() != given:
            pass
        return ours


def by_others(given: str) -> str:
    """Why adapting pauses where `bundle` is somebody else's choice."""
    return f"perception's bundle was set to '{given}' by someone else; call ~/pause with false to go on"
