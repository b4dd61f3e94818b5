"""Compressed networks of transformers in transformers' own folders: saved, loaded, generating, tuned."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import tenfold
from tenfold import storage
from tenfold.api import open_network
from tenfold.protocols import TenfoldError
from tenfold.surgery import Plan, Row

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; pip install 'tenfold[transformers]'"
)
import tenfold.hf as hf  # noqa: E402  (not before transformers is known to be there)
from test_transformers import NETWORKS, compressed, inputs, network, run  # noqa: E402

pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]  # theirs

FRESH = """
import sys, torch, transformers, tenfold.hf
ids, wanted = torch.load(sys.argv[2])
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1])
with torch.no_grad():
    assert torch.equal(model(ids).logits, wanted)
assert model.lm_head.weight.cores[0] is model.transformer.wte.weight.cores[1]
"""


def same(one: nn.Module, other: nn.Module, name: str) -> bool:
    pairs = zip(run(one, inputs(name)), run(other, inputs(name)), strict=True)
    return all(torch.equal(first, second) for first, second in pairs)


def tied_gpt2() -> tuple[Any, Plan]:
    """GPT-2 with cores in the place of its embedding, which is its output layer, too, and of one more layer."""
    rows = {name: Row(name, "svd", ranks=(6,)) for name in ("transformer.wte", "transformer.h.0.attn.c_attn")}
    return network("gpt2"), Plan(rows)


@pytest.mark.parametrize("name", NETWORKS)
def test_outputs_are_the_same_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = network(name)
    small, plan = compressed(name, model)
    small.save_pretrained(tmp_path, max_shard_size="20KB")
    loaded = type(model).from_pretrained(tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    assert same(small, loaded, name)
    assert Plan.from_values(loaded.config.quantization_config.plan) == plan
    assert not hasattr(model.config, "quantization_config")
    loaded.save_pretrained(tmp_path / "again")
    assert same(small, type(model).from_pretrained(tmp_path / "again"), name)


def test_tied_cores_are_stored_once_and_tied_in_a_fresh_process(tmp_path: Path) -> None:
    model, plan = tied_gpt2()
    small = tenfold.decompose(model, plan)
    small.save_pretrained(tmp_path / "small", max_shard_size="10KB")
    index = json.loads((tmp_path / "small" / "model.safetensors.index.json").read_text())["weight_map"]
    assert not any(name.startswith("lm_head") for name in index)
    ids = inputs("gpt2")["input_ids"]
    with torch.no_grad():
        torch.save((ids, small(ids).logits), tmp_path / "wanted.pt")
    subprocess.run([sys.executable, "-c", FRESH, tmp_path / "small", tmp_path / "wanted.pt"], check=True)


def test_another_head_takes_the_same_body(tmp_path: Path) -> None:
    model = network("bert")
    small, _ = compressed("bert", model)
    small.save_pretrained(tmp_path / "words")
    body = transformers.AutoModel.from_pretrained(tmp_path / "words", add_pooling_layer=False)
    given = inputs("bert")
    with torch.no_grad():
        wanted = small.bert(**given).last_hidden_state
        assert torch.equal(body(**given).last_hidden_state, wanted)
        body.save_pretrained(tmp_path / "body")
        headed = transformers.AutoModelForSequenceClassification.from_pretrained(tmp_path / "body")
        assert torch.equal(headed.bert(**given).last_hidden_state, wanted)


def test_an_output_layer_that_comes_with_the_head_is_tied(tmp_path: Path) -> None:
    model, plan = tied_gpt2()
    small = tenfold.decompose(model, plan)
    small.save_pretrained(tmp_path / "words")
    body = transformers.AutoModel.from_pretrained(tmp_path / "words")
    body.save_pretrained(tmp_path / "body")
    again = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "body")
    assert same(small, again, "gpt2")
    again.save_pretrained(tmp_path / "again")
    assert same(small, type(model).from_pretrained(tmp_path / "again"), "gpt2")


def test_a_network_inside_of_another_is_kept(tmp_path: Path) -> None:
    class Wrapped(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.bert = transformers.BertModel(network("bert").config)

    small, _ = compressed("bert", Wrapped().eval())
    small.bert.save_pretrained(tmp_path)
    given = inputs("bert")
    loaded = transformers.AutoModel.from_pretrained(tmp_path)
    with torch.no_grad():
        assert torch.equal(loaded(**given).last_hidden_state, small.bert(**given).last_hidden_state)


def test_cores_that_a_group_shares_are_stored_once(tmp_path: Path) -> None:
    rows = {f"h.{k}.mlp.c_fc": Row(f"h.{k}.mlp.c_fc", "scada-tucker", ranks=(6, 6), group="fc") for k in (0, 1)}
    model = transformers.GPT2Model(network("gpt2").config).eval()
    small = tenfold.decompose(model, Plan(rows))
    assert small.config.quantization_config.tied
    small.save_pretrained(tmp_path)
    loaded = transformers.AutoModel.from_pretrained(tmp_path)
    assert same(small, loaded, "gpt2")
    assert len(list(loaded.parameters())) == len(list(small.parameters()))


def test_it_is_kept_though_compressed_before_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, plan = tied_gpt2()
    monkeypatch.setattr("tenfold.surgery.keepers.KEEPERS", [])
    small = tenfold.decompose(model, plan)
    assert not hasattr(small.config, "quantization_config")
    hf.keep(small, plan)
    small.save_pretrained(tmp_path)
    assert same(small, type(model).from_pretrained(tmp_path), "gpt2")


def test_a_network_that_is_not_what_its_plan_says_is_not_saved(tmp_path: Path) -> None:
    model, plan = tied_gpt2()
    lowered = tenfold.lower(tenfold.decompose(model, plan))
    with pytest.raises(TenfoldError, match="the plan says 'svd' and the model's is dense"):
        lowered.save_pretrained(tmp_path)


def test_a_network_without_cores_is_saved_as_ever(tmp_path: Path) -> None:
    model = network("gpt2")
    tenfold.decompose(model, Plan({"transformer.wte": Row("transformer.wte")})).save_pretrained(tmp_path)
    assert "quantization_config" not in json.loads((tmp_path / "config.json").read_text())


def damaged(folder: Path, change: Any) -> None:
    """Change the quantisation config of a folder."""
    config = json.loads((folder / "config.json").read_text())
    change(config["quantization_config"])
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(("change", "words"), [
    (lambda config: config.pop("plan"), "'plan' is missing"),
    (lambda config: config.update(bits=4), "nothing is called 'bits'"),
    (lambda config: config["plan"].update(schema=9), "schema 9 is not known"),
    (lambda config: config["plan"]["layers"].update(nowhere={"format": "svd", "ranks": [2]}), "no such layer"),
    (lambda config: config["plan"]["layers"]["transformer.wte"].update(ranks=[2, 2]), "layer 'transformer.wte'"),
    (lambda config: config["plan"]["layers"]["transformer.wte"].update(format="sdv"), "did you mean 'svd'"),
])  # fmt: skip
def test_a_plan_that_does_not_fit_gets_one_sentence(change: Any, words: str, tmp_path: Path) -> None:
    model, plan = tied_gpt2()
    tenfold.decompose(model, plan).save_pretrained(tmp_path)
    damaged(tmp_path, change)
    with pytest.raises(TenfoldError, match="quantization_config: ") as caught:
        type(model).from_pretrained(tmp_path)
    assert words in str(caught.value)


def test_lost_cores_are_not_drawn_anew(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model, plan = tied_gpt2()
    tenfold.decompose(model, plan).save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    del tensors["transformer.h.0.attn.c_attn.weight.cores.1"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(TenfoldError, match=r"have no 'transformer.h.0.attn.c_attn.weight.cores.1'"):
        type(model).from_pretrained(tmp_path)


def test_a_dense_network_is_not_compressed_by_loading(tmp_path: Path) -> None:
    model, plan = tied_gpt2()
    model.save_pretrained(tmp_path)
    with pytest.raises(TenfoldError, match=r"tenfold.compress\(model"):
        type(model).from_pretrained(tmp_path, quantization_config=hf.TenfoldConfig(plan=plan.to_values()))


def test_generation_and_casting_after_loading(tmp_path: Path) -> None:
    model, plan = tied_gpt2()
    small = tenfold.decompose(model, plan)
    small.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path)
    ids = inputs("gpt2")["input_ids"]
    words = [each.generate(ids, max_new_tokens=4, do_sample=False, pad_token_id=0) for each in (small, loaded)]
    assert torch.equal(*words)
    assert loaded.half().transformer.wte.weight.dtype == torch.float16
    half = type(model).from_pretrained(tmp_path, dtype=torch.bfloat16, device_map="cpu")
    assert {core.dtype for core in half.parameters()} == {torch.bfloat16}


# ---- `hf:FOLDER`, dense
def test_a_folder_is_opened_with_its_weights_and_goes_along(tmp_path: Path) -> None:
    model = network("bert")
    model.save_pretrained(tmp_path / "dense", max_shard_size="20KB")
    opened = open_network(f"hf:{tmp_path / 'dense'}")
    assert type(opened.model) is type(model)
    assert not opened.drawn
    assert same(opened.model, model, "bert")
    plan = Plan({"bert.encoder.layer.0.output.dense": Row("bert.encoder.layer.0.output.dense", "svd", ranks=(4,))})
    small = tenfold.decompose(opened.model, plan)
    storage.save(tmp_path / "out", small, plan, opened.document)
    (tmp_path / "dense").rename(tmp_path / "moved")
    assert same(tenfold.load(tmp_path / "out"), small, "bert")
    alone = open_network(f"hf:{tmp_path / 'moved' / 'config.json'}")
    assert alone.drawn
    assert type(alone.model) is type(model)


def test_a_folder_that_cannot_be_opened_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, plan = tied_gpt2()
    tenfold.decompose(model, plan).save_pretrained(tmp_path / "small")
    (tmp_path / "empty").mkdir()
    model.save_pretrained(tmp_path / "bare")
    (tmp_path / "bare" / "model.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name, words in {
        "small": "stored by 'tenfold'; name the folder of the dense network",
        "empty": "has no config.json",
        "bare": "raised OSError",
        "nowhere": "names no folder that is there",
    }.items():
        with pytest.raises(TenfoldError, match=words):
            open_network(f"hf:{tmp_path / name}")
    with pytest.raises(TenfoldError, match="neither a folder nor a network that the hub gives us"):
        open_network("hf:nobody/nothing")
    with pytest.raises(TenfoldError, match="has weights of its own; leave --weights out"):
        open_network(f"hf:{tmp_path / 'bare'}", weights="weights.pt")
