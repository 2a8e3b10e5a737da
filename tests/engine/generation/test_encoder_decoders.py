"""Encoder-decoders from tiny configs: exported, verified, generating; and graphs that are wrong on purpose."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

import onnx_magic
from onnx_magic.engine.exporting import ExportRequest
from onnx_magic.engine.generation.continuing import in_pytorch
from onnx_magic.engine.generation.encoder_decoder_parts import encoder_decoder_parts, merged_part
from onnx_magic.engine.generation.merging import CACHED, FIRST, merge_decoders, take_branch
from onnx_magic.engine.generation.proving import prove_part
from onnx_magic.engine.generation.sides import graph_sides
from onnx_magic.engine.generation.walking import walk
from onnx_magic.engine.planning import prepare_declared
from onnx_magic.engine.play_forms import form_of
from onnx_magic.engine.quiet import Log, quiet
from onnx_magic.engine.reference import run_reference
from onnx_magic.engine.sources import resolve_source
from onnx_magic.engine.state import comparable_attention, preserved
from onnx_magic.engine.variants.references import reference_for
from onnx_magic.errors import ExportError, UsageError
from onnx_magic.runtime.graphs import read_graph
from onnx_magic.runtime.sessions import Session, open_session
from tests.engine.encoder_decoders import MODELS, TOKENS, VOCABULARY, made, reading_feed


@pytest.mark.parametrize("name", MODELS)
def test_it_is_verified_step_by_step_and_token_by_token(name: str, exports: Callable[[str], tuple[Any, Any]]) -> None:
    _, exported = exports(name)
    verdict = exported.validation
    assert verdict, verdict.findings
    labels = [one.label for one in verdict.comparisons]
    assert {f"step {n}" for n in (1, 2, 3)} <= {label.split(": ")[-1].split(",")[0] for label in labels}
    assert any("batch 3" in label for label in labels) and any("prefill" in label for label in labels)
    greedy, beams = verdict.comparisons[1:3]
    assert str(greedy.agreement) == "token 200/200" and beams.agreement.agreed == beams.agreement.total
    presents = {diff.name for one in verdict.comparisons for diff in one.diffs if diff.name.startswith("present.")}
    assert presents == {spec.name for graph in exported.graphs.values() for spec in graph.outputs} & presents
    assert presents


def test_names_and_axes_are_those_of_the_clients(exports: Callable[[str], tuple[Any, Any]]) -> None:
    _, exported = exports("t5")
    assert sorted(path.name for path in (exported.path / "onnx").iterdir()) == [
        "decoder_model_merged.onnx",
        "encoder_model.onnx",
    ]
    shown = [str(spec) for spec in exported.graphs["decoder"].inputs]
    assert shown[:7] == [
        "input_ids: int64[batch_size, sequence_length]",
        "encoder_attention_mask: int64[batch_size, encoder_sequence_length]",
        "encoder_hidden_states: float32[batch_size, encoder_sequence_length, 16]",
        "past_key_values.0.decoder.key: float32[batch_size, 2, past_sequence_length, 8]",
        "past_key_values.0.decoder.value: float32[batch_size, 2, past_sequence_length, 8]",
        "past_key_values.0.encoder.key: float32[batch_size, 2, encoder_sequence_length_out, 8]",
        "past_key_values.0.encoder.value: float32[batch_size, 2, encoder_sequence_length_out, 8]",
    ]
    assert shown[-1] == "use_cache_branch: bool[1]"
    outputs = [str(spec) for spec in exported.graphs["decoder"].outputs]
    assert outputs[0] == f"logits: float32[batch_size, sequence_length, {VOCABULARY}]"
    assert outputs[1] == ("present.0.decoder.key: float32[batch_size, 2, past_sequence_length + sequence_length, 8]")
    assert [str(spec) for spec in exported.graphs["encoder"].outputs] == [
        "last_hidden_state: float32[batch_size, sequence_length, 16]"
    ]


def test_no_weight_stands_in_a_branch_or_twice(exports: Callable[[str], tuple[Any, Any]]) -> None:
    _, exported = exports("t5")
    model = onnx_ir.load(exported.graphs["decoder"].path)
    inner = [value for graph in model.graph.subgraphs() for value in graph.initializers.values()]
    assert max((value.const_value.size for value in inner if value.const_value is not None), default=0) <= 8
    contents = [(v.const_value.shape, v.const_value.tobytes()) for v in model.graph.initializers.values()]
    assert len(contents) == len(set(map(repr, contents)))


def test_whisper_takes_no_mask_and_a_plain_decoder_caches_its_own_alone(
    exports: Callable[[str], tuple[Any, Any]],
) -> None:
    heard = [spec.name for spec in exports("whisper")[1].graphs["decoder"].inputs]
    assert "encoder_attention_mask" not in heard
    seen = [spec.name for spec in exports("vit-gpt2")[1].graphs["decoder"].inputs]
    assert seen == ["input_ids", "encoder_hidden_states", "past_key_values.0.key", "past_key_values.0.value"]


def test_the_pair_shares_one_data_file(exports: Callable[[str], tuple[Any, Any]]) -> None:
    _, exported = exports("marian")
    sizes = {path.name: path.stat().st_size for path in (exported.path / "onnx").iterdir()}
    assert set(sizes) == {
        "encoder_model.onnx",
        "decoder_model.onnx",
        "decoder_model.onnx_data",
        "decoder_with_past_model.onnx",
    }
    later = onnx_ir.load(exported.path / "onnx" / "decoder_with_past_model.onnx").graph.initializers.values()
    files = {v.const_value.location for v in later if isinstance(v.const_value, onnx_ir.ExternalTensor)}
    assert files == {"decoder_model.onnx_data"}


def test_whisper_writes_in_the_live_panel_too(exports: Callable[..., Any]) -> None:
    """Its own `generate()` takes no streamer."""
    model, exported = exports("whisper")
    features = {"input_features": np.random.default_rng(0).normal(size=(1, 8, 100)).astype(np.float32)}
    asked = {"max_new_tokens": 5}
    first = in_pytorch(exported.opened, features, asked, model, streamed=True)
    second = in_pytorch(exported.opened, features, asked, model)
    assert np.array_equal(first.outputs["sequences"], second.outputs["sequences"])


@pytest.mark.parametrize("name", MODELS)
def test_pytorchs_side_of_each_graph_is_read_off_its_names(name: str, exports: Callable[..., Any]) -> None:
    """With a past and without, at sizes that were never traced."""
    model, exported = exports(name)
    sides = graph_sides(model, exported.graphs)
    assert set(sides) == set(exported.graphs)
    for role, graph in exported.graphs.items():
        session = Session(open_session(graph.path))
        cases = reference_for(exported.opened, role, graph, sides[role], "", None).cases
        for label, feed in cases:
            expected, actual = run_reference(sides[role], feed), session.run(feed)
            assert set(expected) == set(actual), label
            for output, array in actual.items():  # float32, as an export is verified with
                np.testing.assert_allclose(array, expected[output], atol=1e-4, rtol=1e-3, err_msg=f"{label}: {output}")


@pytest.mark.parametrize("name", ["t5", "marian", "vit-gpt2"])
def test_compare_goes_through_the_graphs(name: str, exports: Callable[..., Any]) -> None:
    """The encoder's states, and eight tokens behind them; another model's are not the same."""
    model, exported = exports(name)
    feed = reading_feed(exported)
    found = exported.compare(feed)
    assert found and [diff.name for diff in found.diffs] == ["last_hidden_state", "logits"]
    assert found.diffs[1].expected_shape == (2, 8, VOCABULARY) and str(found.agreement) == "token 16/16"
    other = copy.deepcopy(model)
    for parameter in other.parameters():
        parameter.data += 0.05
    assert not exported.compare(feed, against=other)


def test_the_walk_is_what_generate_writes(exports: Callable[..., Any]) -> None:
    for name in ("t5", "marian", "vit-gpt2"):
        exported = exports(name)[1]
        feed = reading_feed(exported)
        run = exported.opened
        walked = list(walk(run, feed, lambda role, given, run=run: run.session(role=role).run(given), 5))
        written = np.stack([told["logits"][:, -1].argmax(-1) for _, _, told in walked[1:]], axis=1)
        expected = np.asarray(exported.generate(**feed, max_new_tokens=6))[:, 1:6]  # some force an end at the last
        for mine, theirs in zip(written.tolist(), expected.tolist(), strict=True):
            length = theirs.index(TOKENS["eos_token_id"]) if TOKENS["eos_token_id"] in theirs else 5
            assert mine[:length] == theirs[:length] and length > 1, name
        roles = [role for role, _, _ in walked]
        assert roles[0] == "encoder" and len(roles) == 6 and ("decoder_with_past" in roles) == (name == "marian")


def test_branches_are_what_was_merged(exports: Callable[..., Any]) -> None:
    path = exports("t5")[1].graphs["decoder"].path
    first, cached = (take_branch(onnx_ir.load(path), branch) for branch in (FIRST, CACHED))
    assert first is not None and cached is not None
    assert "past_key_values.0.decoder.key" not in [value.name for value in first.graph.inputs]
    assert "present.0.encoder.key" not in [value.name for value in cached.graph.outputs]
    again, whole = merge_decoders(first, cached, {}).graph, onnx_ir.load(path).graph
    assert [str(value) for value in again.inputs] == [str(value) for value in whole.inputs]
    assert [node.name for node in again.all_nodes()] == [node.name for node in whole.all_nodes()]
    assert {*again.initializers} == {*whole.initializers}
    encoder = onnx_ir.load(exports("t5")[1].graphs["encoder"].path)
    assert take_branch(encoder, FIRST) is None


def test_the_live_panel_of_captions_asks_for_an_image(exports: Callable[..., Any], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(exports("vit-gpt2")[1].path, tmp_path / "out"))
    processor = {"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}, "do_resize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    form = form_of(onnx_magic.load(folder))
    assert form.kind == "image" and form.streams
    assert [field.name for field in form.fields] == ["image", "max_new_tokens", "temperature", "seed"]


def test_without_a_cache_all_tokens_are_computed_again(tmp_path: Path) -> None:
    import torch

    model = made("t5")
    exported = onnx_magic.export(model, output=tmp_path / "out", cache=False)
    assert exported.validation, exported.validation.findings
    assert sorted(path.name for path in (exported.path / "onnx").iterdir()) == [
        "decoder_model.onnx",
        "encoder_model.onnx",
    ]
    assert not any("past" in spec.name for graph in exported.graphs.values() for spec in graph.inputs)
    loaded = onnx_magic.load(exported.path)
    ids = torch.arange(3, 15).reshape(2, 6)
    with torch.no_grad():
        expected = model.generate(input_ids=ids, max_new_tokens=8, do_sample=False).numpy()
    assert len(set(expected[:, 1:].ravel().tolist())) > 2, "the tokens prove little"
    np.testing.assert_array_equal(np.asarray(loaded.generate(input_ids=ids, max_new_tokens=8)), expected)
    found = loaded.run({"input_ids": ids.numpy()}, max_new_tokens=8).outputs["sequences"]
    np.testing.assert_array_equal(found, expected)
    with pytest.raises(UsageError) as caught:
        loaded.generate(input_ids=ids, max_new_tokens=2, use_cache=True)
    assert caught.value.fix and caught.value.fix.startswith("use_cache=False")


@pytest.mark.parametrize("name", ["t5", "marian", "vit-gpt2"])
def test_a_loaded_folder_generates_what_pytorch_does(name: str, exports: Callable[[str], tuple[Any, Any]]) -> None:
    import torch

    model, exported = exports(name)
    if name == "vit-gpt2":
        inputs = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(5))}
        options: dict[str, Any] = {"decoder_start_token_id": 1, "pad_token_id": 0}
    else:
        mask = torch.tensor([[1] * 6, [1] * 3 + [0] * 3])
        inputs = {"input_ids": torch.arange(3, 15).reshape(2, 6) * mask, "attention_mask": mask}
        options = {}
    loaded = onnx_magic.load(exported.path)
    for asked in ({"num_beams": 1}, {"num_beams": 3, "num_return_sequences": 2}):
        everything = {**inputs, **options, **asked, "do_sample": False, "max_new_tokens": 12}
        with torch.no_grad():
            expected = model.generate(**everything)
        np.testing.assert_array_equal(np.asarray(loaded.generate(**everything)), expected.numpy())


@contextlib.contextmanager
def live(model: Any, **options: Any) -> Iterator[tuple[Any, Any]]:
    """The merged graph of a model as the engine holds it before it proves it: the plan, and the walk."""
    request = ExportRequest(model=model, **options)
    source = resolve_source(model, None)
    with quiet(Log()), preserved(source.model), comparable_attention():
        parts = {part.role: part for part in encoder_decoder_parts(source, request)}
        part = merged_part(parts["decoder"], parts["decoder_with_past"])
        yield prepare_declared(source, request, part.flat, part.examples, part.output_axes), part.walk


def without_mask(model: onnx_ir.Model) -> None:
    """All of the encoder's states count, padding too."""
    mask = next(value for value in model.graph.inputs if value.name == "encoder_attention_mask")
    one = onnx_ir.Tensor(np.array([1], np.int64))
    shape = onnx_ir.node("Shape", [mask])
    ones = onnx_ir.node("ConstantOfShape", [shape.outputs[0]], {"value": one})
    shape.outputs[0].name, ones.outputs[0].name = "mask_shape", "mask_of_ones"
    ones.outputs[0].type, ones.outputs[0].shape = mask.type, mask.shape
    for node in (ones, shape):
        model.graph.insert_before(model.graph[0], node)
    model.graph.remove(shape)
    model.graph.insert_before(model.graph[0], shape)
    for user, index in tuple(mask.uses()):
        if user is not shape:
            user.replace_input_with(index, ones.outputs[0])


