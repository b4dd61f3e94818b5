"""The folder `state/`: what a fine-tuning that was cut off needs to go on; gone when it has ended.

state/epoch-3/   what accelerate saves (network as safetensors; optimiser and schedule pickled, hence never
                 shipped), and run.json: the settings of the run that it belongs to
state/saving/    an epoch that is being written; renamed when complete
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tenfold.protocols import TenfoldError
from tenfold.recovery.randomness import undisturbed

if TYPE_CHECKING:
    from accelerate import Accelerator


def saved_epoch(state: Path, settings: Mapping[str, Any]) -> int:
    """The last whole epoch that the folder holds; 0 where there is none.

    Raises: TenfoldError if a run with other settings wrote it.
    """
    epoch = max(_epochs(state), default=0)
    if epoch:
        saved = json.loads((state / f"epoch-{epoch}" / "run.json").read_text())
        others = [name for name, value in settings.items() if saved.get(name) != value]
        if others:
            raise TenfoldError(
                f"{state} holds epoch {epoch} of a run that differs in {', '.join(others)}; "
                "continue with the settings it had, or delete it to start anew."
            )
    return epoch


def save_epoch(accelerator: "Accelerator", state: Path, epoch: int, settings: Mapping[str, Any]) -> None:
    """Keep the state after an epoch in place of the earlier ones: whole, or not at all."""
    saving = state / "saving"
    shutil.rmtree(saving, ignore_errors=True)
    accelerator.save_state(str(saving))
    (saving / "run.json").write_text(json.dumps(settings, indent=1))
    earlier = _epochs(state)
    saving.rename(state / f"epoch-{epoch}")
    for old in earlier:
        shutil.rmtree(state / f"epoch-{old}")


def load_epoch(accelerator: "Accelerator", state: Path, epoch: int) -> None:
    """Put network, optimiser and schedule where they stood after an epoch."""
    with undisturbed(accelerator.device):
        accelerator.load_state(str(state / f"epoch-{epoch}"))


def remove(state: Path) -> None:
    """Delete what this file wrote, and the folder if nothing else is in it."""
    shutil.rmtree(state / "saving", ignore_errors=True)
    for epoch in _epochs(state):
        shutil.rmtree(state / f"epoch-{epoch}")
    if state.is_dir() and not any(state.iterdir()):
        state.rmdir()


def _epochs(state: Path) -> list[int]:
    return [int(path.name.removeprefix("epoch-")) for path in state.glob("epoch-*") if path.name[6:].isdecimal()]
