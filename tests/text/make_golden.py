#!/usr/bin/env python3
"""Writes tests/text/golden/*.json: what the originals (tokenizers, transformers with jinja2) make of our test inputs.

make_golden.py SHARED     run from the project's top; SHARED holds tokenizers/, models/, demo/ (see ASSAY_SHARED)
Only ids, hashes and rendered text are kept of tokenizers that are not ours to ship; the demo's is read from models/demo.
"""
import hashlib, json, os, random, sys, tempfile
import jinja2, tokenizers, transformers
from tokenizers import Tokenizer, models, trainers
from transformers.utils.chat_template_utils import _compile_jinja_template, render_jinja_template

sys.path.insert(0, "tools")
import make_tokenizer

SHARED = sys.argv[1]
OUT = "tests/text/golden"
VERSIONS = {"tokenizers": tokenizers.__version__, "transformers": transformers.__version__, "jinja2": jinja2.__version__}

TEXTS = [
    "", " ", "  ", "\n", "\n\n\n", "\t", " \n \n", "a", " a", "a ", "Hello, world!", "Hello  world", "  Hello   world  ",
    "I'm sure they'll say we've, she'd, it's, don't — 'S 'T 'RE 'Ll.", "The year 2024, 1,234.56 and 0x1F; 3rd ½ ² Ⅷ ٣٤٥ १२३",
    "def f(x):\n\treturn {'a': [x**2 for _ in range(10)]}  # comment\n\n\nif __name__ == \"__main__\":\n    f(1)\n",
    "#include <stdio.h>\r\nint main(void) {\r\n    return 0;\r\n}\r\n", "https://example.org/a?b=c&d=%20e#f user@host.tld /usr/lib64",
    "Größe Straße ÄÖÜ ſt İstanbul ıI ﬁ ﬂ Ǆ ǅ", "e\u0301 é A\u030a Å \u1e9b\u0323 \ufb01", "Привет, как дела? Ещё раз: Ёлка.",
    "Γειά σου Κόσμε ΟΔΥΣΣΕΥΣ", "مرحبا بالعالم كيف حالك؟", "שלום עולם", "नमस्ते दुनिया क्षत्रिय", "สวัสดีชาวโลก", "안녕하세요 세계",
    "こんにちは世界、カタカナとひらがな。", "你好，世界！今天天气怎么样？", "漢字とpinyin混ざり123", "🙂👍🏽👩‍👩‍👧‍👦🇩🇪🏴\u200d☠️ text🙂text",
    "\u00a0nbsp\u2003em\u3000ideo\u2028ls\u2029ps\u0085nel\u180emvs\u200bzw\ufeffbom", "a\u200db\u200cc\u00adx\u2060y", "\u0001\u0002\u007f\u0080\u009f",
    "𝔘𝔫𝔦𝔠𝔬𝔡𝔢 𝟙𝟚𝟛 𐍈 𓀀 \U0010fffd \ue000", "ﷺ ﷽ ㍿ ① ㈱ ℡ Ω K", "!!!???...---___***~~~```\"\"\"'''((([[[{{{", "<<>> <|im_start|>user\nHi<|im_end|>\n",
    "<s>[INST] Hello </s><unk> <s> x", "<|begin|><|user|>What is 2 + 2?<|end|><|assistant|>", "text<|endoftext|>more <|endoftext|> end",
    "<0x0A><0xFF> <0x41>", "▁▁under▁score ▁ x", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "hahahahahahahahahahahaha" * 3,
    "                                                                    x", "\n" * 20 + "x", "1" * 37, "x" * 3 + " " * 17 + "\n" * 4 + "\t" * 9,
    "Supercalifragilisticexpialidocious antidisestablishmentarianism", "SELECT * FROM t WHERE a >= 1 AND b LIKE '%x%';",
    "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Zürich\", \"days\": 3}}", "\\frac{1}{2} \\alpha $x^2$ E=mc²", "naïve café résumé coöperate",
    "Zażółć gęślą jaźń", "Tiếng Việt có dấu", "ქართული ენა", "አማርኛ", "བོད་སྐད", "ᏣᎳᎩ", "A\u0300\u0301\u0302\u0303 B\u0327", "\u0301starts with mark",
    "mixedCASE camelCase snake_case kebab-case SCREAMING_CASE", "line one\r\rline two\n\rline three", "'s's's 'sx x's", "  's", "\u2019s it\u2019s",
]


def digest(ids):
    return hashlib.sha256(b"".join(i.to_bytes(4, "little") for i in ids)).hexdigest()[:16]


def encode_cases(tok, texts):
    cases = []
    for t in texts:
        tok.encode_special_tokens = False
        ids = tok.encode(t).ids
        bare = tok.encode(t, add_special_tokens=False).ids
        tok.encode_special_tokens = True
        plain = tok.encode(t, add_special_tokens=False).ids
        case = {"ids": ids if len(ids) <= 24 else digest(ids), "bare": digest(bare), "plain": digest(plain)}
        decoded = tok.decode(bare, skip_special_tokens=False)
        if decoded != t:
            case["decoded"] = decoded
        cases.append(case)
    tok.encode_special_tokens = False
    return cases


