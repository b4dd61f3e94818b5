"""The folder `state/`: what a training needs to go on, finished or not; gone when its result has been written.

state/step-120/  what accelerate saves after so many steps (network as safetensors, or what each process holds of it;
                 optimiser and schedule pickled, hence never shipped), and run.json: what tells the run that it
                 belongs to from others
state/blocks.safetensors   the network after the last block that was reconstructed
state/ratio-2.5/ the same of one network of a search, and attempt.json, what it lost
state/clock.json what was timed here to plan, where no profile keeps it
state/saving/    a step that is being written; renamed when complete
state/lock       held by the run that trains
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError

from tenfold import storage
from tenfold.protocols import TenfoldError
from tenfold.recovery.randomness import undisturbed
from tenfold.recovery.reconstruction.progress import FILE as BLOCKS

if TYPE_CHECKING:
    from accelerate import Accelerator

STEP, RUN, SAVING, LOCK, ATTEMPT, CLOCK = "step-", "run.json", "saving", "lock", "attempt.json", "clock.json"


def check_state(state: Path | None, command: str, *, trains: bool = True) -> None:
    """Refuse, before any work, a folder that is in use, or that keeps what this command would not go on with.

    Args:
        command: `compress`, `train` or `recover`.
        trains: whether it will train at all.
    Raises: TenfoldError that says whose the checkpoints are.
    """
    if state is None:
        return
    if (state / LOCK).exists():
        with claimed(state):
            pass
    step = max(_steps(state), default=0)
    if not step:
        return
    other = _run(state, step).get("command")
    if other != command or not trains:
        what = "a training" if other is None else f"a run of '{other}'"
        raise TenfoldError(
            f"'{state}' keeps step {step} of {what}, which this run would not go on with; repeat that command, "
            "delete the folder to give it up, or name another place."
        )


@contextmanager
def claimed(state: Path) -> Iterator[None]:
    """Be the only run that trains with this folder.

    Raises: TenfoldError if another does.
    """
    with storage.holding(state / LOCK, state):
        yield


def saved_step(state: Path, run: Mapping[str, Any]) -> int:
    """The last step after which the folder holds everything; 0 where there is none.

    Raises: TenfoldError if another run wrote it, or tenfold did not.
    """
    step = max(_steps(state), default=0)
    if step:
        saved = _run(state, step)
        others = [told(name, saved.get(name), value) for name, value in run.items() if saved.get(name) != value]
        if others:
            raise TenfoldError(
                f"{state} holds step {step} of a run that differs in {', '.join(others)}; "
                "continue with the settings it had, or delete it to start anew."
            )
    return step


def told(name: str, before: Any, now: Any) -> str:
    """A setting that differs, with both values where they say something: those of sums and long texts do not."""
    values = f"{before}", f"{now}"
    return f"{name} ({values[0]}, now {values[1]})" if max(map(len, values)) <= 20 else name


def save_step(accelerator: "Accelerator", state: Path, step: int, run: Mapping[str, Any]) -> None:
    """Keep the state after a step in place of the earlier ones: whole, or not at all; all processes must call it.

    Raises: TenfoldError where the file system refuses; what was kept before is still there then.
    """
    saving = state / SAVING
    with _written(saving):
        if accelerator.is_main_process:
            _discard(saving)
            saving.mkdir(parents=True)
            (saving / RUN).write_text(json.dumps(run, indent=1), encoding="utf-8")
        accelerator.wait_for_everyone()
        accelerator.save_state(str(saving))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            earlier = _steps(state)
            saving.rename(state / f"{STEP}{step}")
            for old in earlier:
                _discard(state / f"{STEP}{old}")


@contextmanager
def _written(saving: Path) -> Iterator[None]:
    """Say that a checkpoint could not be written, and make room for what else there is to write."""
    try:
        yield
    except (OSError, RuntimeError, SafetensorError) as error:  # torch's and safetensors' words for a full disk
        with suppress(OSError):
            _discard(saving)
        said = " ".join(str(getattr(error, "strerror", None) or error).split()).rstrip(".")
        raise TenfoldError(
            f"a checkpoint cannot be written in '{saving.parent}' ({said:.200}); make room and give the command again: "
            "what was kept there before is whole."
        ) from error


def load_step(accelerator: "Accelerator", state: Path, step: int) -> None:
    """Put network, optimiser and schedule where they stood after a step."""
    with undisturbed(accelerator.device):
        accelerator.load_state(str(state / f"{STEP}{step}"))


def kept(state: Path) -> set[Path]:
    """What the folder keeps of work that is done: the last steps, and the network after a block."""
    return {path for path in (*state.glob(f"{STEP}*"), state / BLOCKS, *attempts(state)) if path.exists()}


def attempt_folder(state: Path, ratio: float) -> Path:
    """Where one network of a search keeps its state."""
    return state / f"ratio-{ratio:.6g}"


def attempts(state: Path) -> list[Path]:
    """The files of all networks of a search."""
    return [path for name in (BLOCKS, ATTEMPT) for path in state.glob(f"ratio-*/{name}")]


def remove(state: Path) -> None:
    """Delete what this file wrote, and the folder if nothing else is in it."""
    for path in (state / SAVING, *(state / f"{STEP}{step}" for step in _steps(state))):
        _discard(path)
    for path in (state / BLOCKS, state / CLOCK, *attempts(state), *state.rglob(f".{BLOCKS}.*.partial")):
        path.unlink(missing_ok=True)
    for folder in state.glob("ratio-*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()


def _discard(path: Path) -> None:
    """Delete a folder of ours. Raises: TenfoldError for one that tenfold did not write."""
    if (path / RUN).is_file():
        for entry in path.iterdir():
            if entry.is_dir():
                shutil.rmtree(entry)
            elif entry.name != RUN:
                entry.unlink()
        (path / RUN).unlink()  # the last: a kill before leaves a folder that is known for ours, one after an empty one
        path.rmdir()
    elif path.is_dir() and not any(path.iterdir()):
        path.rmdir()
    elif path.exists():
        raise TenfoldError(f"'{path}' is not a checkpoint that tenfold wrote; name another folder for the state.")


def _run(state: Path, step: int) -> dict[str, Any]:
    """What tells the run that wrote a checkpoint from others."""
    path = state / f"{STEP}{step}" / RUN
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TenfoldError(
            f"'{path.parent}' is not a checkpoint that tenfold wrote, or it is damaged; name another folder for the "
            "state, or delete it to start anew."
        ) from error
    return found


def _steps(state: Path) -> list[int]:
    return [int(number) for path in state.glob(f"{STEP}*") if (number := path.name.removeprefix(STEP)).isdecimal()]
