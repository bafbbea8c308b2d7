#!/usr/bin/env python3
"""interop_gguf.py PROGRAM LOGITS OUT: GGUF files against llama.cpp, both ways.

For a tiny random model of every architecture, with the demo model's tokenizer:

  theirs   llama.cpp's own converter (LLAMA_CPP, a source tree of llama.cpp) makes a GGUF of it; the tensors of ours have the same names,
           shapes, types and bytes; the metadata that both write are equal
  loads    llama.cpp (llama-cpp-python) loads our file; its tokens of a text are ours and its logits those that we compute from the
           folder and from the file, within what 16-bit activations allow
  quants   llama.cpp's quantizer makes Q4_0, Q8_0, Q4_K_M, ... of it: gguf-py's decoded values are ours, bit for bit

PROGRAM is assay, LOGITS build/.../logits, OUT a folder for what is made. Python needs torch, transformers, numpy, gguf 0.19 and
llama-cpp-python 0.3.36. Weights are float16, Gemma's bfloat16: their converter adds one to its norms in the checkpoint's type.
"""
import ctypes, json, os, shutil, subprocess, sys
import numpy as np
import torch, transformers
import gguf

def llama_logits(path, text, result):
    """In a process of its own: llama.cpp aborts on what it does not like."""
    from llama_cpp import Llama
    m = Llama(model_path=path, n_ctx=128, logits_all=True, verbose=False, n_threads=1, seed=1)
    ids = m.tokenize(text.encode(), add_bos=True, special=False)
    m.eval(ids)
    np.savez(result, ids=np.array(ids), logits=np.array(m.scores[:len(ids) - 1]))


if sys.argv[1] == "--logits":
    llama_logits(*sys.argv[2:5])
    sys.exit(0)
program, logits_program, out = sys.argv[1:4]
only = sys.argv[4:]
demo = "models/demo"
llama_cpp_source = os.environ.get("LLAMA_CPP")
text = "Once upon a time there was a fox, 23 years old: it's gone.\n\n  Where?"
failures = 0

small = dict(vocab_size=2048, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
             max_position_embeddings=128, bos_token_id=0, eos_token_id=1, initializer_range=0.2)
