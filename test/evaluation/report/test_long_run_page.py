"""The page of a long run."""

import numpy as np

from clipoint3d_ros.evaluation.long_run import LongRun, Sample, figures
from clipoint3d_ros.evaluation.report.long_run_page import latency_over_time, memory_over_time, write_page


def found(gpu=False, count=50, **keys):
    hours = np.linspace(0, 1, count)
    samples = tuple(
        Sample(
            float(h),
            int(100 * h),
            int(100 * h),
            int(h > 0.5),
            10 + 5 * h,
            20.0,
            0,
            {"perception": 500 + h, "adaptation": 300.0},
            {"perception": 80.0} if gpu else {},
        )
        for h in hours
    )
    return figures(LongRun(1.0, samples, np.stack([hours, np.full(count, 12.0)], 1), loops=9, **keys))


def test_the_page_tells_the_verdict_and_escapes_what_nodes_say(tmp_path):
    path = write_page(tmp_path, found(warnings={"perception: <b>odd</b>": 2}), {"bag": "a<b>"})
    text = path.read_text()
    assert "Memory is flat" in text
    assert "perception: &lt;b&gt;odd&lt;/b&gt;" in text
    assert "a&lt;b&gt;" in text
    assert text.count("<img") == 2


def test_the_plots_show_each_process_and_what_was_missed():
    axes = memory_over_time(found()).axes
    assert [line.get_label() for line in axes[0].lines] == ["perception", "adaptation"]
    assert axes[0].lines[0].get_ydata()[-1] == 501
    assert len(memory_over_time(found(gpu=True)).axes) == 2
    above, below = latency_over_time(found()).axes
    assert above.lines[2].get_ydata()[-1] == 15
    assert below.lines[0].get_ydata()[-1] == 1


def test_a_run_that_hardly_began_has_a_page_too(tmp_path):
    assert "died" in write_page(tmp_path, found(count=1, died="the node ended"), {}).read_text()
