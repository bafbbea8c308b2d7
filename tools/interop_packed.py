#!/usr/bin/env python3
"""interop_packed.py: do the originals read what `assay convert` wrote as we do?

    python interop_packed.py FOLDER

FOLDER holds NAME (a converted checkpoint) and NAME-plain (what `assay convert NAME --to hf --dtype f32` decodes it to) for each of
gptq, gptq-asym, gptq_v2, gptq3, gptq-int8, awq, hqq, ct, bnb, fp8. Per matrix: the original's own classes unpack and decode the tensors:
GPTQModel's TorchLinear after its own change of version, AutoAWQ's dequantize_gemm, hqq's HQQLinear. The decoded weights are ours within the
rounding of the original's type; codes and zero points, unpacked by the original, times the scales in float32 are ours exactly. Whole models:
transformers loads ct and bnb, GPTQModel gptq, AutoAWQ awq; their logits are those of NAME-plain in float32 within the arithmetic's noise. One TAP line per
check; exit code 1 if one fails.
"""
import json, os, sys, warnings
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM

torch.set_num_threads(1)
warnings.filterwarnings("ignore", category=DeprecationWarning, module="awq")
top = sys.argv[1]
count = failed = 0


def check(what, good, note=""):
    global count, failed
    count += 1
    failed += not good
    print(f"{'ok' if good else 'not ok'} {count} - {what}{' (' + note + ')' if note else ''}", flush=True)


def tensors(name):
    f = safe_open(os.path.join(top, name, "model.safetensors"), "pt")
    return {k: f.get_tensor(k) for k in f.keys()}


def config(name):
    with open(os.path.join(top, name, "config.json")) as f:
        return json.load(f)["quantization_config"]


def compare(name, modules, decode):
    plain, worst, exact = tensors(name + "-plain"), 0.0, True
    for m in modules:
        ours = plain[m + ".weight"]
        theirs, codes = decode(m)
        worst = max(worst, ((theirs.float() - ours).abs().max() / ours.abs().max()).item())
        exact = exact and (codes is None or torch.equal(codes, ours))
    check(f"{name}: {len(modules)} matrices are decoded by the original as by us", len(modules) > 0 and worst < 2 ** -7, f"largest difference {worst:.1e}")
    check(f"{name}: codes, zero points and scales are the same bit for bit", exact)


def gptq(name):
    from gptqmodel import QuantizeConfig
    from gptqmodel.nn_modules.qlinear.torch import TorchLinear
    from gptqmodel.utils.model import convert_gptq_v1_to_v2_format_module
    from gptqmodel.utils.model_dequant import unpack_cols, unpack_rows
    t, q = tensors(name), config(name)
    loaded = QuantizeConfig.from_pretrained(os.path.join(top, name))
    check(f"{name}: GPTQModel reads the configuration", loaded.bits == q["bits"] and loaded.sym == q["sym"] and loaded.group_size == q["group_size"])
    modules = sorted(k[:-8] for k in t if k.endswith(".qweight"))

    def decode(m):
        i, o = t[m + ".g_idx"].numel(), t[m + ".qweight"].shape[1]
        layer = TorchLinear(bits=q["bits"], group_size=q["group_size"], sym=q["sym"], desc_act=q["desc_act"], in_features=i, out_features=o, register_buffers=True)
        for k in ("qweight", "qzeros", "scales", "g_idx"):
            setattr(layer, k, t[f"{m}.{k}"])
        if q["checkpoint_format"] == "gptq":
            convert_gptq_v1_to_v2_format_module(layer, q["bits"], torch.int32)
        layer.optimized = False
        code = unpack_rows(layer.qweight, q["bits"]).float()
        zero = unpack_cols(layer.qzeros, q["bits"]).float()
        g = layer.g_idx.long()
        return layer.dequantize_weight().T, ((code - zero[g]) * layer.scales.float()[g]).T.contiguous()

    compare(name, modules, decode)


