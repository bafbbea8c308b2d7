#!/usr/bin/env python3
"""Compares our tokenizers with Hugging Face's over large texts: ids, and what they decode to. Mismatches must be 0.

interop_tokenizers.py ENCODE_FILE SHARED [NAME...]
  ENCODE_FILE  tests/text/encode_file.c, compiled and linked with the rooms text and base
  SHARED       folder with tokenizers/, data/ and models/ (ASSAY_SHARED); texts come from its data/
Needs tokenizers and transformers (tools/interop.sh installs them). Prints one line per tokenizer; exit code 1 on any mismatch.
"""
import os, random, struct, subprocess, sys, tempfile, unicodedata
from tokenizers import Tokenizer


def texts(shared, limit=1_500_000):
    """Real texts in pieces of very different lengths, then hostile ones. At least a megabyte."""
    rng = random.Random(1)
    names = ["wiki", "c4", "code", "technical", "multilingual"]
    out = []
    for name in names:
        path = os.path.join(shared, "data/exllamav3-calibration", name + ".utf8")
        data = open(path, encoding="utf-8", errors="replace").read()[: limit // len(names)]
        i = 0
        while i < len(data):
            n = rng.choice([20, 80, 300, 1200, 6000, 30000])
            out.append(data[i : i + n])
            i += n
    pool = ("aA1 \t\n\r\u00a0\u0085\u180e\u2028\u3000\u200b\u200d\ufeff.,!?'\"<|>#$%&*()-_=+[]{}\\/é\u0301ñßİıſKﬁ"
            "中文字符日本語ひらがな한국어عربيहिन्दीไทย🙂👩‍👩‍👧🇩🇪𝔸Ⅷ½²①ǅ\u0300\u0903\ue000\U0010ffff")
    for k in range(2000):
        out.append("".join(rng.choice(pool) for _ in range(rng.randrange(1, 60))))
    # Characters of Unicode 14, which is what PCRE2 10.42 knows: newer ones count as unassigned here and as letters there.
    known = [chr(c) for c in range(1, 0x2FFFF) if unicodedata.category(chr(c)) not in ("Cs", "Cn")]
    for k in range(600):
        out.append("".join(rng.choice(known) for _ in range(40)))
    out += ["a" * 20000, " " * 5000, "\n" * 3000, "ab" * 9000, "'s'll're" * 200, "é" * 4000, "1234567890" * 500]
    specials = ["<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|begin|>", "<|end|>", "<|user|>", "<0x41>"]
    for k in range(500):
        out.append("".join(rng.choice(specials + ["Hello", " ", "  x ", "\n", "▁", "I'm", "é"]) for _ in range(rng.randrange(1, 12))))
    return [t.replace("\0", "") for t in out if t.replace("\0", "")]


def assemble(shared, name, work):
    """A folder with tokenizer.json for each known name; Qwen2.5 and Llama-3 are built from their vocabularies."""
    where = {"gpt2": "tokenizers/gpt2", "smollm2": "tokenizers/smollm2", "llama-2": "tokenizers/llama-2",
             "stories260K": "models/stories260K/hf", "demo": "demo/model"}
    if name in where:
        return os.path.join(shared, where[name])
    folder = os.path.join(work, name)
    os.makedirs(folder, exist_ok=True)
    subprocess.run([sys.executable, os.path.join(os.path.dirname(__file__), "make_tokenizer.py"), shared, name,
                    os.path.join(folder, "tokenizer.json")], check=True)
    return folder


def records(path):
    data = open(path, "rb").read()
    i = 0
    while i < len(data):
        (n,) = struct.unpack_from("<I", data, i)
        ids = list(struct.unpack_from("<%di" % n, data, i + 4))
        i += 4 + 4 * n
        (m,) = struct.unpack_from("<I", data, i)
        yield ids, data[i + 4 : i + 4 + m].decode("utf-8")
        i += 4 + m


def main():
    program, shared = sys.argv[1:3]
    names = sys.argv[3:] or ["gpt2", "smollm2", "llama-2", "stories260K", "demo", "qwen2.5", "llama-3"]
    sample = texts(shared)
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        source = os.path.join(work, "in")
        with open(source, "wb") as f:
            f.write(b"\0".join(t.encode("utf-8") for t in sample))
        for name in names:
            folder = assemble(shared, name, work)
            reference = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
            reference.no_truncation()
            for mode in ["special", "nospecial"]:
                result = os.path.join(work, "out")
                line = subprocess.run([program, folder, source, result, mode], check=True, capture_output=True, text=True).stdout
                reference.encode_special_tokens = mode == "nospecial"
                expected = [e.ids for e in reference.encode_batch(sample)]
                wrong_ids = wrong_text = 0
                for text, want, (ids, decoded) in zip(sample, expected, records(result), strict=True):
                    if ids != want:
                        wrong_ids += 1
                        if wrong_ids <= 3:
                            k = next((i for i, (a, b) in enumerate(zip(ids, want)) if a != b), min(len(ids), len(want)))
                            print("  text %r\n  first difference at %d: ours %s, theirs %s" % (text[:80], k, ids[k : k + 6], want[k : k + 6]))
                            print("   ", [reference.id_to_token(i) for i in ids[max(0, k - 2) : k + 5]], [reference.id_to_token(i) for i in want[max(0, k - 2) : k + 5]])
                    elif decoded != reference.decode(ids, skip_special_tokens=False):
                        wrong_text += 1
                        if wrong_text <= 3:
                            print("  decoded %r\n  wanted  %r" % (decoded[:80], reference.decode(ids, skip_special_tokens=False)[:80]))
                bad += wrong_ids + wrong_text
                print("%-12s %-9s %d texts: %d id mismatches, %d text mismatches; %s" % (name, mode, len(sample), wrong_ids, wrong_text, line.strip()), flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
