"""Questions: windows of long contexts, labels at the answer's tokens, one answer over all windows."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from compressbert.config.schema import DataConfig
from compressbert.data.batches import Batch, ordered_batches
from compressbert.data.encode import Encoded, encode
from compressbert.data.read import read_split
from compressbert.errors import ConfigError, InputError
from compressbert.tasks.base import Task, task_for
from compressbert.tasks.question_answering import NO_ANSWER
from tests.tiny import question_rows, tiny_tokenizer, write_rows

CONTEXT = "the film was very good and the plot was dull"


def row(context: str = CONTEXT, *answers: tuple[str, int]) -> dict[str, Any]:
    texts, starts = [text for text, _ in answers], [start for _, start in answers]
    return {
        "question": "was the film good",
        "context": context,
        "answers": {"text": texts, "answer_start": starts},
    }


GOOD = row(CONTEXT, ("good", 18))


def config_of(folder: Path, rows: list[dict[str, Any]], **answers: Any) -> DataConfig:
    file = write_rows(folder / "rows.jsonl", rows)
    settings = {"stride": 2, "max_question": 8, **answers}
    return DataConfig.model_validate({"task": "question-answering", "train": str(file), "answers": settings})


def encoded_of(
    folder: Path, rows: list[dict[str, Any]], max_length: int = 14, **answers: Any
) -> tuple[Task, Encoded]:
    config = config_of(folder, rows, **answers)
    task = task_for(config, ())
    return task, encode(read_split(config, "train"), tiny_tokenizer(), task=task, max_length=max_length)


def test_a_long_context_is_split_into_windows_that_overlap(tmp_path: Path) -> None:
    _, encoded = encoded_of(tmp_path, [GOOD])
    # 4 question pieces and 3 special ones leave 7 of the context's 10, then what is left and 2 shared
    assert encoded.lengths.tolist() == [14, 12]
    assert encoded.source_rows is not None
    assert encoded.source_rows.tolist() == [0, 0]
    assert encoded.row_lengths.tolist() == [14]
    places = [encoded.token_places[a:b] for a, b in zip(encoded.offsets, encoded.offsets[1:], strict=False)]
    words = [[CONTEXT[a:b] for a, b in window if a >= 0] for window in places]
    assert words[0] == ["the", "film", "was", "very", "good", "and", "the"]
    assert words[1] == ["and", "the", "plot", "was", "dull"]
    # [CLS] was the film good [SEP] the film was very good: position 10; the second window does not hold it
    assert encoded.labels is not None
    assert encoded.labels.tolist() == [[10, 10], [0, 0]]
    assert encoded.truncated == 0


def test_answers_over_several_pieces_and_parts_of_words(tmp_path: Path) -> None:
    context = "films was lovely"
    _, encoded = encoded_of(tmp_path, [row(context, ("ilms was", 1))], max_length=32)
    assert encoded.labels is not None
    # [CLS] 4 [SEP] film ##s was lovely [SEP]: from film to was
    assert encoded.labels.tolist() == [[6, 8]]


def test_long_questions_are_cut_and_counted(tmp_path: Path) -> None:
    long = {**GOOD, "question": "was the film good " * 5}
    _, encoded = encoded_of(tmp_path, [GOOD, long], max_length=40)
    assert encoded.truncated == 1
    assert encoded.lengths.tolist() == [17, 21]


def test_windows_too_small_for_their_overlap_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"leaves 5 word pieces of context .* windows share 6"):
        encoded_of(tmp_path, [GOOD], max_length=16, stride=6)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [GOOD, row(CONTEXT, ("good", 17))],
            r"rows.jsonl:2: expected the answer 'good' at character 17 .* ' goo'",
        ),
        ([GOOD, row(CONTEXT, ("good", 400))], r"rows.jsonl:2: .* found ''"),
        ([GOOD, row(CONTEXT)], r"rows.jsonl:2: the question has no answer"),
        ([GOOD, row("  ", ("a", 0))], r"rows.jsonl:2: expected a context in 'context', found an empty one"),
        (
            [GOOD, {**GOOD, "answers": {"text": ["good"], "answer_start": []}}],
            r"rows.jsonl:2: expected a start for each answer, found 1 texts and 0 starts",
        ),
        ([{**GOOD, "answers": "good"}], r"expected answers with text and answer_start in column 'answers'"),
    ],
)
def test_unusable_rows_are_named(rows: list[dict[str, Any]], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_split(config_of(tmp_path, rows), "train")


def test_a_missing_column_is_named_with_those_there_are(tmp_path: Path) -> None:
    rows = [{"question": "a", "passage": "b", "answers": {"text": ["b"], "answer_start": [0]}}]
    with pytest.raises(
        ConfigError, match=r"looked for question\+context, .*columns are question, passage, answers"
    ):
        read_split(config_of(tmp_path, rows), "train")


def answered(
    task: Task, encoded: Encoded, points: dict[tuple[int, str], tuple[float, float]], none: float = 0.0
) -> Any:
    """Score windows in which a word of the context has points for (start, end); all else has -9."""
    collector = task.collector(encoded)
    for batch in ordered_batches(encoded, batch_size=1, pad_id=0):
        window = int(batch.examples[0])
        logits = torch.full((1, batch.inputs["input_ids"].shape[1], 2), -9.0)
        logits[0, 0] = none / 2
        start, end = encoded.offsets[window : window + 2]
        for (wanted, word), (first, last) in points.items():
            for token, (a, b) in enumerate(encoded.token_places[start:end]):
                if window == wanted and a >= 0 and CONTEXT[a:b] == word:
                    logits[0, token] = torch.tensor([first, last])
        collector.add(batch, logits)
    return collector.finish()


def test_the_best_span_of_all_windows_is_the_answer(tmp_path: Path) -> None:
    task, encoded = encoded_of(tmp_path, [GOOD])
    points = {(0, "very"): (2.0, -9.0), (0, "good"): (1.0, 3.0), (1, "dull"): (0.5, 2.0)}
    found = answered(task, encoded, points)
    assert found.decisions == ("very good",)
    assert found.scores.tolist() == [[0, pytest.approx(2 / 3), 1, 1]]
    assert found.margins.tolist() == [1.0]  # 5 against 4, for good alone
    assert found.right.tolist() == [False]
    better = answered(task, encoded, {**points, (1, "dull"): (4.0, 4.0)})
    assert better.decisions == ("dull",)


def test_no_answer_wins_by_the_threshold(tmp_path: Path) -> None:
    points = {(0, "good"): (1.0, 3.0)}
    for threshold, none, expected in ((0.0, 3.0, "good"), (0.0, 5.0, NO_ANSWER), (2.0, 5.0, "good")):
        settings = {"unanswerable": True, "no_answer_threshold": threshold}
        task, encoded = encoded_of(tmp_path, [GOOD, row(CONTEXT)], **settings)
        found = answered(task, encoded, {**points, (2, "good"): (1.0, 3.0)}, none)
        assert found.decisions == (expected, expected)
        assert found.margins.tolist() == [abs(4 - none + threshold)] * 2
        assert found.scores[:, 0].tolist() == [expected == "good", expected == NO_ANSWER]
        assert [metric.name for metric in task.metrics][2:] == ["f1_answerable", "accuracy_unanswerable"]


def test_the_loss_is_the_mean_of_start_and_end() -> None:
    task = task_for(DataConfig(task="question-answering"), ())
    logits = torch.zeros(1, 4, 2)
    logits[0, 2, 0] = math.log(3)  # p = 3/6
    loss = task.loss(logits, torch.tensor([[2, 1]]))
    assert loss.item() == pytest.approx((math.log(2) + math.log(4)) / 2)


def test_signals_are_distributions_over_real_tokens() -> None:
    task = task_for(DataConfig(task="question-answering"), ())
    logits = torch.arange(12.0).view(2, 3, 2)
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    found = task.signals(logits, Batch({"attention_mask": mask}, None, torch.arange(2)))
    assert found[:, :2].tolist() == [[0, 2], [6, 8], [1, 3], [7, 9]]
    assert (found[[0, 2], 2]).tolist() == [4, 5]
    assert (found[[1, 3], 2].softmax(-1) >= 0).all()
    assert found.softmax(-1)[1, 2] == 0


def test_toy_questions_are_answerable(tmp_path: Path) -> None:
    _, encoded = encoded_of(tmp_path, question_rows(20), max_length=20)
    assert encoded.source_rows is not None
    assert len(encoded) > 20
    held = np.unique(encoded.source_rows[encoded.labels[:, 0] > 0])
    assert held.tolist() == list(range(20))