def golden_tokenizers():
    sets = []
    simple = [("demo", "models/demo", None), ("gpt2", None, "tokenizers/gpt2"), ("smollm2", None, "tokenizers/smollm2"),
              ("llama-2", None, "tokenizers/llama-2"), ("stories260K", None, "models/stories260K/hf")]
    for name, own, shared in simple:
        tok = Tokenizer.from_file(os.path.join(own or os.path.join(SHARED, shared), "tokenizer.json"))
        tok.no_truncation()
        sets.append({"name": name, "own": own, "shared": shared, "cases": encode_cases(tok, TEXTS)})
    for name, vocab, merges, build in [
        ("qwen2.5", "tokenizers/qwen2.5/vocab.json", "tokenizers/qwen2.5/merges.txt", make_tokenizer.qwen),
        ("llama-3", "tokenizers/llama-3/ollama-llama3.2/encoder.json", "tokenizers/llama-3/ollama-llama3.2/vocab.bpe", make_tokenizer.llama3)]:
        tok = build(SHARED)
        shell = json.loads(tok.to_str())  # everything but the vocabulary and the merges, which the test adds from the files
        shell["model"].pop("vocab")
        shell["model"].pop("merges")
        sets.append({"name": name, "vocab": vocab, "merges": merges, "shell": shell, "cases": encode_cases(tok, TEXTS)})
    return {"versions": VERSIONS, "texts": TEXTS, "sets": sets}


# ---- steps: a small vocabulary of our own whose merges cross every kind of boundary ----

STEP_TEXTS = ["", " ", "Hello World", "  Hello  World  ", "a1b22c333", "x, y; z!", "don't stop", "é e\u0301 Å ﬁ ½", "İI ſß", "one\ntwo\r\n\tthree",
              "[MASK] in[MASK]side [MASK]", "  [L]  left [R]  right  word[W]word [W] [W]", "Sp\u00a0ce\u3000wide", "日本語 text", "▁x▁", "中😀", "A b_c-d.e", "x½y ²z a\u200db Ⓐ"]
# Texts that the model is not trained on; characters no newer than PCRE2's tables (Unicode 14).
MORE_STEP_TEXTS = ["1234567 12345678a 12 123. 1234", "e\u0316\u0301\u0327\u0316\u0301 \u0301\u0316", "a\u07fd\u08ca\u1734\u1abf\u0890\U000110cdb"]

BYTE_LEVEL_OFF = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}


def split(pattern, behavior, invert=False, regex=True):
    return {"type": "Split", "pattern": {"Regex" if regex else "String": pattern}, "behavior": behavior, "invert": invert}


def seq(kind, *steps):
    return {"type": "Sequence", kind: list(steps)}


