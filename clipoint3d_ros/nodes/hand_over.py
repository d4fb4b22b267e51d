"""How an adapter reaches perception: by its `bundle` parameter, which it checks and answers for."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterEvent, ParameterValue
from rcl_interfaces.srv import SetParameters

_STRING = 4  # rcl_interfaces/ParameterType.PARAMETER_STRING
_ANSWER_S = 10.0  # for perception to load a bundle and say whether it will


class HandOver:
    """Sets perception's `bundle`, and notices when somebody else does."""

    def __init__(self, node: Any, perception: str) -> None:
        """
        Args:
            node: through which it speaks; it must be spun by another thread than the one that calls `give`.
            perception: the node's name, in the same namespace.
        """
        self._client: Any = node.create_client(SetParameters, f"{perception}/set_parameters")
        self._name = f"{node.get_namespace().rstrip('/')}/{perception}"
        self._perception = perception
        self._one = threading.Lock()  # at a time
        self._unseen: deque[str] = deque(maxlen=64)  # what `bundle` was set to from here; events tell of it late

    def give(self, path: str) -> str:
        """Set `bundle` to a folder, or "" for the frozen model; why perception did not take it, or ""."""
        with self._one:
            return self._given(path)

    def _given(self, path: str) -> str:
        if not self._client.wait_for_service(timeout_sec=1.0):
            return f"no node '{self._perception}' is there to take it"
        value = ParameterValue(type=_STRING, string_value=path)
        request = SetParameters.Request(parameters=[ParameterMessage(name="bundle", value=value)])
        self._unseen.append(path)
        done = threading.Event()
        future = self._client.call_async(request)
        future.add_done_callback(lambda _: done.set())
        if not done.wait(_ANSWER_S):
            return f"perception did not answer within {_ANSWER_S:g} s"
        answered: Any = future.result()
        result = answered.results[0]
        if not result.successful:
            self._unseen.remove(path)
        return "" if result.successful else f"perception refused it: {result.reason}"

    def set_by_others(self, event: ParameterEvent) -> str:
        """What somebody else has changed of perception that adapting depends on, as a sentence; "" where nothing."""
        if event.node != self._name:
            return ""
        for parameter in event.changed_parameters:
            given = parameter.value.string_value
            if parameter.name == "bundle" and not self._was_ours(given):
                return f"perception's bundle was set to '{given}' by someone else; call ~/pause with false to go on"
            if parameter.name == "classes":
                return "perception's classes were changed; give this node the same, clean it up and configure it"
        return ""

    def _was_ours(self, given: str) -> bool:
        """Whether this was set from here; what was set before it will not be told of any more."""
        ours = given in self._unseen
        while ours and self._unseen.popleft() != given:
            pass
        return ours
