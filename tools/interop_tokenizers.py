#!/usr/bin/env python3
"""Compares our tokenizers with the originals over large texts: ids, and what they decode to. Prints a table; exit code 1 on a mismatch.

interop_tokenizers.py BUILD SHARED WORK [GROUP...]
  BUILD        folder with encode_file and render_file (tests/text/), compiled and linked with the rooms text and base
  SHARED       folder with tokenizers/, data/ and models/ (ASSAY_SHARED); texts come from its data/
  WORK         folder for what is trained and built here; kept between runs
Groups (all when none is named):
  json      tokenizer.json against Hugging Face's tokenizers, with and without special tokens in the text
  spm       tokenizer.model against sentencepiece: Llama's and Mistral's, and six trained here (BPE and Unigram, byte fallback, NFKC, case
            folding, user-defined symbols, white space as suffix)
  tiktoken  Llama 3's original tokenizer.model against tiktoken, with Meta's pattern and special tokens; the same through GGUF's fields
  unigram   tokenizer.json of kind Unigram, made of the trained ones as transformers converts them, against tokenizers
  families  every pre-tokenizer of src/text/pre.def whose tokenizer.json we can state, over GPT-2's vocabulary, against tokenizers; and the
            same through GGUF's fields and back
  gguf      GGUF vocabularies: their .inp/.out (llama.cpp's own ids), and large texts against tokenizers and sentencepiece
  written   tokenizers through GGUF's fields and back, against themselves
  hf        the tokenizer.json and tokenizer_config.json that we write of GGUF vocabularies, and of the tokenizers above through GGUF's fields,
            loaded by tokenizers and by transformers' AutoTokenizer, against ours; and read again by us
  templates every chat template below SHARED and in ASSAY_TEMPLATES: plain, system, multi-turn, tools, tool calls and results, reasoning,
            against transformers
Needs tokenizers, transformers, sentencepiece, tiktoken (tools/interop_tokenizers.sh installs them).
"""
import json, os, random, struct, subprocess, sys, unicodedata
import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers


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
    folder = os.path.join(work, "json-" + name)
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


class Run:
    """One program, one set of texts; counts what differs."""

    def __init__(self, program, sample, work):
        self.program, self.sample, self.work, self.bad = program, sample, work, 0
        self.source = os.path.join(work, "texts")
        with open(self.source, "wb") as f:
            f.write(b"\0".join(t.encode("utf-8") for t in sample))
        self.size = os.path.getsize(self.source)

    def ours(self, path, mode, written=False, source=None):
        """(ids, decoded) of each text, and the line with the speed; or the error's text."""
        result = os.path.join(self.work, "out")
        call = [self.program, path, source or self.source, result, mode] + (["written"] if written else [])
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode:
            return None, done.stderr.strip()
        return list(records(result)), done.stdout.strip()

    def compare(self, name, path, mode, want, decode=None, known=0, written=False, allow=None):
        """want: ids of each text. known: so many texts may differ (the reason stands where it is given)."""
        got, line = self.ours(path, mode, written)
        if got is None:
            refused = bool(allow and allow in line)
            self.bad += not refused
            print("%-44s %-9s %s%s" % (name, mode, "refused as it should: " if refused else "NOT OK: ", line), flush=True)
            return
        ids_differ = text_differs = 0
        for text, theirs, (ids, decoded) in zip(self.sample, want, got, strict=True):
            if ids != theirs:
                ids_differ += 1
                if ids_differ <= 2:
                    k = next((i for i, (a, b) in enumerate(zip(ids, theirs)) if a != b), min(len(ids), len(theirs)))
                    print("  text %r of %d characters\n  first difference at %d: ours %s, theirs %s" % (text[:60], len(text), k, ids[k : k + 6], theirs[k : k + 6]))
            elif decode and decoded != decode(ids):
                text_differs += 1
                if text_differs <= 2:
                    print("  decoded %r\n  wanted  %r" % (decoded[:80], decode(ids)[:80]))
        self.bad += (ids_differ > known) + text_differs
        print("%-44s %-9s %9d bytes %5d texts %4d ids differ %4s texts differ  %s" % (
            name, mode, self.size, len(self.sample), ids_differ, text_differs if decode else "-", line.split(", ", 3)[-1]), flush=True)


