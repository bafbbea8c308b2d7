#!/usr/bin/env python3
"""Makes the tiny random checkpoints beside it and, with the original implementations, what they compute.

Each is a few ten thousand parameters with what one architecture has and others have not: Llama 3.1's rope scaling and tied
embeddings, Mistral's sliding window and a head size that is not hidden / heads, Qwen2's biases and layers that slide from one on,
Qwen3's norm per head, Llama with all biases and linear scaling. golden.json: logits of some positions, log-probabilities of all
tokens, and a greedy continuation, computed in float32 (eager attention) on the stored 16- or 32-bit weights.

Made with transformers 5.23.0, torch 2.15.0, safetensors 0.8; run: python make.py  (rewrites the folders).
"""
import json, os, sys
import torch, transformers
from transformers import (LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
common = dict(vocab_size=96, max_position_embeddings=128, bos_token_id=1, eos_token_id=2, initializer_range=0.3)
models = {
    "llama31": (LlamaForCausalLM, LlamaConfig(hidden_size=48, intermediate_size=72, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, rms_norm_eps=1e-5, rope_theta=500.0,
        rope_parameters=dict(rope_type="llama3", rope_theta=500.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
                             original_max_position_embeddings=64), **common), torch.bfloat16, 90),
    "mistral": (MistralForCausalLM, MistralConfig(hidden_size=40, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=14, sliding_window=9, tie_word_embeddings=False, **common), torch.bfloat16, 80),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config(hidden_size=32, intermediate_size=56, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=1, use_sliding_window=True, sliding_window=11, max_window_layers=1, tie_word_embeddings=False,
        **common), torch.float16, 70),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config(hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=12, tie_word_embeddings=False, **common), torch.bfloat16, 70),
    "llama-bias": (LlamaForCausalLM, LlamaConfig(hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=3,
        num_key_value_heads=3, attention_bias=True, mlp_bias=True, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0), **common), torch.float32, 70),
}


def old_layout(config):
    """config.json as checkpoints before transformers 5 have it."""
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["torch_dtype"] = config.pop("dtype")


def main():
    for seed, (name, (cls, config, dtype, n)) in enumerate(models.items()):
        torch.manual_seed(seed)
        config._attn_implementation = "eager"
        model = cls(config).eval()
        with torch.no_grad():
            for key, p in model.named_parameters():
                if p.dim() == 1:  # norms near 1, biases near 0, none of them trivial
                    p.copy_(torch.randn_like(p) * 0.3 + (1.0 if "norm" in key else 0.0))
                p.copy_(p.to(dtype).float())
        out = os.path.join(here, name)
        os.makedirs(out, exist_ok=True)
        state = {k: v.to(dtype).contiguous() for k, v in model.state_dict().items()
                 if not (config.tie_word_embeddings and k == "lm_head.weight")}
        save_file(state, os.path.join(out, "model.safetensors"), metadata={"format": "pt"})
        c = config.to_diff_dict()
        c.update(architectures=[cls.__name__], model_type=config.model_type, dtype=str(dtype).split(".")[1])
        c.pop("transformers_version", None)
        if name == "llama31":
            old_layout(c)
        with open(os.path.join(out, "config.json"), "w") as f:
            json.dump(c, f, indent=1)
        ids = torch.randint(3, config.vocab_size, (n,)).tolist()
        with torch.no_grad():
            logits = model(torch.tensor([ids])).logits[0].double()
            logprobs = torch.log_softmax(logits[:-1], -1)[torch.arange(n - 1), torch.tensor(ids[1:])]
            greedy = list(ids)
            for _ in range(24):
                greedy.append(int(model(torch.tensor([greedy])).logits[0, -1].argmax()))
        golden = {"about": f"transformers {transformers.__version__}, torch {torch.__version__}, float32 on {dtype} weights",
                  "ids": ids, "logprobs": [round(x, 6) for x in logprobs.tolist()], "greedy_ids": greedy[n:],
                  "logits": {str(i): [round(x, 5) for x in logits[i].tolist()] for i in (0, n // 2, n - 1)}}
        with open(os.path.join(out, "golden.json"), "w") as f:
            json.dump(golden, f, separators=(",", ":"))
        top2 = logits.topk(2, -1).values
        print(name, sum(p.numel() for p in model.parameters()), "parameters; greedy distinct:", len(set(greedy[n:])),
              "smallest top-2 gap in the prompt: %.4f" % float((top2[:, 0] - top2[:, 1]).min()), file=sys.stderr)


main()
