"""Many recordings: jobs of their own, kept, resumed and merged, with a model that needs no time."""

import json
import os
import sys
from dataclasses import replace

import pytest
from labelled import labelled_bag
from replays import answered

from clipoint3d_ros.evaluation import fleet
from clipoint3d_ros.evaluation.answers import Answer, FrameAnswer, FrameKey, Replayed, survey
from clipoint3d_ros.evaluation.bags import LabelledBag
from clipoint3d_ros.evaluation.node_process import ReplayError
from clipoint3d_ros.evaluation.playing import Playing
from clipoint3d_ros.evaluation.scoring import bag_rows, score

CLASSES = ("box", "can", "mug")
TRUTHS = ([{"2": "box", "3": "can"}, {"2": "can"}], [{"4": "mug"}] * 3, [{"2": "box"}])


def playing(**keys):
    return Playing({"unknown_below": 0.0, **keys.pop("parameters", {})}, CLASSES, offline=True, **keys)


def by_rule(frame):
    """An answer that follows from the frame: even ids are boxes, odd ones cans."""
    return FrameAnswer({o.id: Answer("can" if int(o.id) % 2 else "box", 0.3) for o in frame.objects}, 0.25)


def rule(job):
    """A job that answers by `by_rule`; at module level, so that other processes find it."""
    try:
        bag = LabelledBag(job.bag)
    except ValueError as error:
        return str(error)
    frames = tuple(survey([bag]))
    return fleet.Answered(frames, Replayed(CLASSES, {frame.key: by_rule(frame) for frame in frames}))


def rule_or_death(job):
    if job.bag.name == "b1":
        os._exit(9)
    return rule(job)


def run_here(work, seen=None):
    def run(jobs):
        for job in jobs:
            if seen is not None:
                seen.append(job.bag.name)
            yield job, work(job)

    return run


@pytest.fixture
def bags(tmp_path):
    return [labelled_bag(tmp_path / f"b{i}", truth, seed=i) for i, truth in enumerate(TRUTHS)]


def test_merged_bags_score_as_one_run_over_all_of_them(bags):
    outcomes = fleet.answer_all(bags, playing(), run_here(rule))
    assert list(outcomes) == bags
    frames, replayed = fleet.merged(list(outcomes.values()))
    together = list(survey([LabelledBag(bag) for bag in bags]))
    assert frames == together
    at_once = Replayed(CLASSES, {frame.key: by_rule(frame) for frame in together})
    assert replayed == at_once
    assert score(frames, replayed) == score(together, at_once)


def test_an_adapter_s_answers_are_merged_beside_the_frozen_model_s(bags):
    found = []
    for number, bag in enumerate(bags):
        frames = tuple(survey([LabelledBag(bag)]))
        labels = [{o.id: "mug" for o in frame.objects} for frame in frames]
        adapted = answered(frames, labels, version=[number + 1] * len(frames))
        found.append(fleet.Answered(frames, Replayed(CLASSES, answered(frames, labels), adapted)))
    frames, replayed = fleet.merged(found)
    assert [replayed.adapted[frame.key].version for frame in frames] == [1, 1, 2, 2, 2, 3]
    assert score(frames, replayed)["adapter_versions"] == [1, 2, 3]


def test_nothing_to_merge_is_an_error():
    with pytest.raises(ValueError, match="no bag was answered"):
        fleet.merged([])


def test_processes_of_their_own_give_the_same_and_a_dead_one_takes_no_other_along(bags):
    outcomes = fleet.answer_all(bags, playing(), fleet.in_processes(3, rule_or_death))
    assert list(outcomes) == bags
    alone = fleet.answer_all(bags, playing(), run_here(rule))
    assert (outcomes[bags[0]], outcomes[bags[2]]) == (alone[bags[0]], alone[bags[2]])
    assert outcomes[bags[1]].startswith(f"{bags[1]}: its process ended with exit code 9")


