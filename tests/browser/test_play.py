"""The live panel in JupyterLab: a text typed by keyboard alone, wrong inputs, dark and narrow, hostile labels."""

from __future__ import annotations

import json
import os
import shutil
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BAD = ("<img src=x onerror=window.pwned=1>", "</script><script>window.pwned=1</script>")


def shoot(page: Any, name: str) -> None:
    """A picture for the eye, where SHOTS names a folder."""
    if folder := os.environ.get("SHOTS"):
        page.screenshot(path=Path(folder) / name)


def complaints(watched: Any) -> list[str]:
    return [problem for problem in watched.problems if "favicon" not in problem] + watched.outside


def command(page: Any, name: str, **arguments: Any) -> None:
    page.evaluate("([name, given]) => window.jupyterapp.commands.execute(name, given)", [name, arguments])


def narrow(page: Any) -> None:
    """A cell of about 500 pixels."""
    command(page, "application:toggle-left-area")
    page.locator("#jupyterlab-splash").wait_for(state="detached")
    page.set_viewport_size({"width": 560, "height": 1100})


def settled(panel: Any) -> None:
    """Nothing is running, and nothing waits."""
    panel.and_(panel.page.locator("[aria-busy=false]")).wait_for(timeout=30_000)


@pytest.fixture
def play(run_notebook: Callable[..., Any], sample_checkpoint: Path, tmp_path: Path) -> Any:
    """The panel of the sample model: `(watched page, panel)`."""
    watched = run_notebook(
        "%load_ext onnx_magic",
        f"exported = %onnx_export {str(sample_checkpoint)!r} output={str(tmp_path / 'play')!r} validate=no;",
        "panel = %onnx_play exported",
        "print(panel.inputs, type(panel.result).__name__, panel.top_k, panel.output, panel.atol)",
    )
    panel = watched.page.locator(".onnx-magic-play")
    panel.locator(".answers table").wait_for(timeout=60_000)
    return watched, panel


def test_type_a_text_by_keyboard_alone(play: Any, lab: Any) -> None:
    watched, panel = play
    page = watched.page
    text = panel.get_by_label("text", exact=True)
    assert panel.locator(".answers thead th").all_inner_texts() == ["sample", "rank", "PyTorch", "ONNX Runtime"]
    assert page.locator("[data-onnx-magic=play]").first.is_hidden(), "the live panel stands in its place"
    text.focus()
    page.keyboard.press("Control+a")
    page.keyboard.type("dd I loved every minute of it, it was great")  # d d is a command of the notebook
    panel.locator(".answers", has_text="POSITIVE").wait_for(timeout=10_000)  # by itself, after a pause
    settled(panel)
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("A dull, lifeless mess")
    page.keyboard.press("Enter")
    sample = panel.get_by_label("sample", exact=True)
    sample.wait_for()
    for _ in range(9):
        page.keyboard.press("Tab")
        if panel.get_by_label("top-k").evaluate("e => e === document.activeElement"):
            break
    page.keyboard.type("2")
    page.keyboard.press("Tab")
    panel.locator(".answers td", has_text="NEGATIVE 0.0").first.wait_for()
    page.keyboard.press("ArrowDown")  # the sample
    panel.locator(".answers tbody tr").nth(0).get_by_text("NEGATIVE 0.9").first.wait_for()
    assert panel.locator(".times tbody tr").count() == 2 and "ms" in panel.locator(".times").inner_text()
    assert "[1, 1]" in panel.locator(".tensor").inner_text(), "the values are those of the sample"
    panel.get_by_label("atol").fill("1e-9")
    panel.get_by_label("rtol").fill("0")
    panel.get_by_label("rtol").press("Enter")
    panel.locator(".answers", has_text="differs").wait_for()
    panel.scroll_into_view_if_needed()
    shoot(page, "play_light.png")
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 3; }")
    command(page, "notebook:run-cell")
    page.get_by_text("'A dull, lifeless mess'] SideBySide 2 logits 1e-09").wait_for(timeout=10_000)
    count = "() => window.jupyterapp.shell.currentWidget.content.widgets.length"
    assert page.evaluate(count) == 4, "no key was taken for a command"
    page.evaluate("() => window.jupyterapp.shell.currentWidget.context.save()")
    kept = json.loads((lab.root / "test.ipynb").read_text())["cells"][2]["outputs"]
    assert sorted(kept[0]["data"]) == ["text/html", "text/plain"], "the static form is kept, without a view in it"
    assert "NEGATIVE 0.9" in "".join(kept[0]["data"]["text/plain"]), "and it has the last answers"
    assert complaints(watched) == []


