"""Make files of sentences out of books: one to teach embeddings with, one that is held out.

    python examples/make_sentences.py austen.txt.gz kjv.txt.gz sentences

A line of the files is a sentence, or what stands before a semicolon. One that comes twice is kept once. The same
command writes the same bytes. Cost: seconds.
"""

import argparse
import random
import re
from pathlib import Path

from acn_hf.data import load_data

END = re.compile(r"(?<=[.!?;])\s+")


def sentences(lines: list[str], shortest: int, longest: int) -> list[str]:
    """Return the sentences of so many words, sorted, each once."""
    every = (" ".join(one.split()) for line in lines for one in END.split(line))
    return sorted({one for one in every if shortest <= one.count(" ") + 1 <= longest})


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("books", type=Path, nargs="+", help="text files, plain or gzipped")
    parser.add_argument("folder", type=Path, help="where train.txt and held_out.txt are written")
    parser.add_argument("--num-train", type=int, default=9500, help="sentences to teach with (%(default)s)")
    parser.add_argument("--num-held-out", type=int, default=500, help="that are held out (%(default)s)")
    parser.add_argument("--shortest", type=int, default=5, help="words of a sentence, at least (%(default)s)")
    parser.add_argument("--longest", type=int, default=16, help="words of a sentence, at most (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is drawn (%(default)s)")
    given = parser.parse_args(arguments)
    found = sentences(
        [line for book in given.books for line in load_data(str(book))["text"]], given.shortest, given.longest
    )
    wanted = given.num_train + given.num_held_out
    if len(found) < wanted:
        raise SystemExit(f"the books must hold {wanted} sentences; they hold {len(found)}")
    random.Random(given.seed).shuffle(found)
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, part in (("held_out", found[: given.num_held_out]), ("train", found[given.num_held_out : wanted])):
        (given.folder / f"{name}.txt").write_text("".join(f"{one}\n" for one in part), encoding="utf-8")
        print(f"{name}: {len(part)} of {len(found)} sentences")


if __name__ == "__main__":
    main()
