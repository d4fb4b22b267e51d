"""Words of the command line as bags."""

import pytest

from clipoint3d_ros.evaluation.bags import BagError
from clipoint3d_ros.evaluation.recordings import recordings


@pytest.fixture
def night(tmp_path, monkeypatch):
    """night/{a,b,c} are bags, night/notes is none, night/d.mcap is one by itself."""
    for name in "cab":
        (tmp_path / "night" / name).mkdir(parents=True)
        (tmp_path / "night" / name / "metadata.yaml").touch()
    (tmp_path / "night" / "notes").mkdir()
    (tmp_path / "night" / "d.mcap").touch()
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("words", "bags"),
    [
        (["night/c", "night/a"], ["night/c", "night/a"]),
        (["night"], ["night/a", "night/b", "night/c", "night/d.mcap"]),
        (["night/*"], ["night/a", "night/b", "night/c", "night/d.mcap"]),
        (["night/*/"], ["night/a", "night/b", "night/c"]),
        (["night/[ab]"], ["night/a", "night/b"]),
        (["**/*.mcap"], ["night/d.mcap"]),
        (["night/b", "night/?", "night/b/"], ["night/b", "night/a", "night/c"]),
        (["none", "night/notes"], ["none", "night/notes"]),
    ],
)
def test_words_name_bags_in_their_order_each_once(night, words, bags):
    assert [str(bag) for bag in recordings(words)] == bags


def test_a_bag_whose_name_looks_like_a_pattern_is_that_bag(night, tmp_path):
    (tmp_path / "night" / "[a]").mkdir()
    (tmp_path / "night" / "[a]" / "metadata.yaml").touch()
    assert [str(bag) for bag in recordings(["night/[a]"])] == ["night/[a]"]


def test_a_pattern_without_bags_is_an_error_in_words(night):
    with pytest.raises(BagError, match=r"no bag matches 'night/x\*'"):
        recordings(["night/x*"])
