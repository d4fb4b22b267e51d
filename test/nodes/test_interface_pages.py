"""The reference pages are what the nodes are."""

from __future__ import annotations

import dataclasses

import pytest

from clipoint3d_ros.nodes import interface_pages


def test_the_page_of_parameters_is_what_the_nodes_declare():
    assert (interface_pages.DOCS / "parameters.md").read_text() == interface_pages.parameters_page(), (
        f"run: {interface_pages.COMMAND}"
    )


def test_every_parameter_of_every_node_has_a_row():
    page = interface_pages.parameters_page()
    for name, (config, _) in interface_pages.NODES.items():
        section = page.partition(f"## `{name}`")[2].partition("\n## ")[0]
        for field in dataclasses.fields(config):
            assert f"\n| `{field.name}` |" in section, f"{name} has no row for {field.name}"


@pytest.mark.ros
def test_the_page_of_topics_is_what_the_nodes_create():
    pytest.importorskip("rclpy")
    pytest.importorskip("vision_msgs")
    assert (interface_pages.DOCS / "topics.md").read_text() == interface_pages.topics_page(), (
        f"run: {interface_pages.COMMAND}"
    )


@pytest.mark.ros
def test_a_topic_that_the_page_does_not_explain_is_refused(monkeypatch):
    pytest.importorskip("rclpy")
    pytest.importorskip("vision_msgs")
    told = {name: dict(each) for name, each in interface_pages.MEANINGS.items()}
    del told["segmenter"]["~/output/segments"]
    monkeypatch.setattr(interface_pages, "MEANINGS", told)
    with pytest.raises(ValueError, match="segmenter publishes /segmenter/output/segments"):
        interface_pages.endpoints()
