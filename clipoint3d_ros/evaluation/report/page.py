"""The report's page, section by section."""

from __future__ import annotations

import html
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from clipoint3d_ros.evaluation import metrics
from clipoint3d_ros.evaluation.answers import Answer, Frame, Replayed
from clipoint3d_ros.evaluation.bags import SECOND, LabelledBag
from clipoint3d_ros.evaluation.console import models_of, percent, points, span
from clipoint3d_ros.evaluation.files import write_whole
from clipoint3d_ros.evaluation.outcomes import Outcomes, Scored, Version, answer_to, outcomes, timeline
from clipoint3d_ros.evaluation.report import mistakes, plots
from clipoint3d_ros.evaluation.report.markup import count, figure, folded, image, page, section, soft, table
from clipoint3d_ros.nodes.perception_config import PerceptionConfig

_MOST_OTHERS = 20  # names
_MOST_NAMES = 4  # bags in the title
_MOST_CLASSES = 12  # named there
_HEADLINE = (("accuracy (micro)", "accuracy"), ("macro accuracy", "macro_accuracy"), ("calibration error (ECE)", "ece"))


def write_report(
    folder: Path,
    figures: Mapping[str, Any],
    bags: Sequence[LabelledBag],
    frames: Sequence[Frame],
    replayed: Replayed,
    config: PerceptionConfig,
    notes: Mapping[str, str] | None = None,
) -> Path:
    """Write `index.html`.

    Args:
        folder: made where it does not exist; the page of an earlier report there is replaced.
        figures: of `scoring.score`.
        bags, frames, replayed: what they were scored from.
        config: the node's parameters, for reading the clouds of mistakes again.
        notes: {what: value} of how the answers came about, shown below the title.

    Returns:
        The page's path.
    """
    found, versions = outcomes(frames, replayed), timeline(frames, replayed)
    sections = [
        _headline(figures),
        _recordings(figures),
        _over_time(found, versions),
        _calibration(found),
        _classes(figures, found),
        _mistakes(found, bags, replayed, config),
        _missed(figures, frames, replayed),
        _speed(figures, frames, replayed, versions),
        _method(figures),
    ]
    names = html.escape(", ".join(bag.path.name for bag in bags) if len(bags) <= _MOST_NAMES else f"{len(bags)} bags")
    listed = ", ".join(str(bag.path) for bag in bags[:_MOST_NAMES])
    left = f" and {len(bags) - _MOST_NAMES} more, see below" if len(bags) > _MOST_NAMES else ""
    many = len(found.classes) > _MOST_CLASSES
    told = {"bag": listed + left, **(notes or {}), **({} if many else {"classes": ", ".join(found.classes)})}
    classes = folded(f"{len(found.classes)} classes", found.classes) if many else ""
    about = "<br>".join(html.escape(f"{key}: {value}") for key, value in told.items())
    path = folder / "index.html"
    head = f"<header><h1>Evaluation of {names}</h1>{soft(about)}{classes}</header>"
    write_whole(path, page(f"Evaluation of {names}", [head, *sections]))
    return path


def _headline(figures: Mapping[str, Any]) -> str:
    models, gain = models_of(figures), figures["gain"]
    rows = [["", *models, *(["difference, points"] if gain else [])]]
    for title, key in _HEADLINE:
        cells = [_with_interval(percent(figures[m][key]), span(figures["intervals"][m][key], percent)) for m in models]
        if gain:
            cells.append(_difference(gain, key))
        rows.append([html.escape(title), *cells])
    rows.append(["accuracy where answered", *(percent(figures[m]["answered_accuracy"]) for m in models)])
    if gain:
        rows[-1].append("")
    return section("In short", f'<p class="lead">{_verdict(figures)}</p>', table(rows, "big"))


