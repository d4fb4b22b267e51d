"""The plots say what the outcomes say."""

import numpy as np
import pytest
from replays import CLASSES, answered

from clipoint3d_ros.evaluation.answers import Frame, FrameKey, Replayed
from clipoint3d_ros.evaluation.bags import TrueObject
from clipoint3d_ros.evaluation.outcomes import Version, outcomes, timeline
from clipoint3d_ros.evaluation.report import plots


def stream(count=12, per_frame=3, versions=None, paired=True):
    """Frames of boxes; frozen calls every second object a can, adapted only the first frame's."""
    frames = [
        Frame(FrameKey(0, i), i / 2, tuple(TrueObject(str(k), "box") for k in range(per_frame))) for i in range(count)
    ]
    frozen = [{str(k): (("can", 0.7) if k % 2 else ("box", 0.9)) for k in range(per_frame)} for _ in frames]
    adapted = [{str(k): (("can", 0.4) if not i else ("box", 0.6)) for k in range(per_frame)} for i in range(count)]
    live = answered(frames, adapted, versions) if paired else None
    replayed = Replayed(CLASSES, answered(frames, frozen), live)
    return outcomes(frames, replayed), timeline(frames, replayed)


def vertical(axes):
    """Places of the vertical lines over the whole height."""
    return [line.get_xdata()[0] for line in axes.lines if list(line.get_ydata()) == [0, 1]]


def said(axes):
    return [text.get_text() for text in axes.texts]


def test_the_end_of_the_bold_line_is_the_accuracy():
    found, versions = stream(count=12)
    axes = plots.accuracy_over_time(found, versions).axes[0]
    ends = {line.get_label(): line.get_ydata()[-1] for line in axes.lines if ", all so far" in line.get_label()}
    assert ends == {
        "frozen, all so far: 66.7 %": pytest.approx(100 * 24 / 36),
        "adapted, all so far: 91.7 %": pytest.approx(100 * 33 / 36),
    }


def test_every_change_of_version_is_marked_where_it_took_over():
    found, versions = stream(count=6, versions=[0, 0, 1, 1, 4, 0])
    figure = plots.accuracy_over_time(found, versions)
    for axes in figure.axes[:2]:
        assert vertical(axes) == [6, 12, 15]
    assert said(figure.axes[0]) == ["v1", "v4", "frozen"]


def test_names_of_versions_do_not_run_into_each_other():
    found, versions = stream(count=200, per_frame=1, versions=range(200))
    axes = plots.accuracy_over_time(found, versions).axes[0]
    assert len(vertical(axes)) == 199
    assert len(said(axes)) <= 25


def test_what_was_gained_is_the_difference_of_right_answers():
    found, versions = stream(count=12)
    below = plots.accuracy_over_time(found, versions).axes[1]
    stepped = next(line for line in below.lines if len(line.get_ydata()) == 37)
    assert stepped.get_ydata()[[0, 3, 36]].tolist() == [0, -2, 9]


def test_without_an_adapter_there_is_one_panel_and_no_mark():
    found, versions = stream(paired=False)
    figure = plots.accuracy_over_time(found, versions)
    assert len(figure.axes) == 1
    assert vertical(figure.axes[0]) == []
    assert all(line.get_label().startswith("frozen") for line in figure.axes[0].lines)


def test_the_running_accuracy_looks_over_a_tenth_of_the_stream():
    assert [plots.trail(n) for n in (1, 150, 1000, 100_000)] == [20, 20, 100, 500]


def test_reliability_shows_every_named_object_once():
    found, _ = stream(count=5)
    figure = plots.reliability_diagram(found)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["frozen: calibration error 30.0 %", "adapted: calibration error 40.0 %"]
    for axes in figure.axes[2:]:
        assert sum(bar.get_height() for bar in axes.patches) == 15


def test_confusion_has_a_column_for_what_was_not_named_only_where_there_is_one():
    found, _ = stream(count=2)
    assert len(plots.confusion_matrices(found).axes[0].get_xticklabels()) == 3
    frames = [Frame(FrameKey(0, 0), 0.0, (TrueObject("2", "box"), TrueObject("3", "mug")))]
    lost = outcomes(frames, Replayed(CLASSES, answered(frames, [{"2": "box"}])))
    axes = plots.confusion_matrices(lost).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == [*CLASSES, "none"]
    assert said(axes) == ["1", "1"]
    assert np.asarray(axes.images[0].get_array()).tolist() == [[1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 1]]


def test_latency_is_in_milliseconds_with_the_versions_marked():
    axes = plots.latency_over_time([0, 0.5, 1], [0.02, 0.5, 0.03], [Version(0, 0, 0), Version(0.5, 4, 1)]).axes[0]
    assert axes.lines[0].get_ydata().tolist() == pytest.approx([20, 500, 30])
    assert vertical(axes) == [0.5]


@pytest.mark.parametrize("per_frame", [1, 2])
@pytest.mark.parametrize("paired", [True, False])
def test_a_single_frame_can_be_drawn(per_frame, paired):
    found, versions = stream(count=1, per_frame=per_frame, paired=paired)
    for draw in (lambda: plots.accuracy_over_time(found, versions), lambda: plots.reliability_diagram(found)):
        draw().canvas.draw()
    plots.confusion_matrices(found).canvas.draw()


def test_the_stream_s_time_is_not_said_twice_of_few_frames():
    found, versions = stream(count=2, per_frame=8)
    figure = plots.accuracy_over_time(found, versions)
    figure.canvas.draw()
    (above,) = figure.axes[0].child_axes
    assert sorted(text.get_text() for text in above.get_xticklabels()) == ["0.0 s", "0.5 s"]


def test_many_classes_stand_one_matrix_above_the_other_with_names_cut_short():
    names = [f"class number {i}" for i in range(41)] + ["an object with a name that goes on and on"]
    frames = [Frame(FrameKey(0, i), float(i), (TrueObject("2", names[i]),)) for i in range(42)]
    answers = answered(frames, [{"2": name} for name in names])
    figure = plots.confusion_matrices(outcomes(frames, Replayed(tuple(names), answers, answers)))
    above, below = figure.axes
    assert above.get_position().y0 > below.get_position().y0
    assert figure.get_size_inches()[0] == 9
    assert max(len(text.get_text()) for text in above.get_yticklabels()) == 26
