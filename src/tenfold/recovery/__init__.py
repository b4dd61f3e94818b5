"""From a compressed network back to its accuracy: batch norms estimated anew, then fine-tuning."""

from tenfold.recovery.batchnorm import reestimate
from tenfold.recovery.checkpoint import check_state
from tenfold.recovery.distillation import distillation_loss
from tenfold.recovery.finetune import Step, finetune
from tenfold.recovery.recover import recover
from tenfold.recovery.rehearsal import rehearse

__all__ = ["Step", "check_state", "distillation_loss", "finetune", "recover", "reestimate", "rehearse"]
