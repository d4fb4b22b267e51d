"""Benchmark figures as text: for a terminal, and as markdown for a model card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from clipoint3d_ros.evaluation.console import aligned, percent
from clipoint3d_ros.evaluation.rejection import HEADLINE

_WORST = 5  # confusions shown of each model


def scenes_summary(figures: Mapping[str, Any]) -> str:
    """The figures of `benchmark scenes`, all models side by side."""
    parts = [_heading(figures), aligned(_overview(figures)), aligned(_per_class(figures))]
    for name, model in figures["models"].items():
        confusion = model["confusion"]
        rows = [["truth \\ answer", *confusion["classes"]]]
        rows += [[c, *map(str, n)] for c, n in zip(confusion["classes"], confusion["matrix"], strict=True)]
        parts.append(f"{name}\n{aligned(rows)}\n{_worst(model)}")
    return "\n\n".join(parts)


def scenes_markdown(figures: Mapping[str, Any]) -> str:
    """The same as tables for a model card."""
    worst = [f"- {name}: {_worst(model)}" for name, model in figures["models"].items()]
    return "\n\n".join(
        [_heading(figures), markdown_table(_overview(figures)), markdown_table(_per_class(figures)), "\n".join(worst)]
    )


def shapes_summary(figures: Mapping[str, Any]) -> str:
    """The figures of `benchmark shapes`."""
    return "\n\n".join(f"{title}\n{aligned(rows)}" for title, rows in _shape_tables(figures))


def shapes_markdown(figures: Mapping[str, Any]) -> str:
    """The same as tables for a model card."""
    return "\n\n".join(f"{title}\n\n{markdown_table(rows)}" for title, rows in _shape_tables(figures))


def with_interval(share: float | None, interval: Sequence[float] | None) -> str:
    """A share with its interval: "84.1 % (80.2–87.9)"."""
    if share is None or interval is None:
        return percent(share)
    low, high = interval
    return f"{percent(share)} ({100 * low:.1f}–{100 * high:.1f})"


def _heading(figures: Mapping[str, Any]) -> str:
    return (
        f"{figures['objects']} objects in {figures['scenes']} scenes ({figures['score_on']}), frozen model; "
        "95 % bootstrap intervals over scenes in brackets; * the views that decide below"
    )


def _overview(figures: Mapping[str, Any]) -> list[list[str]]:
    rows = [["model", "views", "macro accuracy", "accuracy", "calibration error"]]
    for name, model in figures["models"].items():
        for selection, found in model["selections"].items():
            chosen = f"{selection} *" if selection == model["selection"] else selection
            rows.append(
                [
                    name,
                    chosen,
                    with_interval(found["macro_accuracy"], found["macro_accuracy_interval"]),
                    with_interval(found["accuracy"], found["accuracy_interval"]),
                    percent(found["ece"]),
                ]
            )
    return rows


def _per_class(figures: Mapping[str, Any]) -> list[list[str]]:
    models = figures["models"]
    first = next(iter(models.values()))
    rows = [["class", "objects", *models]]
    for name, row in first["per_class"].items():
        rows.append(
            [name, str(row["n"]), *(percent(model["per_class"][name]["accuracy"]) for model in models.values())]
        )
    if first["unknown"]:
        counted = f"{first['unknown']['n']} of {first['unknown']['n'] + first['unknown']['known']}"
        for score in first["unknown"]["auroc_by"]:
            areas = (f"{model['unknown']['auroc_by'][score]:.3f}" for model in models.values())
            rows.append([f"unknown: AUROC by {score.replace('_', ' ')}", counted, *areas])
    return rows


def _worst(model: Mapping[str, Any]) -> str:
    told = [f"{c['truth']} → {c['answer']} {c['count']} of {c['n']}" for c in model["confusions"][:_WORST]]
    return f"most confused: {', '.join(told)}" if told else "nothing confused"


def markdown_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([head, f"|{'---|' * len(rows[0])}", *body])


def _shape_tables(figures: Mapping[str, Any]) -> list[tuple[str, list[list[str]]]]:
    """(title, rows) of each table, all models side by side."""
    models = figures["models"]
    first = next(iter(models.values()))
    unseen = first["unseen"]
    return [
        (
            f"Macro accuracy over {figures['classes']} trained classes, objects that no training saw "
            "(95 % bootstrap intervals over objects in brackets)",
            [["objects", "n", *models], *_macros(models, _held_out_rows(first))],
        ),
        (
            f"Macro accuracy over {len(unseen['classes'])} classes that no training saw, chance "
            f"{percent(unseen['complete']['chance'])}: {', '.join(unseen['classes'])}",
            [["objects and prompts", "n", *models], *_macros(models, _UNSEEN_ROWS)],
        ),
        (
            "Trained classes by another word, share of their complete clouds named rightly (* a word with tokens that "
            "training never met; any other may be a synonym of its recipe)",
            _synonym_rows(models),
        ),
        (
            "AUROC of telling unknown objects from those of the eight tabletop classes, sensors' clouds",
            _rejection_rows(models),
        ),
        *([] if first["speed"] is None else [("One object, ten views, one thread", _speed_rows(models))]),
    ]


_UNSEEN_ROWS = [
    (f"{title}, {prompts}", ("unseen", kind, key))
    for title, kind in (("complete", "complete"), ("sensors", "sensors"))
    for prompts, key in (
        ("names alone", "by_name"),
        ("with descriptions", "by_description"),
        ("among trained classes too", "among_trained"),
    )
]


def _held_out_rows(first: Mapping[str, Any]) -> list[tuple[str, tuple[str, ...]]]:
    return [
        ("complete clouds", ("complete",)),
        ("all sensors", ("sensors", "all")),
        *((f"  {name}", ("sensors", name)) for name in first["sensors"] if name != "all"),
        *((f"{name} in sight", ("visibility", name)) for name in first["visibility"]),
        ("with segmentation faults", ("faulty",)),
        *(
            (f"views chosen by {name}" if name != "all" else "all ten views", ("selections", name))
            for name in ("sensor", "entropy", "all")
        ),
    ]


def _macros(models: Mapping[str, Any], wanted: Sequence[tuple[str, tuple[str, ...]]]) -> list[list[str]]:
    """Rows of macro accuracies, each found by its path into a model's figures."""
    rows = []
    for title, path in wanted:
        found = [_at(model, path) for model in models.values()]
        shown = (with_interval(f["macro_accuracy"], f["macro_accuracy_interval"]) for f in found)
        rows.append([title, str(found[0]["n"]), *shown])
    return rows