def hf_ids(tok, sample, special=True, parse=True):
    tok.encode_special_tokens = not parse
    return [e.ids for e in tok.encode_batch(sample, add_special_tokens=special)]


# ---- tokenizer.json ----

def group_json(run, shared):
    for name in ["gpt2", "smollm2", "llama-2", "stories260K", "demo", "qwen2.5", "llama-3"]:
        folder = assemble(shared, name, run.work)
        reference = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        reference.no_truncation()
        for mode in ["special", "nospecial"]:
            want = hf_ids(reference, run.sample, parse=mode == "special")
            run.compare(name, folder, mode, want, lambda ids: reference.decode(ids, skip_special_tokens=False))


# ---- tokenizer.model ----

TRAINED = {
    "bpe-bytes": dict(model_type="bpe", vocab_size=6000, byte_fallback=True, normalization_rule_name="identity", split_digits=True, remove_extra_whitespaces=False, allow_whitespace_only_pieces=True),
    "bpe-nfkc": dict(model_type="bpe", vocab_size=4000, normalization_rule_name="nmt_nfkc"),
    "bpe-user": dict(model_type="bpe", vocab_size=4000, normalization_rule_name="nmt_nfkc_cf", user_defined_symbols=["<sep>", "foo", "ab", "abc", "I'm", "▁x"], add_dummy_prefix=False, byte_fallback=True),
    "unigram-bytes": dict(model_type="unigram", vocab_size=4000, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
    "unigram-nfkc": dict(model_type="unigram", vocab_size=4000, normalization_rule_name="nmt_nfkc"),
    "unigram-user": dict(model_type="unigram", vocab_size=4000, normalization_rule_name="nfkc_cf", user_defined_symbols=["<sep>", "foo", "ab", "abc", "I'm"], control_symbols=["<ctl>"], treat_whitespace_as_suffix=True),
}


def trained(shared, work, name):
    """The path of a model trained from the shared texts, once."""
    path = os.path.join(work, name + ".model")
    if not os.path.exists(path):
        corpus = os.path.join(work, "corpus.txt")
        with open(corpus, "w", encoding="utf-8") as f:
            for part in ["wiki", "multilingual", "code", "c4"]:
                f.write(open(os.path.join(shared, "data/exllamav3-calibration", part + ".utf8"), encoding="utf-8", errors="replace").read()[:400000] + "\n")
        sentencepiece.SentencePieceTrainer.train(model_prefix=path[:-6], input=corpus, max_sentence_length=20000, num_threads=2, minloglevel=2,
                                                 character_coverage=0.9995, **TRAINED[name])
    return path


def model_folder(work, name, path):
    folder = os.path.join(work, "spm-" + name)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, "tokenizer.model"), "wb") as f:
        f.write(open(path, "rb").read())
    return folder


def group_spm(run, shared):
    files = {"llama-2": "llama-2/tokenizer.model", "mistral v1": "mistral/tokenizer.model.v1", "mistral v2": "mistral/mistral_instruct_tokenizer_240216.model.v2",
             "mistral v3": "mistral/mistral_instruct_tokenizer_240323.model.v3", "mistral v7": "mistral/mistral_instruct_tokenizer_241114.model.v7"}
    paths = {n: os.path.join(shared, "tokenizers", f) for n, f in files.items()}
    paths.update({n: trained(shared, run.work, n) for n in TRAINED})
    for name, path in paths.items():
        model = sentencepiece.SentencePieceProcessor(model_file=path)
        # An unknown token decodes to " ⁇ " there and to itself here, as in transformers: only models without it are compared in that.
        decode = model.decode if TRAINED.get(name, {"byte_fallback": True}).get("byte_fallback") else None
        # Of texts of 30,000 characters three have one tie of two paths that sentencepiece breaks otherwise: its sums are beyond 1e5, where a
        # float has steps of 1/128, and its order of rounding is not known to us.
        known = 3 if name.startswith("unigram") else 0
        run.compare(name, model_folder(run.work, name, path), "plain", [model.encode(t) for t in run.sample], decode, known)


# ---- tiktoken ----

