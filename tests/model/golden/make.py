#!/usr/bin/env python3
"""Makes NAME.json beside it for every model of models.py: its config.json, a text, what transformers computes for it in float32 (eager
attention): logits of three positions and a greedy continuation. The weights are not kept: models.py and test_goldens.c make them from
the tensors' names.

Made with transformers 5.23.0, torch 2.15.0; run: python make.py [NAME...]
"""
import json, os, sys, tempfile
import torch, transformers
import models

here = os.path.dirname(os.path.abspath(__file__))
for name in sys.argv[1:] or models.MODELS:
    n = models.MODELS[name][2]
    with tempfile.TemporaryDirectory() as d:
        model, config, _ = models.make(name, d)
    ids = models.text(name, n)
    logits, greedy = models.run(model, name, ids, 16)
    config.pop("transformers_version", None)
    golden = {"about": f"transformers {transformers.__version__}, torch {torch.__version__}, float32", "config": config, "ids": ids,
              "greedy": greedy, "logits": {str(i): [float("%.6g" % x) for x in logits[i].tolist()] for i in (0, n // 2, n - 1)}}
    with open(os.path.join(here, name + ".json"), "w") as f:
        json.dump(golden, f, separators=(",", ":"))
    gap = logits[n - 1:].topk(2, -1).values
    print(name, "smallest gap of the continuation: %.4f" % float((gap[:, 0] - gap[:, 1]).min()), "largest logit %.2f" % float(logits.abs().max()))
