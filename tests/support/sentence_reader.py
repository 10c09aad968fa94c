"""Run in a process that cannot import acn_hf: `sentence_reader.py FOLDER ANSWERS TEXTS...` writes embeddings."""

import sys

sys.modules["acn_hf"] = None  # `import acn_hf` is an ImportError from now on

import numpy as np  # noqa: E402 (after the block)
from sentence_transformers import SentenceTransformer  # noqa: E402

folder, answers, *texts = sys.argv[1:]
np.save(answers, SentenceTransformer(folder, device="cpu").encode(texts))
