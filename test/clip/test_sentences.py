"""Sentences that were encoded before: the last ones used are known, and never more than a bound."""

import torch

from clipoint3d_ros.clip.backbone import load_backbone
from clipoint3d_ros.clip.sentences import MOST, Sentences


def rows(*names):
    return {name: torch.full((2,), float(number)) for number, name in enumerate(names)}


def test_the_sentences_used_longest_ago_leave():
    known = Sentences(most=3)
    known.keep(rows("a", "b", "c"))
    assert known.recall(["a", "z"]).keys() == {"a"}
    known.keep(rows("d"))
    assert len(known) == 3
    assert known.recall("abcd").keys() == {"a", "c", "d"}, "'a' was used after 'b'"


def test_what_is_kept_holds_no_more_memory_than_its_row():
    known, whole = Sentences(), torch.zeros(256, 8)
    known.keep({"a": whole[3]})
    assert known.recall(["a"])["a"].untyped_storage().nbytes() == 8 * 4


def test_a_robot_whose_classes_change_for_months_remembers_a_bounded_number(small_model_folder):
    backbone = load_backbone(f"local-dir:{small_model_folder}", device="cpu")
    many = [f"thing {number}" for number in range(MOST + 300)]
    features = backbone.encode_sentences(many)
    assert len(backbone._sentences) == MOST
    assert features.shape == (len(many), 32), "more sentences at once than are kept are still all answered"
    again = backbone.encode_sentences([many[0], many[-1]])
    assert (again - features[[0, -1]]).abs().max() < 1e-6