def _verdict(figures: Mapping[str, Any]) -> str:
    """The result in two sentences."""
    if not figures["objects"]:
        return "No object of the bag bears the name of one of the classes, so there is nothing to score."
    where = f"Of {count(figures['objects'], 'object')} in {count(figures['frames'], 'frame')}"
    frozen, gain = percent(figures["frozen"]["accuracy"]), figures["gain"]
    if gain is None:
        return f"{where} the frozen model names {frozen} rightly."
    if not any(figures["adapter_versions"]):
        return f"{where} the frozen model names {frozen} rightly. No adapter ever went live: it answered throughout."
    counts = f"{gain['mended']} that the frozen model has wrong are right, {gain['broken']} the other way round"
    low, high = gain["intervals"]["accuracy"]
    sure = " The difference may be chance." if low is not None and low <= 0 <= high else ""
    return (
        f"{where} the frozen model names {frozen} rightly and the adapted one {percent(figures['adapted']['accuracy'])}"
        f": {counts}.{sure}"
    )


def _difference(gain: Mapping[str, Any], key: str) -> str:
    """A difference with its interval; coloured only where it cannot be chance."""
    change, (low, high) = gain[key], gain["intervals"][key]
    if change is None:
        return "-"
    said = points(change)
    if low is not None and (low > 0 or high < 0):
        better = (change < 0) if key == "ece" else (change > 0)
        said = f'<span class="{"better" if better else "worse"}">{said}</span>'
    return _with_interval(said, span(gain["intervals"][key], points))


def _recordings(figures: Mapping[str, Any]) -> str:
    """Each bag by itself; the figures of a page that was made without `bags` have none."""
    bags = figures.get("bags", ())
    if len(bags) < 2:
        return ""
    models = models_of(figures)
    head = ["bag", "frames", "dropped", "objects"]
    head += [f"{title}, {model}" for title in ("accuracy", "macro") for model in models]
    rows = [head]
    for row in bags:
        name = html.escape(row["bag"])
        if row["failed"]:
            rows.append([name, '<span class="worse">failed</span>', *[""] * (len(head) - 2)])
            continue
        cells = [str(row[key]) for key in ("frames", "dropped_frames", "objects")]
        cells += [percent(row[model][key]) for key in ("accuracy", "macro_accuracy") for model in models]
        rows.append([name, *cells])
    failed = [row for row in bags if row["failed"]]
    said = f"{count(len(bags) - len(failed), 'recording')} in the figures of this page"
    said += f", {len(failed)} failed and not in them:" if failed else "."
    why = [soft(html.escape(row["failed"])) for row in failed]
    return section("Recording by recording", f"<p>{said}</p>", *why, table(rows))


def _over_time(found: Outcomes, versions: Sequence[Version]) -> str:
    if not len(found.truth):
        return ""
    changed = plots.changes(versions)
    if found.adapted is None:
        said = ""
    elif changed:
        said = f"Dashed lines: another version of the adapter took over ({count(len(changed), 'time')})."
    else:
        version = versions[-1].version if versions else 0
        said = f"Version {version} answered throughout." if version else "No adapter ever went live."
    said += " Pale lines: accuracy over the last objects only; bold: over all so far."
    if found.adapted is not None:
        said += " Below: right answers of the adapted model beyond the frozen one's."
    parts = [figure(plots.accuracy_over_time(found, versions), "accuracy over time"), soft(said)]
    if changed:
        rows = [["version", "from", "object"]]
        rows += [[str(v.version or "frozen"), f"{v.start:.1f} s", str(v.objects + 1)] for v in versions]
        parts.append(f"<details><summary>All versions</summary>{table(rows)}</details>")
    return section("Accuracy over time", *parts)


def _calibration(found: Outcomes) -> str:
    if not len(found.truth):
        return ""
    said = (
        "How often an answer is right against the score it comes with; on the dotted line a score is what it claims. "
        "Red: the gap, which the calibration error (ECE) averages over all objects."
    )
    return section("Do scores mean what they say?", figure(plots.reliability_diagram(found), "reliability"), soft(said))


