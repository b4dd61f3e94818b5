"""What each task takes, loses, scores and refuses, against sums over places written out here."""

import math
from collections import OrderedDict, UserDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, r2_score
from torch import Tensor, nn
from torchmetrics.classification import MulticlassF1Score
from torchmetrics.text import Perplexity

import tenfold
from tenfold.measure.score import score
from tenfold.protocols import Data, Score, TenfoldError
from tenfold.recovery import distillation_loss, finetune
from tenfold.tasks import TASKS, Objective, Segmentation, Task, task_named
from tenfold.tasks.classes import Classes
from tenfold.tasks.metrics import Mean
from tenfold.tasks.refusal import way_out

IGNORED = -100


# ---- the definitions, place by place
def places(name: str, outputs: Tensor, targets: Tensor) -> list[tuple[list[float], int]]:
    """Logits and target of every place that counts."""
    found = []
    for n, sample in enumerate(outputs):
        if name == "classification":
            pairs = [(sample, targets[n])]
        elif name == "segmentation":
            pairs = [
                (sample[:, r, c], targets[n, r, c]) for r in range(sample.shape[1]) for c in range(sample.shape[2])
            ]
        else:
            shift = int(name == "language")
            pairs = [(sample[t], targets[n, t + shift]) for t in range(len(sample) - shift)]
        found += [(logits.tolist(), int(target)) for logits, target in pairs if target != IGNORED]
    return found


def surprise(logits: list[float], target: int) -> float:
    return math.log(sum(math.exp(each) for each in logits)) - logits[target]


def mean_surprise(found: list[tuple[list[float], int]]) -> float:
    return sum(surprise(*place) for place in found) / len(found)


def share_right(found: list[tuple[list[float], int]]) -> float:
    return 100 * sum(logits.index(max(logits)) == target for logits, target in found) / len(found)


def mean_iou(found: list[tuple[list[float], int]]) -> float:
    said = [logits.index(max(logits)) for logits, _ in found]
    meant = [target for _, target in found]
    each = []
    for k in {*said, *meant}:
        there, here = {i for i, s in enumerate(said) if s == k}, {i for i, m in enumerate(meant) if m == k}
        each.append(len(there & here) / len(there | here))
    return 100 * sum(each) / len(each)


def cross_entropy(outputs: Tensor, targets: Tensor) -> float:
    pairs = zip(outputs.flatten().tolist(), targets.flatten().tolist(), strict=True)
    each = [-math.log(1 / (1 + math.exp(-x if y else x))) for x, y in pairs]
    return sum(each) / len(each)


def squared_error(outputs: Tensor, targets: Tensor) -> float:
    pairs = list(zip(outputs.flatten().tolist(), targets.flatten().tolist(), strict=True))
    return sum((x - y) ** 2 for x, y in pairs) / len(pairs)


def of_places(what: Callable[[list[tuple[list[float], int]]], float], name: str) -> Callable[[Tensor, Tensor], float]:
    return lambda outputs, targets: what(places(name, outputs, targets))


@dataclass(frozen=True)
class Known:
    """A task as its definition has it."""

    loss: Callable[[Tensor, Tensor], float]
    scores: dict[str, Callable[[Tensor, Tensor], float]]


KNOWN = {
    "classification": Known(
        of_places(mean_surprise, "classification"), {"top-1": of_places(share_right, "classification")}
    ),
    "segmentation": Known(
        of_places(mean_surprise, "segmentation"),
        {
            "mean IoU": of_places(mean_iou, "segmentation"),
            "pixel accuracy": of_places(share_right, "segmentation"),
        },
    ),
    "tokens": Known(of_places(mean_surprise, "tokens"), {"token accuracy": of_places(share_right, "tokens")}),
    "language": Known(
        of_places(mean_surprise, "language"),
        {
            "perplexity": lambda outputs, targets: math.exp(mean_surprise(places("language", outputs, targets))),
            "token accuracy": of_places(share_right, "language"),
        },
    ),
    "multi-label": Known(
        cross_entropy,
        {
            "mAP": lambda outputs, targets: 100 * average_precision_score(targets, outputs),
            "label accuracy": lambda outputs, targets: 100 * ((outputs > 0) == targets.bool()).double().mean().item(),
        },
    ),
    "regression": Known(
        squared_error,
        {"mean squared error": squared_error, "R2": lambda outputs, targets: r2_score(targets, outputs)},
    ),
}