def crossed_layers(model: onnx_ir.Model) -> None:
    """Layer 0 reads the encoder's keys of layer 1."""
    inputs = {value.name: value for value in model.graph.inputs}
    inputs["past_key_values.0.encoder.key"].replace_all_uses_with(inputs["past_key_values.1.encoder.key"])


def as_it_is(model: onnx_ir.Model) -> None:
    """Nothing is changed."""


@pytest.mark.parametrize(
    ("change", "at"), [(as_it_is, None), (without_mask, "padded encoder inputs"), (crossed_layers, "step 1")]
)
def test_the_proof_sees_a_graph_that_is_wrong(
    change: Callable[[onnx_ir.Model], None],
    at: str | None,
    exports: Callable[[str], tuple[Any, Any]],
    tmp_path: Path,
) -> None:
    model, exported = exports("t5")
    graph = onnx_ir.load(exported.graphs["decoder"].path)
    change(graph)
    path = tmp_path / "changed.onnx"
    onnx_ir.save(graph, path)
    with live(model) as (prepared, walk):
        verdict = prove_part(walk, path, read_graph(path), prepared)
    if at is None:
        assert verdict, verdict.findings
    else:
        assert verdict.status == "failed"
        assert any(at in one.label for one in verdict.comparisons if not one.passed)


def test_what_is_no_encoder_decoder_is_refused() -> None:
    from transformers import BlipConfig, BlipForConditionalGeneration

    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}
    model = BlipForConditionalGeneration(
        BlipConfig(text_config={**small, "vocab_size": 60}, vision_config={**small, "image_size": 32, "patch_size": 8})
    )
    with pytest.raises(ExportError, match="is no encoder-decoder") as caught:
        onnx_magic.plan(model, task="image-to-text")
    assert caught.value.fix


def test_dynamic_axes_are_the_tasks_own() -> None:
    with pytest.raises(UsageError, match="the axes of text2text-generation are the task's own"):
        onnx_magic.plan(made("t5"), dynamic={"input_ids": {0: "rows"}})
