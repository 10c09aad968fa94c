"""The price of a depth profile: all 13 depths against one plain evaluation, and memory against data set size.

    python benchmarks/depth_profile.py

Goals: at most 1.3 times one evaluation; the peak memory of a masked-language-model profile over 2,000 sequences is
that of one over 250, since no logits are kept.
"""

import resource
import subprocess
import sys

import numpy as np
import torch
from sklearn.metrics import accuracy_score
from timing import interleaved, ratio, store

from acn_hf import AcnBertConfig, AcnBertForMaskedLM, AcnBertForSequenceClassification, measure_depth_profile

SIZE = {"hidden_size": 256, "intermediate_size": 1024, "num_attention_heads": 4, "num_hidden_layers": 12}


def text_batches(number: int, *, token_labels: bool, batch_size: int = 32, length: int = 64):
    """Yield batches of random tokens."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(number // batch_size):
        ids = torch.randint(1, 8192, (batch_size, length), generator=generator)
        yield {"input_ids": ids, "labels": ids if token_labels else ids[:, 0] % 2}


def plain_evaluation(model, batches) -> float:
    """Return the accuracy at full depth by the loop that everybody writes."""
    predictions, references = [], []
    model.eval()
    with torch.no_grad():
        for batch in batches:
            predictions.append(model(**batch).logits.argmax(-1).numpy())
            references.append(batch["labels"].numpy())
    return float(accuracy_score(np.concatenate(references), np.concatenate(predictions)))


def price() -> dict:
    """Return times and their ratio."""
    torch.manual_seed(0)
    model = AcnBertForSequenceClassification(AcnBertConfig(vocab_size=8192, **SIZE))
    batches = list(text_batches(256, token_labels=False))
    times = interleaved(
        {
            "plain evaluation": lambda: plain_evaluation(model, batches),
            "profile of 13 depths": lambda: measure_depth_profile(model, batches),
        },
        rounds=9,
        warmup=1,
    )
    return {"times": times, "profile / evaluation": ratio(times, "profile of 13 depths", "plain evaluation")}


def peak_memory_mb(number: int) -> float:
    """Return the peak memory of this process after a masked-language-model profile over `number` sequences."""
    torch.manual_seed(0)
    model = AcnBertForMaskedLM(AcnBertConfig(vocab_size=8192, **SIZE))
    measure_depth_profile(model, text_batches(number, token_labels=True), metric="loss")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory() -> dict:
    """Return the peak memory for several data set sizes, each measured in a process of its own."""
    peaks = {}
    for number in (256, 2016):
        command = [sys.executable, __file__, "memory", str(number)]
        peaks[number] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
    logits = 2016 * 64 * 8192 * 4 / 2**20
    return {"peak_mb": peaks, "2016 / 256 sequences": peaks[2016] / peaks[256], "logits_of_one_depth_mb": logits}


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        print(peak_memory_mb(int(sys.argv[2])))
    else:
        store("depth_profile", {"price": price(), "memory": memory()})
