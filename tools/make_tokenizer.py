#!/usr/bin/env python3
"""Builds a tokenizer.json for models that come with another kind of vocabulary file, for tests and comparisons.

make_tokenizer.py SHARED NAME OUTPUT     NAME: qwen2.5 (vocab.json, merges.txt through transformers), llama-3 (encoder.json,
vocab.bpe of the GPT-2 form, with Meta's published pattern and special tokens)
"""
import json, os, sys
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors


def read_merges(path):
    return [tuple(line.split(" ")) for line in open(path, encoding="utf-8").read().split("\n") if line and not line.startswith("#version")]


def qwen(shared):
    folder = os.path.join(shared, "tokenizers/qwen2.5")
    tok = Tokenizer(models.BPE(json.load(open(folder + "/vocab.json", encoding="utf-8")), read_merges(folder + "/merges.txt")))
    tok.normalizer = normalizers.NFC()
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    config = json.load(open(folder + "/tokenizer_config.json", encoding="utf-8"))
    for _, t in sorted(config["added_tokens_decoder"].items(), key=lambda kv: int(kv[0])):
        token = AddedToken(t["content"], single_word=t["single_word"], lstrip=t["lstrip"], rstrip=t["rstrip"], normalized=t["normalized"], special=t["special"])
        (tok.add_special_tokens if t["special"] else tok.add_tokens)([token])
    return tok


def llama3(shared):
    folder = os.path.join(shared, "tokenizers/llama-3/ollama-llama3.2")
    vocab = json.load(open(folder + "/encoder.json", encoding="utf-8"))
    merges = [m for m in read_merges(folder + "/vocab.bpe") if len(m) == 2]
    tok = Tokenizer(models.BPE(vocab, merges, ignore_merges=True))
    pattern = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)])
    tok.decoder = decoders.ByteLevel()
    names = ["<|begin_of_text|>", "<|end_of_text|>"] + ["<|reserved_special_token_%d|>" % i for i in range(254)]
    tok.add_special_tokens([AddedToken(n, normalized=False, special=True) for n in names])
    bos = tok.token_to_id(names[0])
    template = processors.TemplateProcessing(single="<|begin_of_text|> $A", pair="<|begin_of_text|> $A <|begin_of_text|>:1 $B:1", special_tokens=[(names[0], bos)])
    tok.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=False), template])
    return tok


if __name__ == "__main__":
    {"qwen2.5": qwen, "llama-3": llama3}[sys.argv[2]](sys.argv[1]).save(sys.argv[3])
