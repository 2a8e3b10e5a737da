"""The contenders of a benchmark as they are spoken to: a process each, or this one where there is no other way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from onnx_magic.runtime.taking_turns import Contestant, timed, told_error, warm_up

PATIENCE = 10
"""Seconds for which a worker that was told to end is waited for."""

LONGEST = 900.0
"""Seconds for which an answer is waited for: loading, compiling or warming up a large model takes minutes."""


class Worker(Protocol):
    """One contender: started, warmed up, then told to run when it is its turn."""

    own_process: bool

    def start(self) -> Mapping[str, Any]:
        """Load; the facts that are known then, or `{"error": ...}`."""
        ...

    def ask(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """One turn; see `runtime.taking_turns.serve`."""
        ...

    def stop(self) -> None:
        """End, whatever it is doing."""
        ...


class ProcessWorker:
    """A contender in a process of its own, which `python -m <module>` starts.

    Args:
        module: What the process runs; it calls `taking_turns.serve`.
        told: What it is to load.
    """

    own_process = True

    def __init__(self, module: str, told: Mapping[str, Any]) -> None:
        self.module = module
        self.told = told
        self._process: subprocess.Popen[str] | None = None
        self._said: IO[bytes] | None = None
        self._hung = False

    def start(self) -> Mapping[str, Any]:
        """Start the process and let it load."""
        self._said = tempfile.TemporaryFile()
        # A session of its own: Ctrl-C reaches this process alone, which then ends the others in order.
        self._process = subprocess.Popen(
            [sys.executable, "-m", self.module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            env=_environment(self.told),
            start_new_session=True,
        )
        return self.ask(self.told)

    def ask(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """Send a line, wait for the answer; a process that died answers with what it wrote last."""
        process = self._process
        assert process is not None and process.stdin is not None and process.stdout is not None
        # A pipe cannot be read with a time limit on every system: who is killed has ended its answer.
        watch = threading.Timer(LONGEST, self._kill)
        watch.daemon = True
        watch.start()
        try:
            process.stdin.write(json.dumps(told) + "\n")
            process.stdin.flush()
            line = process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        if line:
            answer: Mapping[str, Any] = json.loads(line)
            return answer
        return {"error": self._last_words(process.wait())}

    def stop(self) -> None:
        """Close its stdin, which ends it; kill it where it does not listen."""
        if self._process is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                _close(stream)
        try:
            self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait(PATIENCE)
        if self._said is not None:
            self._said.close()
        self._process = None

    def _kill(self) -> None:
        if self._process is not None:
            self._hung = True
            self._process.kill()

    def _last_words(self, code: int) -> str:
        if self._hung:
            return f"it gave no answer for {LONGEST / 60:.0f} minutes, and was ended"
        assert self._said is not None
        self._said.seek(0)
        lines = [line for line in self._said.read().decode(errors="replace").splitlines() if line.strip()]
        killed = "it was killed, for want of memory as a rule" if code == -9 else f"it ended with {code}"
        return f"its process is gone: {killed}" + (f": {lines[-1].strip()}" if lines and code != -9 else "")


def _close(stream: IO[str]) -> None:
    try:
        stream.close()
    except BrokenPipeError:  # it is gone already
        return


def _environment(told: Mapping[str, Any]) -> dict[str, str]:
    """This process' environment, with the threads that are asked for and with this very package."""
    package = str(Path(__file__).parents[3])
    # What can be imported here can be there: the model's own module lies beside the notebook, or on a path it added.
    paths = [
        package,
        *filter(os.path.isdir, sys.path),
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    threads = str(told["threads"])
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
        "OMP_NUM_THREADS": threads,
        "MKL_NUM_THREADS": threads,
    }


class HereWorker:
    """A contender in this process: a class that was defined in the notebook exists nowhere else.

    Args:
        make: Loads it.
    """

    own_process = False

    def __init__(self, make: Callable[[], Contestant]) -> None:
        self.make = make
        self._contestant: Contestant | None = None

    def start(self) -> Mapping[str, Any]:
        """Load it."""
        try:
            self._contestant = self.make()
        except Exception as error:  # the user's model may raise anything, when it is copied or quantised too
            return {"error": told_error(error)}
        return self._contestant.facts

    def ask(self, told: Mapping[str, Any]) -> Mapping[str, Any]:
        """One turn, in this thread."""
        assert self._contestant is not None
        if told.get("memory"):
            return {"memory": None}  # the peak of a notebook's process says nothing of one model
        run = self._contestant.runs[told["load"]]
        try:
            if told.get("warm"):
                runs, steady = warm_up(run)
                return {"runs": runs, "steady": steady}
            return {"seconds": timed(run, told["least"], told["seconds"])}
        except Exception as error:  # the user's model may raise anything
            return {"error": told_error(error)}

    def stop(self) -> None:
        """Let go of it."""
        self._contestant = None
