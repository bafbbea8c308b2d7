#!/usr/bin/env python3
"""interop_methods.py: the originals of every quantization method and ours, on the same model, tokens, bits and groups.

    interop_methods.py one NAME MODEL IDS OUT SETTINGS      run one original in this (fresh) process
    interop_methods.py table PROGRAM KL [--only PATTERN]    run what is not cached, then ours, and print the table

tools/interop_methods.sh prepares the environment and calls `table`. An original's result becomes a dense float32 checkpoint
(the values that its codes stand for), so that one tool (tools/kl.c, float32 activations) measures both sides on the same text.
Seconds are of quantizing alone: no imports, no loading, no writing. Memory is the process's peak resident set during that time
above what it was with everything imported and the model loaded. Ours counts the whole program where there is calibration (reading,
quantizing, writing); of methods without data, which take milliseconds here, the sum over the matrices of layers.jsonl (reading and
encoding each, and measuring what it lost). Its memory is the whole program's peak resident set above the model's size.

Results of the originals are cached in build/interop-methods/originals by name, versions, settings, model and tokens.
"""
import json
import os
import resource
import sys
import time

# --- measuring ---------------------------------------------------------------------------------------------------------------


def status_kb(key):
    with open("/proc/self/status") as f:
        for line in f:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


class Measure:
    """Wall and CPU seconds and the peak resident set between enter and exit."""

    def __enter__(self):
        import gc
        gc.collect()
        with open("/proc/self/clear_refs", "w") as f:
            f.write("5")  # resets the peak
        self.rss_before = status_kb("VmRSS")
        r = resource.getrusage(resource.RUSAGE_SELF)
        self.cpu0, self.t0, self.load0 = r.ru_utime + r.ru_stime, time.monotonic(), os.getloadavg()[0]
        return self

    def __exit__(self, *exc):
        self.seconds = time.monotonic() - self.t0
        r = resource.getrusage(resource.RUSAGE_SELF)
        self.cpu = r.ru_utime + r.ru_stime - self.cpu0
        self.rss_peak = status_kb("VmHWM")
        return False

    def record(self):
        return {"seconds": self.seconds, "cpu_seconds": self.cpu, "rss_loaded": self.rss_before, "rss_peak": self.rss_peak,
                "memory": self.rss_peak - self.rss_before, "load": self.load0,
                "threads": sys.modules["torch"].get_num_threads()}


# --- the originals -----------------------------------------------------------------------------------------------------------
# Each takes (model directory, [n][length] ids, settings) and returns (measure, {weight name: float32 tensor}).


def load(path):
    """In the checkpoint's own type, as the originals' users do."""
    from transformers import AutoModelForCausalLM
    return AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()


def linears(model):
    """Matrices of the decoder layers, which are what every side quantizes."""
    import torch
    return {n: m for n, m in model.named_modules() if ".layers." in n and isinstance(m, torch.nn.Linear)}


def dense(model):
    return {n: p.detach().float().contiguous().clone() for n, p in model.named_parameters()}


def dataset(ids):
    from datasets import Dataset
    return Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(s) for s in ids]})


def weight_args(s):
    from compressed_tensors.quantization import QuantizationArgs
    kind = {"strategy": "channel"} if not s["group"] else {"strategy": "group", "group_size": s["group"]}
    return QuantizationArgs(num_bits=s["bits"], type="int", symmetric=s["sym"], **kind)


def llmcompressor_run(path, ids, modifiers):
    """Runs modifiers over the model and gives back what the stored codes would decode to."""
    import torch
    from compressed_tensors.quantization.lifecycle.forward import dequantize, quantize
    from llmcompressor import oneshot
    model = load(path)
    data = {"dataset": dataset(ids), "num_calibration_samples": len(ids), "max_seq_length": len(ids[0])} if ids else {}
    with Measure() as m:
        oneshot(model=model, recipe=modifiers, **data)
    out = {}
    with torch.no_grad():
        for n, x in linears(model).items():
            assert getattr(x, "weight_g_idx", None) is None
            args, scale, zero = x.quantization_scheme.weights, x.weight_scale, getattr(x, "weight_zero_point", None)
            glob = getattr(x, "weight_global_scale", None)
            q = quantize(x.weight, scale, zero, args, dtype=torch.float32, global_scale=glob)  # the codes, as saving makes them
            out[n + ".weight"] = dequantize(q, scale.float(), None if zero is None else zero.float(), args, dtype=torch.float32,
                                            global_scale=None if glob is None else glob.float())
    return m, {**dense_of(model), **out}