def _classes(figures: Mapping[str, Any], found: Outcomes) -> str:
    if not len(found.truth):
        return ""
    models = models_of(figures)
    rows = [["class", "objects", *models, *(["difference, points"] if figures["gain"] else []), "mostly taken for"]]
    for index, (name, row) in enumerate(figures["per_class"].items()):
        cells = [percent(row[model]) for model in models]
        if figures["gain"]:
            change = None if row["frozen"] is None else row["adapted"] - row["frozen"]
            cells.append("-" if change is None else _coloured(change))
        rows.append([html.escape(name), str(row["n"]), *cells, html.escape(_taken_for(found, index))])
    parts = [table(rows, words=(0, len(rows[0]) - 1)), figure(plots.confusion_matrices(found), "confusion matrices")]
    return section("Class by class", *parts, soft("Rows: the truth. Colour: the share of the row."))


def _taken_for(found: Outcomes, index: int) -> str:
    """The most frequent wrong answer to a class, of the model that served."""
    wrong = found.served.named[(found.truth == index) & (found.served.named != index)]
    if not len(wrong):
        return "-"
    named, count = Counter(wrong.tolist()).most_common(1)[0]
    return f"{'no class' if named == metrics.NONE else found.classes[named]} ({count})"


def _mistakes(found: Outcomes, bags: Sequence[LabelledBag], replayed: Replayed, config: PerceptionConfig) -> str:
    confident, broken = mistakes.confident_mistakes(found), mistakes.broken(found)
    if not len(found.truth):
        return ""
    wrong = int((found.served.named != found.truth).sum())
    parts = [_two_by_two(found)]
    looks = mistakes.looks([*confident, *broken], bags, config)
    if confident or broken:
        parts.append(
            soft(
                "Depth views as the model sees them, those that count most first; pale ones look at the side that the "
                "sensor did not see and have no say."
            )
        )
    if broken:
        total = int((found.right("frozen") & ~found.right("adapted")).sum())
        parts.append(f"<h3>Broken by the adapter: right before, wrong now ({_shown(broken, total)})</h3>")
        parts += [_object(one, bags, looks, replayed) for one in broken]
    if confident:
        parts.append(f"<h3>Most confident mistakes ({_shown(confident, wrong)})</h3>")
        parts += [_object(one, bags, looks, replayed) for one in confident]
    return section("The worst mistakes", *parts)


def _two_by_two(found: Outcomes) -> str:
    if found.adapted is None:
        wrong = int((~found.right("frozen")).sum())
        return f"<p>{wrong} of {count(len(found.truth), 'object')} wrong.</p>"
    before, after = found.right("frozen"), found.right("adapted")
    rows = [["objects", "adapted right", "adapted wrong"]]
    for name, chosen in (("frozen right", before), ("frozen wrong", ~before)):
        rows.append([name, str(int((chosen & after).sum())), str(int((chosen & ~after).sum()))])
    return table(rows)


def _shown(listed: Sequence[Scored], total: int) -> str:
    return f"{total}" if len(listed) == total else f"{len(listed)} of {total}"


def _object(
    one: Scored,
    bags: Sequence[LabelledBag],
    looks: Mapping[mistakes.Segment, mistakes.Look],
    replayed: Replayed,
) -> str:
    bag = bags[one.frame.key.bag].path.name
    where = f"{bag}, {one.frame.time:.1f} s, stamp {one.frame.key.stamp / SECOND:.3f}, id {one.object.id or '-'}"
    given = replayed.served.get(one.frame.key)
    said = [f"It is a <b>{html.escape(one.object.name)}</b>.", _answer("frozen", one.object.name, one.frozen)]
    if given is not None and given.version:
        said.append(_answer(f"version {given.version}", one.object.name, one.adapted))
    look = looks.get(mistakes.place(one))
    seen = soft("Its cloud could not be read again.") if look is None else image(mistakes.strip(look), "depth views")
    return f'<div class="object"><p>{" ".join(said)} <span class="soft">{html.escape(where)}</span></p>{seen}</div>'


def _answer(model: str, truth: str, answer: Answer | None) -> str:
    if answer is None:
        return f"{model}: no answer."
    kind = "better" if answer.label == truth else "worse"
    return f'{model}: <b class="{kind}">{html.escape(answer.label)}</b> {percent(answer.score)}.'


