"""Newest wins, drops are counted, and one bad frame ends nothing."""

from __future__ import annotations

import threading
import time

from clipoint3d_ros.nodes.inbox import Inbox, Worker


def test_the_newest_frame_wins_and_the_replaced_are_counted():
    inbox = Inbox()
    assert [inbox.put(number) for number in range(5)] == [False, True, True, True, True]
    assert inbox.take() == 4
    assert inbox.dropped == 4
    assert inbox.take(timeout_s=0.01) is None


def test_a_cleared_frame_is_not_a_drop():
    inbox = Inbox()
    inbox.put(1)
    inbox.clear()
    assert inbox.take(timeout_s=0.01) is None
    assert inbox.dropped == 0


def test_a_closed_inbox_wakes_its_taker_and_takes_nothing():
    inbox, taken = Inbox(), []
    waiting = threading.Thread(target=lambda: taken.append(inbox.take()))
    waiting.start()
    inbox.close()
    waiting.join(5)
    assert taken == [None]
    inbox.put(1)
    assert inbox.take() is None


def test_a_slow_worker_answers_the_first_and_the_newest():
    done, began = [], threading.Event()

    def work(number):
        began.set()
        time.sleep(0.05)
        done.append(number)

    worker = Worker(work, lambda error: None)
    worker.inbox.put(0)
    assert began.wait(5)
    for number in range(1, 10):
        worker.inbox.put(number)
    time.sleep(0.2)
    assert worker.stop(5)
    assert done == [0, 9]
    assert worker.inbox.dropped == 8


def test_a_worker_is_busy_while_a_frame_is_in_hand_whatever_comes_of_it():
    began, goes_on = threading.Event(), threading.Event()

    def work(number):
        began.set()
        assert goes_on.wait(5)
        raise RuntimeError("no")

    worker = Worker(work, lambda error: None)
    assert not worker.busy
    worker.inbox.put(1)
    assert began.wait(5)
    assert worker.busy
    goes_on.set()
    assert worker.stop(5)
    assert not worker.busy


def test_a_frame_that_fails_is_reported_and_the_next_is_worked_on():
    done, failures = [], []

    def work(number):
        if number == 1:
            raise ValueError("one is bad")
        done.append(number)

    worker = Worker(work, failures.append)
    for number in (1, 2):
        worker.inbox.put(number)
        time.sleep(0.1)
    assert worker.stop(5)
    assert done == [2]
    assert [str(error) for error in failures] == ["one is bad"]


def test_stopping_waits_for_the_frame_in_hand():
    done, began = [], threading.Event()

    def work(number):
        began.set()
        time.sleep(0.1)
        done.append(number)

    worker = Worker(work, lambda error: None)
    worker.inbox.put(3)
    began.wait(5)
    assert worker.stop(5)
    assert done == [3]