def dense_of(model):
    keep = {}
    for n, p in model.named_parameters():
        if n.endswith((".weight", ".bias")):
            keep[n] = p.detach().float().contiguous().clone()
    return keep


def scheme(s):
    from compressed_tensors.quantization import QuantizationScheme
    return {"group_0": QuantizationScheme(targets=["Linear"], weights=weight_args(s))}


def one_rtn(path, ids, s):
    from llmcompressor.modifiers.quantization import QuantizationModifier
    return llmcompressor_run(path, None, [QuantizationModifier(config_groups=scheme(s), ignore=["lm_head"])])


def one_preset(path, ids, s):
    from llmcompressor.modifiers.quantization import QuantizationModifier
    return llmcompressor_run(path, None, [QuantizationModifier(targets=["Linear"], scheme=s["scheme"], ignore=["lm_head"])])


def one_gptq_llmc(path, ids, s):
    from llmcompressor.modifiers.gptq import GPTQModifier
    return llmcompressor_run(path, ids, [GPTQModifier(config_groups=scheme(s), ignore=["lm_head"])])


def one_awq_llmc(path, ids, s):
    from llmcompressor.modifiers.awq import AWQModifier
    from llmcompressor.pipelines.cache import IntermediatesCache
    IntermediatesCache.pin_memory = lambda *a, **k: None  # fails without an accelerator, and is of no use then
    return llmcompressor_run(path, ids, [AWQModifier(config_groups=scheme(s), ignore=["lm_head"])])


def unpack_rows(words, bits, n):
    """int32 [n * bits / 32, columns], the least significant bits first -> [n, columns] codes."""
    import torch
    stream = (words.unsqueeze(1) >> torch.arange(32).view(1, 32, 1)) & 1
    stream = stream.reshape(-1, words.shape[1])[: n * bits].reshape(n, bits, -1)
    return (stream << torch.arange(bits).view(1, bits, 1)).sum(1)


def one_gptqmodel(path, ids, s):
    import tempfile
    os.environ.setdefault("GPTQMODEL_CPU_WORKERS", "2")  # fewer than two, and it does not start on two cores
    from gptqmodel import GPTQModel, QuantizeConfig
    from safetensors.torch import load_file
    config = QuantizeConfig(bits=s["bits"], group_size=s["group"] or -1, sym=s["sym"], desc_act=False,
                            act_group_aware=s["group"] > 0)  # its default, refused for whole rows
    model = GPTQModel.load(path, config, device="cpu")
    with Measure() as m:
        model.quantize([{"input_ids": x, "attention_mask": [1] * len(x)} for x in ids], batch_size=1)
    out = {}
    with tempfile.TemporaryDirectory() as d:
        model.save(d)
        with open(f"{d}/config.json") as f:
            assert json.load(f)["quantization_config"]["checkpoint_format"] == "gptq"
        stored = load_file(f"{d}/model.safetensors")
    for n, t in stored.items():
        if n.endswith(".qweight"):
            base = n[: -len(".qweight")]
            g, scales = stored[base + ".g_idx"].long(), stored[base + ".scales"].float()
            q = unpack_rows(t, s["bits"], len(g))
            zeros = unpack_rows(stored[base + ".qzeros"].T.contiguous(), s["bits"], scales.shape[1]).T + 1
            out[base + ".weight"] = (scales[g] * (q - zeros[g])).T
        elif n.endswith((".weight", ".bias")):
            out[n] = t
    return m, out


def one_hqq(path, ids, s):
    import torch
    from hqq.core.quantize import Quantizer, hqq_base_quant_config
    model = load(path)
    config = hqq_base_quant_config(nbits=s["bits"], group_size=s["group"] or None, axis=1)["weight_quant_params"]
    out = {}
    with Measure() as m:
        packed = {n: Quantizer.quantize(x.weight.data, device="cpu", compute_dtype=model.dtype, **config)
                  for n, x in linears(model).items()}
    for n, (q, meta) in packed.items():
        meta.update(scale=meta["scale"].float(), zero=meta["zero"].float(), compute_dtype=torch.float32)
        out[n + ".weight"] = Quantizer.dequantize(q, meta).float()
    return m, {**dense(model), **out}