def drawn(name: str, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Outputs and targets of a task; an eighth of the places do not count."""
    draw = torch.Generator().manual_seed(seed)
    shape = {"classification": (n, 3), "segmentation": (n, 3, 2, 4), "tokens": (n, 4, 3), "language": (n, 4, 3)}
    outputs = 2 * torch.randn(shape.get(name, (n, 3)), generator=draw)
    if name == "regression":
        return outputs, torch.randn(n, 3, generator=draw)
    if name == "multi-label":
        targets = torch.randint(2, (n, 3), generator=draw)
        targets[0] = 1  # every label occurs
        return outputs, targets
    sizes = list(outputs.shape)
    del sizes[TASKS[name].axis]  # type: ignore[attr-defined]
    targets = torch.randint(3, sizes, generator=draw)
    targets[torch.rand(sizes, generator=draw) < 1 / 8] = IGNORED
    targets.flatten()[-1] = 0  # something counts
    return outputs, targets


def data_for(task: Any, batches: Any = (), **more: Any) -> Data:
    return Data(train=batches, inputs=[], validation=(), test=batches, task=task, **more)


def test_every_task_is_defined_here() -> None:
    assert {name: set(task.scores) for name, task in TASKS.items()} == {
        name: set(known.scores) for name, known in KNOWN.items()
    }


@pytest.mark.parametrize("name", KNOWN)
@given(n=st.integers(2, 7), seed=st.integers(0, 99))
def test_the_loss_is_its_definition(name: str, n: int, seed: int) -> None:
    outputs, targets = drawn(name, n, seed)
    found = Objective.of(data_for(name)).loss(outputs.double(), (None, targets))
    assert found.item() == pytest.approx(KNOWN[name].loss(outputs, targets), rel=1e-9)


@pytest.mark.parametrize(("name", "scored"), [(name, each) for name, known in KNOWN.items() for each in known.scores])
@given(cuts=st.lists(st.integers(1, 3), min_size=2, max_size=4), seed=st.integers(0, 99))
def test_a_score_is_its_definition_however_batches_are_cut(name: str, scored: str, cuts: list[int], seed: int) -> None:
    outputs, targets = drawn(name, sum(cuts), seed)
    batches = list(zip(outputs.split(cuts), targets.split(cuts), strict=True))
    found = score(nn.Identity(), batches, data_for(name, score=scored))
    assert found == pytest.approx(KNOWN[name].scores[scored](outputs, targets), rel=1e-5, abs=1e-6)


@given(seed=st.integers(0, 99))
def test_perplexity_is_that_of_torchmetrics(seed: int) -> None:
    outputs, targets = drawn("language", 3, seed)
    other = Perplexity(ignore_index=IGNORED)
    other.update(outputs[:, :-1], targets[:, 1:])
    assert score(nn.Identity(), [(outputs, targets)], data_for("language")) == pytest.approx(float(other.compute()))


@given(n=st.integers(2, 9), at=st.integers(-6, 6), scale=st.integers(-6, 6), seed=st.integers(0, 99))
def test_r2_knows_no_unit(n: int, at: int, scale: int, seed: int) -> None:
    outputs, targets = (10.0**scale * (tensor.double() + at) for tensor in drawn("regression", n, seed))
    found = score(nn.Identity(), [(outputs, targets)], data_for("regression", score="R2"))
    assert found == pytest.approx(r2_score(targets, outputs), rel=1e-6)


def test_r2_of_constant_targets_and_of_one_sample() -> None:
    data, ones = data_for("regression", score="R2"), torch.full((7, 1), 0.1)
    assert score(nn.Identity(), [(ones, ones)], data) == 1
    assert score(nn.Identity(), [(2 * ones, ones)], data) == 0
    assert score(nn.Identity(), [(ones[:1], ones[:1])], data) is None


def test_perplexity_of_a_sure_mistake_is_finite() -> None:
    outputs = torch.tensor([[[0.0, 200.0], [0.0, 0.0]]])
    assert score(nn.Identity(), [(outputs, torch.tensor([[0, 0]]))], data_for("language")) == pytest.approx(
        math.exp(200)
    )


# ---- what does not count
def test_a_batch_in_which_nothing_counts_costs_nothing_and_scores_nothing() -> None:
    outputs = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0), requires_grad=True)
    void = torch.full((2, 4, 4), IGNORED)
    loss = Objective.of(data_for("segmentation")).loss(outputs, (None, void))
    loss.backward()
    assert loss.item() == 0
    assert outputs.grad is not None
    assert not outputs.grad.any()
    assert score(nn.Identity(), [(outputs, void)], data_for("segmentation")) is None
    assert score(nn.Identity(), [(outputs, void)], data_for("segmentation", score="pixel accuracy")) is None


@pytest.mark.parametrize("kind", [torch.uint8, torch.int16, torch.int64])
def test_masks_may_ignore_another_number(kind: torch.dtype) -> None:
    outputs, targets = drawn("segmentation", 3, 0)
    masks = targets.where(targets != IGNORED, 255).to(kind)
    other = data_for(Segmentation(ignore=255))
    first, second = Objective.of(other).loss(outputs, (None, masks)), Objective.of(data_for("segmentation"))
    assert first == second.loss(outputs, (None, targets))
    assert score(nn.Identity(), [(outputs, masks)], other) == score(
        nn.Identity(), [(outputs, targets)], data_for("segmentation")
    )


@pytest.mark.parametrize("name", [name for name in KNOWN if isinstance(TASKS[name], Classes)])
@given(n=st.integers(2, 7), seed=st.integers(0, 99), share=st.sampled_from([0.1, 0.5]))
def test_smoothed_labels_are_a_share_of_every_class(name: str, n: int, seed: int, share: float) -> None:
    """Beside the loss on the label, by its share, the mean of the losses on all classes; nothing where none counts."""
    outputs, targets = drawn(name, n, seed)
    kind = type(task_named(name))
    found = Objective.of(data_for(kind(smoothing=share))).loss(outputs.double(), (None, targets))
    count = outputs.shape[kind.axis]
    each = [KNOWN[name].loss(outputs, targets.where(targets == IGNORED, k)) for k in range(count)]
    assert found.item() == pytest.approx((1 - share) * KNOWN[name].loss(outputs, targets) + share * sum(each) / count)


@pytest.mark.parametrize("share", [-0.1, 1.0, math.nan])
def test_labels_are_smoothed_by_a_share(share: float) -> None:
    with pytest.raises(TenfoldError, match=rf"cannot be smoothed by {share}; use 0"):
        Segmentation(smoothing=share)


# ---- refusals
LOGITS, PIXELS, WORDS = torch.ones(3, 4), torch.ones(2, 2, 4, 4), torch.ones(3, 5, 7)
HOT = torch.eye(4)[:3]


@pytest.mark.parametrize(
    ("task", "outputs", "targets", "words"),
    [
        ("classification", PIXELS, torch.ones(2, 4, 4).long(), "choose task='segmentation'"),
        ("classification", LOGITS, HOT, "give targets.argmax(1) or choose task='multi-label'"),
        ("classification", LOGITS, HOT.long(), "give targets.argmax(1) or choose task='multi-label'"),
        ("classification", LOGITS, torch.ones(3, 1).long(), "give targets.squeeze(1)"),
        ("classification", LOGITS, torch.ones(3), "give targets.long()"),
        ("classification", LOGITS, torch.ones(3) / 2, "a loss and a score of your own"),
        ("classification", LOGITS, torch.rand(3, 4), "choose task='regression'"),
        ("classification", LOGITS, [0, 1, 2], "targets of type list"),
        ("classification", WORDS, torch.ones(3, 5).long(), "choose task='tokens' or choose task='language'"),
        ("classification", WORDS, torch.ones(3).long(), "a loss and a score of your own"),
        ("classification", torch.ones(3, 1), torch.ones(3), "choose task='multi-label' with targets.unsqueeze(1)"),
        ("classification", LOGITS.long(), torch.ones(3).long(), "floating outputs (n, classes)"),
        ("classification", LOGITS, torch.tensor([0, 1, 4]), "targets hold 4, where the outputs have classes 0 to 3"),
        ("classification", LOGITS, torch.tensor([0, 1, -1]), "targets hold -1"),
        ("segmentation", PIXELS, torch.ones(2, 1, 4, 4).long(), "give targets.squeeze(1)"),
        ("segmentation", PIXELS, torch.ones(2, 4, 3).long(), "not outputs (2, 2, 4, 4) float32 with targets (2, 4, 3)"),
        ("segmentation", PIXELS, torch.full((2, 4, 4), 255), "Data(task=tenfold.tasks.Segmentation(ignore=...))"),
        ("segmentation", LOGITS, torch.ones(3).long(), "choose task='classification'"),
        ("tokens", WORDS, torch.ones(3, 5, 1).long(), "(3, 5, 1) int64"),
        ("tokens", torch.ones(3, 7, 5), torch.ones(3, 5).long(), "choose task='segmentation'"),
        ("tokens", WORDS, nn.functional.one_hot(torch.ones(3, 5).long(), 7), "give targets.argmax(-1)"),
        ("language", WORDS, torch.ones(3, 4).long(), "(3, 4) int64"),
        ("multi-label", LOGITS, torch.rand(3, 4) / 2 + 0.1, "a label that is there has 1"),
        ("multi-label", LOGITS, torch.ones(3).long(), "choose task='classification'"),
        ("regression", torch.ones(3, 1), torch.rand(3), "give targets.unsqueeze(1)"),
        ("regression", torch.ones(3), torch.rand(3, 1), "give targets.squeeze(1)"),
        ("regression", LOGITS, torch.ones(3, 4).long(), "give targets.float()"),
    ],
)
def test_what_a_task_does_not_take_is_refused_by_loss_and_score(
    task: str, outputs: Tensor, targets: Any, words: str
) -> None:
    data = data_for(task)
    for use in (
        lambda: Objective.of(data).loss(outputs, (outputs, targets)),
        lambda: score(nn.Identity(), [(outputs, targets)], data),
    ):
        with pytest.raises(TenfoldError) as caught:
            use()
        assert f"task '{task}'" in str(caught.value)
        assert words in str(caught.value)


@pytest.mark.parametrize("name", KNOWN)
@given(seed=st.integers(0, 9))
def test_what_is_suggested_works(name: str, seed: int) -> None:
    outputs, targets = drawn(name, 3, seed)
    for other in TASKS.values():
        if other.name != name and not other.suits(outputs, targets):
            assert f"choose task='{name}'" in way_out(other, outputs, targets)


@pytest.mark.parametrize(
    ("given_to", "words"),
    [
        ({"task": "segmantation"}, "no task is called 'segmantation'; did you mean 'segmentation'?"),
        (
            {"task": "tokens", "score": "perplexity"},
            "task 'tokens' has no score 'perplexity'; there are token accuracy.",
        ),
        ({"task": "regression", "score": "r3"}, "task 'regression' has no score 'r3'; did you mean 'R2'?"),
    ],
)
def test_names_that_are_not_there(given_to: dict[str, str], words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        Objective.of(replace(data_for("classification"), **given_to))
    assert str(caught.value) == words


def test_names_of_tasks_and_scores_in_any_case() -> None:
    assert task_named("Multi-Label") is TASKS["multi-label"]
    assert Objective.of(data_for("regression", score="r2")).score.name == "R2"


def test_only_some_scores_need_torchmetrics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenfold.tasks.metrics.find_spec", lambda name: None)
    without = [("segmentation", "mean IoU"), ("multi-label", "mAP")]
    for name, task in TASKS.items():
        for scored in task.scores:
            if (name, scored) not in without:
                assert Objective.of(data_for(name, score=scored)).score.name == scored
                continue
            with pytest.raises(TenfoldError) as caught:
                Objective.of(data_for(name, score=scored))
            assert f"'{scored}' needs torchmetrics" in str(caught.value)
            assert "pip install 'tenfold[metrics]'" in str(caught.value)


# ---- scores of one's own
def test_a_score_of_torchmetrics_is_handed_what_counts() -> None:
    mine = Score("F1", scale=1.0, metric=lambda logits: MulticlassF1Score(logits.shape[1], average="micro"))
    outputs, targets = drawn("segmentation", 5, 1)
    batches = list(zip(outputs.split(2), targets.split(2), strict=True))
    found = score(nn.Identity(), batches, data_for("segmentation", score=mine))
    assert found == pytest.approx(KNOWN["segmentation"].scores["pixel accuracy"](outputs, targets) / 100)


def test_a_score_and_a_loss_of_ones_own_win_and_see_what_the_network_gives() -> None:
    seen = []

    def loss(outputs: Any, batch: Any) -> Tensor:
        seen.append((outputs, batch))
        return torch.tensor(1.5)

    def measure(outputs: Any, batch: Any) -> tuple[float, int]:
        seen.append((outputs, batch))
        return 3.0, 4

    data = data_for("regression", loss=loss, score=Score("mine", scale=2.0, measure=measure))
    assert Objective.of(data).loss({"a": 1, "b": 2}, "batch") == 1.5
    assert score(nn.Identity(), [{"input": 7}, {"input": 8}], data) == 1.5
    assert seen == [({"a": 1, "b": 2}, "batch"), (7, {"input": 7}), (8, {"input": 8})]
    assert Objective.of(replace(data, output="b")).loss({"a": 1, "b": 2}, 0) == 1.5
    assert seen[-1] == (2, 0)


@pytest.mark.parametrize("both", [{}, {"measure": lambda o, b: (0, 0), "metric": lambda o: None}])
def test_a_score_measures_in_one_way(both: dict[str, Any]) -> None:
    with pytest.raises(TenfoldError, match=r"score 'mine' needs one of measure, .*, and metric"):
        Score("mine", **both)


def test_a_score_that_fails_says_which() -> None:
    mine = Score("F1", metric=lambda logits: MulticlassF1Score(num_classes="three"))
    with pytest.raises(TenfoldError, match=r"score 'F1' raised \w+: .*"):
        score(nn.Identity(), [(X, Y)], data_for("classification", score=mine))


# ---- which output, which targets
Out = namedtuple("Out", "logits aux")


@dataclass
class Answer:
    scores: Tensor
    cache: str = "none"


X = torch.eye(3)
Y = torch.tensor([0, 1, 0])


@pytest.mark.parametrize(
    ("outputs", "key"),
    [
        (X, None),
        ([X], None),
        ((X, (X, X)), None),
        ({"out": X, "more": [X]}, None),
        ({"loss": torch.tensor(0.0), "logits": X}, None),
        (Out(X, -X), None),
        (UserDict(out=X), None),
        (Answer(X), None),
        ({"out": X, "aux": -X}, "out"),
        (OrderedDict(aux=-X, out=X), "out"),
        ((-X, X), 1),
        (Out(-X, X), "aux"),
        (Answer(X), "scores"),
    ],
)
def test_the_output_that_is_meant(outputs: Any, key: str | int | None) -> None:
    class Gives(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return outputs

    data = data_for("classification", output=key)
    assert score(Gives(), [(X, Y)], data) == pytest.approx(200 / 3)
    assert Objective.of(data).loss(outputs, (X, Y)) == nn.functional.cross_entropy(X, Y)


@pytest.mark.parametrize(
    ("outputs", "key", "words"),
    [
        ({"out": X, "aux": X}, None, "a dict of 'out', 'aux'; say which to judge by, as in Data(output='out')."),
        ((X, X), None, "a tuple of 0, 1; say which to judge by, as in Data(output=0)."),
        ("text", None, "are a str; none is a tensor."),
        ({"out": X}, "logits", "have no 'logits'; they are a dict of 'out'."),
        (X, "logits", "have no 'logits'; they are a Tensor."),
        ((X, X), 2, "have no 2; they are a tuple of 0, 1."),
    ],
)
def test_an_output_that_is_not_there(outputs: Any, key: str | int | None, words: str) -> None:
    with pytest.raises(TenfoldError) as caught:
        Objective.of(data_for("classification", output=key)).loss(outputs, (X, Y))
    assert words in str(caught.value)


def test_targets_of_pairs_and_dicts() -> None:
    data = data_for("classification")
    for batch in [(X, Y), [X, Y, "more"], {"x": X, "labels": Y}, UserDict(labels=Y)]:
        assert Objective.of(data).loss(X, batch) == nn.functional.cross_entropy(X, Y)
    mine = replace(data, targets=lambda batch: batch["mask"])
    assert Objective.of(mine).loss(X, {"mask": Y}) == nn.functional.cross_entropy(X, Y)
    for batch in [X, {"x": X}, (X,)]:
        with pytest.raises(
            TenfoldError, match=rf"a batch of type {type(batch).__name__} has no targets; give \(inputs"
        ):
            Objective.of(data).loss(X, batch)


# ---- distillation
@pytest.mark.parametrize("name", [name for name, task in TASKS.items() if isinstance(task, Classes)])
@given(seed=st.integers(0, 99))
def test_distillation_is_the_mean_over_places_that_count(name: str, seed: int) -> None:
    student, targets = drawn(name, 3, seed)
    teacher, _ = drawn(name, 3, seed + 100)
    objective = Objective.of(data_for(name))
    found = distillation_loss(
        objective.logits(student.double()), objective.logits(teacher.double()), 2.0, objective.counted((None, targets))
    )
    each = []
    for (mine, _), (other, _) in zip(places(name, student, targets), places(name, teacher, targets), strict=True):
        p = [-surprise([logit / 2 for logit in other], k) for k in range(3)]
        q = [-surprise([logit / 2 for logit in mine], k) for k in range(3)]
        each.append(4 * sum(math.exp(a) * (a - b) for a, b in zip(p, q, strict=True)))
    assert found.item() == pytest.approx(sum(each) / len(each), rel=1e-6)


class Words(nn.Module):
    """A language model of one step."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.out = nn.Embedding(6, 16), nn.Linear(16, 6)

    def forward(self, ids: Tensor) -> dict[str, Any]:
        return {"logits": self.out(self.table(ids)), "cache": None}


class Pixels(nn.Sequential):
    """A segmentation network that answers as torchvision's do."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"out": super().forward(x)}


def seeded(build: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build()


def words() -> tuple[nn.Module, Data]:
    ids = torch.arange(8)[:, None].add(torch.arange(5)) % 6
    batches = [(ids[:4], ids[:4]), (ids[4:], ids[4:])]
    return seeded(Words), Data(train=batches, inputs=[ids[:4]], validation=batches, test=batches, task="language")


def pixels() -> tuple[nn.Module, Data]:
    x = torch.randn(8, 2, 5, 5, generator=torch.Generator().manual_seed(0))
    y = (x[:, 0] > x[:, 1]).long()
    batches = list(zip(x.split(4), y.split(4), strict=True))
    network = seeded(lambda: Pixels(nn.Conv2d(2, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 2, 3, padding=1)))
    return network, Data(train=batches, inputs=[x[:4]], validation=batches, test=batches, task="segmentation")


@pytest.mark.parametrize("brought", [words, pixels])
def test_compress_distils_whatever_has_classes(brought: Callable[[], tuple[nn.Module, Data]]) -> None:
    model, data = brought()
    result = tenfold.compress(model, data, params="1.5x", format="svd", epochs=1)
    assert result.report.settings["distill"] == 0.9
    assert result.report.recovered is not None
    assert result.report.recovered.score is not None
    own = Objective.of(data).score
    assert (result.report.recovered.score.name, result.report.recovered.score.higher_is_better) == (
        own.name,
        own.higher_is_better,
    )
    assert result.report.recovered.score.value == pytest.approx(score(result.model, data.test, data), rel=1e-4)


@pytest.mark.parametrize("brought", [words, pixels])
def test_a_student_comes_to_answer_as_its_teacher(brought: Callable[[], tuple[nn.Module, Data]]) -> None:
    teacher, data = brought()
    student = seeded(lambda: nn.Sequential(*brought()[0].children()) if brought is pixels else Words())
    for parameter in student.parameters():
        parameter.data *= 0.5
    steps = list(finetune(student, data, epochs=8, lr=0.05, optimizer="adam", teacher=teacher, distill=1.0))
    assert steps[-1].loss < 0.5 * steps[0].loss


@pytest.mark.parametrize("task", ["regression", "multi-label"])
def test_what_has_no_classes_is_not_distilled(task: str) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    x = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    batches = [(x, torch.eye(8))]
    data = Data(train=batches, inputs=[x], validation=(), test=batches, task=task)
    assert tenfold.compress(model, data, params="2x", format="svd", epochs=1).report.settings["distill"] == 0.0
    for use in (
        lambda: tenfold.compress(model, replace(data, inputs=[]), inputs=x, params="2x", epochs=1, distill=0.5),
        lambda: finetune(model, data, epochs=1, teacher=nn.Linear(8, 8)),
    ):
        with pytest.raises(TenfoldError, match=f"distillation compares classes, and task '{task}' has none"):
            use()


def test_distillation_for_another_task_than_the_networks_is_refused() -> None:
    model, data = words()
    mine = replace(data, task="classification", loss=lambda outputs, batch: outputs["logits"].sum())
    with pytest.raises(TenfoldError, match=r"distillation for task 'classification' takes .*, not \(4, 5, 6\) float32"):
        next(finetune(model, mine, epochs=1, teacher=seeded(Words)))
    own = replace(mine, score=Score("none", measure=lambda outputs, batch: (0.0, 0)))
    report = tenfold.compress(model, own, params="1.2x", format="svd", epochs=1).report
    assert report.settings["distill"] == 0.0  # a loss of one's own is not distilled unless that is asked for


class Signs(Task):
    """Whether numbers are above 0."""

    name = "signs"
    outputs = "(n,)"
    targets = "(n,) of true and false"
    scores: ClassVar = {"right": lambda: Score("right", metric=lambda _: Mean(right))}

    def suits(self, outputs: Tensor, targets: Tensor) -> bool:
        return outputs.shape == targets.shape and targets.dtype is torch.bool

    def objection(self, outputs: Tensor, targets: Tensor) -> str:
        return ""

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return nn.functional.softplus(outputs.where(~targets, -outputs)).mean()

    def scored(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        return outputs > 0, targets


def right(predicted: Tensor, targets: Tensor) -> tuple[float, int]:
    return float((predicted == targets).sum()), len(targets)


def test_a_task_of_ones_own() -> None:
    outputs, targets = torch.tensor([0.0, 2.0, -1.0, 3.0]), torch.tensor([False, True, True, True])
    assert score(nn.Identity(), [(outputs, targets)], data_for(Signs())) == 75
    with pytest.raises(
        TenfoldError, match=r"task 'signs' takes .* \(n,\) of true and false, .*; choose task='regression'"
    ):
        score(nn.Identity(), [(outputs, outputs)], data_for(Signs()))


@pytest.mark.parametrize("columns", [1, 3])
def test_a_single_column_is_no_class_and_counts_as_it_is(columns: int) -> None:
    outputs = torch.arange(2.0 * columns).reshape(2, columns)
    (found,) = Objective.of(data_for("classification")).compared(outputs)
    assert torch.equal(found, outputs if columns == 1 else outputs - outputs.mean(1, keepdim=True))
