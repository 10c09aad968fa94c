"""Word pieces are those of BERT, and the same texts give the same."""

import random

import pytest

from acn_hf.data.word_pieces import MAX_LETTERS, SPECIAL_TOKENS, train_tokenizer

DRAW = random.Random(0)
WORDS = ["".join(DRAW.choices("abcdefghijklmnop", k=DRAW.randint(2, 8))) for _ in range(400)]
TEXTS = [" ".join(DRAW.choices(WORDS, k=9)) for _ in range(300)]


@pytest.mark.parametrize("vocab_size", [1, 60, 200, 5000])
def test_the_same_texts_give_the_same_numbers(vocab_size):
    found = [train_tokenizer(TEXTS, vocab_size).get_vocab() for _ in range(6)]
    assert all(vocabulary == found[0] for vocabulary in found)
    assert sorted(found[0].values()) == list(range(len(found[0])))
    if vocab_size in (60, 200):
        assert len(found[0]) == vocab_size


def test_the_order_of_the_texts_does_not_matter():
    assert train_tokenizer(TEXTS, 200).get_vocab() == train_tokenizer(TEXTS[::-1], 200).get_vocab()


def test_it_is_a_tokenizer_of_bert(tmp_path):
    tokenizer = train_tokenizer(["Good films, bad films!", "the GOOD bad"], 60, max_length=7)
    assert tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == [0, 1, 2, 3, 4]
    assert set(tokenizer.all_special_tokens) == set(SPECIAL_TOKENS)
    assert tokenizer.tokenize("Bad films!") == ["bad", "films", "!"]
    assert tokenizer.decode(tokenizer("bad film")["input_ids"]) == "[CLS] bad film [SEP]"
    assert tokenizer.tokenize("zebra") == ["[UNK]"]
    assert tokenizer.tokenize("a ##b") != ["a", "##b"]  # what is a piece inside of the vocabulary is text in a text
    assert len(tokenizer("good " * 20, truncation=True)["input_ids"]) == 7
    tokenizer.save_pretrained(tmp_path)
    assert type(tokenizer).from_pretrained(tmp_path).get_vocab() == tokenizer.get_vocab()


def test_rare_letters_are_left_out():
    letters = [chr(0x4E00 + number) for number in range(MAX_LETTERS + 5)]
    every = "".join(letters)
    for texts, kept in (([every, every[5:]], letters[5:]), ([every], letters[:MAX_LETTERS])):  # the second is a tie
        vocabulary = train_tokenizer(texts, 5000).get_vocab()
        assert {letter for letter in letters if letter in vocabulary} == set(kept)


@pytest.mark.parametrize(
    ("texts", "vocab_size", "text"),
    [
        (["a"], 0, "vocab_size must be at least 1; got 0"),
        ([], 10, "texts must hold at least one letter; got none"),
        ([" ", ""], 10, "texts must hold at least one letter; got none"),
        (iter(["a"]), 10, "texts are read twice: they must be a list or a column; got list_iterator"),
    ],
)
def test_what_is_refused(texts, vocab_size, text):
    with pytest.raises(ValueError, match=text):
        train_tokenizer(texts, vocab_size)
