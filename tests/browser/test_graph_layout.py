"""The layout of large graphs: far edges share a line, and every edge still goes from its node to its reader."""

from __future__ import annotations

import base64
import gzip
import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

import onnx_magic
from onnx_magic.display.graph.bundler import asset, frontend
from tests.browser.lab import Watched
from tests.graphs import save

LAYOUT = """
([scripts, nodes, edges]) => {
  delete globalThis.__netron; (0, eval)(scripts);
  const dagre = __netron.require('dagre');
  dagre.layout(nodes, edges, { nodesep: 20, ranksep: 20 }, {});
  return [nodes, edges];
}
"""
RECORDED = """
([nodes, edges]) => {
  let given;
  const recorded = (...all) => { given = all; for (const e of all[1]) e.points = [{ x: 0, y: 0 }, { x: 0, y: 1 }]; };
  (WRAPPER)(recorded)(nodes, edges, {}, {});
  return given[0] === nodes && given[1] === edges;
}
"""
Nodes = list[dict[str, Any]]


def masked(layers: int) -> tuple[Nodes, Nodes]:
    """A chain in which every node also reads what node 1 makes, as layers read one mask."""
    nodes = [{"v": str(i), "width": 60, "height": 20} for i in range(layers)]
    pairs = {*itertools.pairwise(range(layers)), *((1, i) for i in range(2, layers))}
    same = {"minlen": 1, "weight": 1, "width": 0, "height": 0, "labeloffset": 10, "labelpos": "r"}
    return nodes, [{"v": str(v), "w": str(w), **same} for v, w in sorted(pairs)]


def laid_out(watched: Watched, nodes: Nodes, edges: Nodes) -> tuple[dict[str, dict[str, float]], Nodes]:
    packed = gzip.decompress(base64.b64decode(frontend().worker)).decode()
    watched.page.goto("about:blank")
    found = watched.page.evaluate(LAYOUT, [asset("registry.js") + packed, nodes, edges])
    return {node["v"]: node for node in found[0]}, found[1]


def on_border(point: dict[str, float], node: dict[str, float]) -> bool:
    across, down = abs(point["x"] - node["x"]) / (node["width"] / 2), abs(point["y"] - node["y"]) / (node["height"] / 2)
    return math.isclose(max(across, down), 1, abs_tol=1e-6)  # doubles, after a division and a product


def test_every_edge_of_a_large_graph_goes_from_its_node_to_its_reader(watched: Watched) -> None:
    nodes, edges = laid_out(watched, *masked(200))
    assert len(nodes) == 200 and len(edges) == 396  # the points of the shared line are no nodes
    for edge in edges:
        points = edge["points"]
        assert on_border(points[0], nodes[edge["v"]]) and on_border(points[-1], nodes[edge["w"]])
        assert all(math.isfinite(number) for point in points for number in point.values())
        assert all(a["y"] <= b["y"] for a, b in itertools.pairwise(points))
    shared = [edge["points"][1:-3] for edge in edges if edge["v"] == "1" and int(edge["w"]) > 100]
    assert all(longer[: len(line) - 4] == line[:-4] for line, longer in itertools.pairwise(shared))
    assert len({tuple(node[axis] for axis in "xy") for node in nodes.values()}) == 200


def test_a_small_graph_one_with_groups_and_one_that_goes_round_are_left_to_netron(watched: Watched) -> None:
    small, (nodes, edges) = masked(60), masked(200)
    grouped = [{"v": "group"}, *({**node, "parent": "group"} for node in nodes[:3]), *nodes[3:]]
    again = [*edges, {**edges[0], "v": "199", "w": "0"}]
    watched.page.goto("about:blank")

    def given_to_netron(nodes: Nodes, edges: Nodes) -> bool:
        """Whether it is what was asked for, unchanged; recorded in the place of Netron's layout."""
        return bool(watched.page.evaluate(RECORDED.replace("WRAPPER", asset("layout.js").strip()), [nodes, edges]))

    assert [given_to_netron(*kind) for kind in (small, (grouped, edges), (nodes, again))] == [True, True, True]
    assert not given_to_netron(*small[:1], [{**edge, "minlen": 20} for edge in small[1]])


def test_a_deep_model_is_drawn_whole(watched: Watched, tmp_path: Path) -> None:
    made = [helper.make_node("Relu", ["x"], ["mask"], name="mask")]
    before = "x"
    for i in range(300):
        made.append(helper.make_node("Add", [before, "mask"], [f"h{i}"], name=f"layer_{i}"))
        before = f"h{i}"
    path = save(tmp_path / "deep.onnx", made, before, [numpy_helper.from_array(np.zeros(4, "float32"), "unused")])
    written = onnx_magic.view(path, output=path.with_suffix(".html")).output
    watched.page.goto(f"file://{written}")
    frame = watched.frame()
    assert frame.locator("[id^='node-name-']").count() == len(onnx.load(path).graph.node) == 301
    drawn = frame.locator("#canvas path.edge-path").evaluate_all("all => all.map((p) => p.getAttribute('d'))")
    assert len(drawn) == 2 * 300 + 2 and not any("NaN" in line for line in drawn)  # + x to Relu, and to the output
    assert watched.problems == []
