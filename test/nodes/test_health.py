"""Warned of at once, an error when it lasts, well again when it is gone."""

from __future__ import annotations

from clipoint3d_ros.nodes.health import Health, Lateness, Level, Troubles


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


def test_a_trouble_warns_at_once_becomes_an_error_when_it_lasts_and_is_over_when_it_is_gone():
    clock = Clock()
    health = Health(clock)
    assert health.judge({"silence": ""}, 30) == (Level.OK, "")
    assert health.judge({"silence": "no cloud"}, 30) == (Level.WARN, "no cloud")
    clock.now += 29
    assert health.judge({"silence": "no cloud still"}, 30) == (Level.WARN, "no cloud still")
    clock.now += 1
    assert health.judge({"silence": "no cloud still"}, 30) == (Level.ERROR, "no cloud still (since 30 s)")
    assert health.judge({"silence": ""}, 30) == (Level.OK, "")
    clock.now += 60
    assert health.judge({"silence": "no cloud"}, 30).level == Level.WARN, "a new trouble begins anew"


def test_two_troubles_do_not_add_up_and_the_older_one_is_the_error():
    clock = Clock()
    health = Health(clock)
    health.judge({"silence": "", "latency": "slow"}, 30)
    clock.now += 20
    assert health.judge({"silence": "still", "latency": ""}, 30).level == Level.WARN
    clock.now += 20
    assert health.judge({"silence": "still", "latency": "slow"}, 30).level == Level.WARN
    clock.now += 15
    assert health.judge({"latency": "slow", "silence": "still"}, 30) == (Level.ERROR, "still (since 35 s)")


def test_what_is_over_warns_and_never_becomes_an_error():
    clock = Clock()
    health = Health(clock)
    for _ in range(100):
        clock.now += 1
        assert health.judge({}, 30, passing="one cloud was refused") == (Level.WARN, "one cloud was refused")
    assert health.judge({"silence": "no cloud"}, 30, passing="one cloud was refused").why == "no cloud"


def test_zero_seconds_is_never():
    clock = Clock()
    health = Health(clock)
    health.judge({"latency": "slow"}, 0)
    clock.now += 1e6
    assert health.judge({"latency": "slow"}, 0).level == Level.WARN


def test_lateness_needs_a_limit_and_holds_until_a_cloud_is_in_time():
    late = Lateness()
    assert late.judge(0, 5000, 5000) == ""
    said = late.judge(100, 130, 0)
    assert "took 130 ms, above 'latency_limit_ms' of 100 ms" in said
    assert late.judge(100, None, 20) == said, "the next one is not finished yet"
    assert late.judge(100, 100, 0) == ""
    assert late.judge(100, None, 20) == ""
    assert "took 2000 ms" in late.judge(100, None, 2000), "one that is never finished is late as well"
    assert late.judge(0, None, 2000) == ""


def test_a_trouble_lasts_until_the_same_thing_goes_well():
    warned = []
    troubles = Troubles(lambda *said: warned.append(said))
    troubles.say("disk", "full")
    troubles.fail("frames", "odd")
    told = troubles.there
    troubles.say("disk", "")
    troubles.say("names", "")
    assert (list(told), troubles.there, troubles.failures) == (["disk", "frames"], {"frames": "odd"}, 1)
    assert warned == [("disk", "full"), ("frames", "odd")]