def group_tiktoken(run, shared):
    import tiktoken
    from tiktoken.load import load_tiktoken_bpe
    path = os.path.join(shared, "tokenizers/llama-3/tokenizer.model")
    ranks = load_tiktoken_bpe(path)
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    reserved = lambda i: "<|reserved_special_token_%d|>" % i
    head = {"llama-3": ["<|begin_of_text|>", "<|end_of_text|>", *map(reserved, range(4)), "<|start_header_id|>", "<|end_header_id|>", reserved(4), "<|eot_id|>"],
            "llama-3.1": ["<|begin_of_text|>", "<|end_of_text|>", reserved(0), reserved(1), "<|finetune_right_pad_id|>", reserved(2), "<|start_header_id|>",
                          "<|end_header_id|>", "<|eom_id|>", "<|eot_id|>", "<|python_tag|>"]}
    for name, names in head.items():
        used = sum("reserved" in n for n in names)
        names = names + [reserved(used + i) for i in range(256 - len(names))]
        model = tiktoken.Encoding(name=name, pat_str=pattern, mergeable_ranks=ranks, special_tokens={n: len(ranks) + i for i, n in enumerate(names)})
        folder = model_folder(run.work, name, path)
        with open(os.path.join(folder, "params.json"), "w") as f:
            json.dump({"use_scaled_rope": name != "llama-3"}, f)
        want = [[len(ranks)] + model.encode(t, allowed_special="all") for t in run.sample]
        run.compare(name + " of Meta", folder, "special", want, model.decode)
        run.compare(name + " of Meta through GGUF", folder, "special", want, None, 0, True)
        want = [[len(ranks)] + model.encode(t, disallowed_special=()) for t in run.sample]
        run.compare(name + " of Meta", folder, "nospecial", want, model.decode)


# ---- Unigram in tokenizer.json ----

def proto_fields(data):
    i = 0

    def varint():
        nonlocal i
        v = shift = 0
        while True:
            b = data[i]
            i += 1
            v |= (b & 127) << shift
            shift += 7
            if b < 128:
                return v
    while i < len(data):
        key = varint()
        if key & 7 == 0:
            yield key >> 3, varint()
        elif key & 7 == 5:
            yield key >> 3, struct.unpack_from("<f", data, i)[0]
            i += 4
        else:
            n = varint()
            yield key >> 3, data[i : i + n]
            i += n


def read_model(path):
    """Pieces as (text, score), and the character map."""
    pieces, charsmap = [], b""
    for number, value in proto_fields(open(path, "rb").read()):
        if number == 1:
            f = dict(proto_fields(value))
            pieces.append((f[1].decode("utf-8"), f.get(2, 0.0)))
        elif number == 3:
            charsmap = dict(proto_fields(value)).get(2, b"")
    return pieces, charsmap


def group_unigram(run, shared):
    """The normalizers and pre-tokenizers of transformers' converters: T5, XLM-RoBERTa, ALBERT, and one with byte fallback."""
    for name in ["unigram-nfkc", "unigram-bytes", "unigram-user"]:
        pieces, charsmap = read_model(trained(shared, run.work, name))
        squeeze = normalizers.Replace(Regex(" {2,}"), " ")
        mapped = [normalizers.Precompiled(charsmap)] if charsmap else []
        metaspace = lambda scheme: pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=scheme)
        forms = {"t5": (mapped + [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")], metaspace("always")),
                 "xlm-roberta": (mapped + [squeeze], pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace("always")])),
                 "albert": ([normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()] + mapped + [squeeze], metaspace("always")),
                 "first": (mapped, metaspace("first"))}
        for form, (steps, pre) in forms.items():
            tok = Tokenizer(models.Unigram(pieces, 0, byte_fallback="bytes" in name))
            if steps:
                tok.normalizer = normalizers.Sequence(steps)
            tok.pre_tokenizer = pre
            tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
            tok.add_special_tokens([AddedToken(t, normalized=False, special=True) for t in ["<s>", "</s>", "<unk>"]])
            folder = os.path.join(run.work, "%s-%s" % (name, form))
            os.makedirs(folder, exist_ok=True)
            tok.save(os.path.join(folder, "tokenizer.json"))
            run.compare("%s as %s" % (name, form), folder, "special", hf_ids(tok, run.sample), lambda ids: tok.decode(ids, skip_special_tokens=False))


