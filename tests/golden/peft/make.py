#!/usr/bin/env python3
"""Makes small adapters for the tiny checkpoints beside (../tiny) with peft, and what base and adapter compute together.

  lora    on mistral (bf16): every linear layer, use_rslora, ranks and alphas by pattern
  dora    on qwen3 (bf16): magnitudes on q_proj and down_proj
  whole   on llama-bias (f32): lm_head trained whole (modules_to_save), biases of the adapted layers (bias="lora_only")

Each folder: what save_pretrained wrote; golden.json: log-probabilities of the base's golden ids with the adapter beside the float32
weights (beside), and with it merged and rounded to the base's type as merge_and_unload does (merged); merged.safetensors: matrices
of the merged checkpoint.

Made with peft 0.21.2, transformers 5.23.0, torch 2.15.0; run: python make.py  (rewrites the folders).
"""
import json, os
import peft, torch, transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file

here = os.path.dirname(os.path.abspath(__file__))
every = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
adapters = {
    "lora": ("mistral", LoraConfig(r=3, lora_alpha=5, use_rslora=True, target_modules=every, rank_pattern={"o_proj": 5},
                                   alpha_pattern={r"layers\.1\.mlp\.(up|gate)_proj": 2}), ["model.layers.1.mlp.up_proj", "model.layers.0.self_attn.o_proj"]),
    "dora": ("qwen3", LoraConfig(r=4, lora_alpha=8, use_dora=True, target_modules=["q_proj", "down_proj"]), ["model.layers.0.self_attn.q_proj", "model.layers.1.mlp.down_proj"]),
    "whole": ("llama-bias", LoraConfig(r=2, lora_alpha=4, target_modules=["v_proj", "down_proj"], bias="lora_only", modules_to_save=["lm_head"]),
              ["model.layers.1.self_attn.v_proj", "lm_head"]),
}


def logprobs(model, ids):
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double()
    return [round(x, 6) for x in torch.log_softmax(logits[:-1], -1)[torch.arange(len(ids) - 1), torch.tensor(ids[1:])].tolist()]


for seed, (name, (base, config, modules)) in enumerate(adapters.items()):
    torch.manual_seed(100 + seed)
    source, out = os.path.join(here, "..", "tiny", base), os.path.join(here, name)
    load = lambda dtype: transformers.AutoModelForCausalLM.from_pretrained(source, dtype=dtype, attn_implementation="eager").eval()
    model = get_peft_model(load(torch.float32), config)
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.requires_grad:
                p.add_(torch.randn_like(p) * (0.2 if "lora_" in key and p.dim() > 1 else 0.1 * p.abs().mean()))
    model.save_pretrained(out)
    file = os.path.join(out, "adapter_config.json")
    saved = json.load(open(file))
    saved["base_model_name_or_path"] = base
    json.dump(saved, open(file, "w"), indent=1)
    for extra in ("README.md",):
        if os.path.exists(os.path.join(out, extra)): os.remove(os.path.join(out, extra))
    ids = json.load(open(os.path.join(source, "golden.json")))["ids"]
    own = json.load(open(os.path.join(source, "config.json")))
    dtype = getattr(torch, own.get("dtype") or own["torch_dtype"])
    beside = logprobs(PeftModel.from_pretrained(load(torch.float32), out).eval(), ids)
    merged = PeftModel.from_pretrained(load(dtype), out).merge_and_unload()
    state = merged.state_dict()
    save_file({f"{m}.weight": state[f"{m}.weight"].contiguous() for m in modules}, os.path.join(out, "merged.safetensors"))
    golden = {"about": f"peft {peft.__version__}, transformers {transformers.__version__}, torch {torch.__version__}", "base": base,
              "ids": ids, "beside": beside, "merged": logprobs(merged.float().eval(), ids), "modules": modules}
    json.dump(golden, open(os.path.join(out, "golden.json"), "w"), separators=(",", ":"))
    print(name, {k: tuple(v.shape) for k, v in list(state.items())[:0]}, beside[:3], golden["merged"][:3])
