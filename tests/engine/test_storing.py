"""Where an export is written, and that what stood there stands until all of the new one is in place."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest

from onnx_magic.engine import committing
from onnx_magic.engine.disk import MARK
from onnx_magic.engine.storing import OutputPlace, prepare_output, read_manifest, save_graph, write_manifest
from onnx_magic.errors import StorageError
from onnx_magic.records.artifact import MANIFEST_NAME, Manifest

PRINT = "0123456789abcdef"
OTHER = "fedcba9876543210"
Files = dict[str, bytes]


def manifest(status: str = "verified", fingerprint: str = PRINT, **changes: Any) -> Manifest:
    made = Manifest(
        name="mini",
        task="fill-mask",
        architecture="Bert",
        source="models/mini",
        fingerprint=fingerprint,
        exporter="dynamo",
        graphs={"model": {"path": "model.onnx"}},
        validated={"status": status},
    )
    return replace(made, **changes)


def graph(value: float) -> onnx_ir.Model:
    weights = onnx_ir.Value(name="w", const_value=onnx_ir.tensor(np.full(300, value, dtype=np.float32), name="w"))
    kind = onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    x, y = (onnx_ir.Value(name=name, shape=onnx_ir.Shape([300]), type=kind) for name in "xy")
    node = onnx_ir.Node("", "Add", [x, weights], outputs=[y])
    return onnx_ir.Model(
        onnx_ir.Graph([x], [y], nodes=[node], initializers=[weights], opset_imports={"": 20}), ir_version=10
    )


def fill(place: OutputPlace, value: float, *, limit: int = 10**9, assets: tuple[str, ...] = ("config.json",)) -> None:
    """Write what an export writes: the graph as an attempt, then the assets."""
    attempt = place.staging / "attempt-0" / "model.onnx"
    attempt.parent.mkdir()
    save_graph(graph(value), attempt, limit=limit)
    place.take_graph(attempt)
    for name in assets:
        (place.assets / name).write_text(f"{name} {value}")


def export(output: Any = "out", value: float = 1.0, *, failed: bool = False, **options: Any) -> Path:
    record = options.pop("manifest", None) or manifest("failed" if failed else "verified")
    limit, assets = options.pop("limit", 10**9), options.pop("assets", ("config.json",))
    with prepare_output(output, "mini", record.fingerprint, **options) as place:
        fill(place, value, limit=limit, assets=assets)
        return place.commit(record, failed=failed)


def read(folder: Path) -> Files:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def answer(path: Path) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return float(session.run(None, {"x": np.zeros(300, dtype=np.float32)})[0][0])


def refusal(output: Any, **options: Any) -> StorageError:
    with pytest.raises(StorageError) as caught:
        prepare_output(output, "mini", PRINT, **options)
    assert caught.value.fix and len(str(caught.value).splitlines()) == 2
    return caught.value


@pytest.fixture(autouse=True)
def nothing_left_behind(workdir: Path) -> Iterator[None]:
    """After every test here no staging folder is left in the current folder."""
    yield
    if any(workdir.rglob(f"*{MARK}*")):
        gc.collect()  # a place in the traceback of an error
    assert [p.name for p in workdir.rglob(f"*{MARK}*")] == []


# Where


def test_the_layout_of_a_folder(workdir: Path) -> None:
    assert export(None) == Path("mini-onnx")
    assert set(read(Path("mini-onnx"))) == {"onnx/model.onnx", "config.json", MANIFEST_NAME}
    there = read_manifest(Path("mini-onnx"))
    assert there is not None and there.graphs["model"]["path"] == "onnx/model.onnx"
    assert there.files == ("config.json", "onnx/model.onnx")
    assert answer(Path("mini-onnx/onnx/model.onnx")) == 1.0


def test_the_default_folder_is_replaced_by_the_same_model_only() -> None:
    export(None, 1.0)
    assert export(None, 2.0) == Path("mini-onnx")  # the same weights
    trained = manifest(fingerprint=OTHER)
    assert export(None, 3.0, manifest=trained, origin="models/mini") == Path("mini-onnx")  # the same origin, trained on
    assert export(None, 4.0) == Path("mini-01234567-onnx")  # other weights of a variable
    assert answer(Path("mini-onnx/onnx/model.onnx")) == 3.0
    assert export(None, 5.0, manifest=trained, task="ner") == Path("mini-fedcba98-onnx")  # another task


def test_a_folder_that_was_named_is_replaced_whatever_it_holds_of_ours() -> None:
    export("out", 1.0, assets=("config.json", "vocab.txt"))
    export("out", 2.0, manifest=manifest(fingerprint=OTHER))
    assert set(read(Path("out"))) == {"onnx/model.onnx", "config.json", MANIFEST_NAME}
    assert answer(Path("out/onnx/model.onnx")) == 2.0


def test_parents_are_made_and_taken_away_again(workdir: Path) -> None:
    with pytest.raises(RuntimeError), prepare_output("a/b/out", "mini", PRINT):
        assert Path("a/b").is_dir()
        raise RuntimeError
    assert list(workdir.iterdir()) == []
    assert export("a/b/out") == Path("a/b/out") and Path("a/b/out/onnx/model.onnx").is_file()


def test_home_and_links_are_followed(workdir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(workdir))
    assert export("~/out") == workdir / "out"
    Path("link").symlink_to("out")
    export("link", 2.0)
    assert Path("link").is_symlink() and answer(workdir / "out/onnx/model.onnx") == 2.0


def test_the_old_scripts_layout(workdir: Path) -> None:
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("own")
    assert export("mine/bert.onnx") == Path("mine")
    assert set(read(Path("mine"))) == {"bert.onnx", "config.json", MANIFEST_NAME, "notes.txt"}
    there = read_manifest(Path("mine"))
    assert there is not None and there.graphs["model"]["path"] == "bert.onnx"
    export("mine/bert.onnx", 2.0)
    assert answer(Path("mine/bert.onnx")) == 2.0 and Path("mine/notes.txt").read_text() == "own"
    with prepare_output("fresh/bert.onnx", "mini", PRINT):
        pass
    assert not Path("fresh").exists()


def test_external_data_follows_the_graphs_name_and_goes_when_it_is_not_needed() -> None:
    export("mine/bert.onnx", 3.0, limit=10)
    assert {"bert.onnx", "bert.onnx_data"} <= set(read(Path("mine")))
    assert answer(Path("mine/bert.onnx")) == 3.0
    export("out", 4.0, limit=10)
    assert answer(Path("out/onnx/model.onnx")) == 4.0 and Path("out/onnx/model.onnx_data").is_file()
    export("out", 5.0)
    assert answer(Path("out/onnx/model.onnx")) == 5.0 and not Path("out/onnx/model.onnx_data").exists()


# What is refused before any work


def test_a_folder_that_is_not_ours_is_refused_unless_overwrite() -> None:
    Path("out").mkdir()
    with prepare_output("out", "mini", PRINT):  # empty: fine
        pass
    Path("out/thesis.tex").write_text("own")
    Path("out/config.json").write_text("own")
    error = refusal("out")
    assert "did not write" in error.what and error.fix.startswith("overwrite=yes")
    export("out", overwrite=True)
    assert Path("out/thesis.tex").read_text() == "own" and Path("out/config.json").read_text() == "config.json 1.0"


def test_a_folder_whose_manifest_cannot_be_read_is_not_ours() -> None:
    Path("out").mkdir()
    (Path("out") / MANIFEST_NAME).write_text('{"format": 1, "na')
    refusal("out")


def test_a_checkpoint_folder_is_not_written_over() -> None:
    Path("checkpoint").mkdir()
    Path("checkpoint/config.json").write_text("own")
    assert "config.json" in refusal("checkpoint/model.onnx").what
    Path("checkpoint/config.json").unlink()
    Path("checkpoint/model.onnx").write_text("own")
    assert "model.onnx" in refusal("checkpoint/model.onnx").what


def test_two_exports_do_not_share_a_folder() -> None:
    export("mine/a.onnx")
    error = refusal("mine/b.onnx")
    assert "a.onnx" in error.what and error.fix == "output=mine/b/b.onnx"
    export("mine/b/b.onnx")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("file", "is a file"),
        ("file/out", "a part of the path is a file"),
        ("dir.onnx", "is a folder"),
        ("x" * 300, "the path is too long"),
        ("x" * 300 + "/out.onnx", "the path is too long"),
    ],
    ids=["file", "below a file", "folder", "long", "long parent"],
)
def test_places_that_cannot_be(output: str, said: str) -> None:
    Path("file").write_text("own")
    Path("dir.onnx").mkdir()
    assert said in refusal(output).what
    assert Path("file").read_text() == "own"


def test_the_longest_name_that_a_folder_may_have_is_fine() -> None:
    export("x" * 255)


@pytest.mark.skipif(not os.path.isdir("/sys/kernel"), reason="this system has no /sys")
def test_a_place_that_nobody_may_write() -> None:
    assert "cannot be written" in refusal("/sys/kernel/onnx_magic/out").what


def test_a_disk_with_too_little_room() -> None:
    assert "the export needs about" in refusal("out", needed=10**18).what
    assert not Path("out").exists()


# Nothing is lost


def interruptions() -> list[Any]:
    return [KeyboardInterrupt(), OSError(errno.ENOSPC, "full"), OSError(errno.EIO, "broken"), RuntimeError("any")]


@pytest.mark.parametrize("error", interruptions(), ids=["interrupt", "ENOSPC", "EIO", "any"])
@pytest.mark.parametrize("cut", ["graph", "assets", "manifest", "move 1", "move 2", "move 3"])
def test_interrupted_anywhere_the_old_export_stands(
    cut: str, error: BaseException, monkeypatch: pytest.MonkeyPatch, workdir: Path
) -> None:
    export("out", 1.0, limit=10)
    before, listed = read(Path("out")), sorted(workdir.iterdir())
    stored = isinstance(error, OSError) and cut not in ("graph", "assets")
    with (
        pytest.raises(StorageError if stored else type(error)),
        prepare_output("out", "mini", PRINT) as place,
        monkeypatch.context() as patch,
    ):
        if cut == "graph":
            raise error
        fill(place, 2.0, limit=10)
        if cut == "assets":
            raise error
        _raise_at(patch, cut, error)
        place.commit(manifest())
    assert read(Path("out")) == before and sorted(workdir.iterdir()) == listed
    assert answer(Path("out/onnx/model.onnx")) == 1.0


def _raise_at(patch: pytest.MonkeyPatch, cut: str, error: BaseException) -> None:
    moves = 0

    def write_text(self: Path, *args: Any, **options: Any) -> Any:
        if cut == "manifest" and self.name == MANIFEST_NAME:
            raise error
        return real_write(self, *args, **options)

    def move(source: Any, target: Any) -> None:
        nonlocal moves
        moves += 1
        if cut == f"move {moves}":
            raise error
        real_move(source, target)

    real_write, real_move = Path.write_text, os.replace
    patch.setattr(Path, "write_text", write_text)
    patch.setattr(os, "replace", move)


def test_the_manifest_is_moved_last(monkeypatch: pytest.MonkeyPatch) -> None:
    moved: list[str] = []
    real = os.replace
    with prepare_output("out", "mini", PRINT) as place:
        fill(place, 1.0)
        monkeypatch.setattr(os, "replace", lambda a, b: (moved.append(Path(b).name), real(a, b)))
        place.commit(manifest())
    assert moved == ["config.json", "model.onnx", MANIFEST_NAME]


KILLED = """
import os, signal, sys
sys.path.insert(0, {tests!r})
import test_storing as t
from onnx_magic.engine.storing import prepare_output
cut, real, moves = {cut!r}, os.replace, 0
def move(a, b):
    global moves
    moves += cut != "before"
    if cut == f"move {{moves}}":
        os.kill(os.getpid(), signal.SIGKILL)
    real(a, b)
