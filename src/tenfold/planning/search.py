"""`Search`: the weights of a network, what each may become, and the allocation under budgets or by a rule."""

import zlib
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import nn

from tenfold.fitting import Metric
from tenfold.formats import Format, Whole, name_of, options_of
from tenfold.formats.base import Suits
from tenfold.layers import name_of as kind_name
from tenfold.measure import Clock, Profile, part, weights_hash
from tenfold.measure.profile import UNREACHED
from tenfold.planning.allocation import Limits, allocate, clipped, costs_of
from tenfold.planning.asked import Override, overrides_asked
from tenfold.planning.budgets import BUDGETS, Cost, limit
from tenfold.planning.candidates import Family, Subject, families
from tenfold.planning.choices import Choice, Curve, chosen, curve, leanest
from tenfold.planning.curves import ErrorCurves
from tenfold.planning.pace import Pace
from tenfold.planning.rules import by_energy, by_ranks, named_layer, or_dense, uniform
from tenfold.protocols import TenfoldError, Watch, within
from tenfold.quantization import Scheme, levels_of
from tenfold.surgery import Plan, Row, matching, sites, untaken
from tenfold.surgery.stored import stored_bytes
from tenfold.threads import by_layer

Allocation = Literal["global", "clipped", "uniform"]
Result = TypeVar("Result")
NO_GAIN = "left dense: nothing smaller within the errors allowed saves any of the budgets"
STEEP = 1e3  # all errors together, for as long as the whole network takes: the price of being slower than dense
SLACK = 0.1  # of the least loss: how much more a faster plan may lose where no time was asked for


def priced(subjects: Mapping[str, Subject], metrics: Mapping[str, Metric]) -> dict[str, Subject]:
    """The weights with what their errors cost, where that is known; without any, relative errors count alike."""
    known = {name: metrics[name].squared_error(s.weight, tuple(s.site.axes)) for name, s in subjects.items() if
             name in metrics}  # fmt: skip
    usual = sum(known.values()) / len(known) if known else 1.0
    return {
        name: replace(subject, metric=metrics[name], gain=known[name]) if name in known
        else replace(subject, gain=subject.gain * usual)
        for name, subject in subjects.items()
    }  # fmt: skip


def loss_of(choices: Mapping[str, Choice]) -> float:
    """What choices lose together."""
    return sum(choice.loss for choice in choices.values())


def too_slow(curve: Curve) -> str:
    """Why a weight is best left dense where no form of it is faster; empty where one is."""
    pace = curve.subject.pace
    if pace is None or curve.fastest is None or curve.fastest < pace.dense or np.isinf(curve.fastest):
        return ""
    return f"left dense: nothing smaller is faster ({1e3 * curve.fastest:.3g} ms, dense {1e3 * pace.dense:.3g})"


