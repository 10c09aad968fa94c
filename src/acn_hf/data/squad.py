"""The file of SQuAD as it is published: articles, their paragraphs, and the questions about each."""

from typing import Any

import datasets


def flattened(data: datasets.Dataset) -> datasets.Dataset:
    """Return one row for each question of a file of SQuAD as it is published; other data as they are."""
    if "data" not in data.column_names or not set(data.column_names) <= {"data", "version"}:
        return data
    found: dict[str, list[Any]] = {"id": [], "question": [], "context": [], "answers": []}
    for article in (article for row in data["data"][:] for article in row):
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                found["id"].append(str(question["id"]))
                found["question"].append(question["question"])
                found["context"].append(paragraph["context"])
                answers = question["answers"] or []
                names = ("text", "answer_start")
                found["answers"].append({name: [answer[name] for answer in answers] for name in names})
    answers_of = {
        "text": datasets.List(datasets.Value("string")),
        "answer_start": datasets.List(datasets.Value("int64")),
    }
    texts = {name: datasets.Value("string") for name in ("id", "question", "context")}
    return datasets.Dataset.from_dict(found, datasets.Features({**texts, "answers": answers_of}))
