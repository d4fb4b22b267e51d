"""The report's page: whole, self-contained, and true to the figures, whatever the bag holds."""

import base64
import re
from html.parser import HTMLParser
from io import BytesIO

import pytest
from PIL import Image
from replays import CLASSES, replay_by_hand

from clipoint3d_ros.evaluation.report import markup
from clipoint3d_ros.evaluation.report.page import write_report
from clipoint3d_ros.evaluation.scoring import score
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

TRUTH = [{"2": "box", "3": "can"}, {"4": "mug", "5": "box"}, {"6": "can", "7": "bottle"}]
FROZEN = [{"2": "box", "3": "mug"}, {"4": "mug", "5": "can"}, {"6": "mug", "7": "can"}]
ADAPTED = [{"2": "box", "3": "mug"}, {"4": ("box", 0.9), "5": "box"}, {"6": "can", "7": "can"}]
VOID = {"meta", "img", "br"}


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Few pixels, so that drawing takes no time."""
    monkeypatch.setattr(markup, "_DPI", 30)


class Page(HTMLParser):
    """Checks that elements are closed in order; keeps titles, cells, pictures and whatever an element refers to."""

    def __init__(self, text):
        super().__init__()
        self.open, self.titles, self.rows, self.images, self.links, self.text = [], [], [], [], [], ""
        self.feed(text)
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        assert tag not in ("script", "link", "iframe", "object"), f"the page must not load anything, but has <{tag}>"
        assert not [name for name in attributes if name.startswith("on")], attributes
        self.links += [attributes[name] for name in ("src", "href", "srcset", "action") if name in attributes]
        if tag == "img":
            assert attributes["alt"], "a picture without a word for those who cannot see it"
            self.images.append((attributes["alt"], attributes["src"]))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another element"

    def handle_data(self, text):
        self.text += text
        if "h2" in self.open or "h3" in self.open:
            self.titles.append(text)
        if {"td", "th"} & set(self.open):
            self.rows[-1][-1] += text

    def pictures(self, alt):
        found = [source for name, source in self.images if name == alt]
        return [Image.open(BytesIO(base64.b64decode(source.partition("base64,")[2]))) for source in found]

    def row(self, title):
        return next(row for row in self.rows if row[0] == title)


def report(tmp_path, truth, frozen, adapted=None, versions=None, classes=CLASSES, name="bag", **keys):
    bags, frames, replayed = replay_by_hand(tmp_path / name, truth, frozen, adapted, versions, classes)
    figures = score(frames, replayed)
    path = write_report(tmp_path / "report", figures, bags, frames, replayed, PerceptionConfig(), **keys)
    assert [p.name for p in path.parent.iterdir()] == ["index.html"], "one file and nothing beside it"
    text = path.read_text(encoding="utf-8")
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r"<[^>]*>", " ", text)), "a figure that is none leaked through"
    page = Page(text)
    assert page.links, "no pictures at all"
    assert all(link.startswith("data:image/png;base64,") for link in page.links)
    for _, source in page.images:
        Image.open(BytesIO(base64.b64decode(source.partition("base64,")[2]))).load()
    return page, figures


def test_an_adapter_is_shown_beside_the_frozen_model(tmp_path):
    page, figures = report(tmp_path, TRUTH, FROZEN, ADAPTED, [0, 1, 1], notes={"model": "tiny"})
    assert figures["gain"]["mended"] == 2
    assert figures["gain"]["broken"] == 1
    assert page.titles == [
        "In short",
        "Accuracy over time",
        "Do scores mean what they say?",
        "Class by class",
        "The worst mistakes",
        "Broken by the adapter: right before, wrong now (1)",
        "Most confident mistakes (2)",
        "What was missed",
        "Latency",
        "How the figures are made",
    ]
    assert [cell.split(" %")[0] for cell in page.row("accuracy (micro)")[1:3]] == ["40.0", "60.0"]
    assert page.row("accuracy (micro)")[3].startswith("+20.0(")
    assert page.row("frozen right") == ["frozen right", "1", "1"]
    assert page.row("frozen wrong") == ["frozen wrong", "2", "1"]
    assert page.row("box") == ["box", "2", "50.0 %", "100.0 %", "+50.0", "-"]
    assert page.row("mug") == ["mug", "1", "100.0 %", "0.0 %", "-100.0", "box (1)"]
    assert page.row("bottle") == ["bottle", "1", "can (1)"]
    assert "model: tiny" in page.text
    assert "2 that the frozen model has wrong are right, 1 the other way round" in page.text
    names = ("accuracy over time", "reliability", "confusion matrices", "latency over time", "depth views")
    assert [len(page.pictures(alt)) for alt in names] == [1, 1, 1, 1, 3]
    assert all(picture.size == (880, 88) for picture in page.pictures("depth views"))


def test_the_versions_over_time_are_listed(tmp_path):
    page, figures = report(tmp_path, TRUTH, FROZEN, ADAPTED, [0, 1, 2])
    start = page.rows.index(["version", "from", "object"])
    assert page.rows[start + 1 : start + 4] == [["frozen", "0.0 s", "1"], ["1", "0.5 s", "3"], ["2", "1.0 s", "5"]]
    assert [entry["version"] for entry in figures["adapter_timeline"]] == [0, 1, 2]
    assert "another version of the adapter took over (2 times)" in page.text


def test_a_mistake_says_which_version_made_it(tmp_path):
    page, _ = report(tmp_path, TRUTH, FROZEN, ADAPTED, [0, 1, 1])
    assert "It is a mug. frozen: mug 50.0 %. version 1: box 90.0 %. bag, 0.5 s, stamp 5.500, id 4" in page.text
    assert "It is a can. frozen: mug 50.0 %. bag, 0.0 s" in page.text, "before version 1 only the frozen model spoke"


def test_without_an_adapter_the_frozen_model_has_the_page_for_itself(tmp_path):
    page, _ = report(tmp_path, TRUTH, FROZEN)
    assert not [title for title in page.titles if "adapter" in title]
    assert page.row("box") == ["box", "2", "50.0 %", "can (1)"]
    assert "difference, points" not in page.text
    assert len(page.pictures("depth views")) == 3
    assert "Of 5 objects in 3 frames the frozen model names 40.0 % rightly." in page.text


def test_an_adapter_that_never_went_live_says_so(tmp_path):
    page, figures = report(tmp_path, TRUTH, FROZEN, FROZEN, [0, 0, 0])
    assert "No adapter ever went live: it answered throughout." in page.text
    assert page.row("accuracy (micro)")[3] == "+0.0(+0.0 to +0.0)"
    assert page.row("frozen right") == ["frozen right", "2", "0"]
    assert ["version", "from", "object"] not in page.rows
    assert (figures["gain"]["mended"], figures["gain"]["broken"]) == (0, 0)


@pytest.mark.parametrize("adapted", [None, [{"2": "can", "3": "unknown"}] * 2])
def test_a_bag_of_none_of_the_classes_still_tells_what_its_objects_were_called(tmp_path, adapted):
    said = [{"2": "can", "3": "mug"}] * 2
    page, figures = report(tmp_path, [{"2": "bottle", "3": ""}] * 2, said, adapted, [1, 1])
    assert "there is nothing to score" in page.text
    assert (figures["objects"], figures["instances"]) == (0, 4)
    assert page.row("bottle") == ["bottle", "2", "can (2)"]
    assert page.row("(no name)") == ["(no name)", "2", f"{'unknown' if adapted else 'mug'} (2)"]
    assert page.titles == ["In short", "What was missed", "Latency", "How the figures are made"]
    assert page.row("macro accuracy")[1:] == (["-", "-", "-"] if adapted else ["-"])


def test_a_class_that_never_occurs_has_no_accuracy(tmp_path):
    page, _ = report(tmp_path, [{"2": "box"}] * 2, [{"2": "can"}] * 2, [{"2": "box"}] * 2, [1, 1])
    assert page.row("mug") == ["mug", "0", "-", "-", "-", "-"]
    assert page.row("macro accuracy")[2].startswith("100.0 %"), "the mean is over the classes that occur"


@pytest.mark.parametrize("adapted", [None, [{"2": "box"}], [{"2": "mug"}], [{}]])
def test_one_object_is_enough_for_a_page_but_not_for_an_interval(tmp_path, adapted):
    page, figures = report(tmp_path, [{"2": "box"}], [{"2": "box"}], adapted, [1])
    assert page.row("accuracy (micro)")[1] == "100.0 %"
    assert figures["intervals"]["frozen"]["accuracy"] == [None, None]
    assert "All scored objects are of one frame" in page.text
    assert "Of 1 object in 1 frame the frozen model names 100.0 % rightly" in page.text
    assert "chance" not in page.text


def test_objects_that_nobody_answered_are_counted_by_why(tmp_path):
    page, _ = report(tmp_path, TRUTH, [{"2": "box"}, None, {"6": "unknown"}])
    for title, count in (
        ("their frame was dropped", 2),
        ("the answer does not list their id", 1),
        ("called unknown", 1),
    ):
        assert page.row(f"· {title}")[1] == str(count)
    assert page.row("of these without a named class")[1] == "4"
    assert page.row("mug") == ["mug", "1", "0.0 %", "no class (1)"]


def test_no_answer_at_all_is_a_page_too(tmp_path):
    page, _ = report(tmp_path, TRUTH, [None] * 3, [None] * 3, [0] * 3)
    assert page.row("accuracy (micro)")[1].startswith("0.0 %")
    assert page.row("calibration error (ECE)")[1:] == ["-", "-", "-"]
    assert page.row("3")[1] == "3", "all frames dropped"
    assert page.pictures("latency over time") == []


def test_names_are_text_and_never_markup(tmp_path):
    odd = "<b>&\"box'"
    page, _ = report(
        tmp_path,
        [{"2": odd, "3": "<i>"}],
        [{"2": "can", "3": odd}],
        classes=(odd, "can"),
        name="a<script>",
        notes={"<u>": "<s>"},
    )
    assert page.row(odd)[1:] == ["1", "0.0 %", "can (1)"]
    assert page.row("<i>") == ["<i>", "1", f"{odd} (1)"]
    assert "<u>: <s>" in page.text
    assert "Evaluation of a<script>" in page.text


def test_a_later_report_replaces_the_earlier_one(tmp_path):
    report(tmp_path, TRUTH, FROZEN, name="morning")
    page, _ = report(tmp_path, TRUTH, FROZEN, name="evening")
    assert "Evaluation of evening" in page.text
    assert "morning" not in page.text


def test_a_difference_is_coloured_only_where_it_is_sure(tmp_path):
    sure = [{"2": "box"}] * 6
    for adapted, kind in ((sure, "better"), ([{"2": "box"}, *[{"2": "can"}] * 5], None)):
        report(tmp_path, sure, [{"2": "can"}] * 6, adapted, [1] * 6, name=f"bag_{kind}")
        text = (tmp_path / "report" / "index.html").read_text()
        row = text[text.index("accuracy (micro)") :].partition("</tr>")[0]
        assert ("better" in row) == (kind == "better")
        assert ("may be chance" in text) == (kind is None)