T = transformers
models = {
    "llama31": T.LlamaConfig(**small, tie_word_embeddings=True, rope_parameters=dict(rope_type="llama3", rope_theta=500000.0, factor=8.0,
        low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=8192)),
    "llama-bias-linear": T.LlamaConfig(**small, attention_bias=False, tie_word_embeddings=False,
        rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
    "mistral": T.MistralConfig(**small, head_dim=32, sliding_window=None),
    "mixtral": T.MixtralConfig(**small, num_local_experts=4, num_experts_per_tok=2, sliding_window=None),
    "qwen2": T.Qwen2Config(**small, tie_word_embeddings=True),
    "qwen3": T.Qwen3Config(**small, head_dim=32, tie_word_embeddings=False),
    "qwen2moe": T.Qwen2MoeConfig(**small, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, shared_expert_intermediate_size=64),
    "qwen3moe": T.Qwen3MoeConfig(**small, head_dim=32, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32, norm_topk_prob=True),
    "gemma2": T.Gemma2Config(**small, head_dim=32, query_pre_attn_scalar=32, sliding_window=16),
    "gemma3": T.Gemma3TextConfig(**small, head_dim=32, query_pre_attn_scalar=32, sliding_window=16),
    # llama.cpp treats special tokens otherwise where "phi3" is in a model's name: not this one's
    "fi3": T.Phi3Config(**{**small, "max_position_embeddings": 1024}, pad_token_id=1, original_max_position_embeddings=512, sliding_window=None,
        rope_parameters=dict(rope_type="longrope", rope_theta=10000.0, long_factor=[1.0 + 0.25 * i for i in range(8)], short_factor=[1.0 + 0.125 * i for i in range(8)],
                             original_max_position_embeddings=512)),
    "olmo2": T.Olmo2Config(**small, pad_token_id=1),
    "granite": T.GraniteConfig(**small, embedding_multiplier=12.0, residual_multiplier=0.22, attention_multiplier=0.0625, logits_scaling=8.0),
    "smollm3": T.SmolLM3Config(**{**small, "num_hidden_layers": 4}, pad_token_id=1),
    "starcoder2": T.Starcoder2Config(**small, sliding_window=None),
    "gpt2": T.GPT2Config(vocab_size=2048, n_embd=64, n_layer=2, n_head=4, n_positions=128, bos_token_id=0, eos_token_id=1, initializer_range=0.2),
    "gptneox": T.GPTNeoXConfig(**{k: v for k, v in small.items() if k != "num_key_value_heads"}, rotary_pct=0.25),
    "deepseek2": T.DeepseekV2Config(**{**small, "num_key_value_heads": 4, "num_hidden_layers": 3}, kv_lora_rank=32, q_lora_rank=24, qk_nope_head_dim=32,
        qk_rope_head_dim=16, v_head_dim=32, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2, moe_intermediate_size=32,
        first_k_dense_replace=1, routed_scaling_factor=1.0, topk_method="greedy", norm_topk_prob=False),
}


def check(ok, what):
    global failures
    failures += not ok
    print(("ok      " if ok else "NOT OK  ") + what, flush=True)
    return ok


def make(name):
    """A checkpoint folder: random float16 weights, the demo's tokenizer."""
    folder = os.path.join(out, name)
    shutil.rmtree(folder, ignore_errors=True)
    torch.manual_seed(1)
    model = T.AutoModelForCausalLM.from_config(models[name], dtype=torch.float32).eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            if p.dim() == 1:
                p.copy_(torch.randn_like(p) * 0.2 + (1.0 if "norm" in key and "gemma" not in name else 0.0))
            p.copy_(p.bfloat16().float())  # a value of both types
    (model.bfloat16() if name.startswith("gemma") else model.half()).save_pretrained(folder)
    config = json.load(open(os.path.join(folder, "config.json")))
    config.update({"gpt2": {"n_ctx": 128}, "gptneox": {"rotary_pct": 0.25}}.get(name, {}))  # as checkpoints of their time have it
    json.dump(config, open(os.path.join(folder, "config.json"), "w"))
    for f in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        shutil.copy(os.path.join(demo, f), folder)
    return folder


def run(*command):
    r = subprocess.run(command, capture_output=True, text=True)
    if r.returncode:
        lines = (r.stderr or r.stdout).strip().splitlines()
        print("        " + " ".join(command)[:200] + f": {lines[-1] if lines else r.returncode}")
    return r.returncode == 0


def our_logits(path, ids, mode="f32"):
    ids_file, out_file = os.path.join(out, "ids"), os.path.join(out, "logits")
    open(ids_file, "w").write(" ".join(map(str, ids)) + "\n")
    if not run(logits_program, path, ids_file, out_file, mode):
        return None
    return np.fromfile(out_file, np.float32).reshape(len(ids) - 1, -1)


def their_logits(path):
    result = os.path.join(out, "theirs.npz")
    if not run(sys.executable, sys.argv[0], "--logits", path, text, result):
        return None, None
    r = np.load(result)
    return [int(i) for i in r["ids"]], r["logits"]


def their_conversion(folder, name):
    """llama.cpp's converter, told the pre-tokenizer's name (it knows tokenizers by hash)."""
    path = os.path.join(out, name + "-theirs.gguf")
    code = ("import sys; sys.path.insert(0, %r); sys.argv = ['convert', %r, '--outfile', %r, '--outtype', %r]\n"
            "from conversion import base\n"
            "base.TextModel.get_vocab_base_pre = lambda self, t: 'qwen2'\n"
            "import transformers\n"  # the class that config.json's model has would add tokens of its own
            "transformers.AutoTokenizer.from_pretrained = transformers.PreTrainedTokenizerFast.from_pretrained\n"
            "load = base.ModelBase.load_hparams\n"  # transformers 5 leaves keys out that the converter asks for
            "def whole(d, *a, **k):\n h = load(d, *a, **k); return {**__import__('json').load(open(str(d) + '/config.json')), **h}\n"
            "base.ModelBase.load_hparams = staticmethod(whole)\n"
            "def none(self, *a, **k): raise FileNotFoundError\n"
            "base.TextModel._set_vocab_sentencepiece = base.TextModel._set_vocab_gpt2 if %r else none\n"
            "import convert_hf_to_gguf\nconvert_hf_to_gguf.main()\n" % (llama_cpp_source, folder, path, "bf16" if name.startswith("gemma") else "f16", name.startswith("gemma")))
    if name == "fi3":  # it looks for tokenizer.model unless the class is GPT2's
        config = json.load(open(os.path.join(folder, "tokenizer_config.json")))
        config["tokenizer_class"] = "GPT2Tokenizer"
        json.dump(config, open(os.path.join(folder, "tokenizer_config.json"), "w"))
    return path if run(sys.executable, "-c", code) else None


def compare_files(ours, theirs, name):
    a, b = gguf.GGUFReader(ours), gguf.GGUFReader(theirs)
    x, y = ({t.name: t for t in r.tensors} for r in (a, b))
    ok = check(set(x) == set(y), f"{name}: the tensors have llama.cpp's names" + ("" if set(x) == set(y) else f": {sorted(set(x) ^ set(y))[:6]}"))
    different = [n for n in x if n in y and (x[n].tensor_type != y[n].tensor_type or list(x[n].shape) != list(y[n].shape) or
                                             not np.array_equal(x[n].data, y[n].data, equal_nan=False))]
    check(not different, f"{name}: {len(x)} tensors have llama.cpp's types, shapes and bytes" + (f", but {different[:6]}" if different else ""))
    ignored = ("general.", "GGUF.", "tokenizer.ggml.token_type", "tokenizer.ggml.padding", "tokenizer.ggml.unknown", "tokenizer.ggml.add_")
    p, q = ({k: f.contents() for k, f in r.fields.items() if not k.startswith(ignored)} for r in (a, b))
    wrong = [k for k in q if k in p and p[k] != q[k]]
    check(not wrong, f"{name}: metadata agree" + "".join(f"; {k}: ours {str(p[k])[:40]}, theirs {str(q[k])[:40]}" for k in wrong))
    missing = [k for k in q if k not in p]
    check(not missing, f"{name}: nothing is missing of theirs" + (f", but {missing}" if missing else ""))
    return ok


def close(a, b, what, limit):
    if a is None or b is None:
        return check(False, what + ": no logits")
    diff = np.abs(a - b).max() / np.abs(b).max()
    check(a.shape == b.shape and diff < limit, f"{what}: largest difference {diff:.2e} of the largest logit (at most {limit:g})")


QUANTS = {"q4_0": 2, "q8_0": 7, "q4_k_m": 15, "q3_k_m": 12, "iq4_xs": 30}


def quantized(folder, f16):
    """llama.cpp's quantizer on the demo: decoded by gguf-py and by us."""
    import llama_cpp
    for name, ftype in QUANTS.items():
        path = os.path.join(out, f"demo-{name}.gguf")
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype, params.nthread = ftype, 1
        if not check(llama_cpp.llama_model_quantize(f16.encode(), path.encode(), ctypes.byref(params)) == 0, f"llama.cpp makes {name}"):
            continue
        back = os.path.join(out, f"demo-{name}-hf")
        shutil.rmtree(back, ignore_errors=True)
        if not check(run(program, "convert", path, back, "--to", "hf", "--dtype", "f32"), f"{name}: decoded by us"):
            continue
        from safetensors.numpy import load_file
        ours = load_file(os.path.join(back, "model.safetensors"))
        bad = []
        for t in gguf.GGUFReader(path).tensors:
            want = gguf.quants.dequantize(t.data, t.tensor_type)
            key = hf_name(t.name)
            got = ours[key]
            if t.name.endswith(("attn_q.weight", "attn_k.weight")):
                heads = 8 if t.name.endswith("attn_q.weight") else 4
                want = want.reshape(heads, want.shape[0] // heads // 2, 2, -1).swapaxes(1, 2).reshape(want.shape)
            if not np.array_equal(got.reshape(want.shape), want.astype(np.float32)):
                bad.append(t.name)
        check(not bad, f"{name}: decoded values are gguf-py's, bit for bit" + (f", but {bad[:4]}" if bad else ""))
        ids, theirs = their_logits(path)
        close(our_logits(path, ids), theirs, f"{name}: logits (theirs with 8-bit activations)", 0.08)


def hf_name(n):
    for a, b in (("token_embd", "model.embed_tokens"), ("output_norm", "model.norm"), ("blk.", "model.layers."), ("attn_norm", "input_layernorm"),
                 ("ffn_norm", "post_attention_layernorm"), ("attn_output", "self_attn.o_proj"), ("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"),
                 ("attn_v", "self_attn.v_proj"), ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj")):
        n = n.replace(a, b)
    return "lm_head.weight" if n == "output.weight" else n


def convert(folder, name):
    target = os.path.join(out, name + "-gguf")
    shutil.rmtree(target, ignore_errors=True)
    return os.path.join(target, "model.gguf") if check(run(program, "convert", folder, target, "--to", "gguf"), f"{name}: written by us") else None


os.makedirs(out, exist_ok=True)
for name in models:
    if only and name not in only:
        continue
    folder = make(name)
    ours = convert(folder, name)
    if not ours:
        continue
    if llama_cpp_source:
        theirs = their_conversion(folder, name)
        if check(theirs is not None, f"{name}: converted by llama.cpp"):
            compare_files(ours, theirs, name)
    ids, logits = their_logits(ours)
    if not check(ids is not None, f"{name}: llama.cpp loads it"):
        continue
    close(our_logits(folder, ids), logits, f"{name}: our logits from the folder against llama.cpp's", 0.02)
    a, b = our_logits(ours, ids), our_logits(folder, ids)
    check(a is not None and b is not None and np.array_equal(a, b), f"{name}: our logits from the file are those from the folder")
if not only or "quants" in only:
    f16 = convert(demo, "demo")
    if f16:
        quantized(demo, f16)
print(f"{failures} comparisons failed" if failures else "all comparisons passed")
sys.exit(failures != 0)
