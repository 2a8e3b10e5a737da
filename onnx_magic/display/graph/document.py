"""The graph as one HTML document for a sandboxed frame: no server, no network, the same bytes on every run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

from onnx_magic.display.graph.bundler import asset, frontend, operator_metadata, packed
from onnx_magic.display.wording import shown
from onnx_magic.records.views import GraphView

POLICY = (
    "default-src 'none'; script-src 'unsafe-inline' blob:; worker-src blob:; style-src 'unsafe-inline'; "
    "img-src data: blob:; form-action 'none'; base-uri 'none'"
)
SANDBOX = "allow-scripts allow-downloads allow-popups"
"""No allow-same-origin: the frame cannot reach the notebook, its storage or its cookies."""

LIGHT, DARK = (255, 236, 179), (165, 0, 38)
"""Colours of the lowest and the highest number of `highlight`."""

_NOTICE = """
Graph view: Netron {version}, https://github.com/lutzroeder/netron

MIT License

Copyright (c) Lutz Roeder

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated
documentation files (the "Software"), to deal in the Software without restriction, including without limitation the
rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit
persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the
Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE
WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR
COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR
OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
"""


def document(view: GraphView) -> str:
    """The whole document for an iframe's `srcdoc`.

    Raises:
        NetronChangedError: the installed Netron is not as it is known.
    """
    netron = frontend()
    name = view.graph.path.name
    config = {
        "file": "model.onnx",
        "version": netron.version,
        "registry": asset("registry.js"),
        "colours": list(colours(view.highlight).items()),
    }
    parts = {
        "js": netron.scripts,
        "worker": netron.worker,
        "meta": packed(operator_metadata(view.graph.operators, view.graph.opset)),
        "model": packed(view.model),
    }
    data = "".join(f'<script type="text/plain" id="om-{key}">{value}</script>\n' for key, value in parts.items())
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">\n'
        f"<!--{_NOTICE.format(version=netron.version)}-->\n"
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f'<meta name="version" content="{netron.version}"><meta name="date" content="">\n'
        f"<title>{escape(shown(name))}</title>\n<style>{netron.style}</style></head>\n"
        f'<body class="welcome spinner">{netron.body}\n{data}'
        f"<script>const CFG = {script_json(config)};\n{asset('boot.js')}</script></body></html>"
    )


def script_json(value: object) -> str:
    """JSON that may stand in a script: no `</script>` can come of it.

    Example:
        >>> script_json("</script>")
        '"\\\\u003c/script>"'
    """
    return json.dumps(value).replace("<", "\\u003c")


def colours(highlight: Mapping[str, float]) -> dict[str, tuple[str, str]]:
    """Node name → (fill, text) on a scale from the lowest to the highest number.

    Example:
        >>> colours({"a": 0.0, "b": 2.0})
        {'a': ('#ffecb3', '#000'), 'b': ('#a50026', '#fff')}
    """
    if not highlight:
        return {}
    low, high = min(highlight.values()), max(highlight.values())
    found = {}
    for name, number in highlight.items():
        # halves, so that the distance of two large numbers is still one
        place = (number / 2 - low / 2) / (high / 2 - low / 2) if high > low else 1.0
        red, green, blue = (round(a + (b - a) * place) for a, b in zip(LIGHT, DARK, strict=True))
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 140
        found[name] = (f"#{red:02x}{green:02x}{blue:02x}", "#000" if bright else "#fff")
    return found