def step_configs():
    configs = []
    add = lambda name, **kw: configs.append({"name": name, **kw})
    add("nothing")
    for n in ["NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents", "Nmt"]:
        add("normalizer " + n, normalizer={"type": n})
    add("normalizer NFD StripAccents", normalizer=seq("normalizers", {"type": "NFD"}, {"type": "StripAccents"}))
    for l, r in [(True, True), (True, False), (False, True)]:
        add("normalizer Strip %d%d" % (l, r), normalizer={"type": "Strip", "strip_left": l, "strip_right": r})
    add("normalizer Prepend", normalizer={"type": "Prepend", "prepend": "▁"})
    add("normalizer Replace String", normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    add("normalizer Replace Regex", normalizer={"type": "Replace", "pattern": {"Regex": "\\s+|\\d{2,}"}, "content": "_"})
    add("normalizer ByteLevel", normalizer={"type": "ByteLevel"}, decoder={"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False})
    for b in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        add("Split Regex " + b, pre_tokenizer=split("\\s|[0-9]", b))
        add("Split Regex inverted " + b, pre_tokenizer=split("\\w+", b, True))
        add("Split String " + b, pre_tokenizer=split("l", b, regex=False))
        add("Punctuation " + b, pre_tokenizer={"type": "Punctuation", "behavior": b})
    for p in ["\\p{L}{1,2}+", "(?i:HE|w)", "(?m:o.)", "[\\p{L}&&[^\\p{Lu}]]+", "\\b\\w", "\\p{Han}|\\p{Katakana}+", "\\S+\\s?+", "\\h+", "[^\\s\\w]|\\d", "^\\s*|\\p{^L}",
              "[\\w]+", "\\w+", "[^\\w]", "[[:punct:]]|[[:^alpha:]]", "(?<=l)l|\\p{Ll}(?=\\p{P})", "[[:upper:]]|\\p{Alpha}(?!.)", "\\p{Letter}{2}?",
              "\\d{1,3}(?=(?:\\d{3})*\\b)"]:
        add("Split Regex " + p, pre_tokenizer=split(p, "Isolated"))
    for d in [True, False]:
        add("Digits %d" % d, pre_tokenizer={"type": "Digits", "individual_digits": d})
        add("ByteLevel prefix %d" % d, pre_tokenizer={"type": "ByteLevel", "add_prefix_space": d, "trim_offsets": True, "use_regex": True}, decoder={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True})
    add("Whitespace", pre_tokenizer={"type": "Whitespace"})
    for clean, chinese, strip, lower in [(True, True, None, True), (False, False, None, False), (True, False, True, False), (False, True, False, True)]:
        add("normalizer BertNormalizer %d%d%s%d" % (clean, chinese, strip, lower), normalizer={"type": "BertNormalizer", "clean_text": clean, "handle_chinese_chars": chinese, "strip_accents": strip, "lowercase": lower})
    add("BertPreTokenizer", pre_tokenizer={"type": "BertPreTokenizer"})
    add("CharDelimiterSplit", pre_tokenizer={"type": "CharDelimiterSplit", "delimiter": "l"})
    add("WhitespaceSplit", pre_tokenizer={"type": "WhitespaceSplit"})
    add("Sequence", pre_tokenizer=seq("pretokenizers", {"type": "WhitespaceSplit"}, {"type": "Digits", "individual_digits": False}, BYTE_LEVEL_OFF))
    for scheme in ["always", "first", "never"]:
        for s in [True, False]:
            meta = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": s}
            add("Metaspace %s %d" % (scheme, s), pre_tokenizer=meta, decoder=meta)
    strip = lambda a, b: {"type": "Strip", "content": " ", "start": a, "stop": b}
    replace = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    for name, *d in [("llama", replace, {"type": "ByteFallback"}, {"type": "Fuse"}, strip(1, 0)), ("strip each", replace, strip(1, 0)), ("fuse", {"type": "Fuse"}),
                     ("regex", {"type": "Replace", "pattern": {"Regex": "[aeiou]"}, "content": "*"}), ("two bytes", {"type": "ByteFallback"}, {"type": "Fuse"})]:
        add("decoder " + name, decoder=seq("decoders", *d), normalizer={"type": "Replace", "pattern": {"String": " "}, "content": "▁"})
    add("decoder BPEDecoder", decoder={"type": "BPEDecoder", "suffix": "o"})
    add("unk not fused", model={"fuse_unk": False, "byte_fallback": False})
    add("unk fused", model={"fuse_unk": True, "byte_fallback": False})
    add("no unk", model={"fuse_unk": False, "byte_fallback": False, "unk_token": None})
    add("ignore_merges", model={"ignore_merges": True}, pre_tokenizer={"type": "WhitespaceSplit"})
    add("suffix and prefix", model={"continuing_subword_prefix": "##", "end_of_word_suffix": "</w>", "byte_fallback": False}, pre_tokenizer={"type": "Whitespace"})
    template = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
                "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [1, 2], "tokens": ["a", "b"]}, "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["c"]}}}
    add("post TemplateProcessing", post_processor=template)
    add("post Sequence", post_processor=seq("processors", {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": False, "use_regex": True}, template))
    add("post Roberta", post_processor={"type": "RobertaProcessing", "sep": ["b", 5], "cls": ["a", 4], "trim_offsets": True, "add_prefix_space": False})
    return configs


def step_model():
    """BPE trained without pre-tokenizer, so that merges cross spaces, digits and punctuation; with byte tokens and <unk>."""
    corpus = [t.replace(" ", c) for t in STEP_TEXTS + ["Hello World don't stop", "a1b22c333", "x, y; z!", "one two three"] for c in (" ", "▁")] * 6
    tok = Tokenizer(models.BPE())
    alphabet = list("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,;'!-_▁*[]\n\tĠĊ")
    tok.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=420, show_progress=False, initial_alphabet=alphabet, special_tokens=["<unk>"] + ["<0x%02X>" % b for b in range(256)]))
    model = json.loads(tok.to_str())["model"]
    vocab = model["vocab"]
    for extra in ["##" + c for c in "abcdelortuwHW"] + [c + "</w>" for c in "dlorte"] + ["##%s</w>" % c for c in "dlorteps"]:
        vocab.setdefault(extra, len(vocab))
    return {"vocab": vocab, "merges": [list(m) for m in model["merges"]]}


def step_tokenizer(model, config):
    flags = dict(single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    n = len(model["vocab"])
    added = [{"id": n, "content": "[MASK]", **flags, "special": True}, {"id": n + 1, "content": "[L]", **flags, "lstrip": True},
             {"id": n + 2, "content": "[R]", **flags, "rstrip": True}, {"id": n + 3, "content": "[W]", **flags, "single_word": True},
             {"id": n + 4, "content": "World", **flags, "normalized": True}, {"id": n + 5, "content": "[MASK]side", **flags}]
    m = {"type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None, "end_of_word_suffix": None, "fuse_unk": True,
         "byte_fallback": True, "ignore_merges": False, **config.get("model", {}), **model}
    if m["continuing_subword_prefix"]:
        m["merges"] = [["H", "##e"], ["##o", "##r"], ["##l", "##d</w>"]]
        for pair, whole in [(("H", "##e"), "He"), (("##o", "##r"), "##or"), (("##l", "##d</w>"), "##ld</w>")]:
            m["vocab"] = {**m["vocab"]}
            for t in (*pair, whole):
                m["vocab"].setdefault(t, len(m["vocab"]))
        for k, a in enumerate(added):
            a["id"] = len(m["vocab"]) + k
    return {"version": "1.0", "truncation": None, "padding": None, "added_tokens": added, "normalizer": config.get("normalizer"), "pre_tokenizer": config.get("pre_tokenizer"),
            "post_processor": config.get("post_processor"), "decoder": config.get("decoder"), "model": m}


def golden_steps():
    model = step_model()
    out = []
    for config in step_configs():
        full = step_tokenizer(model, config)
        tok = Tokenizer.from_str(json.dumps(full))
        for a in full["added_tokens"]:  # where the training put one into the vocabulary, that id holds
            a["id"] = tok.token_to_id(a["content"])
        cases = []
        for t in STEP_TEXTS + MORE_STEP_TEXTS:
            ids = tok.encode(t).ids
            case = {"ids": ids}
            if ids and "BPEDecoder" in config["name"] or "BPEDecoder" not in config["name"]:
                case["decoded"] = tok.decode(ids, skip_special_tokens=False)
            cases.append(case)
        own = {"normalizer": full["normalizer"], "pre_tokenizer": full["pre_tokenizer"], "post_processor": full["post_processor"], "decoder": full["decoder"]}
        own = {k: v for k, v in own.items() if v is not None}
        if full["model"]["continuing_subword_prefix"]:
            own["added_tokens"] = full["added_tokens"]
        if "model" in config:
            own["model"] = {k: v for k, v in full["model"].items() if k not in ("vocab", "merges") or full["model"]["continuing_subword_prefix"]}
        out.append({"name": config["name"], "tokenizer": own, "cases": cases})
    base = step_tokenizer(model, {})
    tok = Tokenizer.from_str(json.dumps(base))
    for a in base["added_tokens"]:
        a["id"] = tok.token_to_id(a["content"])
    return {"versions": VERSIONS, "texts": STEP_TEXTS + MORE_STEP_TEXTS, "model": base["model"], "added_tokens": base["added_tokens"], "sets": out}


# ---- templates ----

CONTEXT = {
    "x": 7, "f": 2.5, "neg": -3, "s": "Hello World", "t": "  padded\ttext \n", "u": "Größe 日本 🙂", "empty": "", "none": None, "yes": True, "no": False,
    "list": [3, 1, 2], "words": ["banana", "apple", "Cherry", "apple"], "nested": [[1, 2], [3, [4, "five"]]], "d": {"b": 1, "a": {"c": [1, 2, {"e": None}]}, "items": "shadowed", "Z": True},
    "people": [{"name": "Ann", "age": 31, "role": "user"}, {"name": "bob", "age": 25, "role": "assistant", "extra": {"k": "v"}}, {"name": "Cid", "age": 25, "role": "user"}],
    "json": {"s": "a\"b\\c\n\u00e9\u2028🙂</script>", "n": [1, 2.0, 1e20, 1.5e-7, -0.0, 12345678901234567], "b": [True, False, None], "o": {}, "l": []}, "bos_token": "<s>", "eos_token": "</s>",
}

SNIPPETS = r'''
{{ x }} {{ f }} {{ s }} {{ none }} {{ yes }} {{ no }} {{ missing }}|
{{ list }} {{ words }} {{ d }} {{ nested }} {{ (1,) }} {{ () }} {{ (1, 'a') }} {{ {} }} {{ [] }}
{{ 'quo\'te' }} {{ "it's" }} {{ ['it\'s', 'say "hi"', 'both \' and "', 'tab\t', 'nl\n', 'bell\x07', 'é', '\u200b'] }}
{{ 'a\tb\\n\x41\u00e9\101\q' }}{{ "two" 'strings' " joined" }}
{{ 1 + 2 * 3 - 4 / 2 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ 7 % 3 }} {{ -7 % 3 }} {{ 7 % -3 }} {{ 2 ** 10 }} {{ 2 ** -1 }} {{ 7.5 // 2 }} {{ -7.5 % 2 }} {{ 1 / 3 }}
{{ 1_000 }} {{ 1.5e3 }} {{ 1e16 }} {{ 1e15 }} {{ 1e-5 }} {{ 0.0001 }} {{ 123456789.123 }} {{ 0.1 + 0.2 }} {{ 1e100 }} {{ 5.0 }} {{ -0.0 }}
{{ 'ab' * 3 }} {{ [1] * 3 }} {{ 3 * 'x' }} {{ [1] + [2] }} {{ 'a' ~ 1 ~ none ~ missing ~ [1] }} {{ true + 1 }} {{ - x }} {{ +x }} {{ --x }}
{{ 1 < 2 }} {{ 1 < 2 < 3 }} {{ 3 > 2 > 2 }} {{ 'a' < 'b' }} {{ [1, 2] < [1, 3] }} {{ 1 == 1.0 }} {{ 1 == true }} {{ '1' == 1 }} {{ none == missing }} {{ [1] == [1] }} {{ (1,) == [1] }} {{ d == d }}
{{ 'ell' in s }} {{ 'z' not in s }} {{ 3 in list }} {{ 'a' in d }} {{ 'a' in missing }} {{ not 3 in list }} {{ 1 in [true] }}
{{ yes and x }} {{ no and x }} {{ none or 'dflt' }} {{ '' or 0 or [] }} {{ not none }} {{ not (yes and no) }} {{ yes or missing.foo }}
{{ 'a' if yes else 'b' }} {{ 'a' if no else 'b' }} {{ 'a' if no }}| {{ 1 if no else 2 if no else 3 }}
{{ -x|abs }} {{ (-x)|abs }} {{ 2 + 3|string|length }} {{ 'a' ~ 'b'|upper }} {{ '1' + 1 ~ 1 + '1' }} {{ 2 * 3 ~ 4 }}
{{ list[0] }} {{ list[-1] }} {{ list[5] }}| {{ s[0] }} {{ s[-1] }} {{ u[6] }} {{ u[-1] }} {{ d['b'] }} {{ d.b }} {{ d.a.c[2].e }} {{ d['nope'] }}| {{ list.0 }} {{ nested.1.1.1 }}
{{ list[1:] }} {{ list[:-1] }} {{ list[::-1] }} {{ list[::2] }} {{ s[2:5] }} {{ s[::-1] }} {{ s[-3:] }} {{ u[0:3] }} {{ s[10:2] }} {{ s[:100] }} {{ list[-100:100:3] }} {{ (1,2,3)[1:] }} {{ s[5:1:-2] }} {{ list[none:none] }}
{{ d['items'] }} {{ d.items()|list }} {{ d.keys()|list }} {{ d.values()|list }} {{ d.get('b') }} {{ d.get('q') }} {{ d.get('q', 5) }}
{{ none.foo }}| {{ x.foo }}| {{ s.nope }}| {{ list.append is defined }} {{ d.update is defined }}
{% for i in list %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ i }},{% endfor %}
{% for i in [] %}x{% else %}empty{% endfor %} {% for i in missing %}x{% else %}undef{% endfor %} {% for i in list %}{% else %}no{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %} {% for k in d %}{{ k }}{% endfor %} {% for c in u %}{{ c }}.{% endfor %}
{% for a, (b, c) in [[1, [2, 3]], [4, [5, 6]]] %}{{ a }}{{ b }}{{ c }} {% endfor %}
{% for p in people if p.age == 25 %}{{ loop.index }}/{{ loop.length }}{{ p.name }}{{ loop.previtem.name if not loop.first }}{{ loop.nextitem.name if not loop.last }} {% endfor %}
{% for i in list %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% if loop.last %}L{% endif %}{% endfor %} {% for i in range(10) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}
{% for i in range(3) %}{% for j in range(3) %}{% if j == 1 %}{% break %}{% endif %}{{ i }}{{ j }} {% endfor %}{{ loop.index }}{% endfor %}
{% for i in list %}{{ loop.cycle('odd', 'even') }}{{ loop.changed(i > 1) }} {% endfor %} {% for i in list %}{{ loop.previtem }}|{{ loop.nextitem }};{% endfor %}
{% set y = 1 %}{% for i in list %}{% set y = y + i %}{{ y }} {% endfor %}{{ y }} {% if yes %}{% set y = 9 %}{% endif %}{{ y }}
{% set ns = namespace(a=1, b='x') %}{% for i in list %}{% set ns.a = ns.a + i %}{% endfor %}{{ ns.a }} {{ ns.b }} {{ ns.c }}| {% set ns.c = [ns.a] %}{{ ns.c }} {{ ns['a'] }}
{% set a, b = 1, 2 %}{{ a }}{{ b }} {% set (c, d2) = [3, 4] %}{{ c }}{{ d2 }} {% set tup = 1, 2 %}{{ tup }} {% set ns = namespace({'q': 3}) %}{{ ns.q }}
{% set blk %}  in {{ x }} {% set inner = 5 %}{% endset %}[{{ blk }}]{{ inner }} {% set blk | trim | upper %} abc {% endset %}[{{ blk }}]
{% macro m(a, b='B', c=a) %}<{{ a }}{{ b }}{{ c }}{{ x }}>{% endmacro %}{{ m(1) }}{{ m(1, 2) }}{{ m(1, c=3) }}{{ m(b=5) }} {{ m(1)|length }}
{% macro outer() %}[{{ caller('arg') }}]{% endmacro %}{% call(v) outer() %}body {{ v }} {{ x }}{% endcall %} {% macro va() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ va(1, 2, k=3) }}
{% macro rec(n) %}{{ n }}{% if n > 0 %}{{ rec(n - 1) }}{% endif %}{% endmacro %}{{ rec(5) }} {% set late = 'late' %}{% macro see() %}{{ late }}{% endmacro %}{% set late = 'later' %}{{ see() }}
{% filter upper %}abc {{ s }}{% endfilter %} {% with a = 1, b = x %}{{ a }}{{ b }}{% endwith %}{{ a }}| {% print 5 %} {% generation %}gen{% set g = 1 %}{% endgeneration %}{{ g }}|
{% raw %}{{ not }} {% if %} {# c #}{% endraw %} {# comment {{ x }} #}after {%- raw -%}  tight  {%- endraw -%} end
{% if x is defined %}d{% endif %}{% if missing is not defined %}u{% endif %}{% if missing is undefined %}U{% endif %}{% if none is none %}n{% endif %}{% if x is number and f is number and yes is number %}N{% endif %}
{{ s is string }}{{ list is string }}{{ list is iterable }}{{ s is iterable }}{{ x is iterable }}{{ d is mapping }}{{ list is mapping }}{{ list is sequence }}{{ s is sequence }}{{ d is sequence }}{{ missing is iterable }}{{ x is sequence }}
{{ yes is boolean }}{{ x is boolean }}{{ yes is true }}{{ 1 is true }}{{ no is false }}{{ x is integer }}{{ yes is integer }}{{ f is float }}{{ x is float }}{{ x is odd }}{{ x is even }}{{ x is divisibleby 7 }}{{ x is divisibleby(2) }}
{{ x is eq 7 }}{{ x is equalto(7) }}{{ x is ne 7 }}{{ x is gt 5 }}{{ x is lt 5 }}{{ x is ge 7 }}{{ x is le 6 }}{{ x is in [7, 8] }}{{ 'a' is in 'abc' }}{{ x is sameas x }}{{ 'ABC' is upper }}{{ 'abc' is lower }}{{ range is callable }}{{ 'upper' is filter }}{{ 'odd' is test }}{{ 'nope' is filter }}
{{ s|upper }}{{ s|lower }}{{ 'hELLO wORLD'|capitalize }}{{ "hello-wORLD (foo) it's x.y"|title }}{{ t|trim }}|{{ 'xxhixx'|trim('x') }}{{ s|length }}{{ u|length }}{{ list|count }}{{ d|length }}{{ missing|length }}
{{ s|replace('o', '0') }}{{ s|replace('l', 'L', 1) }}{{ x|replace(7, 8) }}{{ 'aaa'|replace('', '-') }} {{ missing|default('D') }}{{ none|default('D') }}{{ none|default('D', true) }}{{ ''|d('E', boolean=true) }}{{ missing|d }}|
{{ words|join }} {{ words|join(', ') }} {{ list|join('-') }} {{ people|join('+', attribute='name') }} {{ 'abc'|join('.') }} {{ [1, none, missing]|join(',') }}
{{ list|first }}{{ list|last }}{{ s|first }}{{ s|last }}{{ []|first }}|{{ list|sort }}{{ list|sort(reverse=true) }}{{ words|sort }}{{ words|sort(case_sensitive=true) }}{{ people|sort(attribute='age')|map(attribute='name')|list }}{{ people|sort(attribute='age', reverse=true)|map(attribute='name')|join }}
{{ words|unique|list }} {{ people|unique(attribute='age')|map(attribute='name')|list }} {{ list|reverse|list }} {{ s|reverse }} {{ list|sum }} {{ people|sum('age') }} {{ [[1],[2]]|sum(start=[]) }} {{ list|max }}{{ list|min }}{{ words|max }}{{ people|max(attribute='age') }}
{{ people|selectattr('role', 'equalto', 'user')|map(attribute='name')|join(',') }} {{ people|rejectattr('role', 'eq', 'user')|map(attribute='name')|list }} {{ people|selectattr('extra')|list|length }} {{ people|selectattr('extra', 'defined')|list|length }} {{ people[1:2]|selectattr('extra.k', 'eq', 'v')|list|length }}
{{ list|select('odd')|list }} {{ list|reject('odd')|list }} {{ [0, 1, '', 'a']|select|list }} {{ words|map('upper')|list }} {{ words|map('replace', 'a', 'A')|list }} {{ people|map(attribute='extra', default='-')|list }} {{ nested|map('length')|list }} {{ words|select('in', ['apple'])|list }}
{{ d|items|list }} {{ d|dictsort }} {{ {'b': 2, 'A': 1, 'c': 0}|dictsort(true) }} {{ {'b': 2, 'A': 1}|dictsort(by='value', reverse=true) }} {{ d|list }} {{ s|list }}
{{ '42'|int }}{{ '42.9'|int }}{{ 'x'|int }}{{ 'x'|int(5) }}{{ f|int }}{{ -2.7|int }}{{ none|int }}{{ ' 7 '|int }}{{ 'ff'|int(0, 16) }} {{ '2.5'|float }}{{ 'x'|float }}{{ x|float }}{{ 'x'|float(1.5) }} {{ x|string ~ 1 }} {{ 3.14159|round(2) }} {{ 2.5|round }} {{ 3.5|round }} {{ 2.1|round(method='ceil') }} {{ 2.9|round(0, 'floor') }} {{ 5|round }} {{ -3|abs }} {{ -3.5|abs }}
{{ 'a\nb\n\nc'|indent }}|{{ 'a\nb\n\nc'|indent(2, true) }}|{{ 'a\n\nb'|indent(1, blank=true) }}|{{ 'a\nb'|indent('> ') }}|{{ 'x'|center(5) }}|{{ 'xy'|center(5) }}|{{ '<a href="x">&\''|e }}{{ s|safe }}{{ '%s is %d%%'|format('x', 5) }}{{ '%s-%r' % ('a', 'b') }}
{{ json|tojson }} {{ 'é"\u2028<>&\''|tojson }} {{ [1, 2.5, true, none]|tojson }} {{ (1, 2)|tojson }} {{ {}|tojson }}
{{ json|tojson(indent=2) }}
{{ json|tojson(ensure_ascii=true) }} {{ d|tojson(sort_keys=true) }} {{ list|tojson(separators=(',', ':')) }} {{ d|tojson(indent=1, separators=(',', ':'), sort_keys=true) }} {{ {1: 2, none: 3, true: 4, 1.5: 5}|tojson }} {{ [[], {}, [1]]|tojson(indent=0) }} {{ list|tojson(indent='--') }}
{{ t.strip() }}|{{ t.lstrip() }}|{{ t.rstrip() }}|{{ 'xyhixy'.strip('yx') }}|{{ '\n\na\n'.lstrip('\n') }}| {{ s.split() }} {{ s.split('o') }} {{ s.split('o', 1) }} {{ ' a  b '.split(' ') }} {{ ' a  b c '.split() }} {{ ' a  b c '.split(none, 1) }} {{ 'a,b,c'.rsplit(',', 1) }} {{ ' a b  c '.rsplit(none, 1) }} {{ ''.split() }} {{ ''.split(',') }}
{{ s.startswith('Hell') }}{{ s.startswith(('x', 'H')) }}{{ s.endswith('ld') }}{{ s.upper() }}{{ s.lower() }}{{ 'hello wORLD it\'s'.title() }}{{ 'hELLO'.capitalize() }}{{ s.replace('l', 'L') }}{{ s.replace('l', 'L', 1) }}{{ s.find('o') }}{{ s.find('o', 5) }}{{ s.find('z') }}{{ s.rfind('o') }}{{ s.count('l') }}{{ s.index('W') }}{{ u.find('本') }}{{ ''.count('') }}{{ 'aaa'.count('aa') }}
{{ '-'.join(['a', 'b']) }}{{ 'a\nb\r\nc\n'.splitlines() }}{{ 'a\nb'.splitlines(true) }}{{ 'a=b=c'.partition('=') }}{{ 'a=b=c'.rpartition('=') }}{{ 'abc'.partition('x') }}{{ 'abc'.removeprefix('a') }}{{ 'abc'.removesuffix('c') }}{{ '5'.zfill(3) }}{{ '-5'.zfill(4) }}{{ 'a'.ljust(3) }}|{{ 'a'.rjust(3) }}
{{ '12'.isdigit() }}{{ 'a1'.isdigit() }}{{ 'ab'.isalpha() }}{{ 'a1'.isalnum() }}{{ 'AB'.isupper() }}{{ 'ab1'.islower() }}{{ '  '.isspace() }}{{ ''.isspace() }}{{ '½'.isnumeric() }} {{ '{} {} {{}} {0}'.format('a', 1) if no else '' }}{{ '{0}-{1}-{name}'.format(1, 'b', name='n') }}{{ '{}{}'.format(x, s) }}{{ '{a.b}'.format(a=d) }}
{{ [1, 2, 1].count(1) }}{{ [1, 2].index(2) }}{{ d.copy() == d }} {{ dict(a=1, b=2) }} {{ dict(d, q=1).q }} {{ dict([('k', 'v')]) }} {{ range(5) | list }} {{ range(1, 10, 3) | list }} {{ range(3, 0, -1) | list }} {{ m is defined }}
{{ 'ÄÖÜß straße ǆ'.upper() }} {{ 'ÀÉÎ İ'.lower() }} {{ 'ﬁ'.upper() }} {{ 'élan vital'.title() }} {{ 'ñandú'.capitalize() }}
  {% if yes %}
    indented
  {% endif %}
tail
{%- if yes -%}   tight   {%- endif -%}   done
a {%+ if yes %} b {% endif +%}
 c
a  {{- x -}}  b {{ x -}}   c   {{- x }} d
  {# comment line #}
next  {# inline #} same
	{% set q = 1 %}	{{ q }}
{% for i in list %}
  {{ i }}
{% endfor %}
end
{{ {'a': {'b': [1, {'c': 2}]}}.a.b[1].c }} {{ {'}}': '%}'}['}}'] }} {{ "}}" }} {% if '%}' %}ok{% endif %}
{{ messages }} {{ tools }} {{ documents }} {{ add_generation_prompt }} {{ bos_token }}{{ eos_token }}
{{ missing.foo }}
{{ missing['foo'] }}
{{ missing() }}
{{ missing + 1 }}
{{ missing < 1 }}
{{ 1 + 'a' }}
{{ 'a' + 1 }}
{{ none + 'a' }}
{{ 1 / 0 }}
{{ none|length }}
{{ 5|join }}
{{ [1, 'a']|sort }}
{{ missing|tojson }}
{{ raise_exception('custom ' ~ x) }}
{{ list.append(4) }}
{{ d.update({'a': 1}) }}
{{ x() }}
{{ 'a' in 5 }}
{{ 1 in 'abc' }}
{% for i in 5 %}{% endfor %}
{% for i in none %}{% endfor %}
{% for a, b in [[1, 2, 3]] %}{% endfor %}
{% set x.y = 1 %}
{{ range(1000000) }}
{{ s.index('zzz') }}
{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{% endmacro %}{{ m(b=2) }}
{{ namespace(_x=1) }}
{{ ''.split('') }}
{% if %}{% endif %}
{% if x %}
{% endif %}
{% unknown %}
{{ x
{{ 'abc }}
{# open
{% break %}
{{ x y }}
{{ [1, 2 }}
{{ (1 }}
{{ x..y }}
{% set = 1 %}
{% for in x %}{% endfor %}
{% raw %}
{{ }}
{{ 'ǆungla ﬁn ßa'.title() }} {{ 'ǆu'.capitalize() }} {{ 'ﬁn'.capitalize() }} {{ 'ŉa'.title() }}
{{ '0x1f'|int(0, 16) }} {{ '_1'|int }} {{ '1__0'|int }} {{ '1_0'|int }} {{ '0x10'|int }} {{ missing is callable }} {{ x is callable }}
{{ d|tojson(indent=2, sort_keys=true) }} {{ d|tojson(separators=(',', ':')) }} {{ u|tojson(ensure_ascii=true) }} {{ nested|tojson(indent='--') }} {{ (1, (2,))|tojson(indent=0) }} {{ []|tojson(indent=1) }}
'''


def blocks(text):
    """Snippets are lines; one that opens with white space or a tag that spans lines is kept together by hand below."""
    lines = text.strip("\n").split("\n")
    multi = [("  {% if yes %}", 4), ("{%- if yes -%}", 1), ("a {%+ if yes %}", 2), ("  {# comment line #}", 2), ("\t{% set q", 1), ("{% for i in list %}", 4)]
    out, i = [], 0
    while i < len(lines):
        n = next((k for start, k in multi if lines[i].startswith(start) and (k == 1 or start != "{% for i in list %}" or lines[i] == start)), 1)
        out.append("\n".join(lines[i : i + n]))
        i += n
    return out


def golden_snippets():
    out = []
    for source in blocks(SNIPPETS) + ["", "\n", "a\n", "a\n\n", "a\r\nb\rc", "{% if yes %}\n\nx{% endif %}\n\n", "{{ x }}\n{{ x }}\n"]:
        case = {"template": source}
        try:
            case["expected"] = _compile_jinja_template(source).render(messages=[], tools=None, documents=None, add_generation_prompt=False, **CONTEXT)
        except Exception as e:
            case["error"] = "%s: %s" % (type(e).__name__, e)
        out.append(case)
    return out


WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "The weather in a city, in °C.", "parameters": {"type": "object", "properties": {
    "city": {"type": "string", "description": "City \"name\""}, "days": {"type": "integer", "default": 1}}, "required": ["city"]}}}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}


