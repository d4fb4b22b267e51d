"""Embeddings of sentences, kept so that classes which change and come back are not encoded again."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping

from torch import Tensor

MOST = 4096  # sentences: some megabytes; a class file of sixty classes has some five hundred


class Sentences:
    """The embeddings (D,) of the sentences used last; those used longest ago leave when there are more than `most`."""

    def __init__(self, most: int = MOST) -> None:
        self._most, self._known, self._lock = most, dict[str, Tensor](), threading.Lock()

    def __len__(self) -> int:
        return len(self._known)

    def recall(self, sentences: Iterable[str]) -> dict[str, Tensor]:
        """Those that are known."""
        with self._lock:
            found = {each: self._known[each] for each in sentences if each in self._known}
            self._use(found)
        return found

    def keep(self, features: Mapping[str, Tensor]) -> None:
        """Remember these; each is copied, or one row would hold the memory of the whole pass it came from."""
        own = {sentence: row.clone() for sentence, row in features.items()}
        with self._lock:
            self._use(own)
            for oldest in list(self._known)[: max(0, len(self._known) - self._most)]:
                del self._known[oldest]

    def _use(self, features: Mapping[str, Tensor]) -> None:
        for sentence, row in features.items():  # the last of a dict is what was put in last
            self._known.pop(sentence, None)
            self._known[sentence] = row