def one_autoround(path, ids, s):
    import torch
    from auto_round import AutoRound
    from transformers import AutoTokenizer
    model = load(path)
    tokenizer = AutoTokenizer.from_pretrained(path)
    rows = torch.tensor(ids)
    ar = AutoRound(model, tokenizer, bits=s["bits"], group_size=s["group"] or -1, sym=s["sym"], iters=s.get("iters", 200),
                   nsamples=len(ids), seqlen=len(ids[0]), dataset=[r.unsqueeze(0) for r in rows],
                   device_map="cpu", enable_torch_compile=False, low_gpu_mem_usage=False)
    with Measure() as m:
        r = ar.quantize()
    model = r[0] if isinstance(r, tuple) else ar.model
    out = {}
    for n, x in linears(model).items():  # weights lie on the grid up to 16 bits: back to codes times scale
        scale = x.scale.float().reshape(x.weight.shape[0], -1, 1)
        out[n + ".weight"] = ((x.weight.float().reshape(*scale.shape[:2], -1) / scale).round() * scale).reshape(x.weight.shape)
    return m, {**dense_of(model), **out}


def one_bnb4(path, ids, s):
    import torch
    import bitsandbytes.functional as F
    model = load(path)
    with Measure() as m:
        q = {n: F.quantize_4bit(x.weight.data, blocksize=s["group"], quant_type=s["type"], compress_statistics=s["double"])
             for n, x in linears(model).items()}
    for _, state in q.values():
        state.dtype = torch.float32
    return m, {**dense(model), **{n + ".weight": F.dequantize_4bit(*v) for n, v in q.items()}}


def one_bnb8(path, ids, s):
    import torch
    import bitsandbytes.functional as F
    model = load(path)
    with Measure() as m:
        q = {n: F.int8_vectorwise_quant(x.weight.data.to(torch.float16)) for n, x in linears(model).items()}
    return m, {**dense(model), **{n + ".weight": v[0].float() * v[1].float()[:, None] / 127 for n, v in q.items()}}


def one_smoothquant(path, ids, s):
    """SmoothQuant's formula (Xiao et al. 2022, equation 4): s_j = max|X_j|^a / max|W_j|^(1-a), folded into the norms in front of q, k, v and
    of gate, up; then int8 weights per row. Written as compressed-tensors' W8A8, so that activations are int8 per token as well."""
    import torch
    model = load(path).float()  # folding in 16 bits would round what it scales
    layers = model.model.layers
    amax = {}

    def watch(name):
        def hook(module, args):
            x = args[0].abs().reshape(-1, args[0].shape[-1]).amax(0)
            amax[name] = torch.maximum(amax[name], x) if name in amax else x
        return hook
    with Measure() as m, torch.no_grad():
        hooks = [x.register_forward_pre_hook(watch(n)) for n, x in linears(model).items() if n.endswith(("q_proj", "gate_proj"))]
        for r in ids:
            model(torch.tensor([r]))
        for h in hooks:
            h.remove()
        for i, layer in enumerate(layers):
            a, f = layer.self_attn, layer.mlp
            for norm, first, group in ((layer.input_layernorm, "self_attn.q_proj", (a.q_proj, a.k_proj, a.v_proj)),
                                       (layer.post_attention_layernorm, "mlp.gate_proj", (f.gate_proj, f.up_proj))):
                x = amax[f"model.layers.{i}.{first}"].clamp(min=1e-5)
                w = torch.stack([g.weight.abs().amax(0) for g in group]).amax(0).clamp(min=1e-5)
                scale = (x ** s["alpha"] / w ** (1 - s["alpha"])).clamp(min=1e-5)
                norm.weight.div_(scale)
                for g in group:
                    g.weight.mul_(scale)
        codes = {}
        for n, x in linears(model).items():
            scale = x.weight.abs().amax(1, keepdim=True).clamp(min=1e-5) / 127
            codes[n] = ((x.weight / scale).round().clamp(-127, 127).to(torch.int8), scale)
    out = dense(model)
    for n, (q, scale) in codes.items():
        out[n + ".weight"], out[n + ".weight_scale"] = q, scale
    return m, out