def conversations():
    user = {"role": "user", "content": "Hi <|im_end|> there\n"}
    call = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": {"name": "get_weather", "arguments": {"city": "Zürich", "days": 3}}},
                                                               {"type": "function", "function": {"name": "time", "arguments": {}}}]}
    string_call = {"role": "assistant", "content": "Let me see.", "tool_calls": [{"name": "get_weather", "arguments": "{\"city\": \"Bern\"}"}]}
    turns = [user, {"role": "assistant", "content": "Hello! 你好"}, {"role": "user", "content": "More?"}]
    system = {"role": "system", "content": "Be brief."}
    answer = [{"role": "tool", "content": "{\"t\": 21}"}, {"role": "tool", "content": "12:00"}]
    thinking = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nYes."}
    reasoning = {"role": "assistant", "reasoning_content": "because", "content": "Yes."}
    return [
        dict(messages=[user], gen=True), dict(messages=[system, user], gen=True), dict(messages=turns, gen=True), dict(messages=[system] + turns, gen=False),
        dict(messages=[user], tools=[WEATHER], gen=True), dict(messages=[system, user, call] + answer, tools=[WEATHER, TIME], gen=True),
        dict(messages=[user, call, answer[0], {"role": "assistant", "content": "21 degrees"}, turns[2]], tools=[WEATHER], gen=True),
        dict(messages=[user, string_call, answer[0]], tools=[WEATHER], gen=True), dict(messages=[user, thinking, turns[2]], gen=True), dict(messages=[user, thinking], gen=False),
        dict(messages=[user, reasoning, turns[2], reasoning], gen=False), dict(messages=[user], gen=True, vars={"enable_thinking": False}), dict(messages=[user], gen=True, vars={"enable_thinking": True}),
        dict(messages=[system, user, call] + answer + [reasoning], tools=[TIME], gen=False), dict(messages=[{"role": "user", "content": ""}, {"role": "assistant", "content": ""}], gen=True),
        dict(messages=[user, {"role": "assistant", "reasoning": "old name", "content": "Yes."}], gen=False),
        dict(messages=[user, reasoning, {"role": "assistant", "thinking": None, "reasoning": "", "content": "Yes."}, turns[2]], gen=True),
    ]


