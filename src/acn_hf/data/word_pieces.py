"""A vocabulary of word pieces, learned from texts: the same texts give the same numbers."""

from collections import Counter
from collections.abc import Iterable, Iterator

from tokenizers import BertWordPieceTokenizer
from transformers import BertTokenizerFast

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
MAX_LETTERS = 1000
"""Characters that have pieces of their own, as in tokenizers; what holds others is unknown."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, *, max_length: int = 512) -> BertTokenizerFast:
    """Return a tokenizer of word pieces that were learned from texts, in lower case as those of BERT.

    Left to itself, tokenizers numbers the pieces of one letter in an order that differs from call to call, and which
    pieces of equal count are kept depends on it. A network that was trained with the one vocabulary reads texts wrongly
    with the other, so the letters get their numbers here, in the order of their code points.

    Args:
        texts (iterable of `str`): They are read twice.
        vocab_size (`int`): Number of pieces at most, at least 1; special tokens and letters are always there.
        max_length (`int`, *optional*, defaults to 512): Longest text in tokens, `model_max_length`.

    Returns:
        `BertTokenizerFast`: Its first tokens are `[PAD]`, `[UNK]`, `[CLS]`, `[SEP]` and `[MASK]`.

    Raises:
        ValueError: `vocab_size` is below 1, there is no text, or texts can be read only once.

    Example:

    ```python
    >>> from acn_hf.data.word_pieces import train_tokenizer

    >>> tokenizer = train_tokenizer(["a good film", "a bad film"], vocab_size=40)
    >>> tokenizer.tokenize("A film")
    ['a', 'film']

    ```
    """
    if vocab_size < 1:
        raise ValueError(f"vocab_size must be at least 1; got {vocab_size}")
    if isinstance(texts, Iterator):
        raise ValueError(f"texts are read twice: they must be a list or a column; got {type(texts).__name__}")
    trained = BertWordPieceTokenizer(lowercase=True)
    normalize = trained._tokenizer.normalizer.normalize_str
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(normalize(text))
    found = [letter for letter in counts if not letter.isspace()]
    if not found:
        raise ValueError("texts must hold at least one letter; got none")
    letters = sorted(found, key=lambda letter: (-counts[letter], letter))[:MAX_LETTERS]
    first = [*SPECIAL_TOKENS, *(f"##{letter}" for letter in sorted(letters))]
    trained.train_from_iterator(
        texts,
        vocab_size=vocab_size,
        special_tokens=first,
        initial_alphabet=letters,
        limit_alphabet=len(letters),
        show_progress=False,
    )
    # Made anew, since the pieces that came first count as special.
    named = BertWordPieceTokenizer(vocab=trained.get_vocab(), lowercase=True)
    return BertTokenizerFast(tokenizer_object=named._tokenizer, model_max_length=max_length)
