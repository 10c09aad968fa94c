"""Run by `test_served_elsewhere.py` in a process that cannot import acn_hf: `plain_server.py FOLDER ANSWERS TEXTS...`.

It serves a folder in the ways of people who have never heard of acn_hf, without `trust_remote_code`.
"""

import json
import sys
import warnings
from pathlib import Path

sys.modules["acn_hf"] = None  # `import acn_hf` is an ImportError from now on

import onnxruntime  # noqa: E402 (after the block)
from transformers import AutoTokenizer, pipeline  # noqa: E402


def from_pipeline(folder: str, texts: list[str]) -> list[list[float]]:
    classify = pipeline("text-classification", folder, device="cpu", top_k=None)
    return [[entry["score"] for entry in sorted(row, key=lambda e: e["label"])] for row in classify(texts)]


def from_onnx(folder: str, texts: list[str]) -> list[list[float]]:
    session = onnxruntime.InferenceSession(Path(folder, "onnx", "model.onnx"), providers=["CPUExecutionProvider"])
    tokens = AutoTokenizer.from_pretrained(Path(folder, "onnx"))(texts, padding=True, return_tensors="np")
    names = [given.name for given in session.get_inputs()]
    return session.run(["logits"], {name: tokens[name] for name in names})[0].tolist()


def from_sentence_transformers(folder: str, texts: list[str]) -> list[list[float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its modules have moved, and serve under their old name
        from sentence_transformers import SentenceTransformer, models

        transformer = models.Transformer(folder)
        sentences = SentenceTransformer(modules=[transformer, models.Pooling(384)], device="cpu")
    return sentences.encode(texts).tolist()


WAYS = {"pipeline": from_pipeline, "onnx": from_onnx, "sentence-transformers": from_sentence_transformers}


def main(folder: str, answers: str, way: str, *texts: str) -> None:
    Path(answers).write_text(json.dumps(WAYS[way](folder, list(texts))))


if __name__ == "__main__":
    main(*sys.argv[1:])
