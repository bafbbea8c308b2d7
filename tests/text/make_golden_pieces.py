#!/usr/bin/env python3
"""Writes tests/text/golden/pieces.json: what sentencepiece and tokenizers make of our test texts, with SentencePiece models.

make_golden_pieces.py SHARED     run from the project's top
Small models are trained here from the texts themselves and kept in the file (base64); of models that are not ours to ship only digests of
ids are kept. The seeds of the fuzz target tokenizer_model are the same models.
"""
import base64, json, os, sys, tempfile
import sentencepiece, tokenizers
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

sys.path[:0] = ["tools", "tests/text"]
from interop_tokenizers import read_model
from make_golden import TEXTS, digest

SHARED = sys.argv[1]
OUT = "tests/text/golden/pieces.json"
EXTRA = ["  two  spaces  ", "ab abc foo <sep> xab", "I'm I'mI'm", "\u2581x \u2581\u2581", "ｆｕｌｌ　width ①", "fi\ufb01 … ‥", "e\u0301e\u0301 q\u0301", "日本", "\U0001f642\U0001f642 ok", "<s> </s> <unk> <ctl>",
         "aaaaaaaaab", "\u00e9\u00e9", "x\n\ny", "\u200b\u200bz", "unused: hello hello"]

RULES = "".join("%s\t%s\n" % (" ".join("%X" % ord(c) for c in a), " ".join("%X" % ord(c) for c in b)) for a, b in
                [(chr(0xFF01 + i), chr(0x21 + i)) for i in range(94)] + [("\ufb01", "fi"), ("…", "..."), ("e\u0301", "é"), ("\u3000", " "), ("\n", " "), ("\t", " "), ("①", "1"), ("\u200b", "")] +
                [(chr(c), chr(c + 32)) for c in range(65, 91)])

MODELS = {
    "bpe": dict(model_type="bpe", vocab_size=420, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True),
    "bpe rules": dict(model_type="bpe", vocab_size=300, rules=True),
    "bpe user": dict(model_type="bpe", vocab_size=460, rules=True, byte_fallback=True, user_defined_symbols=["<sep>", "foo", "ab", "abc", "I'm", "▁x"], control_symbols=["<ctl>"], add_dummy_prefix=False),
    "unigram": dict(model_type="unigram", hard_vocab_limit=False, vocab_size=300, rules=True),
    "unigram bytes": dict(model_type="unigram", hard_vocab_limit=False, vocab_size=480, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False),
    "unigram suffix": dict(model_type="unigram", hard_vocab_limit=False, vocab_size=320, rules=True, user_defined_symbols=["<sep>", "foo", "ab", "abc", "I'm"], control_symbols=["<ctl>"], treat_whitespace_as_suffix=True),
}


def train(work, name, options):
    options = dict(options)
    if options.pop("rules", False):
        path = os.path.join(work, "rules.tsv")
        open(path, "w", encoding="utf-8").write(RULES)
        options["normalization_rule_tsv"] = path
    corpus = os.path.join(work, "corpus")
    lines = [t.replace("\n", " ").replace("\r", " ") for t in TEXTS + EXTRA if t.strip()]
    common = [t for t in lines if all(ord(c) < 0x250 for c in t) and len(set(t)) > 4] # so that most other characters are rare enough to be unknown
    open(corpus, "w", encoding="utf-8").write("\n".join(common * 30 + lines))
    prefix = os.path.join(work, name.replace(" ", "-"))
    sentencepiece.SentencePieceTrainer.train(model_prefix=prefix, input=corpus, num_threads=1, minloglevel=2, character_coverage=0.98,
                                             self_test_sample_size=0, **options)
    return prefix + ".model"


def add_unused(path, least=3):
    """The same model with every fifth piece of that many characters unused, to see it taken apart again; a single one counts as unknown."""
    out, data, i, k = b"", open(path, "rb").read(), 0, 0
    while i < len(data) and data[i] == 0x0A and data[i + 1] < 128:
        piece = data[i + 2 : i + 2 + data[i + 1]]
        i += 2 + data[i + 1]
        text = piece[2 : 2 + piece[1]].decode("utf-8")
        if b"\x18" not in piece[2 + piece[1] + 5 :] and len(text) >= least and k % 5 == 0:
            piece += b"\x18\x05"
        k += 1
        out += b"\x0a" + bytes([len(piece)]) + piece
    open("%s.unused%d" % (path, least), "wb").write(out + data[i:])
    return "%s.unused%d" % (path, least)


def cases(encode, decode, texts):
    return [dict({"ids": encode(t)}, **({"decoded": decode(t)} if decode else {})) for t in texts]


def unigram_json(path):
    pieces, charsmap = read_model(path)
    tok = Tokenizer(models.Unigram(pieces, 0, byte_fallback="bytes" in path))
    steps = ([normalizers.Precompiled(charsmap)] if charsmap else []) + [normalizers.Strip(left=False, right=True), normalizers.Replace(Regex(" {2,}"), "▁")]
    tok.normalizer = normalizers.Sequence(steps)
    tok.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    tok.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return tok


def main():
    texts = TEXTS + EXTRA
    sets, unigrams, shared = [], [], []
    seeds = "tests/fuzz/corpus/tokenizer_model"
    os.makedirs(seeds, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for name, options in MODELS.items():
            path = train(work, name, options)
            variants = [(name + " unused", add_unused(path))] if name in ("bpe", "unigram") else []
            variants += [(name + " unused characters", add_unused(path, 1))] if name == "bpe" else []
            for label, file in [(name, path)] + variants:
                data = open(file, "rb").read()
                model = sentencepiece.SentencePieceProcessor(model_file=file)
                sets.append({"name": label, "model": base64.b64encode(data).decode(), "cases": cases(model.encode, (lambda t: model.decode(model.encode(t))) if options.get("byte_fallback") else None, texts)})
                open(os.path.join(seeds, label.replace(" ", "_") + ".model"), "wb").write(data)
            if options["model_type"] == "unigram":
                tok = unigram_json(path)
                unigrams.append({"name": name, "tokenizer": json.loads(tok.to_str()), "cases": cases(lambda t: tok.encode(t).ids, lambda t: tok.decode(tok.encode(t).ids, skip_special_tokens=False), texts)})
    for name in ["llama-2/tokenizer.model", "mistral/tokenizer.model.v1", "mistral/mistral_instruct_tokenizer_240323.model.v3"]:
        model = sentencepiece.SentencePieceProcessor(model_file=os.path.join(SHARED, "tokenizers", name))
        shared.append({"path": "tokenizers/" + name, "cases": [{"ids": digest(model.encode(t))} for t in texts]})
    versions = {"sentencepiece": sentencepiece.__version__, "tokenizers": tokenizers.__version__}
    with open(OUT, "w", encoding="utf-8") as f:
        json.dump({"versions": versions, "texts": texts, "sets": sets, "unigrams": unigrams, "shared": shared}, f, ensure_ascii=False, separators=(",", ":"))
        f.write("\n")


if __name__ == "__main__":
    main()
