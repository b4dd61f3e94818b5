"""From a compressed network back to its accuracy: blocks reconstructed, batch norms estimated anew, fine-tuning."""

from tenfold.recovery.accelerated import join_processes
from tenfold.recovery.batchnorm import reestimate
from tenfold.recovery.checkpoint import check_state, kept
from tenfold.recovery.distillation import distillation_loss
from tenfold.recovery.finetune import Machine, Precision, Step, finetune
from tenfold.recovery.reconstruction import BlockDone, Distillation, StepDone, distil, error, reconstruct
from tenfold.recovery.recover import Finetuning, recover
from tenfold.recovery.rehearsal import rehearse

__all__ = [
    "BlockDone", "Distillation", "Finetuning", "Machine", "Precision", "Step", "StepDone", "check_state", "distil",
    "distillation_loss", "error", "finetune", "join_processes", "kept", "reconstruct", "recover", "reestimate",
    "rehearse",
]  # fmt: skip
