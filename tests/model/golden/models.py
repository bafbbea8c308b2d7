"""models.py: one tiny model per architecture, and variants for what a configuration can turn on: for make.py (golden vectors) and
tools/interop_models.py. Weights are a function of the tensor's name alone, the same here and in tests/model/test_goldens.c:

  element i = uniform number of [-1, 1) from splitmix64(fnv1a64(name) + i): the upper 24 bits / 2^23 - 1
  matrices times 0.4, biases times 0.2, norms 1 + 0.25 times it, computed in double and rounded to float32 once
"""
import json, os
import numpy as np
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import save_file

C = transformers
torch.set_num_threads(1)
common = dict(vocab_size=96, bos_token_id=1, eos_token_id=2, pad_token_id=0)
dense = dict(hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=256, **common)
rope = lambda kind, **more: dict(rope_type=kind, rope_theta=1000.0, **more)
factors = lambda n, top: [1 + (top - 1) * i / (n - 1) for i in range(n)]

# name: (model class, config, tokens of the text). Where frequencies depend on the length (rope.c, THE LENGTH) the name says how transformers
# is run: "step" token by token from the cache, "again" from the beginning for each token, as its Phi-3 does when a text becomes a long one.
MODELS = {
    "llama": (C.LlamaForCausalLM, C.LlamaConfig(**dense), 60),
    "llama-bias-linear": (C.LlamaForCausalLM, C.LlamaConfig(attention_bias=True, mlp_bias=True, rope_parameters=rope("linear", factor=4.0), **dense), 60),
    "llama31": (C.LlamaForCausalLM, C.LlamaConfig(tie_word_embeddings=True, head_dim=16, rope_parameters=rope("llama3", factor=8.0, low_freq_factor=1.0,
        high_freq_factor=4.0, original_max_position_embeddings=64), **dense), 90),
    "llama-yarn": (C.LlamaForCausalLM, C.LlamaConfig(rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=64), **dense), 90),
    "llama-dynamic-step": (C.LlamaForCausalLM, C.LlamaConfig(rope_parameters=rope("dynamic", factor=3.0), **{**dense, "max_position_embeddings": 128}), 60),
    "mistral": (C.MistralForCausalLM, C.MistralConfig(sliding_window=9, head_dim=14, **dense), 80),
    "mixtral": (C.MixtralForCausalLM, C.MixtralConfig(num_local_experts=4, num_experts_per_tok=2, **dense), 60),
    "qwen2": (C.Qwen2ForCausalLM, C.Qwen2Config(use_sliding_window=True, sliding_window=11, max_window_layers=1, **dense), 70),
    "qwen2_moe": (C.Qwen2MoeForCausalLM, C.Qwen2MoeConfig(num_experts=5, num_experts_per_tok=2, moe_intermediate_size=24, shared_expert_intermediate_size=40,
        decoder_sparse_step=1, mlp_only_layers=[1], **dense), 60),
    "qwen3": (C.Qwen3ForCausalLM, C.Qwen3Config(head_dim=20, **dense), 60),
    "qwen3_moe": (C.Qwen3MoeForCausalLM, C.Qwen3MoeConfig(num_experts=8, num_experts_per_tok=3, moe_intermediate_size=24, norm_topk_prob=True, head_dim=16,
        decoder_sparse_step=2, **dense), 60),
    "gemma2": (C.Gemma2ForCausalLM, C.Gemma2Config(head_dim=12, sliding_window=9, query_pre_attn_scalar=24, attn_logit_softcapping=8.0,
        final_logit_softcapping=6.0, **dense), 60),
    "gemma3": (C.Gemma3ForCausalLM, C.Gemma3TextConfig(head_dim=12, sliding_window=9, query_pre_attn_scalar=24,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        rope_parameters={"full_attention": dict(rope_type="linear", factor=4.0, rope_theta=5000.0),
                         "sliding_attention": dict(rope_type="default", rope_theta=100.0)}, **dense), 60),
    "phi3": (C.Phi3ForCausalLM, C.Phi3Config(sliding_window=20, **dense), 60),
    "phi3-longrope": (C.Phi3ForCausalLM, C.Phi3Config(tie_word_embeddings=True, original_max_position_embeddings=40, rope_parameters=dict(rope_type="longrope",
        rope_theta=1000.0, partial_rotary_factor=0.5, short_factor=factors(3, 1.5), long_factor=factors(3, 6.0)), **dense), 60),
    "phi3-longrope-again": (C.Phi3ForCausalLM, C.Phi3Config(tie_word_embeddings=True, original_max_position_embeddings=40, rope_parameters=dict(rope_type="longrope",
        rope_theta=1000.0, partial_rotary_factor=0.5, short_factor=factors(3, 1.5), long_factor=factors(3, 6.0)), **dense), 30),
    "olmo2": (C.Olmo2ForCausalLM, C.Olmo2Config(**dense), 60),
    "smollm3": (C.SmolLM3ForCausalLM, C.SmolLM3Config(no_rope_layer_interval=2, **dense), 60),
    "granite": (C.GraniteForCausalLM, C.GraniteConfig(embedding_multiplier=3.0, residual_multiplier=0.4, attention_multiplier=0.2, logits_scaling=2.0, **dense), 60),
    "starcoder2": (C.Starcoder2ForCausalLM, C.Starcoder2Config(sliding_window=12, **dense), 60),
    "gpt_neox": (C.GPTNeoXForCausalLM, C.GPTNeoXConfig(hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4,
        max_position_embeddings=256, **common), 60),
    "gpt_neox-serial": (C.GPTNeoXForCausalLM, C.GPTNeoXConfig(hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, use_parallel_residual=False, rope_parameters=dict(rope_type="default", rope_theta=1000.0, partial_rotary_factor=0.5), **common), 60),
    "gpt2": (C.GPT2LMHeadModel, C.GPT2Config(n_embd=48, n_layer=3, n_head=4, n_positions=128, **common), 60),
    "deepseek_v2": (C.DeepseekV2ForCausalLM, C.DeepseekV2Config(q_lora_rank=None, kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=10,
        n_routed_experts=6, num_experts_per_tok=2, n_shared_experts=2, moe_intermediate_size=24, first_k_dense_replace=1, routed_scaling_factor=1.5,
        rope_parameters=rope("yarn", factor=4.0, original_max_position_embeddings=64, mscale=0.7, mscale_all_dim=0.5), **{**dense, "num_key_value_heads": 4}), 60),
    "deepseek_v2-groups": (C.DeepseekV2ForCausalLM, C.DeepseekV2Config(q_lora_rank=20, kv_lora_rank=16, qk_nope_head_dim=12, qk_rope_head_dim=8, v_head_dim=20,
        n_routed_experts=8, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=24, first_k_dense_replace=0, topk_method="group_limited_greedy",
        n_group=4, topk_group=2, rms_norm_eps=0.05, **{**dense, "num_key_value_heads": 4}), 60),
}