def awq(name):
    from awq.utils.packing_utils import dequantize_gemm
    t, q = tensors(name), config(name)
    modules = sorted(k[:-8] for k in t if k.endswith(".qweight"))

    def decode(m):
        a = (t[m + ".qweight"], t[m + ".qzeros"])
        return (dequantize_gemm(*a, t[m + ".scales"], q["bits"], q["group_size"]).T,
                dequantize_gemm(*a, t[m + ".scales"].float(), q["bits"], q["group_size"]).T.contiguous())

    compare(name, modules, decode)


def hqq(name):
    from hqq.core.quantize import HQQLinear
    t = tensors(name)
    modules = sorted(k[:-4] for k in t if k.endswith(".W_q"))

    def decode(m):
        layer = HQQLinear(None, None, compute_dtype=torch.float32, device="cpu", initialize=False)
        layer.load_state_dict({k[len(m) + 1:]: v.clone() for k, v in t.items() if k.startswith(m + ".")})
        w = layer.dequantize()
        return w, w

    compare(name, modules, decode)


def logits(model):
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(0, model.config.vocab_size, (1, 48), generator=g)
    with torch.no_grad():
        return model(ids).logits.float()


def whole(name, load, limit):
    ours = logits(AutoModelForCausalLM.from_pretrained(os.path.join(top, name + "-plain"), dtype=torch.float32))
    theirs = logits(load(os.path.join(top, name)))
    error = ((theirs - ours).norm() / ours.norm()).item()
    check(f"{name}: the original loads the whole model with our logits", torch.isfinite(theirs).all().item() and error < limit, f"relative difference {error:.1e}")


def load_ct(path):
    from transformers import CompressedTensorsConfig
    try:
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, quantization_config=CompressedTensorsConfig(dequantize=True))
    except TypeError:  # older transformers
        return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, quantization_config=CompressedTensorsConfig(run_compressed=False))


def load_gptq(path):
    from gptqmodel import BACKEND, GPTQModel
    return GPTQModel.load(path, device="cpu", backend=BACKEND.TORCH).model


def load_awq(path):
    """AutoAWQ's own loader. On a CPU it wants intel_extension_for_pytorch, which has no version for this torch, and Triton's kernels want a
    GPU: told of neither, it takes its plain product, on the tensors as its file layout has them."""
    import awq.models.base
    import awq.modules.linear.gemm
    from awq import AutoAWQForCausalLM
    awq.models.base.get_best_device = lambda: "plain"
    awq.modules.linear.gemm.TRITON_AVAILABLE = False
    loaded = AutoAWQForCausalLM.from_quantized(path, fuse_layers=False, device_map={"": "cpu"}, torch_dtype=torch.float16)
    quantized = sum(type(m).__name__ == "WQLinear_GEMM" for m in loaded.model.modules())
    check("awq: AutoAWQ's loader reads the configuration and puts its own modules in", quantized > 0 and loaded.quant_config.w_bit == 4 and
          loaded.quant_config.q_group_size == config("awq")["group_size"], f"{quantized} modules")
    return loaded.model


def guarded(what, fn, *args):
    try:
        fn(*args)
    except Exception as e:  # an original that breaks is a finding, too
        check(what, False, f"{type(e).__name__}: {str(e)[:300]}".replace("\n", " "))


for n in ("gptq", "gptq-asym", "gptq_v2", "gptq3", "gptq-int8"):
    guarded(n, gptq, n)
guarded("awq", awq, "awq")
guarded("hqq", hqq, "hqq")
guarded("ct in transformers", whole, "ct", load_ct, 2e-2)
guarded("bnb in transformers", whole, "bnb", lambda p: AutoModelForCausalLM.from_pretrained(p, dtype=torch.float32), 2e-2)
guarded("gptq in GPTQModel", whole, "gptq", load_gptq, 2e-2)
guarded("awq in AutoAWQ", whole, "awq", load_awq, 2e-2)
guarded("gptq_v2 in GPTQModel", whole, "gptq_v2", load_gptq, 2e-2)
print(f"1..{count}")
sys.exit(failed > 0)
