"""The file of SQuAD as it is published: articles, their paragraphs, and the questions about each."""

from typing import Any

import datasets


def flattened(data: datasets.Dataset) -> datasets.Dataset:
    """Return one row for each question of a file of SQuAD as it is published; other data as they are."""
    if "data" not in data.column_names or not set(data.column_names) <= {"data", "version"}:
        return data
    articles = [article for row in data["data"][:] for article in (row if isinstance(row, list) else [row])]
    if not articles or not all(isinstance(article, dict) for article in articles):
        return data
    if "paragraphs" not in articles[0]:  # rows, beside which stands a version
        return datasets.Dataset.from_list(articles)
    found: dict[str, list[Any]] = {"id": [], "question": [], "context": [], "answers": []}
    for paragraph in (paragraph for article in articles for paragraph in article["paragraphs"]):
        for question in paragraph["qas"]:
            answers = question["answers"] or []
            texts = {name: [answer[name] for answer in answers] for name in ("text", "answer_start")}
            values = str(question["id"]), question["question"], paragraph["context"], texts
            for name, value in zip(found, values, strict=True):
                found[name].append(value)
    answers_of = {
        "text": datasets.List(datasets.Value("string")),
        "answer_start": datasets.List(datasets.Value("int64")),
    }
    strings = dict.fromkeys(("id", "question", "context"), datasets.Value("string"))
    return datasets.Dataset.from_dict(found, datasets.Features({**strings, "answers": answers_of}))