def _at(figures: Any, path: Sequence[str]) -> Any:
    for key in path:
        figures = figures[key]
    return figures


def _synonym_rows(models: Mapping[str, Any]) -> list[list[str]]:
    told = [model["synonyms"] for model in models.values()]
    rows = [["class → synonym", "n", *(f"{name}: name → synonym" for name in models)]]
    for name, row in told[0]["words"].items():
        each = [t["words"][name] for t in told]
        shown = (f"{percent(w['by_name'])} → {percent(w['by_synonym'])}{'' if w['seen'] else ' *'}" for w in each)
        rows.append([f"{name} → {row['synonym']}", str(row["n"]), *shown])
    means = (("mean", "by_synonym"), ("  tokens met", "by_seen_synonym"), ("  not met *", "by_unseen_synonym"))
    for title, key in means:
        before = (f"{percent(t['by_name'])} → " if key == "by_synonym" else "" for t in told)
        rows.append([title, "", *(b + percent(t[key]) for b, t in zip(before, told, strict=True))])
    return rows


def _rejection_rows(models: Mapping[str, Any]) -> list[list[str]]:
    rows = [["unknown, score", "known / unknown", *models]]
    for title, key in (("other household classes", "household"), ("unseen classes", "unseen")):
        found = [model["rejection"][key] for model in models.values()]
        intervals = (f["auroc_interval"] for f in found)
        heads = (f"{f['auroc']:.3f} ({i[0]:.3f}–{i[1]:.3f})" for f, i in zip(found, intervals, strict=True))
        rows.append([f"{title}, {HEADLINE.replace('_', ' ')}", f"{found[0]['known']} / {found[0]['n']}", *heads])
        for score in found[0]["auroc_by"]:
            if score != HEADLINE:
                rows.append([f"  {score.replace('_', ' ')}", "", *(f"{f['auroc_by'][score]:.3f}" for f in found)])
    return rows


def _speed_rows(models: Mapping[str, Any]) -> list[list[str]]:
    return [
        ["model", "ms", "reference", "ms", "times as fast"],
        *(
            [name, f"{s['model_ms']:.0f}", s["reference"], f"{s['reference_ms']:.0f}", f"{s['ratio']:.1f}"]
            for name, s in ((name, model["speed"]) for name, model in models.items())
        ),
    ]
