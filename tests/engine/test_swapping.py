from __future__ import annotations

import copy
import dataclasses
import functools
import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from torch.nn.modules import module as nn_module

import onnx_magic
from onnx_magic.engine.random_states import RandomStates
from onnx_magic.engine.swapping import StandIn, swapped
from onnx_magic.errors import FeedError, OnnxMagicError, SwapError
from onnx_magic.exported import ExportedModel
from onnx_magic.records.findings import Finding


class Net(nn.Module):
    """A number of ways to return two tensors, one of them only when asked."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(
        self, x: torch.Tensor, form: str = "dict", y: torch.Tensor | None = None, more: bool = False, **extra: Any
    ) -> Any:
        a = self.layer(x)
        b = a.sum(1) if y is None else a.sum(1) + y
        if form == "tuple":
            return a, b
        if form == "number":
            return {"a": a, "b": b, "n": len(x)}
        return {"a": a, "b": b, "c": a} if more else {"a": a, "b": b}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("swapping")


@pytest.fixture(scope="module")
def bert(tiny_bert: Callable[..., Any]) -> Any:
    return tiny_bert("SequenceClassification", num_labels=2)


@pytest.fixture(scope="module")
def exported_bert(bert: Any, tiny_tokenizer: Any, folder: Path) -> ExportedModel:
    pipe = transformers.pipeline("text-classification", model=bert, tokenizer=tiny_tokenizer)
    exported = onnx_magic.export(pipe, output=folder / "bert", exporter="torchscript")
    return exported.require_verified()


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def exported_net(net: Net, folder: Path) -> ExportedModel:
    exported = onnx_magic.export(net, inputs=torch.randn(2, 3), output=folder / "net", exporter="torchscript")
    return exported.require_verified()


@pytest.fixture
def encoded(tiny_tokenizer: Any) -> Any:
    return tiny_tokenizer(["i loved every minute of it", "dull"], padding=True, return_tensors="pt")


@pytest.fixture(autouse=True)
def nothing_left_behind(bert: Any, net: Net) -> Iterator[None]:
    """After every test of this file, whatever it did: flags, instance dicts, gradients and hooks as before."""

    def state() -> Any:
        modules = [*bert.modules(), *net.modules()]
        return (
            [(m.training, list(m.__dict__), list(m._forward_hooks.values())) for m in modules],
            [p.grad for p in (*bert.parameters(), *net.parameters())],
            nn_module._has_any_global_hook(),
        )

    before = state()
    yield
    assert state() == before


def test_onnx_runtime_answers_with_the_models_own_classes(bert: Any, exported_bert: Any, encoded: Any) -> None:
    expected = bert(**encoded)
    with exported_bert.swapped_into(bert) as report:
        got = bert(**encoded)
        as_tuple = bert(encoded["input_ids"], encoded["attention_mask"], encoded["token_type_ids"], return_dict=False)
    assert type(got) is type(expected) and got.keys() == expected.keys() and got.loss is None
    assert torch.allclose(got.logits, expected.logits, atol=1e-5) and got.logits.dtype == torch.float32
    assert isinstance(as_tuple, tuple) and torch.equal(as_tuple[0], got.logits)
    assert (report.count, len(report.calls)) == (2, 2)
    call = report.calls[0]
    assert list(call.feed) == ["input_ids", "attention_mask", "token_type_ids"] and list(call.outputs) == ["logits"]
    assert report.notes == () and not report.bypassed


def test_pytorch_computes_nothing_once_the_form_is_known(bert: Any, exported_bert: Any, encoded: Any) -> None:
    ran: list[Any] = []
    with exported_bert.swapped_into(bert):
        bert(**encoded)
        handle = bert.bert.register_forward_hook(lambda *_: ran.append(1))
        bert(**encoded)
        handle.remove()
    assert ran == []


def test_a_pipeline_answers_the_same(bert: Any, exported_bert: Any, tiny_tokenizer: Any) -> None:
    pipe = transformers.pipeline("text-classification", model=bert, tokenizer=tiny_tokenizer)
    texts = ["i loved it", "hated every minute of this dull film"]
    expected = pipe(texts)
    with exported_bert.swapped_into(pipe) as report:
        got = pipe(texts)
    assert [row["label"] for row in got] == [row["label"] for row in expected]
    assert [row["score"] for row in got] == pytest.approx([row["score"] for row in expected], abs=1e-5)
    assert report.count >= 1


def test_a_folder_that_was_loaded_swaps_too(bert: Any, exported_bert: Any, encoded: Any) -> None:
    with onnx_magic.load(exported_bert.path).swapped_into(bert) as report:
        got = bert(**encoded).logits
    assert torch.allclose(got, bert(**encoded).logits, atol=1e-5) and report.count == 1


def test_a_forward_that_was_on_the_instance_survives(net: Net, exported_net: ExportedModel) -> None:
    calls: list[int] = []

    @functools.wraps(net.forward)
    def own(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        return Net.forward(net, *args, **kwargs)

    keys = list(net.__dict__)
    net.forward = own  # as accelerate does
    try:
        with pytest.raises(KeyError), exported_net.swapped_into(net):
            assert net.forward is not own
            raise KeyError
        assert net.__dict__["forward"] is own
        net(torch.ones(1, 3))
        assert calls
    finally:
        del net.forward
    assert list(net.__dict__) == keys


def test_the_signature_stays(bert: Any, exported_bert: Any) -> None:
    import inspect

    before = inspect.signature(bert.forward)
    with exported_bert.swapped_into(bert):
        assert inspect.signature(bert.forward) == before


@pytest.mark.parametrize(
    ("asked", "named", "fix"),
    [
        ({"output_hidden_states": True}, "output_hidden_states=True", "model.config.output_hidden_states = True"),
        ({"output_attentions": True}, "output_attentions=True", "model.config.output_attentions = True"),
        ({"labels": torch.tensor([0, 1])}, "labels", "leave labels out"),
        ({"position_ids": torch.zeros(2, 8, dtype=torch.long)}, "position_ids", "leave position_ids out"),
        ({"inputs_embeds": torch.zeros(2, 8, 32), "input_ids": None}, "inputs_embeds", "give input_ids"),
        ({"past_key_values": transformers.DynamicCache()}, "past_key_values", "use_cache=False"),
        ({"frobnicate": 3}, "frobnicate=3", "leave frobnicate out"),
    ],
)
def test_what_the_graph_cannot_give_is_refused(
    bert: Any, exported_bert: Any, encoded: Any, asked: dict[str, Any], named: str, fix: str
) -> None:
    with exported_bert.swapped_into(bert) as report, pytest.raises(SwapError) as caught:
        bert(**{**encoded, **asked})
    assert named in caught.value.what and caught.value.fix.startswith(fix) and report.count == 0


@pytest.mark.parametrize(
    "asked",
    [
        {"output_hidden_states": False},
        {"output_attentions": None, "labels": None},
        {"use_cache": True},
        {"use_cache": False, "return_dict": True},
        {"past_key_values": None},
    ],
)
def test_what_asks_for_nothing_is_let_through(
    bert: Any, exported_bert: Any, encoded: Any, asked: dict[str, Any]
) -> None:
    with exported_bert.swapped_into(bert) as report:
        bert(**encoded, **asked)
    assert report.count == 1


def test_what_the_config_asks_for_is_refused_too(bert: Any, exported_bert: Any, encoded: Any) -> None:
    model = copy.deepcopy(bert)
    model.config.output_hidden_states = True
    with exported_bert.swapped_into(model), pytest.raises(SwapError, match="returns hidden_states.0") as caught:
        model(**encoded)
    assert caught.value.fix.startswith("model.config.output_hidden_states = False")


def test_an_input_left_out_of_the_graph_is_harmless_where_it_says_nothing(
    tiny_bert: Any, encoded: Any, folder: Path
) -> None:
    model = tiny_bert("SequenceClassification", num_labels=2, type_vocab_size=1)
    exported = onnx_magic.export(model, output=folder / "no-types", exporter="torchscript")
    assert "token_type_ids" not in {spec.name for spec in exported.inputs}
    with exported.swapped_into(model) as report:
        model(**encoded)  # token_type_ids are all 0
        with pytest.raises(SwapError, match="token_type_ids"):
            model(**{**encoded, "token_type_ids": torch.ones_like(encoded["input_ids"])})
    assert report.count == 1


def test_an_input_that_vanished_is_noted(bert: Any, exported_bert: Any, encoded: Any) -> None:
    stand_in = StandIn(exported_bert, bert)
    positions = {"position_ids": torch.arange(encoded["input_ids"].shape[1])[None]}
    with pytest.raises(SwapError):
        stand_in.feed((), {**encoded, **positions})
    validation = exported_bert.validation
    told = Finding("input-vanished", "input position_ids is not in the graph", level="warning", tensor="position_ids")
    stand_in.asked.vanished = {f.tensor for f in (*validation.findings, told)}
    assert list(stand_in.feed((), {**encoded, **positions})) == list(encoded_names(exported_bert))
    assert "position_ids is given, and the graph has no such input" in stand_in.report.notes[0]


def encoded_names(exported: ExportedModel) -> Iterator[str]:
    return (spec.name for spec in exported.inputs)


def test_a_changed_weight_is_refused(bert: Any, exported_bert: Any) -> None:
    changed = copy.deepcopy(bert)
    with torch.no_grad():
        changed.classifier.bias[0] += 1e-3
    with pytest.raises(SwapError, match="has changed since the export") as caught, exported_bert.swapped_into(changed):
        pass
    assert caught.value.fix == "exported = %onnx_export model"
    with exported_bert.swapped_into(copy.deepcopy(bert)):  # an equal copy is fine
        pass


def test_another_architecture_and_no_model_are_refused(exported_bert: Any, net: Net) -> None:
    with pytest.raises(SwapError, match="BertForSequenceClassification, not of Net"), exported_bert.swapped_into(net):
        pass
    with pytest.raises(SwapError, match="cannot stand in for a str"), exported_bert.swapped_into("model"):
        pass


def test_a_file_without_a_manifest_is_refused(net: Net, exported_net: ExportedModel, tmp_path: Path) -> None:
    bare = tmp_path / "bare.onnx"
    bare.write_bytes(exported_net.model_path.read_bytes())
    with pytest.raises(SwapError, match="carries no fingerprint"), onnx_magic.load(bare).swapped_into(net):
        pass


def test_nested_swaps_are_refused_and_the_outer_one_goes_on(net: Net, exported_net: ExportedModel) -> None:
    with exported_net.swapped_into(net) as report:
        with pytest.raises(SwapError, match="not nested"), exported_net.swapped_into(net):
            pass
        net(torch.ones(1, 3))
    assert report.count == 1
    with exported_net.swapped_into(net) as again:
        net(torch.ones(1, 3))
    assert again.count == 1


def test_of_two_threads_one_gets_the_model(net: Net, exported_net: ExportedModel) -> None:
    got: list[str] = []
    barrier, release = threading.Barrier(2), threading.Event()

    def swap() -> None:
        barrier.wait(10)
        try:
            with exported_net.swapped_into(net):
                got.append("swapped")
                release.wait(10)
        except SwapError:
            got.append("refused")
            release.set()

    threads = [threading.Thread(target=swap) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert sorted(got) == ["refused", "swapped"]


def test_calls_from_several_threads(net: Net, exported_net: ExportedModel) -> None:
    inputs = [torch.randn(n + 1, 3) for n in range(8)]
    expected = [net(x)["a"] for x in inputs]
    got: dict[int, torch.Tensor] = {}
    with exported_net.swapped_into(net) as report:
        threads = [threading.Thread(target=lambda n=n: got.update({n: net(inputs[n])["a"]})) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert report.count == 8 and not report.bypassed
    assert all(torch.allclose(got[n], expected[n], atol=1e-5) for n in range(8))


def test_no_call_and_calls_that_bypass_are_said(bert: Any, exported_bert: Any, encoded: Any) -> None:
    with exported_bert.swapped_into(bert) as report:
        pass
    assert report.notes == ("ONNX Runtime was not called: BertForSequenceClassification was not called in the block",)
    with exported_bert.swapped_into(bert) as report:
        bert(**encoded)
        bert.bert.encoder(torch.zeros(1, 2, 32))
        bert.classifier(torch.zeros(1, 32))
    assert report.notes == ("inner modules were called past ONNX Runtime and ran in PyTorch: bert.encoder, classifier",)


def test_hooks_that_would_see_nothing_are_said(net: Net, exported_net: ExportedModel) -> None:
    handle = net.layer.register_forward_hook(lambda *_: None)
    try:
        with exported_net.swapped_into(net) as report:
            net(torch.ones(1, 3))
        assert report.notes == ("hooks on inner modules see nothing of what ONNX Runtime computes: layer",)
    finally:
        handle.remove()


def test_train_mode_is_refused(net: Net, exported_net: ExportedModel) -> None:
    net.train()
    with exported_net.swapped_into(net) as report:
        net(torch.ones(1, 3))
    assert report.count == 1, "nothing of it heeds train mode"
    net.layer.register_module("drop", nn.Dropout(0.1))
    try:
        with exported_net.swapped_into(net), pytest.raises(SwapError, match="train mode") as caught:
            net(torch.ones(1, 3))
        assert caught.value.fix == "model.eval()" and net.training
    finally:
        del net.layer.drop
        net.eval()


def test_forms_of_a_plain_modules_outputs(net: Net, exported_net: ExportedModel) -> None:
    x = torch.randn(4, 3)
    with exported_net.swapped_into(net):
        assert list(net(x)) == ["a", "b"]
        assert net(x=x, more=False, extra=None)["b"].shape == (4,)
        with pytest.raises(SwapError, match="more=True"):
            net(x, more=True)
        with pytest.raises(SwapError, match="form='tuple'"):
            net(x, form="tuple")
        with pytest.raises(SwapError, match="with y, which the graph does not know"):
            net(x, y=torch.ones(4))
        with pytest.raises(TypeError, match="missing a required argument"):
            net()


def test_a_constant_of_the_export_is_held_to(folder: Path) -> None:
    net = Net().eval()
    given = {"x": torch.randn(2, 3), "form": "tuple"}
    exported = onnx_magic.export(net, inputs=given, output=folder / "tuple", exporter="torchscript")
    x = torch.randn(3, 3)
    with exported.swapped_into(net) as report:
        a, b = net(x, form="tuple")
        assert isinstance(a, torch.Tensor) and b.shape == (3,)
        with pytest.raises(SwapError, match="exported with form='tuple', and Net is called with form='dict'"):
            net(x)
    assert report.count == 1
    loaded = onnx_magic.load(folder / "tuple")
    with loaded.swapped_into(net), pytest.raises(SwapError, match="exported with form='tuple'"):
        net(x)


def test_a_number_among_the_outputs_is_refused(folder: Path) -> None:
    net = Net().eval()
    given = {"x": torch.randn(2, 3), "form": "number"}
    exported = onnx_magic.export(net, inputs=given, output=folder / "number", exporter="torchscript")
    with exported.swapped_into(net), pytest.raises(SwapError, match=r"returns n \(a number\)"):
        net(torch.randn(3, 3), form="number")


def test_a_cache_that_nobody_asked_for_is_said(folder: Path) -> None:
    config = transformers.GPT2Config(vocab_size=50, n_embd=16, n_layer=1, n_head=2, n_positions=32, pad_token_id=0)
    model = transformers.GPT2ForSequenceClassification(config).eval()
    exported = onnx_magic.export(model, output=folder / "gpt2", exporter="torchscript")
    ids = torch.randint(1, 50, (2, 7))
    with exported.swapped_into(model) as report:
        got = model(ids, attention_mask=torch.ones_like(ids))
        with pytest.raises(SwapError, match="past_key_values") as caught:
            model(ids, attention_mask=torch.ones_like(ids), use_cache=True)
        plain = model(ids, attention_mask=torch.ones_like(ids), use_cache=False)
    assert got.past_key_values is None and torch.equal(got.logits, plain.logits)
    assert caught.value.fix == "use_cache=False"
    assert any(note.startswith("past_key_values (DynamicCache) is None") for note in report.notes)


def test_feeds_are_forgiving_and_strict_as_everywhere(bert: Any, exported_bert: Any, encoded: Any) -> None:
    with exported_bert.swapped_into(bert) as report:
        bert(encoded["input_ids"].int())
        with pytest.raises(FeedError):
            bert(encoded["input_ids"][0])
        with pytest.raises(OnnxMagicError):
            bert(torch.full((1, 3), 10**6))
    assert report.count == 1 and len(report.failures) == 1
    assert "input_ids: int32 was turned into int64" in report.notes


def test_outputs_come_back_in_the_models_dtype(folder: Path) -> None:
    net = Net().double().eval()
    x = torch.randn(2, 3, dtype=torch.float64)
    exported = onnx_magic.export(net, inputs=x, output=folder / "double", exporter="torchscript")
    with exported.swapped_into(net):
        assert net(x)["a"].dtype == torch.float64


def test_drawing_in_the_forward_leaves_the_random_states(folder: Path) -> None:
    class Drawing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            torch.rand(3), random.random(), np.random.rand()
            return x * 2

    net = Drawing().eval()
    exported = onnx_magic.export(net, inputs=torch.ones(2, 2), output=folder / "drawing", exporter="torchscript")
    states = RandomStates.now()
    with exported.swapped_into(net):
        net(torch.ones(2, 2))
    after = RandomStates.now()
    assert torch.equal(states.cpu, after.cpu) and states.python == after.python


def test_the_form_can_come_from_a_watched_call(net: Net, exported_net: ExportedModel) -> None:
    from onnx_magic.engine.watching import watch_modules

    with watch_modules("Net") as watch:
        net(torch.ones(1, 3))
    ran: list[int] = []
    net.layer.register_forward_hook(lambda *_: ran.append(1))
    try:
        with swapped(exported_net, net, seen=watch.calls):
            net(torch.ones(2, 3))
    finally:
        net.layer._forward_hooks.clear()
    assert ran == []


@pytest.mark.slow
def test_a_compiled_model_follows_the_swap(net: Net, exported_net: ExportedModel) -> None:
    compiled: Any = torch.compile(copy.deepcopy(net), backend="eager")
    x = torch.randn(3, 3)
    expected = compiled(x)["a"]
    with exported_net.swapped_into(compiled) as report:
        got = compiled(x)["a"]
    assert report.count == 1 and torch.allclose(got, expected, atol=1e-5)
    assert torch.equal(compiled(x)["a"], expected)


def test_a_sentence_transformer_encodes_the_same(
    tiny_bert: Callable[..., Any], tiny_tokenizer: Any, folder: Path
) -> None:
    library = pytest.importorskip("sentence_transformers")
    modules = pytest.importorskip("sentence_transformers.models")
    base = folder / "st"
    tiny_bert().save_pretrained(base)
    tiny_tokenizer.save_pretrained(base)
    word = modules.Transformer(str(base))
    model = library.SentenceTransformer(modules=[word, modules.Pooling(32)], device="cpu").eval()
    exported = onnx_magic.export(model, output=folder / "st-onnx", exporter="torchscript")
    texts = ["i loved it", "the film was very dull"]
    expected = model.encode(texts)
    with exported.swapped_into(model) as report:
        got = model.encode(texts)
    assert report.count >= 1 and np.allclose(got, expected, atol=1e-5)


def test_report_is_a_plain_record(net: Net, exported_net: ExportedModel) -> None:
    with exported_net.swapped_into(net) as report:
        for _ in range(40):
            net(torch.ones(1, 3))
    assert (report.count, len(report.calls)) == (40, 32)
    assert dataclasses.is_dataclass(report) and report.calls[0].seconds >= 0
