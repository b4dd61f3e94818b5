"""Compressed networks of transformers, kept as such by `model.save_pretrained(folder)` and `from_pretrained(folder)`.

Importing this makes `tenfold` known to transformers as a quantisation method. From then on every network of
transformers that a plan is carried out on, or that `tenfold.load` reads, has the plan in its config.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn

from tenfold import documents
from tenfold.layers import FactoredWeight
from tenfold.layers.tensor_like import TensorLike
from tenfold.protocols import TenfoldError, within
from tenfold.storage import check_plan
from tenfold.surgery import Plan, hollowed, laid_out
from tenfold.surgery.keepers import KEEPERS

try:
    from transformers import PreTrainedModel
    from transformers.quantizers import HfQuantizer
    from transformers.quantizers.auto import register_quantization_config, register_quantizer
    from transformers.utils.quantization_config import QuantizationConfigMixin
except ImportError as error:
    raise TenfoldError(
        "tenfold.hf needs transformers, which is not installed; pip install 'tenfold[transformers]'."
    ) from error

METHOD = "tenfold"
Ties = Mapping[str, str]  # name of a tensor -> name of the same one, which is stored


def keep(model: nn.Module, plan: Plan) -> None:
    """Let a compressed network save itself as such; needed only where it was compressed before this was imported.

    Args:
        model: a network of transformers, or one that has some inside, changed in place.
        plan: what it was compressed by.
    """
    for name, network in outermost(model):
        own = inside(plan, f"{name}." if name else "")
        if any(not row.is_dense for row in own.rows.values()):
            marked(network, TenfoldConfig(plan=own.to_values(), tied=ties(network)))


def outermost(model: nn.Module, name: str = "") -> Iterator[tuple[str, Any]]:
    """The networks of transformers in a network, with their names; those inside of others left out."""
    if isinstance(model, PreTrainedModel):
        yield name, model
        return
    for key, child in model.named_children():
        yield from outermost(child, f"{name}.{key}" if name else key)


def marked(model: Any, config: "TenfoldConfig") -> None:
    """Put the config where transformers looks for it when it saves, and the ties where it looks when it loads."""
    model.config.quantization_config = config
    model.hf_quantizer = TenfoldQuantizer(config)
    held = dict(model.named_parameters(remove_duplicate=False))
    dense = {name: first for name, first in model.all_tied_weights_keys.items() if name in held}
    model.all_tied_weights_keys = {**dense, **config.tied}
    if config.tied:
        model._tied_weights_keys = model.all_tied_weights_keys
    model._weight_conversions = []  # a file has the names in the network: cores are not taken apart as weights are


def ties(model: nn.Module) -> dict[str, str]:
    """The cores that are another's, too, each with the name of the first."""
    first: dict[nn.Parameter, str] = {}
    owners = {name: first.setdefault(core, name) for name, core in cores(model).items()}
    return {name: owner for name, owner in owners.items() if name != owner}


def cores(model: nn.Module) -> dict[str, nn.Parameter]:
    """All cores, under each of their names."""
    parts = [each for each in model.named_modules(remove_duplicate=False) if isinstance(each[1], FactoredWeight)]
    return dict(named for prefix, part in parts for named in part.named_parameters(prefix))


# ---- names, where the network that is built has another head than the one that was saved, or none
def inside(plan: Plan, prefix: str) -> Plan:
    """The plan of the part of a network whose names begin like this."""
    rows = {name.removeprefix(prefix): row for name, row in plan.rows.items() if name.startswith(prefix)}
    return replace(plan, rows={name: replace(row, name=name) for name, row in rows.items()})


def around(plan: Plan, prefix: str) -> Plan:
    """The plan of a network that has the plan's as a part of this name."""
    rows = {f"{prefix}{name}": replace(row, name=f"{prefix}{name}") for name, row in plan.rows.items()}
    return replace(plan, rows=rows)


@register_quantization_config(METHOD)
@dataclass(kw_only=True)
class TenfoldConfig(QuantizationConfigMixin):
    """What config.json says of a compressed network.

    Attributes:
        plan: as in a plan file.
        tied: cores that are stored under another's name.
    """

    plan: Mapping[str, Any]
    tied: Ties = field(default_factory=dict)
    quant_method: str = METHOD

    @classmethod
    def from_dict(cls, config_dict: Mapping[str, Any], **kwargs: Any) -> "TenfoldConfig":
        """Read it from config.json, every part checked."""
        with within("quantization_config"):
            return documents.read(dict(config_dict), TenfoldConfig)

    def on(self, model: Any) -> "TenfoldConfig":
        """The same for a network that may have another head than the one that was saved, or none."""
        plan, prefix = Plan.from_values(self.plan), f"{model.base_model_prefix}."
        is_base, of_base = model.base_model is model, not any(name.startswith(prefix) for name in plan.rows)
        if is_base == of_base:
            return self
        if of_base:
            tied = {f"{prefix}{name}": f"{prefix}{first}" for name, first in self.tied.items()}
            return TenfoldConfig(plan=around(plan, prefix).to_values(), tied=tied)
        own = {name: first for name, first in self.tied.items() if name.startswith(prefix)}
        tied = {name.removeprefix(prefix): first.removeprefix(prefix) for name, first in own.items()}
        return TenfoldConfig(plan=inside(plan, prefix).to_values(), tied=tied)


@register_quantizer(METHOD)
class TenfoldQuantizer(HfQuantizer):
    """How transformers builds, fills and saves a compressed network."""

    quantization_config: TenfoldConfig

    def validate_environment(self, *args: Any, **kwargs: Any) -> None:
        """Refuse a network that is not compressed."""
        if not self.pre_quantized:
            raise TenfoldError(
                "a TenfoldConfig is read from the folder of a compressed network; compress a dense one by "
                "tenfold.compress(model, ..)."
            )

    def _process_model_before_weight_loading(self, model: Any, **kwargs: Any) -> None:
        """Put layers in the place of the planned modules, on device `meta`."""
        for name, first in model.all_tied_weights_keys.items():  # transformers ties after loading: too late for us
            owner, _, key = name.rpartition(".")
            setattr(model.get_submodule(owner), key, model.get_parameter_or_buffer(first))
        with within("quantization_config"):
            config = self.quantization_config.on(model)
            hollowed(model, Plan.from_values(config.plan))
        self.quantization_config = replace(config, tied={**config.tied, **ties(model)})
        marked(model, self.quantization_config)

    def update_weight_conversions(self, weight_conversions: Any, model: Any) -> list[Any]:
        """None: a file has the names in the network."""
        return []

    def _process_model_after_weight_loading(self, model: Any, **kwargs: Any) -> None:
        """Refuse cores that were in no file, and lay the network out as its plan says."""
        lost = [name for name, core in cores(model).items() if not hasattr(core, "_is_hf_initialized")]
        if lost:
            raise TenfoldError(f"the files of weights have no '{lost[0]}'; copy the folder again, whole.")
        laid_out(model, Plan.from_values(self.quantization_config.plan).layout)
        model.is_quantized = False  # its numbers are floats: it can be trained, and cast

    def get_state_dict_and_metadata(self, model: Any) -> tuple[None, dict[str, str]]:
        """Check, before it is saved, that the network still is what its config says."""
        check_plan(model, Plan.from_values(self.quantization_config.plan))
        return None, {}

    def is_serializable(self) -> bool:
        return True

    @property
    def is_trainable(self) -> bool:
        return True

    @property
    def is_compileable(self) -> bool:
        return True


KEEPERS.append(keep)
TensorLike._is_hf_initialized = True  # type: ignore[attr-defined]  # transformers' own mark: not to be drawn