place = prepare_output("out", "mini", t.PRINT)
t.fill(place, 2.0)
if cut == "before":
    os.kill(os.getpid(), signal.SIGKILL)
os.replace = move
place.commit(t.manifest())
"""


@pytest.mark.parametrize("cut", ["before", "move 1", "move 2", "move 3"])
def test_killed_the_old_export_stands_and_the_next_export_cleans_up(cut: str, workdir: Path) -> None:
    export("out", 1.0, limit=10)
    before = read(Path("out"))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    code = KILLED.format(tests=str(Path(__file__).parent), cut=cut)
    done = subprocess.run([sys.executable, "-c", code], env=env, timeout=120, capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = [path.name for path in workdir.iterdir() if MARK in path.name]
    assert len(left) == 1
    if cut in ("before", "move 1"):
        assert read(Path("out")) == before
    with prepare_output("out", "mini", PRINT):
        assert not any(name in os.listdir() for name in left)
        assert read(Path("out")) == before
    export("out", 3.0)
    assert answer(Path("out/onnx/model.onnx")) == 3.0


def test_the_staging_folder_of_a_living_process_is_left_alone(workdir: Path) -> None:
    living = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = workdir / f".out{MARK}{living.pid}-0a0b0c0d-xyz"
    theirs.mkdir()
    try:
        with prepare_output("out", "mini", PRINT):
            assert theirs.is_dir()
    finally:
        living.communicate(b"\n")
    with prepare_output("out", "mini", PRINT):
        assert not theirs.exists()


def test_an_earlier_process_of_the_same_number_is_gone(workdir: Path) -> None:
    """In a container every process has the same number: what it left is not ours."""
    left = workdir / f".out{MARK}{os.getpid()}-0a0b0c0d-xyz"
    left.mkdir()
    with prepare_output("out", "mini", PRINT):
        assert not left.exists()


def test_an_earlier_place_does_not_take_a_later_one_away(workdir: Path) -> None:
    """The error of an interrupted export keeps its place alive (`sys.last_exc`) until the next export is running."""
    first = prepare_output("out", "mini", PRINT)
    with prepare_output("out", "mini", PRINT) as place:
        fill(place, 1.0)
        assert first.staging.is_dir()
        del first
        gc.collect()
        place.commit(manifest())
    assert answer(Path("out/onnx/model.onnx")) == 1.0


def test_a_place_that_was_never_entered_is_taken_away_too(workdir: Path) -> None:
    place = prepare_output("out", "mini", PRINT)
    staging = place.staging
    assert staging.is_dir()
    del place
    gc.collect()
    assert not staging.exists()


FULL = """
import os, subprocess, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "none", "disk"], check=True)
import test_storing as t
t.fill_a_disk(Path("disk"))
print("done")
"""


def test_a_really_full_disk(workdir: Path) -> None:
    """A file system of 200 kB, in a mount namespace of its own: nothing of it is seen outside the subprocess."""
    (workdir / "disk").mkdir()
    enter = ["unshare", "--map-root-user", "--mount"]
    try:
        possible = subprocess.run([*enter, "true"], capture_output=True, timeout=60).returncode == 0
    except FileNotFoundError:
        possible = False
    if not possible:
        pytest.skip("this system gives no mount namespace")
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    code = FULL.format(tests=str(Path(__file__).parent))
    done = subprocess.run([*enter, sys.executable, "-c", code], env=env, timeout=120, capture_output=True, text=True)
    assert done.stdout == "done\n", done.stderr


def fill_a_disk(disk: Path) -> None:
    """Run in the subprocess: exports that do not fit, at the graph and at the manifest."""
    export(disk / "out", 1.0)
    before = read(disk / "out")
    out = disk / "out"
    with pytest.raises(StorageError, match="the export needs about"), prepare_output(out, "mini", PRINT) as place:
        save_graph(_large(), place.staging / "model.onnx")
    for room in (0, 3000):
        with pytest.raises(StorageError, match="the disk is full"), prepare_output(out, "mini", PRINT) as place:
            fill(place, 2.0)
            _leave_room(disk, room)
            place.commit(manifest(decisions=({"subject": "x" * 10_000},)))
        (disk / "big").unlink()
        assert read(disk / "out") == before and os.listdir(disk) == ["out"]
    export(disk / "out", 3.0)
    assert answer(disk / "out/onnx/model.onnx") == 3.0


def _large() -> onnx_ir.Model:
    model = graph(1.0)
    weights = np.zeros(100_000, dtype=np.float32)
    model.graph.initializers["w"].const_value = onnx_ir.tensor(weights, name="w")
    return model


def _leave_room(disk: Path, room: int) -> None:
    with (disk / "big").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 512)
        except OSError as error:
            assert error.errno == errno.ENOSPC
        file.truncate(max(0, file.tell() - room))


# Verdicts and variants


def test_a_failed_export_does_not_replace_a_verified_one() -> None:
    export("out", 1.0)
    before = read(Path("out"))
    for value in (2.0, 3.0):
        assert export("out", value, failed=True) == Path("out.failed")
        assert read(Path("out")) == before
        assert answer(Path("out.failed/onnx/model.onnx")) == value
    aside = read_manifest(Path("out.failed"))
    assert aside is not None and aside.validated["status"] == "failed"
    assert set(read(Path("out.failed"))) == set(before)


@pytest.mark.parametrize("status", ["failed", "unchecked"])
def test_a_failed_export_replaces_one_that_is_not_verified(status: str) -> None:
    export("out", 1.0, manifest=manifest(status))
    assert export("out", 2.0, failed=True) == Path("out")
    assert answer(Path("out/onnx/model.onnx")) == 2.0
    assert export("out", 3.0) == Path("out")
    assert export("fresh", 4.0, failed=True) == Path("fresh")


def test_a_failed_export_in_the_old_layout() -> None:
    export("mine/bert.onnx", 1.0)
    assert export("mine/bert.onnx", 2.0, failed=True) == Path("mine/bert.failed")
    assert answer(Path("mine/bert.onnx")) == 1.0 and answer(Path("mine/bert.failed/bert.onnx")) == 2.0


def test_a_folder_called_failed_that_is_not_ours_is_not_removed() -> None:
    export("out", 1.0)
    Path("out.failed").mkdir()
    Path("out.failed/thesis.tex").write_text("own")
    with pytest.raises(StorageError):
        export("out", 2.0, failed=True)
    assert Path("out.failed/thesis.tex").read_text() == "own"


@pytest.mark.parametrize(("fingerprint", "stale"), [(PRINT, False), (OTHER, True)])
def test_variants_stay_and_are_stale_only_for_other_weights(fingerprint: str, stale: bool) -> None:
    export("out", 1.0)
    there = read_manifest(Path("out"))
    assert there is not None
    write_manifest(replace(there, variants={"int8": {"path": "onnx/model_int8.onnx"}}), Path("out"))
    Path("out/onnx/model_int8.onnx").write_bytes(b"quantised")
    export("out", 2.0, manifest=manifest(fingerprint=fingerprint))
    after = read_manifest(Path("out"))
    assert after is not None and after.variants["int8"].get("stale", False) == stale
    assert Path("out/onnx/model_int8.onnx").read_bytes() == b"quantised"


def test_a_manifest_is_untrusted() -> None:
    export("out", 1.0)
    record = json.loads((Path("out") / MANIFEST_NAME).read_text())
    Path("outside").write_text("own")
    record["files"] += ["../outside", os.path.abspath("outside")]
    (Path("out") / MANIFEST_NAME).write_text(json.dumps(record))
    export("out", 2.0)
    assert Path("outside").read_text() == "own"


def test_two_exports_give_the_same_bytes() -> None:
    export("one", 1.0)
    export("two", 1.0)
    assert read(Path("one")) == read(Path("two"))
    assert committing.files_of(Path("one")) == ("config.json", "onnx/model.onnx", MANIFEST_NAME)