class Search:
    """The weights of a network, what each may become, and why some stay dense."""

    def __init__(
        self,
        model: nn.Module,
        profile: Profile,
        of: Sequence[str],
        include: Sequence[str],
        exclude: Sequence[str],
        layers: Mapping[str, str],
        formats: Mapping[str, Sequence[Suits]],
        curves: ErrorCurves | None,
        seed: int,
        *,
        lean: bool,
        metrics: Mapping[str, Metric],
        schemes: Sequence[Scheme | None] = (None,),
        clock: Clock | None = None,
        allow_slower: bool = True,
        dtype: str | None = None,
        watch: Watch = iter,
    ) -> None:
        self.model, self.of, self.lean, self.seed, self.watch = model, of, lean, seed, watch
        self.dtype = dtype
        self.clock, self.slow_price, self.schemes = clock, 0.0, tuple(schemes)
        self.profile = part(profile, model, of) if of else profile
        self.curves = curves if curves is not None else ErrorCurves(weights_hash(model))
        self.sites = {name: site for name, site in sites(model).items() if name in self.profile.layers}
        names = list(self.sites)
        if not names:
            raise TenfoldError("there is no layer that can be compressed.")
        if not any(self.schemes) and any(Whole() in each for each in formats.values()):
            raise TenfoldError("format 'dense' leaves every weight whole; give --bits 4, too, or another format.")
        self.overrides = overrides_asked(layers, names)
        self.reasons: dict[str, str] = {}
        self.makers: dict[str, list[Format]] = {}
        included = {name for pattern in include for name in matching(pattern, names)} if include else set(names)
        excluded = {name: pattern for pattern in exclude for name in matching(pattern, names)}
        self.subjects = priced({name: self.subject(model, name) for name in names}, metrics)
        if clock is not None and not allow_slower:
            self.slow_price = STEEP * sum(subject.gain for subject in self.subjects.values()) / clock.whole
            self.subjects = {name: replace(each, slow_price=self.slow_price) for name, each in self.subjects.items()}
        for name in names:
            with within(f"layer '{name}'"):
                self.makers[name] = self.suited(name, included, excluded, formats)

    def subject(self, model: nn.Module, name: str) -> Subject:
        """One weight with what the profile knows of it."""
        site, row = self.sites[name], self.profile.layers.get(name)
        if row is None:
            raise TenfoldError(f"the profile has no layer '{name}'; it is of another network.")
        weight = site.weight(model)
        positions = row.positions or {}
        macs = weight.numel() if row.macs is None else row.macs
        times = site.times(row.positions, row.macs, row.calls)
        gain = site.error_gain(row.positions, row.calls)
        pace = None if self.clock is None else Pace.of(self.clock, model, site, positions, times)
        return Subject(site, weight, positions, macs, times, row.first, self.lean, gain, pace=pace,
                       dtype=self.dtype)  # fmt: skip

    def suited(
        self, name: str, included: set[str], excluded: Mapping[str, str], formats: Mapping[str, Sequence[Suits]]
    ) -> list[Format]:
        """The formats that a weight may take, stand-ins in their places; none where it stays dense, with the reason."""
        override, subject = self.overrides.get(name), self.subjects[name]
        if override is not None:
            return self.by_name(subject, override)
        obstacle = subject.site.obstacle or self.profile.layers[name].obstacle
        kind = kind_name(subject.site.kind)
        stay = (
            f"excluded by '{excluded[name]}'" if name in excluded
            else "not included" if name not in included
            else obstacle if obstacle
            else f"no format was asked for on {kind} layers" if kind not in formats
            else None
        )  # fmt: skip
        if stay is not None:
            self.reasons[name] = stay
            alone = stay == obstacle and subject.site.bound is None and any(self.schemes)
            return [Whole()] if alone else []
        answers = [subject.answer(maker) for maker in formats[kind]]
        fitting = list(dict.fromkeys(answer for answer in answers if isinstance(answer, Format)))
        if not fitting:
            self.reasons[name] = "; ".join(dict.fromkeys(answer for answer in answers if isinstance(answer, str)))
        return list(dict.fromkeys([*fitting, Whole()])) if any(self.schemes) else fitting

    def by_name(self, subject: Subject, override: Override) -> list[Format]:
        """The format that a layer was given by name; one that does not suit is an error."""
        if override.maker is None:
            self.reasons[subject.site.name] = "dense, as asked"
            return []
        if subject.site.obstacle:
            raise TenfoldError(f"it cannot take {name_of(override.maker)}: {subject.site.obstacle}.")
        override.maker.network(subject.site.axes)  # refuses options that do not suit: by name, nothing stands in
        answer = subject.site.suit(override.maker, first=subject.first)
        if isinstance(answer, str):
            suiting = ", ".join(subject.site.suiting())
            raise TenfoldError(f"it cannot take {name_of(override.maker)}: {answer}; formats that suit: {suiting}.")
        return [answer if not override.ranks else override.maker]

    def families(self, name: str) -> Iterator[Family]:
        """Every family that a weight may choose from, found as it is asked for."""
        yield from self.found(name, self.makers[name], merges=True)

    def settings(self, name: str) -> Iterator[Family]:
        """The families of a weight's first format with all bonds cut, one for each setting worth trying."""
        yield from self.found(name, self.makers[name][:1], merges=False)

    def found(self, name: str, makers: Sequence[Format], *, merges: bool) -> Iterator[Family]:
        """The families of a weight in some formats."""
        draw = torch.Generator().manual_seed(zlib.crc32(f"{self.seed}/{name}".encode()))
        with within(f"layer '{name}'"):
            for maker in makers:
                for family in families(self.subjects[name], maker, self.curves, draw, merges=merges):
                    yield from (family.in_bits(scheme) for scheme in self.schemes if scheme or family.net.bonds)

    def alone(self, name: str) -> Choice:
        """A whole weight in the first of the bits that may be chosen; as it is where none may."""
        if self.schemes[0] is None or not self.makers[name]:
            return Choice(0.0, self.subjects[name].dense)
        return chosen(next(self.found(name, [Whole()], merges=False)), ())

    def all_alone(self) -> dict[str, Choice]:
        """Every weight whole in few bits."""
        return {name: self.alone(name) for name in self.sites}

    def fixed(self) -> dict[str, Choice]:
        """Layers whose ranks were given by name."""
        return {
            name: named_layer(self.subjects[name], list(self.settings(name)), override.ranks)
            for name, override in self.overrides.items()
            if override.ranks
        }

    def by_rule(self, energy: float | None, ranks: tuple[int, ...] | None, multiple: int) -> dict[str, Choice]:
        """Every weight by one number, in the first of its formats and the setting of it that the rule prefers."""
        choices = self.fixed()
        free = self.free(choices)
        for name, settings in self.at_once(free, lambda name: list(self.settings(name))).items():
            with within(f"layer '{name}'"):
                found = (
                    by_energy(settings, energy, multiple)
                    if ranks is None and energy is not None
                    else by_ranks(settings, ranks or ())
                )
            choices[name] = or_dense(found, self.alone(name), self.subjects[name])
            if choices[name].family is None:
                self.reasons[name] = "at these ranks the cores would be larger or slower than the dense weight"
        return choices

    def under_budgets(
        self,
        asked: Mapping[str, str | float],
        multiple: int,
        allocation: Allocation,
        max_error: float,
    ) -> dict[str, Choice]:
        """The allocation under budgets on the whole network."""
        choices = self.fixed()
        free = self.free(choices)
        limits = self.limits(asked, free, choices, max_error)
        if not free:
            why = "; ".join(dict.fromkeys(self.reasons.values())) or "all are fixed by name"
            raise TenfoldError(f"no layer is left to compress: {why}.")
        if allocation == "uniform":
            first = self.at_once(free, lambda name: next(self.settings(name)))
            found = uniform(list(first.values()), limits, multiple)
        else:
            each = self.candidates(free, limits, multiple)
            self.reasons |= {name: NO_GAIN for name, one in zip(free, each, strict=True) if len(one.losses) == 1}
            self.reasons |= {name: words for name, one in zip(free, each, strict=True) if (words := too_slow(one))}
            found = allocate(clipped(each, limits) if allocation == "clipped" else each, limits, multiple)
        for name, choice in zip(free, found, strict=True):
            if choice.family is None:
                self.reasons.setdefault(name, "left dense: what it would save costs less accuracy in other layers")
        return choices | {
            name: choice if choice.family else self.alone(name) for name, choice in zip(free, found, strict=True)
        }

    def fastest_near(
        self, asked: Mapping[str, str | float], under: Callable[[Mapping[str, str | float]], dict[str, Choice]]
    ) -> dict[str, Choice]:
        """The fastest allocation under budgets that loses little more (`SLACK`) than the best.

        Of stages about as fast, those that hold the fewest numbers.
        """
        best = under(asked)
        most = (1 + SLACK) * loss_of(best)
        low = self.whole.seconds / self.seconds(best)
        high = 2 * low
        while high / low > 1.01:
            middle = (low * high) ** 0.5
            try:
                found = under({**asked, "time": max(middle, 1.0)})
            except TenfoldError:
                high = middle
                continue
            if loss_of(found) <= most:
                best, low = found, middle
            else:
                high = middle
        return {name: leanest(choice, self.subjects[name].dense.seconds) for name, choice in best.items()}

    def seconds(self, choices: Mapping[str, Choice]) -> float:
        """Of a forward, by the times of stages; something is left, however they were timed."""
        saved = sum(self.subjects[name].dense.seconds - choice.cost.seconds for name, choice in choices.items())
        return float(max(self.whole.seconds - saved, 1e-3 * self.whole.seconds))

    def free(self, fixed: Collection[str]) -> list[str]:
        """The weights that may be compressed, and are not fixed by name."""
        return [name for name in self.sites if self.makers[name] and name not in fixed]

    def at_once(self, names: Sequence[str], work: Callable[[str], Result]) -> dict[str, Result]:
        """What is made of the error curves of weights, which are found side by side."""
        return by_layer("error curves", work, self.sizes(names), self.watch)

    def sizes(self, names: Sequence[str]) -> dict[str, int]:
        """The numbers in weights."""
        return {name: self.subjects[name].params for name in names}

    def candidates(self, names: Sequence[str], limits: Limits, multiple: int) -> list[Curve]:
        """The candidates of weights under these kinds of budgets."""
        known = self.curves.candidates
        keys = {name: self.key(name, limits, multiple) for name in names}
        missing = [name for name in names if keys[name] not in known]
        families = self.at_once(missing, lambda name: list(self.families(name)))

        def made(name: str) -> Curve:
            return curve(self.subjects[name], families[name], limits.budgets, multiple, limits.max_error)

        title = "candidates" if self.clock is None else "clock"
        for name, one in by_layer(title, made, self.sizes(missing), self.watch, alone=True).items():
            known[keys[name]] = one
        return [known[keys[name]] for name in names]

    def key(self, name: str, limits: Limits, multiple: int) -> Hashable:
        """All that the candidates of a weight depend on."""
        subject = self.subjects[name]
        costs = subject.lean, subject.gain, subject.macs, subject.times, *subject.positions.items()
        fast = id(self.clock), subject.slow_price
        limited = tuple(limits.budgets), multiple, limits.max_error
        return name, tuple(self.makers[name]), self.schemes, costs, fast, *limited

    def limits(
        self, asked: Mapping[str, str | float], free: Sequence[str], fixed: Mapping[str, Choice], max_error: float
    ) -> Limits:
        """The budgets, less what is not planned."""
        given = {name: limit(name, value, BUDGETS[name].of(self.whole), BUDGETS[name].needs)
                 for name, value in asked.items()}  # fmt: skip
        dense, kept = self.whole, self.stored
        if self.clock is not None:  # of candidates alike otherwise the faster, in a part of the network, too
            given = {"time": np.inf, **given}
            dense, kept = (replace(each, seconds=self.clock.whole) for each in (dense, kept))
        budgets = {name: BUDGETS[name] for name in given}
        ceilings = np.array(list(given.values()))
        whole = np.array([float(budget.of(dense)) for budget in budgets.values()])
        bare = Limits(budgets, ceilings, np.zeros_like(whole), whole)
        as_stored = np.array([float(budget.of(kept)) for budget in budgets.values()])
        rest = as_stored - sum(costs_of(bare, Choice(0.0, self.subjects[name].dense)) for name in [*free, *fixed])
        rest = rest + sum(costs_of(bare, choice) for choice in fixed.values())
        return Limits(budgets, ceilings - rest, rest, whole, max_error)

    @property
    def liked_multiple(self) -> int:
        """The multiple of ranks that the slowest weight takes no longer for."""
        appliers = [each for subject in self.subjects.values() if subject.pace for each in subject.pace.appliers]
        if self.clock is None or not appliers:
            return 1
        slowest = max(appliers, key=lambda each: each.dense)
        return self.clock.multiple(slowest.form(slowest.plain, ()), slowest.axes["i"])

    @property
    def whole(self) -> Cost:
        """What the dense network, or the part that is planned, costs."""
        measured = self.profile
        seconds = None if self.clock is None or self.of else self.clock.whole
        return Cost(measured.params, measured.bytes, measured.params, measured.macs, seconds)

    @property
    def stored(self) -> Cost:
        """The same with its numbers as they will be stored."""
        return replace(self.whole, bytes=stored_bytes(self.profile.params, self.profile.bytes, self.dtype))

    def plan(self, choices: Mapping[str, Choice]) -> Plan:
        """A row for every weight of the network."""
        outside = f"not in {' or '.join(map(repr, self.of))}, which is what was planned"
        rows = {
            name: self.row(name, choices.get(name)) if name in self.sites else Row(name, reason=outside)
            for name in sites(self.model)
        }
        rows |= {name: Row(name, reason=other.reason) for name, other in untaken(self.model).items()}
        return Plan(rows, dtype=self.dtype)

    def row(self, name: str, choice: Choice | None) -> Row:
        """The plan's row for a weight."""
        if choice is None or choice.family is None:
            return Row(name, reason=self.reasons.get(name, "dense"))
        family, subject = choice.family, self.subjects[name]
        modes, scheme = family.maker.default_modes(subject.site.axes), family.scheme
        row = Row(
            name=name,
            format=name_of(family.maker),
            modes={axis: tuple(sizes) for axis, sizes in modes.items()},
            ranks=family.planned_ranks(choice.ranks),
            stages=family.evaluations[choice.evaluation].partition if family.net.bonds else (),
            options=options_of(family.maker),
            reason=self.words(name, choice),
        )
        if scheme is None:
            return row
        return replace(row, bits=(scheme.bits,), scale_per=scheme.per, levels=levels_of(scheme))

    def words(self, name: str, choice: Choice) -> str:
        """Why a weight is compressed so."""
        subject, family = self.subjects[name], choice.family
        assert family is not None
        among = ", ".join(dict.fromkeys(name_of(maker) for maker in self.makers[name]))
        parts = [f"{subject.params / choice.cost.params:.1f}x fewer parameters"] if family.net.bonds else []
        if family.scheme is not None:
            fewer = subject.dense.bytes / choice.cost.bytes
            parts.append(f"{fewer:.1f}x fewer bytes in {family.scheme.bits} bits")
        if family.net.bonds and subject.positions and subject.macs:
            parts.append(f"{subject.macs / choice.cost.macs:.1f}x fewer multiply-adds")
        if subject.pace is not None and subject.pace.dense:
            parts.append(f"{1e3 * choice.cost.seconds:.3g} ms, dense {1e3 * subject.pace.dense:.3g}")
        parts.append(f"relative error about {choice.error**0.5:.2f}")
        if self.profile.layers[name].calls == 0:
            parts.append(UNREACHED)
        if name in self.overrides:
            parts.append("as asked")
        elif len(self.makers[name]) > 1:
            parts.append(f"best of {among}")
        if not all(family.cut):
            parts.append("bonds that cost more than they save are not cut")
        if family.net.bonds and family.evaluations[choice.evaluation].rebuilds:
            parts.append("the dense weight is rebuilt, which is cheaper than its stages")
        return "; ".join(parts)
