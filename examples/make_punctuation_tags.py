"""Make a data set of tags whose labels are true: passages without capitals and punctuation, and what each word had.

What is unusual: nobody has annotated anything. A text is cut into passages of some words, wherever its sentences end,
and every word is written in small letters. Its tag is what was taken from it: a capital, the mark behind it, or both.
A model that learns these tags restores capitals and punctuation.

    python examples/make_punctuation_tags.py CORPUS.txt.gz tags
    acn-hf compress MODEL tags/validation.jsonl short --teach tags/train.jsonl --test tags/test.jsonl --metric f1_macro

A line of the files is {"text": ["mr", "weston", ...], "label": ["CAPITAL", "CAPITAL+COMMA", ...]}. A paragraph, which
is a line of the corpus, is in one of the three files, and a passage that comes twice is kept once. The same command
writes the same bytes. Cost: seconds.
"""

import argparse
import gzip
import json
import random
import re
from collections import Counter
from pathlib import Path

SHORTEST = 8
"""Words; what is left of a paragraph is a passage if it has as many."""
ABBREVIATIONS = {"mr", "mrs", "dr", "st", "esq", "messrs", "etc", "viz"}
"""A point behind these belongs to the word."""
MARKS = {",": "COMMA", "?": "QUESTION", **dict.fromkeys(".;:!", "STOP")}
WORD = re.compile(r"([A-Za-z]+(?:['’-][A-Za-z]+)*)[_\"”’')\]]*([.,;:!?]?)")
"""A word, and the mark behind it, with quotation marks and the like between them."""


def tag_of(word: str, mark: str) -> str:
    """Return what a word had: O is neither a capital nor a mark. Before a question mark the case is not asked."""
    name = "" if mark == "." and word.lower() in ABBREVIATIONS else MARKS.get(mark, "")
    if name == "QUESTION":
        return name
    return "+".join(part for part in ("CAPITAL" if word[0].isupper() else "", name) if part) or "O"


def passages(paragraph: str, num_words: int) -> list[dict[str, list[str]]]:
    """Return the passages of a paragraph: words in small letters, and their tags."""
    pairs = [(word.lower(), tag_of(word, mark)) for word, mark in WORD.findall(paragraph)]
    parts = (pairs[start : start + num_words] for start in range(0, len(pairs), num_words))
    return [
        {"text": [word for word, _ in part], "label": [tag for _, tag in part]}
        for part in parts
        if len(part) >= SHORTEST
    ]


def split(lines: list[str], sizes: dict[str, int], num_words: int, seed: int) -> dict[str, list[dict[str, list[str]]]]:
    """Return as many passages as each part is to have; no paragraph is in two of them."""
    lines = list(lines)
    random.Random(seed).shuffle(lines)
    rest, seen, parts = iter(lines), set(), {}
    for name, size in sizes.items():
        part = parts[name] = []
        while len(part) < size:
            line = next(rest, None)
            if line is None:
                raise SystemExit(
                    f"the corpus must hold {sum(sizes.values())} passages; it holds {sum(map(len, parts.values()))}"
                )
            for passage in passages(line, num_words):
                words = tuple(passage["text"])
                if words not in seen and len(part) < size:
                    seen.add(words)
                    part.append(passage)
    return parts


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("corpus", type=Path, help="text file of one paragraph a line, plain or gzipped")
    parser.add_argument("folder", type=Path, help="where train.jsonl, validation.jsonl and test.jsonl are written")
    parser.add_argument("--num-train", type=int, default=6000, help="passages to train on (%(default)s)")
    parser.add_argument("--num-held-out", type=int, default=1000, help="to validate on, and to test on (%(default)s)")
    parser.add_argument("--num-words", type=int, default=32, help="words of a passage, at most (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the order of the paragraphs (%(default)s)")
    given = parser.parse_args(arguments)
    data = given.corpus.read_bytes()
    lines = (gzip.decompress(data) if given.corpus.suffix == ".gz" else data).decode().splitlines()
    sizes = {"validation": given.num_held_out, "test": given.num_held_out, "train": given.num_train}
    parts = split(lines, sizes, given.num_words, given.seed)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, part in parts.items():
        (given.folder / f"{name}.jsonl").write_text("".join(f"{json.dumps(passage)}\n" for passage in part))
        counts = Counter(tag for passage in part for tag in passage["label"])
        shares = ", ".join(f"{tag} {number / counts.total():.3f}" for tag, number in counts.most_common())
        print(f"{name}: {len(part)} passages, {counts.total()} words: {shares}")


if __name__ == "__main__":
    main()
