"""One input for every backend, with real models: answers, what is missing or broken, and what is looked at."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnx_magic
from onnx_magic.display.bundles import bundle
from onnx_magic.engine.playing import Player
from onnx_magic.errors import FeedError, GraphFileError, UsageError
from onnx_magic.events import StageStarted, Token, listening
from onnx_magic.exported import ExportedModel
from onnx_magic.records.playing import PlayView
from onnx_magic.records.results import RunResult, SideBySide


@pytest.fixture(scope="module")
def held(tiny_bert: Callable[..., Any], tiny_tokenizer: Any, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """An exported classifier whose live model is held: for tests that leave it as it is."""
    home = tmp_path_factory.mktemp("playing")
    labels = {0: "NEGATIVE", 1: "POSITIVE"}
    tiny_bert("SequenceClassification", num_labels=2, id2label=labels).save_pretrained(home / "tiny")
    tiny_tokenizer.save_pretrained(home / "tiny")
    return onnx_magic.export(str(home / "tiny"), output=home / "exported", validate=False)


@pytest.fixture(scope="module")
def teller(writer: Any, tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """An exported decoder whose live model is held."""
    folder = tmp_path_factory.mktemp("teller") / "exported"
    return onnx_magic.export(writer.folder.parent / "writer", output=folder, validate=False)


@pytest.fixture
def exported(held: ExportedModel, workdir: Path) -> ExportedModel:
    """A copy of its folder, loaded: no live model."""
    return onnx_magic.load(shutil.copytree(held.path, "exported"))


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> ExportedModel:
    """An exported module of two inputs and two outputs, held."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(2.0))

        def forward(self, x: torch.Tensor, flags: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scaled": x * self.scale, "total": flags.sum() + x.sum(1)}

    given = (torch.rand(2, 3), torch.tensor([[0, 1], [1, 1]]))
    return onnx_magic.export(Net().eval(), inputs=given, output=tmp_path_factory.mktemp("net") / "net", validate=False)


def test_pytorch_and_onnx_runtime_answer_side_by_side(held: ExportedModel) -> None:
    player = Player(held)
    assert player.form.kind == "texts" and player.form.fields[0].value.count("\n") == 1
    played = player.run(["I loved it", "a dull film"])
    assert [answer.name for answer in played.answers] == ["PyTorch", "ONNX Runtime"] and played.samples == 2
    pair = played.result
    assert isinstance(pair, SideBySide) and pair and pair.expected.decoded[0]["label"] in ("POSITIVE", "NEGATIVE")
    assert played.latency is not None and [t.name for t in played.latency.timings] == ["PyTorch", "ONNX Runtime"]
    assert all(t.median > 0 and t.provider for t in played.latency.timings)


def test_looking_closer_runs_nothing_again(held: ExportedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player(held)
    first = player.run(["I loved it", "a dull film"])
    monkeypatch.setattr(player, "_backends", lambda *_: pytest.fail("it was run again"))
    close = player.look(PlayView(top_k=2, atol=1e-12, rtol=0.0, sample=1))
    assert close.answers[1].result is not None and len(close.answers[1].result.decoded[0]) == 2
    focus = close.answers[1].focus
    assert focus is not None and focus.closeup is not None and focus.closeup.first[0].index == (1, 0)
    assert focus.expected_shape == (1, 2) and focus.atol == 1e-12
    assert close.latency is first.latency and first.answers[1].comparison
    with pytest.raises(UsageError, match="top_k"):
        player.look(PlayView(top_k=0))


def test_released_and_loaded_models_answer_alone(held: ExportedModel, exported: ExportedModel) -> None:
    again = ExportedModel(exported.opened, outcome=held._outcome)
    player = Player(again)
    assert isinstance(player.run("I loved it").result, SideBySide)
    again.release()
    played = player.run("I loved it")
    assert isinstance(played.result, RunResult) and "was released" in played.notes[-1]
    loaded = Player(exported).run("I loved it")
    assert [answer.name for answer in loaded.answers] == ["ONNX Runtime"]


def test_a_folder_that_is_gone_is_said(exported: ExportedModel) -> None:
    player = Player(exported)
    player.run("I loved it")
    shutil.rmtree(exported.path)
    with pytest.raises(GraphFileError, match="is gone") as caught:
        player.run("I loved it")
    assert caught.value.fix == "exported = %onnx_export model"
    assert player.look().answers[0].result is not None, "what was answered can still be looked at"


def test_a_backend_that_fails_says_so_in_its_place(
    held: ExportedModel, exported: ExportedModel, net: ExportedModel
) -> None:
    import torch

    player = Player(held, variants={"other": net, "same": exported})
    assert held.source is not None
    weight = next(held.source.model.parameters())
    before = weight.detach().clone()
    with torch.no_grad():
        weight.add_(1)
        played = player.run("I loved it")
        weight.copy_(before)
    said = {answer.name: answer.error for answer in played.answers}
    assert "changed since the export" in said["PyTorch"] and "takes no text" in said["other"]
    assert said["ONNX Runtime"] == said["same"] == "" and played.answers[3].comparison
    assert all(answer.fix for answer in played.answers if answer.error)
    well = player.run("I loved it").result
    assert isinstance(well, SideBySide) and list(well.others) == ["same"]


def test_a_model_that_raises_is_no_end(net: ExportedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    assert net.source is not None
    player = Player(net)

    def broken(*_: Any, **__: Any) -> torch.Tensor:
        raise RuntimeError("mine")

    monkeypatch.setattr(net.source.model, "forward", broken)
    played = player.run(player.arrays({}, {}, 0))
    assert "RuntimeError: mine" in played.answers[0].error and played.answers[1].result is not None


def test_inputs_that_do_not_fit_are_refused_and_the_last_answers_stay(held: ExportedModel) -> None:
    player = Player(held)
    first = player.run("I loved it")
    with pytest.raises(FeedError):
        player.run({"nothing": [1]})
    assert player.look().feed is first.feed


@pytest.mark.parametrize("live", [True, False])
def test_random_arrays_at_chosen_sizes(net: ExportedModel, live: bool) -> None:
    exported = net if live else onnx_magic.load(net.path)
    player = Player(exported)
    assert player.form.kind == "arrays"
    names = {field.name for field in player.form.fields}
    assert {"array:x", "array:flags", "size:batch_size", "seed"} <= names
    arrays = player.arrays({}, {"batch_size": 5}, 1)
    assert arrays["x"].shape[0] == arrays["flags"].shape[0] == 5 and arrays["flags"].dtype == np.int64
    again, other = player.arrays({}, {"batch_size": 5}, 1), player.arrays({}, {"batch_size": 5}, 2)
    assert np.array_equal(arrays["x"], again["x"]) and not np.array_equal(arrays["x"], other["x"])
    mine = player.arrays({"x": np.ones((7, 3), np.float32)}, {"batch_size": 5}, 1)
    assert mine["flags"].shape[0] == 7, "an array of one's own gives the size"
    assert player.run(arrays).samples == 5
    with pytest.raises(FeedError, match="from 1 on"):
        player.arrays({}, {"batch_size": 0}, 0)
    with pytest.raises(FeedError, match="would hold"):
        player.arrays({}, {"batch_size": 10**9}, 0)


def test_an_output_without_the_samples_axis_is_looked_at_whole(workdir: Path) -> None:
    import torch

    class Sums(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"sums": x.sum(0), "rows": x * 2}

    exported = onnx_magic.export(Sums().eval(), inputs=torch.rand(3, 4), output="sums", validate=False)
    player = Player(exported)
    player.run(torch.rand(3, 4))
    for output, shape in (("sums", (4,)), ("rows", (1, 4))):
        focus = player.look(PlayView(output=output, sample=2)).answers[1].focus
        assert focus is not None and focus.name == output and focus.expected_shape == shape


def test_an_image_file(held: ExportedModel) -> None:
    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(file, "PNG")
    player = Player(held)
    assert player.image(file.getvalue()).size == (4, 4)
    for data in (b"", b"<svg/>", file.getvalue()[:40]):
        with pytest.raises(FeedError, match="no image"):
            player.image(data)


@pytest.mark.parametrize(
    ("head", "task", "kind", "names"),
    [
        ("MultipleChoice", "multiple-choice", "choices", ["prompt", "choices"]),
        ("MaskedLM", "fill-mask", "texts", ["text"]),
    ],
)
def test_forms_and_samples_by_task(
    tiny_bert: Callable[..., Any], tiny_tokenizer: Any, workdir: Path, head: str, task: str, kind: str, names: list[str]
) -> None:
    from onnx_magic.widgets.play_inputs import inputs_of

    model = tiny_bert(head)
    model.save_pretrained("checkpoint")
    tiny_tokenizer.save_pretrained("checkpoint")
    exported = onnx_magic.export("checkpoint", task, output="exported", validate=False)
    player = Player(exported)
    assert player.form.kind == kind and [field.name for field in player.form.fields] == names
    played = player.run(inputs_of(player, {f.name: f.value for f in player.form.fields}, eval))
    assert played.result and played.answers[1].result is not None and played.answers[1].result.decoded


def texts_of(played: Any) -> list[Any]:
    return [answer.result.decoded for answer in played.answers]


def test_a_generator_goes_on_with_a_text_on_both_backends(teller: ExportedModel) -> None:
    player = Player(teller, asked={"max_new_tokens": 9})
    assert player.form.streams and player.form.kind == "texts"
    fields = {field.name: field.value for field in player.form.fields}
    assert fields == {"text": "Once upon a time", "max_new_tokens": "9", "temperature": "", "seed": ""}
    grown: dict[str, str] = {}

    def hear(event: Any) -> None:
        if isinstance(event, StageStarted) and event.name != "generate":
            grown[event.name] = ""
        elif isinstance(event, Token):
            grown[list(grown)[-1]] += event.text

    with listening(hear):
        played = player.run("the one")
    expected = teller.run("the one", max_new_tokens=9)
    assert texts_of(played) == [expected.decoded] * 2 and played.answers[1].comparison
    assert {f"the one{text}" for text in grown.values()} == {expected.decoded[0]["generated_text"]}
    assert list(grown) == ["PyTorch", "ONNX Runtime"], "both grow, piece by piece"
    assert played.latency is not None and all(t.tokens == 9 and t.tokens_per_second > 0 for t in played.latency.timings)
    assert teller.source is not None and not teller.source.model.training
    shorter = player.run("the one", None, {"max_new_tokens": 3})
    assert [answer.result.tokens for answer in shorter.answers if answer.result] == [3, 3]


def test_what_is_drawn_is_drawn_alike(teller: ExportedModel) -> None:
    player = Player(teller)
    played = player.run(["the one", "on"], None, {"max_new_tokens": 8, "temperature": 1.5})
    assert played.answers[1].comparison and played.samples == 2 and "every backend draws with seed=" in played.notes[0]
    seeds = [texts_of(player.run("the one", None, {"max_new_tokens": 8, "seed": seed})) for seed in (1, 1, 2)]
    assert seeds[0] == seeds[1] != seeds[2] and seeds[2][0] == seeds[2][1]
    greedy = texts_of(player.run("the one", None, {"max_new_tokens": 8}))
    top = texts_of(player.run("the one", PlayView(top_k=1), {"max_new_tokens": 8}))
    assert top == greedy, "of one token there is nothing to draw"


def test_a_variant_is_looked_at_as_it_is_judged(held: ExportedModel, tmp_path: Path) -> None:
    plain = onnx_magic.load(shutil.copytree(held.path, tmp_path / "copy"))
    player = Player(held, variants={"int8": plain.quantize("int8")})
    played = player.run("the one")
    own, small = (answer.focus for answer in played.answers[1:])
    compared = played.answers[2].comparison
    assert own is not None and small is not None and compared is not None
    assert small.atol == compared.diffs[0].atol > 10 * own.atol and bool(small) == bool(compared)
    asked = player.look(PlayView(atol=1e-9)).answers[2]
    assert asked.focus is not None and asked.focus.atol == 1e-9 and not asked.comparison


def test_a_text_that_differs_is_told_and_marked(teller: ExportedModel, tmp_path: Path) -> None:
    """The negative control: a graph with other weights writes another text, and that is not called the same."""
    import onnx
    from onnx import numpy_helper

    other = onnx_magic.load(shutil.copytree(teller.path, tmp_path / "other"))
    model = onnx.load(other.model_path)
    for tensor in model.graph.initializer:
        if len(tensor.dims) == 2 and tensor.data_type == onnx.TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[::-1].copy(), tensor.name))
    onnx.save(model, other.model_path)
    played = Player(teller, variants={"other": other}).run("the one", None, {"max_new_tokens": 8})
    pytorch, same, differing = texts_of(played)
    assert same == pytorch != differing
    verdicts = [bool(answer.comparison) for answer in played.answers[1:]]
    assert verdicts == [True, False]
    told = bundle(played)["text/plain"]
    assert told.startswith("✗ differs: other from PyTorch") and "»" in told


def test_weights_that_changed_are_refused(teller: ExportedModel) -> None:
    """PyTorch's text would be that of another model: its side is missing, and the reason is in its place."""
    import torch

    assert teller.source is not None
    weight = next(teller.source.model.parameters())
    before = weight.detach().clone()
    try:
        with torch.no_grad():
            weight.add_(torch.randn(weight.shape))
        played = Player(teller).run("the one", None, {"max_new_tokens": 4})
    finally:
        with torch.no_grad():
            weight.copy_(before)
    assert "changed since the export" in played.answers[0].error and played.answers[1].result is not None


def test_options_that_mean_nothing_are_refused(held: ExportedModel, teller: ExportedModel) -> None:
    with pytest.raises(UsageError, match="max_new_tokens is for models that generate"):
        Player(held, asked={"max_new_tokens": 3})
    with pytest.raises(UsageError, match="max_new_tokens is 0"):
        Player(teller).run("the one", None, {"max_new_tokens": 0})
    with pytest.raises(FeedError):
        Player(teller).run("", None, {})


def test_a_loaded_generator_writes_alone(teller: ExportedModel) -> None:
    played = Player(onnx_magic.load(teller.path)).run("the one", None, {"max_new_tokens": 3})
    assert [answer.name for answer in played.answers] == ["ONNX Runtime"] and "was released" in played.notes[-1]