# Templates of our own in the manner of well-known families: what they need of the language, not their text.
STYLES = {
    "whole messages": """{{ messages|tojson }}{% for m in messages %}{{ m }}{{ m.keys()|list }}{% endfor %}""",
    "headers": """{%- set loop_messages = messages %}{%- for message in loop_messages %}{%- set content = '<|h|>' + message['role'] + '<|e|>\\n\\n' + message['content'] | trim + '<|eot|>' %}{%- if loop.index0 == 0 %}{%- set content = bos_token + content %}{%- endif %}{{- content }}{%- endfor %}{%- if add_generation_prompt %}{{- '<|h|>assistant<|e|>\\n\\n' }}{%- endif %}""",
    "inst": """{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] %}\n    {%- set loop_messages = messages[1:] %}\n{%- else %}\n    {%- set loop_messages = messages %}\n{%- endif %}\n{%- set ns = namespace(index=0) %}\n{{- bos_token }}\n{%- for message in loop_messages %}\n    {%- if (message['role'] == 'user') != (ns.index % 2 == 0) and message.role != 'tool' and not message.tool_calls %}\n        {{- raise_exception('roles must alternate') }}\n    {%- endif %}\n    {%- if message.role == 'user' %}\n        {%- if loop.last and system_message is defined %}\n            {{- '[INST] ' + system_message + '\\n\\n' + message.content + '[/INST]' }}\n        {%- else %}\n            {{- '[INST] ' + message.content.strip() + '[/INST]' }}\n        {%- endif %}\n        {%- set ns.index = ns.index + 1 %}\n    {%- elif message.role == 'assistant' %}\n        {{- ' ' + message.content|trim + eos_token }}\n        {%- set ns.index = ns.index + 1 %}\n    {%- endif %}\n{%- endfor %}\n""",
    "tools": """{%- macro describe(tool, level=0) -%}\n{%- for key, value in tool|dictsort -%}\n{{ '  ' * level }}{{ key }}: {% if value is mapping %}\n\n{{ describe(value, level + 1) }}{% elif value is string %}{{ value }}\n{% else %}{{ value|tojson }}\n{% endif %}\n{%- endfor -%}\n{%- endmacro -%}\n{%- if tools is not none and tools %}{% for tool in tools %}{{ describe(tool.function) }}---\n{% endfor %}{% endif %}\n{%- for m in messages if m.role in ['user', 'assistant'] -%}\n{{ loop.index }}/{{ loop.length }} {{ m.role|upper }}: {{ (m.content or '(none)')[:12]|replace('\\n', ' ') }}\n{%- if m.tool_calls is defined %} calls {{ m.tool_calls|map(attribute='function.name')|select('defined')|join(', ') }}{% endif %}\n\n{% endfor -%}\n""",
}


