"""How an adapter reaches perception: by its `bundle` parameter, which it checks and answers for."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterEvent, ParameterValue
from rcl_interfaces.srv import GetParameters, SetParameters

_STRING = 4  # rcl_interfaces/ParameterType.PARAMETER_STRING
_ANSWER_S = 10.0  # for perception to load a bundle and say whether it will


class HandOver:
    """Sets perception's `bundle`, and notices when somebody else does."""

    def __init__(self, node: Any, perception: str, found_s: float = 10.0) -> None:
        """
        Args:
            node: through which it speaks; it must be spun by another thread than the one that calls `give` or `given`.
            perception: the node's name, in the same namespace.
            found_s: seconds for perception to be found: on a busy machine DDS takes some, and here nobody waits.
        """
        self._set: Any = node.create_client(SetParameters, f"{perception}/set_parameters")
        self._get: Any = node.create_client(GetParameters, f"{perception}/get_parameters")
        self._name = f"{node.get_namespace().rstrip('/')}/{perception}"
        self._perception, self._found_s = perception, found_s
        self._one = threading.Lock()  # at a time
        self._answered = threading.Condition()
        self._hurried = 0
        self._unseen: deque[str] = deque(maxlen=64)  # what `bundle` was set to from here; events tell of it late

    def give(self, path: str) -> str:
        """Set `bundle` to a folder, or "" for the frozen model; why perception did not take it, or ""."""
        with self._one:
            if not self._found(self._set):
                return f"no node '{self._perception}' is there to take it"
            value = ParameterValue(type=_STRING, string_value=path)
            request = SetParameters.Request(parameters=[ParameterMessage(name="bundle", value=value)])
            self._unseen.append(path)
            answer, wrong = self._asked(self._set, request)
            if wrong:
                return wrong
            result = answer.results[0]
            if not result.successful:
                self._unseen.remove(path)
            return "" if result.successful else f"perception refused it: {result.reason}"

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

    def set_by_others(self, event: ParameterEvent) -> str:
        """What somebody else has changed of perception that adapting depends on, as a sentence; "" where nothing."""
        if event.node != self._name:
            return ""
        for parameter in event.changed_parameters:
            given = parameter.value.string_value
            if parameter.name == "bundle" and not self._was_ours(given):
                return by_others(given)
            if parameter.name == "classes":
                return "perception's classes were changed; give this node the same, clean it up and configure it"
        return ""

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
