"""Networks of transformers from tiny random configurations: compressed, lowered, saved, loaded, generating, tuned."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import tenfold
from tenfold.layers import Layer
from tenfold.surgery import Plan

transformers = pytest.importorskip(
    "transformers", reason="transformers is not installed; pip install 'tenfold[transformers]'"
)
pytestmark = [pytest.mark.transformers, pytest.mark.filterwarnings("ignore")]  # theirs

WORDS = {"vocab_size": 96, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
SIZES = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
PICTURES = {"image_size": 16, "patch_size": 4}
PAIR = {
    "d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4,
    "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "decoder_start_token_id": 1,
}  # fmt: skip
TEXT_OF = {**SIZES, **WORDS}
MIXTURE = {
    "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1,
    "kv_lora_rank": 16, "q_lora_rank": 16, "qk_rope_head_dim": 8, "v_head_dim": 8, "qk_nope_head_dim": 8,
    "first_k_dense_replace": 1, "num_key_value_heads": 4,
}  # fmt: skip
STATES = {
    "vocab_size": 96, "hidden_size": 32, "num_heads": 8, "head_dim": 8, "state_size": 8, "n_groups": 1,
    "num_hidden_layers": 2, "expand": 2, "chunk_size": 8,
}  # fmt: skip

# network, configuration, its options, the inputs that it takes
NETWORKS: Mapping[str, tuple[str, str, dict[str, Any], tuple[str, ...]]] = {
    "vit": ("ViTForImageClassification", "ViTConfig", {**SIZES, **PICTURES}, ("pixel_values",)),
    "clip": ("CLIPModel", "CLIPConfig", {"text_config": TEXT_OF, "vision_config": {**SIZES, **PICTURES}},
             ("input_ids", "pixel_values")),
    "siglip": ("SiglipModel", "SiglipConfig",
               {"text_config": {**TEXT_OF, "projection_size": 32}, "vision_config": {**SIZES, **PICTURES}},
               ("input_ids", "pixel_values")),
    "dinov2": ("Dinov2Model", "Dinov2Config", {**SIZES, **PICTURES, "mlp_ratio": 2}, ("pixel_values",)),
    "t5": ("T5ForConditionalGeneration", "T5Config",
           {"vocab_size": 96, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4,
            "decoder_start_token_id": 0}, ("input_ids", "decoder_input_ids")),
    "whisper": ("WhisperForConditionalGeneration", "WhisperConfig",
                {**WORDS, **PAIR, "num_mel_bins": 8, "max_source_positions": 20, "max_target_positions": 16},
                ("input_features", "decoder_input_ids")),
    "mamba2": ("Mamba2ForCausalLM", "Mamba2Config", STATES, ("input_ids",)),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config", {**TEXT_OF, "num_key_value_heads": 2}, ("input_ids",)),
    "llama": ("LlamaForCausalLM", "LlamaConfig", {**TEXT_OF, "num_key_value_heads": 2}, ("input_ids",)),
    "opt": ("OPTForCausalLM", "OPTConfig", {**TEXT_OF, "ffn_dim": 48, "word_embed_proj_dim": 24}, ("input_ids",)),
    "bart": ("BartForConditionalGeneration", "BartConfig", {**WORDS, **PAIR}, ("input_ids",)),
    "swin": ("SwinForImageClassification", "SwinConfig",
             {"image_size": 16, "patch_size": 2, "embed_dim": 16, "depths": [1, 1], "num_heads": [2, 4],
              "window_size": 4}, ("pixel_values",)),
    "convnext": ("ConvNextForImageClassification", "ConvNextConfig",
                 {"num_stages": 2, "hidden_sizes": [16, 32], "depths": [1, 1], "patch_size": 2}, ("pixel_values",)),
    "deberta": ("DebertaV2Model", "DebertaV2Config",
                {**TEXT_OF, "relative_attention": True, "pos_att_type": ["c2p", "p2c"], "position_buckets": 8,
                 "share_att_key": True, "norm_rel_ebd": "layer_norm"}, ("input_ids",)),
    "gpt-neox": ("GPTNeoXForCausalLM", "GPTNeoXConfig", TEXT_OF, ("input_ids",)),
    "gpt2": ("GPT2LMHeadModel", "GPT2Config",
             {"vocab_size": 96, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}, ("input_ids",)),
    "bert": ("BertForMaskedLM", "BertConfig", TEXT_OF, ("input_ids",)),
    "deepseek-v3": ("DeepseekV3ForCausalLM", "DeepseekV3Config", {**TEXT_OF, **MIXTURE}, ("input_ids",)),
}  # fmt: skip
FORMATS = ("svd", "tt", "tucker", "ht")  # by turns
STARTS = {"input_ids", "pixel_values", "input_features"}  # what `generate` takes


def network(name: str) -> nn.Module:
    kind, config, options, _ = NETWORKS[name]
    torch.manual_seed(0)
    model: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**options)).eval()
    return model


def inputs(name: str) -> dict[str, Tensor]:
    draw = torch.Generator().manual_seed(1)
    ids = torch.randint(3, 90, (2, 7), generator=draw)
    every = {
        "input_ids": ids, "decoder_input_ids": ids, "pixel_values": torch.randn(2, 3, 16, 16, generator=draw),
        "input_features": torch.randn(2, 8, 40, generator=draw),
    }  # fmt: skip
    return {key: every[key] for key in NETWORKS[name][3]}


def compressed(name: str, model: nn.Module) -> tuple[nn.Module, Plan]:
    """Every large weight at about 1.6 times fewer parameters, in one of the formats, and never dense throughout."""
    made = tenfold.compress(model, params="1.6x", format=FORMATS[list(NETWORKS).index(name) % len(FORMATS)])
    assert any(isinstance(part, Layer) for part in made.model.modules())
    return made.model, made.plan


def outputs(model: nn.Module, given: Mapping[str, Tensor]) -> list[Tensor]:
    """The floating tensors that come back."""
    return [part for part in tensors_in(model(**given)) if part.is_floating_point()]


def tensors_in(result: Any) -> Iterator[Tensor]:
    if isinstance(result, Tensor):
        yield result
    elif isinstance(result, Mapping):
        for part in result.values():
            yield from tensors_in(part)
    elif isinstance(result, tuple | list):
        for part in result:
            yield from tensors_in(part)


def run(model: nn.Module, given: Mapping[str, Tensor]) -> list[Tensor]:
    with torch.no_grad():
        return outputs(model, given)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_goes_the_whole_way(name: str, tmp_path: Path) -> None:
    model, given = network(name), inputs(name)
    made = tenfold.compress(model, inputs=given, params="1.6x", format=FORMATS[list(NETWORKS).index(name) % 4])
    assert made.report.compressed.lowering_failed is None
    plain = tenfold.lower(made.model)
    for one, other in zip(run(plain, given), run(made.model, given), strict=True):
        assert torch.dist(one, other) <= 1e-4 * other.norm() + 1e-6
    tenfold.save(made, tmp_path / "out")
    loaded = tenfold.load(tmp_path / "out", model=network(name))
    for one, other in zip(run(loaded, given), run(made.model, given), strict=True):
        assert torch.equal(one, other)
    if hasattr(model, "generate") and model.can_generate():
        start = {key: value for key, value in given.items() if key in STARTS}
        words = [each.generate(**start, max_new_tokens=4, do_sample=False) for each in (made.model, loaded, plain)]
        assert torch.equal(words[0], words[1])
        assert words[0].shape == words[2].shape


def checkpointed(model: nn.Module) -> bool:
    """Turn gradient checkpointing on, where the network has it."""
    with contextlib.suppress(ValueError):  # "does not support gradient checkpointing"
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        return True
    return False


@pytest.mark.parametrize("lower", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_same_with_checkpoints(name: str, lower: bool) -> None:
    small, _ = compressed(name, network(name))
    form, given = (tenfold.lower(small) if lower else small), inputs(name)

    def gradients() -> dict[str, Tensor | None]:
        form.zero_grad()
        form.eval() if name == "mamba2" else form.train()
        torch.manual_seed(3)
        sum(part.square().mean() for part in outputs(form, given)).backward()
        return {key: parameter.grad for key, parameter in form.named_parameters()}

    wanted = gradients()
    if not checkpointed(form):
        pytest.skip(f"{name} has no gradient checkpointing")
    found = gradients()
    for key, grad in wanted.items():
        assert (grad is None) == (found[key] is None), key
        assert grad is None or torch.dist(grad, found[key]) <= 1e-4 * grad.norm() + 1e-7, key


@pytest.mark.parametrize("name", NETWORKS)
def test_lora_goes_on_top_of_the_lowered_network(name: str) -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed; pip install 'tenfold[transformers]'")
    model, given = network(name), inputs(name)
    plain = tenfold.lower(compressed(name, model)[0])
    before = run(plain, given)
    stages = [key for key, part in plain.named_modules() if type(part) is nn.Linear]
    stages = [key for key in stages if name != "mamba2" or "in_proj" in key]  # peft takes no others of Mamba's
    tuned = peft.get_peft_model(plain, peft.LoraConfig(r=2, target_modules=stages))
    trained = [key for key, parameter in tuned.named_parameters() if parameter.requires_grad]
    assert len(trained) >= len(stages)
    assert all("lora_" in key for key in trained)
    for one, other in zip(run(tuned.base_model.model.eval(), given), before, strict=True):
        assert torch.dist(one, other) <= 1e-4 * other.norm() + 1e-6
    sum(part.square().mean() for part in outputs(tuned.base_model.model, given)).backward()
    assert any(p.grad is not None and p.grad.any() for p in tuned.parameters() if p.requires_grad)


def test_lora_on_a_layer_in_cores_is_refused_by_peft_itself() -> None:
    peft = pytest.importorskip("peft", reason="peft is not installed; pip install 'tenfold[transformers]'")
    small, plan = compressed("qwen2", network("qwen2"))
    row = next(name for name, row in plan.rows.items() if not row.is_dense and "proj" in name)
    with pytest.raises(ValueError, match=r"is not supported. Currently, only the following modules are supported"):
        peft.get_peft_model(small, peft.LoraConfig(r=2, target_modules=[row]))