def test_a_finished_bag_is_not_played_again(bags, tmp_path):
    work, seen = tmp_path / "work", []
    first = fleet.answer_all(bags[:2], playing(), run_here(rule, seen), work)
    again = fleet.answer_all(bags, playing(), run_here(rule, seen), work)
    assert seen == ["b0", "b1", "b2"]
    assert {bag: again[bag] for bag in bags[:2]} == first, "what was kept is what was answered"
    assert len(list(work.iterdir())) == 3


def test_what_was_asked_otherwise_is_played_again(bags, tmp_path):
    work, seen = tmp_path / "work", []
    for asked in (playing(), playing(wait=True), playing(parameters={"points": 64}), playing()):
        fleet.answer_all(bags[:1], asked, run_here(rule, seen), work)
    assert seen == ["b0"] * 3
    os.utime(bags[0] / "metadata.yaml", ns=(1, 1))
    fleet.answer_all(bags[:1], playing(), run_here(rule, seen), work)
    assert seen == ["b0"] * 4, "the bag has changed"


def test_a_model_file_that_has_changed_is_another_question(bags, tmp_path):
    work, seen, bundle = tmp_path / "work", [], tmp_path / "bundle"
    bundle.mkdir()
    for content in ("one", "three"):
        (bundle / "bundle.json").write_text(content)
        fleet.answer_all(bags[:1], playing(parameters={"bundle": str(bundle)}), run_here(rule, seen), work)
    assert seen == ["b0"] * 2


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"asked": {}}', "whole but for the frames"])
def test_a_damaged_file_of_a_finished_bag_counts_for_nothing(bags, tmp_path, damage):
    work, seen = tmp_path / "work", []
    fleet.answer_all(bags[:1], playing(), run_here(rule, seen), work)
    (file,) = work.iterdir()
    if damage.startswith("whole"):
        damage = json.dumps({**json.loads(file.read_text()), "frames": [[1]]})
    file.write_text(damage)
    fleet.answer_all(bags[:1], playing(), run_here(rule, seen), work)
    assert seen == ["b0"] * 2


def test_a_bag_that_fails_says_why_and_is_tried_again(bags, tmp_path):
    work, seen, none = tmp_path / "work", [], tmp_path / "none"
    for _ in range(2):
        outcomes = fleet.answer_all([bags[0], none], playing(), run_here(rule, seen), work)
        assert outcomes[none] == f"no bag at {none}"
        assert isinstance(outcomes[bags[0]], fleet.Answered)
    assert seen == ["b0", "none", "none"]


def test_an_error_while_playing_names_the_bag(bags):
    job = fleet.Job(bags[0], replace(playing(), parameters={"backbone": "local-dir:/nowhere"}))
    said = fleet.answer(job)
    assert said.startswith(f"{bags[0]}: ")
    assert "/nowhere" in said


def test_rows_of_bags_are_their_own_figures(bags, tmp_path):
    outcomes = fleet.answer_all(bags, playing(), run_here(rule))
    frames, replayed = fleet.merged(list(outcomes.values()))
    rows = bag_rows(frames, replayed, bags, {tmp_path / "x": "x is no bag"})
    for row, outcome in zip(rows, outcomes.values(), strict=False):
        alone = score(outcome.frames, outcome.replayed)
        for key in ("frames", "dropped_frames", "objects", "frozen", "adapted"):
            assert row[key] == alone[key]
    assert rows[-1] == {**dict.fromkeys(rows[0]), "bag": str(tmp_path / "x"), "failed": "x is no bag"}
    assert [row["failed"] for row in rows[:-1]] == [None] * 3


def test_without_ray_there_is_a_way_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ReplayError, match=r"`pip install ray` .* leave --ray out and use --jobs"):
        fleet.on_ray("auto")


def test_on_a_ray_cluster_the_same_comes_out(bags):
    ray = pytest.importorskip("ray", reason="ray is not installed (pip install ray)")
    try:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
        outcomes = fleet.answer_all(bags, playing(), fleet.on_ray("auto", rule))
    finally:
        ray.shutdown()
    assert outcomes == fleet.answer_all(bags, playing(), run_here(rule))
    assert {FrameKey(0, 0).bag} == {key.bag for one in outcomes.values() for key in one.replayed.frozen}
