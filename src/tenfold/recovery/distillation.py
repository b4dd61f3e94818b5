"""What the compressed network learns from the dense one."""

from typing import Any

from torch import Tensor
from torch.nn import functional

from tenfold.protocols import TenfoldError
from tenfold.tasks import Objective


def distillation_loss(student: Tensor, teacher: Tensor, temperature: float, counted: Tensor | None = None) -> Tensor:
    """Divergence of the student's softened classes from the teacher's, KL(teacher || student) * temperature^2.

    Args:
        student: logits (m, classes, ...).
        teacher: logits (m, classes, ...); no gradient is taken.
        temperature: above 0; divides both logits. Its square keeps gradients as large as those of the hard loss.
        counted: (m, ...), the places (samples, pixels, tokens) over which the mean is taken; by default all.
    Returns: scalar; 0, with gradient 0, where both agree, and where nothing is counted.
    Raises: TenfoldError if the two are not logits of one shape.
    Source: Hinton, Vinyals and Dean, arXiv:1503.02531 (2015), section 2.
    """
    shapes = [tuple(getattr(logits, "shape", ())) for logits in (student, teacher)]
    if len(shapes[0]) < 2 or shapes[0] != shapes[1]:
        raise TenfoldError(
            f"distillation compares two tensors of logits (m, classes, ...), not shapes {shapes[0]} and {shapes[1]}; "
            "use distill=0 (teacher=None) for other outputs."
        )
    soft = functional.log_softmax(teacher.detach().to(student.dtype) / temperature, dim=1)
    log = functional.log_softmax(student / temperature, dim=1)
    distance = functional.kl_div(log, soft, reduction="none", log_target=True).sum(dim=1)  # (m, ...)
    chosen = distance.flatten() if counted is None else distance[counted]
    return chosen.sum() / max(1, len(chosen)) * temperature**2


def distance_to_teacher(objective: Objective, outputs: Any, wanted: Any, batch: Any, temperature: float) -> Tensor:
    """`distillation_loss` of two networks' outputs for a batch. Raises: TenfoldError where these are no classes."""
    student, teacher = objective.logits(outputs), objective.logits(wanted)
    return distillation_loss(student, teacher, temperature, objective.counted(batch))