# ---- pre-tokenizer families ----

def split(regex):
    return pre_tokenizers.Split(Regex(regex), "isolated")


def families():
    """As in the tokenizer.json of the first model with each name."""
    contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
    head, tail, tail_slash = r"[^\r\n\p{L}\p{N}]?", r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+", r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    cased = lambda end: "%s%s*%s+%s|%s%s+%s*%s|" % (head, upper, lower, end, head, upper, lower, end)
    words, raw = pre_tokenizers.ByteLevel(False), pre_tokenizers.ByteLevel(False, use_regex=False)
    digit, digits = pre_tokenizers.Digits(True), pre_tokenizers.Digits(False)
    v3 = "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"
    cjk = "[一-龥\u0800-一\uac00-\ud7ff]+"
    return {
        "gpt-2": [words],
        "llama-bpe": [split(contractions + "|" + head + r"\p{L}+|\p{N}{1,3}|" + tail), raw],
        "smaug-bpe": [split(contractions + "|" + head + r"\p{L}+|\p{N}{1,3}|" + tail), raw],
        "qwen2": [split(contractions + "|" + head + r"\p{L}+|\p{N}|" + tail), raw],
        "qwen35": [split(contractions + "|" + head + r"[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"), raw],
        "starcoder": [digit, words],
        "falcon": [pre_tokenizers.Punctuation("contiguous"), words, digits, split("[0-9][0-9][0-9]")],
        "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(cjk), digit, raw],
        "deepseek-v3": [split(r"\p{N}{1,3}"), split("[一-龥\u3040-ゟ゠-ヿ]+"), split(v3), raw],
        "tekken": [split(cased("") + r"\p{N}|" + tail_slash), raw],
        "gpt-4o": [split(cased(contractions + "?") + r"\p{N}{1,3}|" + tail_slash), raw],
        "bloom": [split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), raw],
        "viking": [split(" ?[^(\\s|[.,!?…。，、।۔،])]+"), digit, raw],
        "bailingmoe": [split(r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"), raw],
        "seed-coder": [split(contractions + "|[^\r\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1}| ?[^\\s\\p{L}\\p{N}\r\n]+|\\s*[\r\n]+|\\s+(?!\\S)|\\s+"), raw],
        "exaone-moe": [split(contractions + "|" + head + r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"), raw],
        "tiny_aya": [split(r"\d{1,3}(?=(?:\d{3})*\b)"), split(cased(contractions + "?") + r"\p{N}{1,3}|" + tail_slash), raw],
        "minicpm5": [split(r"\p{N}{1,3}"), split(contractions + "|" + head + r"\p{L}+|\p{N}+|" + tail), raw],
    }


def group_families(run, shared):
    vocab = json.load(open(os.path.join(shared, "tokenizers/gpt2/vocab.json"), encoding="utf-8"))
    merges = [tuple(l.split(" ")) for l in open(os.path.join(shared, "tokenizers/gpt2/merges.txt"), encoding="utf-8").read().split("\n")[1:] if l]
    for name, steps in families().items():
        tok = Tokenizer(models.BPE(vocab, merges, ignore_merges=name in ("llama-bpe", "tekken")))
        tok.pre_tokenizer = pre_tokenizers.Sequence(steps)
        tok.decoder = decoders.ByteLevel()
        folder = os.path.join(run.work, "family-" + name)
        os.makedirs(folder, exist_ok=True)
        tok.save(os.path.join(folder, "tokenizer.json"))
        want = hf_ids(tok, run.sample)
        run.compare(name, folder, "plain", want, lambda ids: tok.decode(ids))
        run.compare(name + " through GGUF", folder, "plain", want, None, 0, True)
    tok = Tokenizer(models.BPE(vocab, merges))
    tok.pre_tokenizer = pre_tokenizers.Sequence([split(r"\S+"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    folder = os.path.join(run.work, "family-unknown")
    os.makedirs(folder, exist_ok=True)
    tok.save(os.path.join(folder, "tokenizer.json"))
    run.compare("an unknown one through GGUF", folder, "plain", [], None, 0, True, "no pre-tokenizer with the pattern")


# ---- GGUF ----

def read_gguf(path):
    """The metadata."""
    data, at = open(path, "rb").read(), 8

    def take(form):
        nonlocal at
        value = struct.unpack_from("<" + form, data, at)[0]
        at += struct.calcsize(form)
        return value

    def value(kind):
        nonlocal at
        if kind == 8:
            n = take("Q")
            at += n
            return data[at - n : at].decode("utf-8")
        if kind == 9:
            inner, n = take("I"), take("Q")
            return [value(inner) for _ in range(n)]
        return take({0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}[kind])

    take("Q")
    return {value(8): value(take("I")) for _ in range(take("Q"))}


def hf_from_gguf(meta):
    """What tokenizers makes of a "gpt2" vocabulary; None for a pre-tokenizer that is not among the families."""
    names = {"mpt": "gpt-2", "refact": "starcoder"}
    pre = meta.get("tokenizer.ggml.pre")
    steps = families().get(names.get(pre, pre))
    if meta["tokenizer.ggml.model"] != "gpt2" or not steps:
        return None
    tokens, types = meta["tokenizer.ggml.tokens"], meta["tokenizer.ggml.token_type"]
    tok = Tokenizer(models.BPE({t: i for i, t in enumerate(tokens)}, [tuple(m.split(" ")) for m in meta["tokenizer.ggml.merges"]]))
    tok.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tok.decoder = decoders.ByteLevel()
    for text, kind in zip(tokens, types):
        if kind == 3:
            tok.add_special_tokens([AddedToken(text, normalized=False, special=True)])
        elif kind == 4:
            tok.add_tokens([AddedToken(text, normalized=False)])
    return tok


def check_vectors(run, path):
    """llama.cpp's own: texts in .inp, ids without special tokens in .out."""
    inputs = open(path + ".inp", encoding="utf-8", newline="").read().split("\n__ggml_vocab_test__\n")
    outputs = [[int(x) for x in line.split()] for line in open(path + ".out").read().split("\n")][: len(inputs)]
    source = os.path.join(run.work, "vectors")
    with open(source, "wb") as f:
        f.write(b"".join(t.encode("utf-8") + b"\0" for t in inputs))
    for written in [False, True]:
        got, line = run.ours(path, "plain", written, source)
        differ = len(inputs) if got is None else sum(ids != want for (ids, _), want in zip(got, outputs, strict=True))
        run.bad += differ
        print("%-44s %-9s %5d texts %4d ids differ%s" % (os.path.basename(path) + (" through GGUF" if written else ""), "vectors", len(inputs), differ, "  " + line if got is None else ""), flush=True)


def group_gguf(run, shared):
    folder = os.path.join(shared, "tokenizers/ggml-vocab")
    for name in sorted(os.listdir(folder)):
        path = os.path.join(folder, name)
        if not name.endswith(".gguf") or "bert" in name:
            continue
        if os.path.exists(path + ".out"):
            check_vectors(run, path)
        meta = read_gguf(path)
        tok = hf_from_gguf(meta)
        if tok:
            run.compare(name + " against tokenizers", path, "plain", hf_ids(tok, run.sample, False, False), lambda ids: tok.decode(ids, skip_special_tokens=False))
    llama = sentencepiece.SentencePieceProcessor(model_file=os.path.join(shared, "tokenizers/llama-2/tokenizer.model"))
    want = [llama.encode(t) for t in run.sample]
    run.compare("ggml-vocab-llama-spm.gguf against sentencepiece", os.path.join(folder, "ggml-vocab-llama-spm.gguf"), "plain", want, llama.decode)


def group_written(run, shared):
    paths = {n: assemble(shared, n, run.work) for n in ["gpt2", "smollm2", "llama-2", "stories260K", "demo", "qwen2.5", "llama-3"]}
    for name in ["bpe-bytes", "unigram-bytes", "unigram-nfkc"]:
        paths[name + ".model"] = model_folder(run.work, name, trained(shared, run.work, name))
    for name, path in paths.items():
        got, line = run.ours(path, "plain")
        if got is None:
            run.bad += 1
            print(name, line)
            continue
        sample = run.sample
        want = [ids for ids, _ in got]
        if name == "qwen2.5":  # NFC is left out in GGUF, as llama.cpp's converter does: texts that it changes are not comparable
            keep = [unicodedata.normalize("NFC", t) == t for t in sample]
            again, line = run.ours(path, "plain", True)
            differ = sum(k and a != w for k, (a, _), w in zip(keep, again or [], want))
            run.bad += differ + (again is None)
            print("%-44s %-9s %5d texts %4d ids differ" % (name + " through GGUF, texts in NFC", "plain", sum(keep), differ), flush=True)
            continue
        run.compare(name + " through GGUF", path, "plain", want, None, 0, True, "a SentencePiece BPE with a normalizer")


# ---- the files we write for Hugging Face ----

# So many texts may differ: tokenizers applies SentencePiece's map to graphemes, takes "<0x41>" in a text for that byte, and sums in double where
# we sum in float as SentencePiece does, which decides ties in texts of thousands of words (docs/tokenizers.md).
HF_KNOWN = {"unigram-bytes through GGUF": 164, "unigram-nfkc through GGUF": 257}


def group_hf(run, shared):
    from transformers import AutoTokenizer
    vocabs = os.path.join(shared, "tokenizers/ggml-vocab")
    sources = {n: (os.path.join(vocabs, n), "asis") for n in sorted(os.listdir(vocabs)) if n.endswith(".gguf") and "bert" not in n}
    sources.update({n: (assemble(shared, n, run.work), "written") for n in ["gpt2", "smollm2", "llama-2", "stories260K", "demo", "qwen2.5", "llama-3"]})
    sources["llama-3 of Meta"] = (model_folder(run.work, "llama-3", os.path.join(shared, "tokenizers/llama-3/tokenizer.model")), "asis")
    for name in TRAINED:
        folder = model_folder(run.work, name, trained(shared, run.work, name))
        sources[name + " through GGUF"] = (folder, "written")
    for name, (path, way) in sources.items():
        folder, result = os.path.join(run.work, "hf-" + name.replace(" ", "-")), os.path.join(run.work, "out")
        done = subprocess.run([run.program, path, run.source, result, "special", way, "hf=" + folder], capture_output=True, text=True)
        if done.returncode:
            refused = "tokenizer.json cannot say" in done.stderr or "llama.cpp has no such tokenizer" in done.stderr or "is not known" in done.stderr
            run.bad += not refused
            print("%-44s %s%s" % (name, "refused as it should: " if refused else "NOT OK: ", done.stderr.strip()), flush=True)
            continue
        ours = list(records(result))
        theirs = Tokenizer.from_file(os.path.join(folder, "tokenizer.json"))
        auto = AutoTokenizer.from_pretrained(folder)
        again, line = run.ours(folder, "special")
        differ = [0, 0, 0, 0]
        shown = 0
        for text, (ids, decoded), e, fourth, (third, _) in zip(run.sample, ours, theirs.encode_batch(run.sample), auto(run.sample)["input_ids"], again or [(None, None)] * len(ours), strict=True):
            wrong = [ids != e.ids, ids != fourth, ids != third, ids == e.ids and theirs.decode(ids, skip_special_tokens=False) != decoded]
            differ = [a + b for a, b in zip(differ, wrong)]
            if any(wrong) and shown < 3 and len(text) < 3000:
                shown += 1
                k = next((i for i, (a, b) in enumerate(zip(ids, e.ids)) if a != b), min(len(ids), len(e.ids)))
                print("  text %r of %d characters: at %d ours %s %r, theirs %s %r" % (text[:60], len(text), k, ids[k : k + 6], decoded[:60], e.ids[k : k + 6], theirs.decode(ids, skip_special_tokens=False)[:60]))
        known = HF_KNOWN.get(name, 0)
        run.bad += any(n > known for n in differ)
        print("%-44s %5d texts, ids differ: tokenizers %d, AutoTokenizer %d (%s), ours again %d; decoded %d" % (
            name, len(ours), differ[0], differ[1], type(auto).__name__, differ[2], differ[3]), flush=True)


# ---- chat templates ----

NOW = 1767323045  # 2026-01-02 03:04:05 UTC


def shared_templates(shared):
    """(name, template, bos, eos) of each tokenizer_config.json and GGUF below the shared folder that has one."""
    name_of = lambda v: v["content"] if isinstance(v, dict) else v or ""
    for base, _, files in sorted(os.walk(shared)):
        for file in sorted(files):
            path = os.path.join(base, file)
            if file.endswith("tokenizer_config.json"):
                config = json.load(open(path, encoding="utf-8"))
                if isinstance(config.get("chat_template"), str):
                    yield os.path.relpath(path, shared), config["chat_template"], name_of(config.get("bos_token")), name_of(config.get("eos_token"))
            elif file.endswith(".gguf"):
                meta = read_gguf(path)
                if "tokenizer.chat_template" in meta:
                    tokens = meta["tokenizer.ggml.tokens"]
                    yield os.path.relpath(path, shared), meta["tokenizer.chat_template"], tokens[meta["tokenizer.ggml.bos_token_id"]], tokens[meta["tokenizer.ggml.eos_token_id"]]
    folder = os.environ.get("ASSAY_TEMPLATES")
    for file in sorted(os.listdir(folder)) if folder else []:
        if file.endswith(".jinja"):
            yield file, open(os.path.join(folder, file), encoding="utf-8").read(), "<s>", "</s>"


def group_templates(run, shared):
    import datetime, time
    from transformers.utils import chat_template_utils
    sys.path[:0] = ["tests/text"]
    sys.argv[1:2] = [shared]
    from make_golden import conversations

    class fixed(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls.fromtimestamp(NOW, datetime.timezone.utc).replace(tzinfo=None)

    chat_template_utils.datetime = fixed
    renders = refused = laxer = 0
    for name, template, bos, eos in shared_templates(shared):
        cases, want = [], []
        for c in conversations():
            extra = {"bos_token": bos, "eos_token": eos, **c.get("vars", {})}
            cases.append({"template": template, "messages": c["messages"], "tools": c.get("tools"), "gen": c["gen"], "vars": {**extra, "$now": NOW}})
            try:
                want.append(chat_template_utils.render_jinja_template([c["messages"]], tools=c.get("tools"), chat_template=template, add_generation_prompt=c["gen"], **extra)[0][0])
            except Exception as e:
                want.append(e)
        source, result = os.path.join(run.work, "cases.json"), os.path.join(run.work, "rendered.json")
        json.dump(cases, open(source, "w", encoding="utf-8"))
        done = subprocess.run([os.path.join(os.path.dirname(run.program), "render_file"), source, result], capture_output=True, text=True)
        got = json.load(open(result, encoding="utf-8")) if done.returncode == 0 else [{"error": done.stderr}] * len(cases)
        differ = 0
        for i, (ours, theirs) in enumerate(zip(got, want, strict=True)):
            if isinstance(theirs, Exception):
                refused += 1
                laxer += "error" not in ours
                same = True
            else:
                renders += 1
                same = ours.get("text") == theirs
            if not same:
                differ += 1
                if differ <= 1:
                    a, b = ours.get("text", "error: " + ours.get("error", "")), theirs if isinstance(theirs, str) else "%s: %s" % (type(theirs).__name__, theirs)
                    k = next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))
                    print("  conversation %d, character %d:\n    ours   %r\n    theirs %r" % (i, k, a[max(0, k - 60) : k + 100], b[max(0, k - 60) : k + 100]))
        run.bad += differ
        print("%-70s %3d conversations, %d differ" % (name, len(cases), differ), flush=True)
    print("%d rendered; %d refused by transformers, of which we render %d" % (renders, refused, laxer))


GROUPS = {"templates": group_templates, "json": group_json, "spm": group_spm, "tiktoken": group_tiktoken, "unigram": group_unigram, "families": group_families, "gguf": group_gguf, "written": group_written, "hf": group_hf}


def main():
    build, shared, work = sys.argv[1:4]
    groups = sys.argv[4:] or list(GROUPS)
    os.makedirs(work, exist_ok=True)
    run = Run(os.path.join(build, "encode_file"), texts(shared), work)
    for name in groups:
        print("== %s" % name, flush=True)
        GROUPS[name](run, shared)
    print("%d comparisons failed" % run.bad if run.bad else "all comparisons passed")
    return 1 if run.bad else 0


if __name__ == "__main__":
    sys.exit(main())