@pytest.fixture(scope="module")
def hostile_folder(sample_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An exported classifier whose labels are markup."""
    import onnx_magic

    home = tmp_path_factory.mktemp("hostile")
    checkpoint = Path(shutil.copytree(sample_checkpoint, home / "checkpoint"))
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"id2label": dict(enumerate(BAD)), "label2id": {label: number for number, label in enumerate(BAD)}}
    (checkpoint / "config.json").write_text(json.dumps(config))
    return onnx_magic.export(str(checkpoint), output=home / "exported", validate=False).path


@pytest.fixture
def loaded(run_notebook: Callable[..., Any], hostile_folder: Path) -> Any:
    """Two panels of that folder, without PyTorch: `(watched page, first panel, second panel)`."""
    watched = run_notebook(
        "%load_ext onnx_magic",
        f"exported = %onnx_load {str(hostile_folder)!r};",
        "%onnx_play exported top_k=2",
        "other = %onnx_play exported",
        "import shutil; _ = shutil.move(exported.path, f'{exported.path}-moved')",
        "_ = shutil.move(f'{exported.path}-moved', exported.path)",
    )
    panels = watched.page.locator(".onnx-magic-play")
    panels.nth(1).locator(".answers table").wait_for(timeout=60_000)
    return watched, panels.nth(0), panels.nth(1)


def test_wrong_inputs_labels_that_are_markup_and_two_panels(loaded: Any) -> None:
    watched, panel, other = loaded
    page = watched.page
    cells = panel.locator(".answers td")
    assert set(BAD) <= {text.rpartition(" ")[0] for text in cells.all_inner_texts()}
    assert page.evaluate("() => window.pwned") is None and panel.locator("img[src=x], script").count() == 0
    assert "PyTorch's side is missing" in panel.locator(".answers").inner_text()
    text = panel.get_by_label("text", exact=True)
    text.fill(" ")
    panel.get_by_role("button", name="Run").click()
    alert = panel.get_by_role("alert").filter(has_text="the text is empty")
    alert.wait_for()
    assert len(alert.inner_text().splitlines()) == 2 and text.get_attribute("aria-invalid") == "true"
    assert panel.locator(".results.stale .answers table").count() == 1, "the last answers stay, and are marked"
    text.fill("<img src=x onerror=window.pwned=1> is great")
    text.press("Enter")
    panel.locator(".results:not(.stale)").wait_for()
    assert text.get_attribute("aria-invalid") == "false"
    for label, typed, said in (("top-k", "0", "expected 1 or more"), ("atol", "-1", "is not a tolerance")):
        panel.get_by_label(label).fill(typed)
        panel.get_by_label(label).press("Enter")
        panel.get_by_role("alert").filter(has_text=said).wait_for()
    panel.get_by_label("atol").fill("")
    panel.get_by_label("atol").press("Enter")
    panel.locator(".note.problem").wait_for(state="detached")
    assert "exported at other" not in other.get_by_label("text", exact=True).input_value()
    assert other.get_by_label("text", exact=True).input_value() != text.input_value(), "each panel has its own input"
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 4; }")
    command(page, "notebook:run-cell")
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status === 'idle'"
    )
    text.fill("once more")
    text.press("Enter")
    panel.get_by_role("alert").filter(has_text="is gone").wait_for()
    page.evaluate("() => { window.jupyterapp.shell.currentWidget.content.activeCellIndex = 5; }")
    command(page, "notebook:run-cell")
    text.press("Enter")
    panel.locator(".results:not(.stale)").wait_for()
    assert page.evaluate("() => window.pwned") is None
    assert complaints(watched) == []


def test_dark_and_narrow(play: Any) -> None:
    watched, panel = play
    page = watched.page
    command(page, "apputils:change-theme", theme="JupyterLab Dark")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    panel.get_by_label("top-k").fill("2")
    panel.get_by_label("top-k").press("Enter")
    panel.locator(".answers td", has_text="POSITIVE").first.wait_for()
    colours = "e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]"
    text = panel.get_by_label("text", exact=True)
    assert len(set(text.evaluate(colours))) == 2 and text.evaluate(colours)[0] != "rgb(0, 0, 0)"
    panel.scroll_into_view_if_needed()
    shoot(page, "play_dark.png")
    narrow(page)
    panel.get_by_role("button", name="Run").scroll_into_view_if_needed()
    assert panel.evaluate("e => e.scrollWidth <= e.clientWidth + 1"), "only the tables' own regions scroll"
    text.fill("")
    text.press("Enter")
    panel.get_by_role("alert").filter(has_text="the text is empty").wait_for()
    shoot(page, "play_dark_500.png")
    assert complaints(watched) == []


@pytest.fixture
def teller(run_notebook: Callable[..., Any], tmp_path: Path) -> Any:
    """The panel of a decoder: `(watched page, panel)`."""
    model = Path(__file__).parents[2] / "notebooks" / "models" / "fairy-tales-mini"
    watched = run_notebook(
        "%load_ext onnx_magic",
        f"exported = %onnx_export {str(model)!r} output={str(tmp_path / 'tales')!r} validate=no;",
        "panel = %onnx_play exported max_new_tokens=30",
    )
    panel = watched.page.locator(".onnx-magic-play")
    panel.locator(".answers table").wait_for(timeout=90_000)
    return watched, panel


def test_a_text_grows_and_both_backends_write_the_same(teller: Any) -> None:
    watched, panel = teller
    page = watched.page
    assert panel.get_by_label("max_new_tokens").input_value() == "30"
    assert panel.get_by_label("top-k").is_hidden() and panel.get_by_label("output tensor").is_hidden()
    panel.get_by_label("max_new_tokens").fill("120")
    text = panel.get_by_label("text", exact=True)
    before = panel.locator(".answers").inner_text()
    text.fill("The king and the")
    page.wait_for_timeout(1200)
    assert panel.locator(".answers").inner_text() == before, "it waits for Enter"
    page.evaluate(
        "() => { const pre = document.querySelector('.onnx-magic-play .stream'); window.grown = [];"
        " new MutationObserver(() => window.grown.push(pre.textContent)).observe(pre, {childList: true}); }"
    )
    text.press("Enter")
    panel.locator(".answers", has_text="The king and the").wait_for(timeout=60_000)
    settled(panel)
    sizes = [len(piece) for piece in page.evaluate("() => window.grown") if piece]
    assert len(set(sizes)) > 3, "it was seen growing"
    shoot(page, "play_text.png")
    texts = panel.locator(".answers tbody tr > *").all_inner_texts()
    assert len(texts) == 2 and texts[0] == texts[1] and len(texts[0]) > 200, "whole, and the same"
    assert "120 tokens, all the same" in panel.locator(".answers").inner_text()
    assert "tokens/s" in panel.locator(".times").inner_text()
    panel.get_by_label("temperature").fill("hot")
    panel.get_by_label("temperature").press("Enter")
    panel.get_by_role("alert").filter(has_text="temperature").wait_for()
    assert panel.locator(".results.stale").count() == 1
    assert complaints(watched) == []


@pytest.fixture(scope="module")
def senses(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny image classifier with an int8 variant, a tiny CTC model, an image and a sound."""
    import numpy as np
    import torch
    from PIL import Image
    from transformers import ViTConfig, ViTForImageClassification, Wav2Vec2Config, Wav2Vec2ForCTC

    import onnx_magic

    home = tmp_path_factory.mktemp("senses")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 32}
    seeing = ViTForImageClassification(
        ViTConfig(
            **sizes, num_hidden_layers=1, image_size=32, patch_size=8, id2label=dict(enumerate(("hen", "ostrich")))
        )
    )
    vit = onnx_magic.export(seeing.eval(), output=home / "seeing", validate=False)
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "do_resize": True}
    (vit.path / "preprocessor_config.json").write_text(json.dumps(processor))
    vit.quantize("int8")
    layers: dict[str, Any] = {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 2}
    hearing = Wav2Vec2ForCTC(Wav2Vec2Config(**sizes, **layers, num_hidden_layers=1, vocab_size=8)).eval()
    ctc = onnx_magic.export(hearing, output=home / "hearing", validate=False)
    extractor = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16000, "do_normalize": True}
    (ctc.path / "preprocessor_config.json").write_text(json.dumps(extractor))
    Image.fromarray(np.full((40, 40, 3), (250, 20, 20), np.uint8)).save(home / "red.png")
    with wave.open(str(home / "tone.wav"), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", "not compressed"))
        file.writeframes((9000 * np.sin(np.arange(16000) / 6)).astype("<i2").tobytes())
    return home


def test_images_and_sounds_by_path_and_upload(run_notebook: Callable[..., Any], senses: Path) -> None:
    cells = [f"%onnx_play {str(senses / name)!r}" for name in ("seeing", "hearing")]
    watched = run_notebook("%load_ext onnx_magic", *cells)
    page, panels = watched.page, watched.page.locator(".onnx-magic-play")
    for index, (name, good, bad) in enumerate((("image", "red.png", "tone.wav"), ("sound", "tone.wav", "red.png"))):
        panel = panels.nth(index)
        panel.locator(".answers table").wait_for()
        assert "of noise" in panel.inner_text(), "what was answered first is said"
        before = panel.locator(".tensor").inner_text()
        field, picked = panel.get_by_label(name, exact=True), panel.locator("input[type=file]")
        field.fill(str(senses / good))
        field.press("Enter")
        page.wait_for_function(
            "([n, old]) => document.querySelectorAll('.tensor')[n].innerText !== old", arg=[index, before]
        )
        settled(panel)
        by_path = panel.locator(".tensor").inner_text()
        picked.set_input_files(senses / bad)
        panel.locator(".results.stale").wait_for()
        assert len(panel.get_by_role("alert").filter(has_text="fix:").inner_text().splitlines()) == 2
        picked.set_input_files(senses / good)
        panel.locator(".results:not(.stale)").wait_for()
        assert panel.locator(".tensor").inner_text() == by_path and field.input_value() == ""
        watched.shoot(f"play_{name}.png")
    assert "PyTorch" not in panels.nth(0).locator(".tensor").inner_text(), "it is not there to be compared with"
    assert panels.nth(0).locator(".answers thead th").all_inner_texts()[-2:] == ["ONNX Runtime", "int8"]
    assert complaints(watched) == []
