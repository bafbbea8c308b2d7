#!/usr/bin/env python3
"""interop_models.py: every architecture against transformers, on the tiny models of tests/model/golden/models.py.

    python interop_models.py LOGITS OUT [NAME...]
  LOGITS   tools/logits.c, compiled
  OUT      folder for the checkpoints, left behind

Per model: the largest difference of any float32 logit over the text and a greedy continuation of 24 tokens, relative to the largest logit
(limit 1e-4), and whether our most likely tokens are that continuation. Exit code 1 when one is off."""
import logging, os, subprocess, sys, tempfile, warnings

warnings.filterwarnings("ignore")
logging.disable(logging.WARNING)
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "model", "golden"))
import numpy as np
import torch
import transformers
import models

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()
LIMIT, MORE = 1e-4, 24


def ours(program, folder, texts, n_vocab):
    """Logits of all positions of the texts, one after another."""
    with tempfile.TemporaryDirectory() as d:
        with open(d + "/ids", "w") as f:
            f.writelines(" ".join(map(str, ids + [0])) + "\n" for ids in texts)
        done = subprocess.run([program, folder, d + "/ids", d + "/out", "f32"], capture_output=True, text=True)
        if done.returncode:
            return None, done.stderr.strip()
        return np.fromfile(d + "/out", dtype=np.float32).reshape(-1, n_vocab), ""


def main():
    program, out, names = sys.argv[1], sys.argv[2], sys.argv[3:] or list(models.MODELS)
    bad = 0
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, float32")
    print(f"{'model':22}{'class':26}{'parameters':>11}  {'difference':>10}  greedy")
    for name in names:
        cls, config, n = models.MODELS[name]
        folder = os.path.join(out, name)
        model, _, shapes = models.make(name, folder)
        ids = models.text(name, n)
        theirs, greedy = models.run(model, name, ids, MORE)
        theirs = theirs.numpy()
        if "again" in name: # the continuation's rows are of ever longer texts
            lengths = list(range(n, n + MORE))
            mine, why = ours(program, folder, [(ids + greedy)[:k] for k in lengths], config.vocab_size)
            if mine is not None:
                mine = np.concatenate([mine[:n]] + [mine[sum(lengths[:i]) - 1:][:1] for i in range(2, MORE + 1)])
        else:
            mine, why = ours(program, folder, [ids + greedy[:-1]], config.vocab_size)
        params = sum(int(np.prod(s)) for s in shapes.values())
        row = f"{name:22}{cls.__name__:26}{params:11}"
        if mine is None:
            print(f"{row}  NOT OK: {why}", flush=True)
            bad += 1
            continue
        apart = float(np.abs(mine - theirs).max() / np.abs(theirs).max())
        same = mine[n - 1:].argmax(1).tolist() == greedy
        ok = apart <= LIMIT and same
        bad += not ok
        print(f"{row}  {apart:10.1e}  {'identical' if same else 'DIFFERENT'}{'' if ok else '  NOT OK'}", flush=True)
    print(f"{len(names) - bad} of {len(names)} within {LIMIT:g} of the largest logit, with identical text")
    return bad != 0


sys.exit(main())