def _missed(figures: Mapping[str, Any], frames: Sequence[Frame], replayed: Replayed) -> str:
    missed, left = figures["missed"], figures["unscored"]
    rows = [["scored objects", str(figures["objects"])], ["of these without a named class", str(sum(missed.values()))]]
    for key, title in (
        ("no_cloud", "the bag has no cloud of their stamp"),
        ("dropped", "their frame was dropped"),
        ("no_segment", "the answer does not list their id"),
        ("unknown", "called unknown"),
    ):
        rows.append([f"· {title}", str(missed[key])])
    beside = [["objects not scored", str(sum(left.values()))]]
    for key, title in (
        ("other_classes", "of other classes"),
        ("nameless", "without a name in the truth"),
        ("no_truth", "not listed in the truth"),
    ):
        beside.append([f"· {title}", str(left[key])])
    below = figures["unknown"]["below"]
    if below > 0:
        rows.append([f"would be unknown below {below:g}", percent(figures["unknown"]["rate"])])
        beside.append([f"of other classes, unknown below {below:g}", percent(figures["unknown"]["rate_outside"])])
    tables = f'<div class="pair">{table([["", "objects"], *rows])}{table([["", "objects"], *beside])}</div>'
    return section("What was missed", tables, _others(frames, replayed))


def _others(frames: Sequence[Frame], replayed: Replayed) -> str:
    """What objects of none of the classes were called."""
    called: dict[str, Counter[str]] = {}
    for frame in frames:
        for known in frame.objects:
            answer = answer_to(replayed.served.get(frame.key), frame, known)
            if known.name not in replayed.classes and answer is not None:
                called.setdefault(known.name or "(no name)", Counter())[answer.label] += 1
    if not called:
        return ""
    rows = [["objects of other classes", "answered", "called"]]
    for name, labels in sorted(called.items(), key=lambda pair: -pair[1].total())[:_MOST_OTHERS]:
        words = ", ".join(f"{label} ({count})" for label, count in labels.most_common(3))
        rows.append([html.escape(name), str(labels.total()), html.escape(words)])
    return table(rows)


def _speed(figures: Mapping[str, Any], frames: Sequence[Frame], replayed: Replayed, versions: Sequence[Version]) -> str:
    answered = [frame for frame in frames if frame.recorded and frame.key in replayed.served]
    latency = figures["latency_ms"]
    rows = [["frames", "dropped", *(f"{name}, ms" for name in latency)]]
    counts = [str(figures["frames"]), str(figures["dropped_frames"])]
    rows.append([*counts, *("-" if value is None else f"{value:.0f}" for value in latency.values())])
    parts = [table(rows)]
    if answered:
        latencies = [replayed.served[frame.key].latency for frame in answered]
        drawn = plots.latency_over_time([frame.time for frame in answered], latencies, versions)
        parts.append(figure(drawn, "latency over time"))
    return section("Latency", *parts, soft("From sending a cloud to having its answer, over answered frames."))


def _method(figures: Mapping[str, Any]) -> str:
    lines = ["An object without an answer counts as wrong. Macro accuracy is the mean over the classes that occur."]
    if figures["adapted"] is not None:
        lines.append("Frozen and adapted answer the same objects in the same pass.")
    lines.append("ECE: mean gap between score and accuracy in 15 bins of equal width, over objects with a named class.")
    if figures["intervals"]["frozen"]["accuracy"][0] is not None:
        lines.append("In brackets: 95 % bootstrap intervals over frames; those of differences are paired.")
    elif figures["objects"]:
        lines.append("All scored objects are of one frame: there are no other frames to take intervals from.")
    return section("How the figures are made", *(soft(line) for line in lines))


def _coloured(change: float) -> str:
    return f'<span class="{"better" if change > 0 else "worse" if change < 0 else "soft"}">{points(change)}</span>'


def _with_interval(cell: str, interval: str) -> str:
    return cell + (f'<span class="interval">({html.escape(interval)})</span>' if interval else "")
