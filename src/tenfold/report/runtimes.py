"""`RuntimeTimes`: networks in every runtime that there is here, side by side."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from torch import nn

from tenfold.inputs import Inputs
from tenfold.measure import MsPerBatch, Speedup
from tenfold.measure.runtimes import runtime_timings
from tenfold.surgery.plan import COMPILE, EAGER

WORDS = {EAGER: "as it is", COMPILE: "compiled"}


@dataclass(frozen=True)
class RuntimeTimes:
    """Attributes:
    times: by network and runtime.
    refused: why there is none, likewise.
    """

    times: Mapping[tuple[str, str], MsPerBatch] = field(hash=False)
    refused: Mapping[tuple[str, str], str] = field(hash=False)

    @staticmethod
    def of(networks: Mapping[str, nn.Module], inputs: Inputs) -> "RuntimeTimes":
        """Networks as they run, timed in turn.

        Raises: TenfoldError if one cannot even run as it stands.
        """
        times, refused = runtime_timings(networks, inputs)
        return RuntimeTimes({key: MsPerBatch.of(timing, inputs.size) for key, timing in times.items()}, refused)

    @property
    def networks(self) -> list[str]:
        """Their names."""
        return list(dict.fromkeys(name for name, _ in (*self.times, *self.refused)))

    @property
    def sentences(self) -> list[str]:
        """The fastest way to run each network, and what could not be done."""
        found = []
        for name in self.networks:
            own = {runtime: time for (network, runtime), time in self.times.items() if network == name}
            best = min(own, key=lambda runtime: own[runtime].median)
            how = WORDS.get(best, f"in {best}")
            found.append(f"{name} runs fastest {how}: {own[best].median:.3g} ms for {own[best].batch} samples.")
        return found + [f"{name}: {reason}" for (name, _), reason in self.refused.items()]

    def document(self) -> list[dict[str, Any]]:
        """For `--json`."""
        found = [{"network": name, "runtime": how, **asdict(time)} for (name, how), time in self.times.items()]
        return found + [{"network": name, "runtime": how, "refused": why} for (name, how), why in self.refused.items()]


def in_runtime(dense: nn.Module, small: nn.Module, inputs: Inputs, runtime: str) -> str:
    """How long two networks, as they run, take in a runtime, timed in turn; or why that cannot be known."""
    times, refused = runtime_timings({"dense": dense, "small": small}, inputs, [runtime])
    if refused:
        return f"Not timed in {runtime}: {next(iter(refused.values()))}"
    before, after = times["dense", runtime], times["small", runtime]
    gain = Speedup.of(after, before)
    return (
        f"In {runtime}, {inputs.size} samples take {1e3 * after.median:.3g} ms, dense {1e3 * before.median:.3g} ms: "
        f"{gain.median:.2f}x (spread {gain.spread:.2f})."
    )