W8A8 = {"quant_method": "compressed-tensors", "format": "int-quantized", "quantization_status": "compressed", "ignore": ["lm_head"],
        "config_groups": {"group_0": {
            "targets": ["Linear"],
            "weights": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "channel", "dynamic": False},
            "input_activations": {"num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True}}}}


# --- one original in a fresh process -------------------------------------------------------------------------------------------


def write_checkpoint(out, path, weights):
    import shutil
    import torch
    from safetensors.torch import save_file
    os.makedirs(out, exist_ok=True)
    with open(f"{path}/config.json") as f:
        config = json.load(f)
    config["torch_dtype"] = "float32"
    config.pop("dtype", None)
    if any(t.dtype == torch.int8 for t in weights.values()):
        config["quantization_config"] = W8A8
    if config.get("tie_word_embeddings"):
        weights.pop("lm_head.weight", None)
    with open(f"{out}/config.json", "w") as f:
        json.dump(config, f, indent=1)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        if os.path.exists(f"{path}/{name}"):
            shutil.copy(f"{path}/{name}", out)
    save_file({n: (t if t.dtype == torch.int8 else t.float()).contiguous().clone() for n, t in weights.items()},
              f"{out}/model.safetensors")


def one(name, path, ids_file, out, settings):
    import torch
    torch.manual_seed(0)
    s = json.loads(settings)
    ids = None
    if s.get("calibrated"):
        with open(ids_file) as f:
            ids = [json.loads(line)["ids"] for line in f]
    m, weights = globals()["one_" + name](path, ids, s)
    write_checkpoint(out, path, weights)
    print("RESULT " + json.dumps(m.record()))


# --- the rows of the table ---------------------------------------------------------------------------------------------------


def row(label, original, recipe, bits, group, activations="f32", **settings):
    return {"label": label, "original": original, "recipe": recipe, "bits": bits, "group": group, "activations": activations,
            "settings": {"bits": bits, "group": group, **settings}}


def integer(label, original, recipe, bits, group, sym, **settings):
    ours = f"{recipe},int{bits},group_size={group or 'channel'},symmetric={'true' if sym else 'false'}"
    return row(f"{label} {'sym' if sym else 'asym'}", original, ours, bits, group, sym=sym, **settings)


def rows(model, group):
    """group: columns per scale that divide every matrix's; 0 = one scale per row."""
    out = []
    for bits in (4, 3):
        for sym in (True, False):
            out.append(integer("rtn (llm-compressor)", "rtn", "rtn", bits, group, sym))
        if group or bits != 3:  # GPTQModel cannot pack stories260K's 172 columns in 3 bits
            out.append(integer("gptq (GPTQModel)", "gptqmodel", "gptq", bits, group, True, calibrated=True))
        out.append(integer("gptq (llm-compressor)", "gptq_llmc", "gptq", bits, group, True, calibrated=True))
        out.append(integer("awq (llm-compressor)", "awq_llmc", "awq", bits, group, False, calibrated=True))
        if group:
            out.append(row("hqq (hqq)", "hqq", f"hqq,int{bits},group_size=64", bits, 64))
        if group:  # auto-round leaves matrices alone whose sides are no multiples of 32: most of stories260K
            out.append(integer("autoround (auto-round)", "autoround", "autoround", bits, group, True, calibrated=True))
    out.append(row("nf4 (bitsandbytes)", "bnb4", "nf4", 4, 64, type="nf4", double=False))
    out.append(row("nf4 dq (bitsandbytes)", "bnb4", "nf4,double_quant", 4, 64, type="nf4", double=True))
    out.append(row("fp4 (bitsandbytes)", "bnb4", "fp4", 4, 64, type="fp4", double=False))
    out.append(row("int8 (bitsandbytes)", "bnb8", "llm_int8,threshold=0", 8, 0))
    out.append(row("fp8 channel (llm-compressor)", "preset", "fp8", 8, 0, scheme="FP8_DYNAMIC"))
    if group:
        out.append(row("fp8 block (llm-compressor)", "preset", "fp8,scale=block", 8, 128, scheme="FP8_BLOCK"))
        out.append(row("mxfp4 (llm-compressor)", "preset", "rtn,mxfp4", 4, 32, scheme="MXFP4A16"))
        out.append(row("nvfp4 (llm-compressor)", "preset", "rtn,nvfp4", 4, 16, scheme="NVFP4A16"))
    out.append(row("smoothquant (formula)", "smoothquant", "smoothquant,int8,alpha=0.5", 8, 0, "auto", alpha=0.5, calibrated=True))
    return [{**r, "model": model} for r in out]


# --- running the originals ---------------------------------------------------------------------------------------------------

WORK = "build/interop-methods"
VERSIONS = ("torch", "transformers", "compressed-tensors", "llmcompressor", "gptqmodel", "auto-round", "hqq", "bitsandbytes")


def sha(*parts):
    import hashlib
    h = hashlib.sha256()
    for p in parts:
        h.update(p if isinstance(p, bytes) else p.encode())
        h.update(b"\0")
    return h.hexdigest()


def file_sha(path):
    with open(path, "rb") as f:
        return sha(f.read())


def versions():
    from importlib.metadata import PackageNotFoundError, version
    out = {}
    for name in VERSIONS:
        try:
            out[name] = version(name)
        except PackageNotFoundError:
            out[name] = None
    return out


def run_original(r, model, ids, seen):
    """The cached or fresh result: its folder with checkpoint and result.json (seconds, memory, or what went wrong)."""
    import shutil
    import subprocess
    if (model, ids) not in seen:
        seen[model, ids] = file_sha(f"{model}/model.safetensors") + file_sha(ids) + json.dumps(versions(), sort_keys=True)
    key = sha(seen[model, ids], r["original"], json.dumps(r["settings"], sort_keys=True))[:16]
    out = f"{WORK}/originals/{r['model']}-{r['original']}-{r['bits']}-{key}"
    if os.path.exists(out + "/result.json"):
        with open(out + "/result.json") as f:
            return out, json.load(f)
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(out)
    print(f"  running the original: {r['model']} {r['label']} {r['bits']} bits", file=sys.stderr, flush=True)
    with open(out + "/log", "w") as log:
        try:
            code = subprocess.run([sys.executable, __file__, "one", r["original"], model, ids, out, json.dumps(r["settings"])],
                                  stdout=log, stderr=subprocess.STDOUT, timeout=3600, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
    with open(out + "/log") as f:
        lines = f.read().splitlines()
    result = [x[7:] for x in lines if x.startswith("RESULT ")]
    got = json.loads(result[-1]) if result and code == 0 else {"failed": lines[-1][:300] if lines else f"exit code {code}"}
    if "failed" in got:
        return out, got  # not kept: the next run tries again
    got["versions"] = versions()
    with open(out + "/result.json", "w") as f:
        json.dump(got, f, indent=1)
    return out, got


# --- data --------------------------------------------------------------------------------------------------------------------

LENGTH, SAMPLES = 256, 128


def write_lines(path, lines):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path + ".tmp", "w") as f:
        f.writelines(json.dumps(x) + "\n" for x in lines)
    os.replace(path + ".tmp", path)


def write_windows(path, documents):
    """Ready ids for both sides: windows cut from the documents one behind the other, in an order drawn once."""
    import random
    random.Random(1).shuffle(documents)
    stream = [i for d in documents for i in d]
    write_lines(path, [{"ids": stream[i:i + LENGTH]} for i in range(0, len(stream) - LENGTH + 1, LENGTH)][:SAMPLES])


def prepare_demo(ids):
    from transformers import AutoTokenizer
    t = AutoTokenizer.from_pretrained("models/demo")
    with open("models/demo/calibration.jsonl") as f:
        lines = [json.loads(x) for x in f]
    write_windows(ids, [t.apply_chat_template(x["messages"], tokenize=True, return_dict=False) if "messages" in x
                        else t(x["text"])["input_ids"] for x in lines])


def prepare_stories(shared, ids, text):
    """The first 400 stories to calibrate, the last 150 held out."""
    from tokenizers import Tokenizer
    t = Tokenizer.from_file(f"{shared}/models/stories260K/hf/tokenizer.json")
    with open(f"{shared}/data/tinystories/train_0.txt") as f:
        stories = [x.strip() for x in f.read().split("<|endoftext|>")]
    write_windows(ids, [t.encode(x).ids for x in stories[:400]])
    write_lines(text, [{"text": x} for x in stories[-151:-1]])


def sources(shared):
    """name -> (model, ids of the calibration, held-out text as tools/kl.c takes it, columns per scale)"""
    demo = f"{WORK}/demo.ids.jsonl"
    if not os.path.exists(demo):
        prepare_demo(demo)
    out = {"demo": ("models/demo", demo, "models/demo/prose.txt,split=blank", 128)}
    stories, ids, text = f"{shared}/models/stories260K/hf", f"{WORK}/stories.ids.jsonl", f"{WORK}/stories.heldout.jsonl"
    if os.path.isdir(stories) and os.path.isdir(f"{shared}/data/tinystories"):
        if not (os.path.exists(ids) and os.path.exists(text)):
            prepare_stories(shared, ids, text)
        out["stories260K"] = (stories, ids, text, 0)
    return out


# --- ours, and measuring both --------------------------------------------------------------------------------------------------


def divergence(kl, model, variant, text, activations):
    """tools/kl's line, or {"failed": why}."""
    import subprocess
    p = subprocess.run([kl, model, variant, text, "--length", str(LENGTH), "--activations", activations, "--threads", "1"], capture_output=True, text=True, check=False)
    return json.loads(p.stdout) if p.returncode == 0 else {"failed": (p.stderr.strip().splitlines() or ["kl failed"])[-1]}


def find(j, key):
    """The first value of that key at any depth."""
    if isinstance(j, dict):
        if key in j:
            return j[key]
        j = list(j.values())
    if isinstance(j, list):
        for x in j:
            v = find(x, key)
            if v is not None:
                return v
    return None


def run_ours(program, r, model, ids, out):
    """Seconds and CPU seconds (the fastest of three where it is quick), peak memory; see above for what they count."""
    import shutil
    import subprocess
    best = None
    for _ in range(3):
        shutil.rmtree(out, ignore_errors=True)
        command = [program, "quantize", model, out, "--recipe", r["recipe"], "--json", "-q"]
        if r["settings"].get("calibrated"):
            command += ["--calibration", f"{ids},samples={SAMPLES},length={LENGTH}"]
        before, t0 = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
        p = subprocess.run(command, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - t0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        if p.returncode != 0:
            return {"failed": (p.stderr.strip().splitlines() or ["quantize failed"])[-1]}
        got = {"seconds": seconds, "cpu_seconds": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
               "rss_peak": find(json.loads(p.stdout), "peak_rss_bytes")}
        if not r["settings"].get("calibrated"):
            with open(f"{out}/layers.jsonl") as f:
                got["seconds"] = sum(json.loads(line)["seconds"] for line in f)
        if best is None or got["seconds"] < best["seconds"]:
            best = got
        if seconds > 5:
            break
    return best


def measured_original(kl, r, model, ids, text, seen):
    out, got = run_original(r, model, ids, seen)
    path = f"{out}/kl.json"
    if "failed" in got:
        return got
    if os.path.exists(path):
        with open(path) as f:
            d = json.load(f)
    else:
        d = divergence(kl, model, out, text, r["activations"])
        if "failed" not in d:
            with open(path, "w") as f:
                json.dump(d, f)
    return {**got, **d}


# --- the table ---------------------------------------------------------------------------------------------------------------

MIB = 1 << 20
KL_LIMIT, SPEED_LIMIT, MEMORY_LIMIT = 1.02, 3.0, 0.25
HEAD = ("model", "method", "bits", "group", "KL orig", "KL ours", "ratio", "ppl orig", "ppl ours", "s orig", "s ours", "times", "cpu", "MiB orig",
        "MiB ours", "ratio", "net")


def compare(r, theirs, ours, size):
    """A row of the table and what of it falls outside the limits. Memory is the peak above the model's own size; `net` compares ours with what
    the original needs above itself with everything imported and loaded."""
    kl = ours["kl"] / theirs["kl"] if theirs["kl"] else float(ours["kl"] > 0)
    speed, cpu = theirs["seconds"] / ours["seconds"], theirs["cpu_seconds"] / max(ours["cpu_seconds"], 1e-3)
    mem_theirs, mem_ours = theirs["rss_peak"] - size, ours["rss_peak"] - size
    cells = (r["model"], r["label"], r["bits"], r["group"] or "-", f"{theirs['kl']:.3e}", f"{ours['kl']:.3e}", f"{kl:.3f}",
             f"{theirs['ppl_variant']:.4f}", f"{ours['ppl_variant']:.4f}", f"{theirs['seconds']:.2f}", f"{ours['seconds']:.2f}", f"{speed:.1f}",
             f"{cpu:.1f}", f"{mem_theirs / MIB:.0f}", f"{mem_ours / MIB:.1f}", f"{mem_ours / mem_theirs:.3f}",
             f"{mem_ours / max(theirs['memory'], 1):.2f}")
    bad = []
    if r["bits"] <= 4 and kl > KL_LIMIT:
        bad.append(f"KL {kl:.3f} times the original's")
    if speed < SPEED_LIMIT:
        bad.append(f"only {speed:.1f} times faster")
    if mem_ours > MEMORY_LIMIT * mem_theirs:
        bad.append(f"memory {mem_ours / mem_theirs:.2f} of the original's")
    return cells, bad


def print_table(rows_):
    widths = [max(len(str(x[i])) for x in [HEAD, *rows_]) for i in range(len(HEAD))]
    for x in [HEAD, *rows_]:
        print("  ".join(str(c).ljust(w) if i < 2 else str(c).rjust(w) for i, (c, w) in enumerate(zip(x, widths))))


def table(args):
    import re
    shared = os.environ.get("ASSAY_SHARED", "../shared")
    seen, lines, bad, loaded = {}, [], [], 0
    for name, (model, ids, text, group) in sources(shared).items():
        size = os.path.getsize(f"{model}/model.safetensors")
        for r in rows(name, group):
            title = f"{name} {r['label']} {r['bits']}"
            if args.only and not re.search(args.only, title):
                continue
            theirs = measured_original(args.kl, r, model, ids, text, seen)
            out = f"{WORK}/ours"
            ours = {} if args.originals else run_ours(args.program, r, model, ids, out)
            if "failed" not in ours and not args.originals:
                ours.update(divergence(args.kl, model, out, text, r["activations"]))
            loaded = max(loaded, theirs.get("load", 0))
            print(f"  {title}: KL {theirs.get('kl', theirs.get('failed', '?'))} and ours {ours.get('kl', ours.get('failed', '-'))}", file=sys.stderr,
                  flush=True)
            if args.originals or "failed" in theirs or "failed" in ours:
                why = f"original: {theirs['failed']}" if "failed" in theirs else f"ours: {ours['failed']}" if ours else ""
                lines.append((name, r["label"], r["bits"], r["group"] or "-", *[f"{theirs[k]:{f}}" if k in theirs else "-" for k, f in
                              (("kl", ".3e"),)], "-", "-", *[f"{theirs[k]:{f}}" if k in theirs else "-" for k, f in (("ppl_variant", ".4f"),)], "-",
                              *[f"{theirs[k]:.2f}" if k in theirs else "-" for k in ("seconds",)], *["-"] * 7))
                if why:
                    bad.append(f"{title}: {why}")
                continue
            cells, wrong = compare(r, theirs, ours, size)
            lines.append(cells)
            bad += [f"{title}: {w}" for w in wrong]
    print_table(lines)
    if loaded > 1.5:
        print(f"(the originals' seconds were taken while the machine was busy, load up to {loaded:.1f}: FRESH=1 takes them again)")
    for b in bad:
        print("outside the limits: " + b)
    print(f"{len(bad)} outside the limits" if bad else "all rows within the limits",
          f"(KL ratio at most {KL_LIMIT} at 4 bits and less, {SPEED_LIMIT:.0f} times faster, memory at most {MEMORY_LIMIT})")
    return 1 if bad else 0


def main(argv):
    import argparse
    if argv[:1] == ["one"]:
        return one(*argv[1:])
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sub = p.add_subparsers(dest="command", required=True)
    t = sub.add_parser("table")
    t.add_argument("program")
    t.add_argument("kl")
    t.add_argument("--only", help="rows whose 'MODEL METHOD BITS' the pattern matches")
    t.add_argument("--originals", action="store_true", help="only what the originals give")
    return table(p.parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