def hash_name(name):
    h = 14695981039346656037
    for b in name.encode():
        h = ((h ^ b) * 1099511628211) & (2**64 - 1)
    return h


def values(name, n):
    z = np.uint64(hash_name(name)) + np.arange(1, n + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    return (z >> np.uint64(40)).astype(np.float64) / 2**23 - 1


def fill(name, shape):
    v = values(name, int(np.prod(shape)))
    v = v * 0.4 if len(shape) > 1 else v * 0.2 if name.endswith("bias") else 1 + 0.25 * v
    return torch.from_numpy(v.astype(np.float32)).reshape(shape)


def make(name, folder):
    """Writes the checkpoint into folder as save_pretrained lays it out, and gives the model with those weights."""
    cls, config, _ = MODELS[name]
    config._attn_implementation = "eager"
    config.dtype = "float32"
    os.makedirs(folder, exist_ok=True)
    cls(config).save_pretrained(folder)
    path = os.path.join(folder, "model.safetensors")
    with safe_open(path, "pt") as f:
        shapes = {k: list(f.get_slice(k).get_shape()) for k in f.keys()}
    save_file({k: fill(k, s) for k, s in shapes.items()}, path, metadata={"format": "pt"})
    model = cls.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    with open(os.path.join(folder, "config.json")) as f:
        return model, json.load(f), shapes


def advance(model, cache, ids, first):
    out = model(torch.tensor([ids]), past_key_values=cache, use_cache=True, position_ids=torch.arange(first, first + len(ids))[None])
    return out.logits[0].double(), out.past_key_values


def run(model, name, ids, more=0):
    """Logits of all positions of ids and of `more` greedy tokens after them (but for the last), and those tokens. The text at once, or
    token by token where the name says so; the continuation token by token from the cache."""
    with torch.no_grad():
        if "step" in name:
            rows, cache = [], None
            for i, t in enumerate(ids):
                row, cache = advance(model, cache, [t], i)
                rows.append(row)
        else:
            row, cache = advance(model, None, ids, 0)
            rows = [row]
        found = []
        for i in range(more):
            found.append(int(rows[-1][-1].argmax()))
            if i + 1 < more:
                if "again" in name:
                    row = advance(model, None, ids + found, 0)[0][-1:]
                else:
                    row, cache = advance(model, cache, [found[-1]], len(ids) + i)
                rows.append(row)
    return torch.cat(rows), found


def text(name, n):
    return [3 + int(x) for x in ((values(name + " text", n) + 1) * 46.49)]