def golden_templates():
    families = []
    for name, path in [("qwen2.5", "tokenizers/qwen2.5/tokenizer_config.json"), ("qwen3", "tokenizers/qwen3/tokenizer_config.json"), ("demo", None)] + [(k, None) for k in STYLES]:
        if name == "demo":
            config = json.load(open("models/demo/tokenizer_config.json"))
        elif name in STYLES:
            config = {"chat_template": STYLES[name], "bos_token": "<s>", "eos_token": "</s>"}
        else:
            config = json.load(open(os.path.join(SHARED, path)))
        tokens = {k: config[k] for k in ("bos_token", "eos_token") if config.get(k)}
        family = {"name": name, "shared": path, "own": "models/demo" if name == "demo" else None, "template": STYLES.get(name), "cases": []}
        for c in conversations():
            case = {"messages": c["messages"], "tools": c.get("tools"), "add_generation_prompt": c["gen"], "vars": {**tokens, **c.get("vars", {})}}
            try:
                case["expected"] = render_jinja_template([c["messages"]], tools=c.get("tools"), chat_template=config["chat_template"], add_generation_prompt=c["gen"], **case["vars"])[0][0]
            except Exception as e:
                case["error"] = "%s: %s" % (type(e).__name__, e)
            family["cases"].append(case)
        families.append(family)
    return {"versions": VERSIONS, "context": CONTEXT, "snippets": golden_snippets(), "families": families}


def write(name, value):
    path = os.path.join(OUT, name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(json.dumps(value, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(path, os.path.getsize(path))


if __name__ == "__main__":
    os.makedirs(OUT, exist_ok=True)
    write("tokenizers.json", golden_tokenizers())
    write("steps.json", golden_steps())
    write("templates.json", golden_templates())
