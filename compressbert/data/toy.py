"""The demonstration corpus: made-up reviews whose sentiment has to be composed, written by a seeded grammar.

A review is a verdict about one thing. Words of praise and blame are in it either way; which of them counts
depends on negation (near and far, single and double), on contrast (the clause after "but" wins, the one after
"although" loses), on comparison, on what was only hoped for, and on whether a polar word stands in a verdict
at all or in a title, a quotation or the plot. Counting words is therefore little better than guessing, and
one layer of attention is not enough. Run as a script: ``python -m compressbert.data.toy FOLDER``.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from compressbert.errors import ConfigError

T = TypeVar("T")
LABELS = ("negative", "positive")


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


GOOD = _words(
    "good great fine lovely bright warm superb sweet clever charming moving witty elegant fresh gripping tender"
    " brilliant wonderful excellent touching"
)
BAD = _words(
    "bad awful poor dull bleak cold dreadful sour silly clumsy boring stale lifeless tedious shallow crude"
    " terrible horrible pointless forgettable"
)
LIKED = _words("loved enjoyed admired praised liked cherished")
DISLIKED = _words("hated disliked despised mocked loathed resented")
THINGS = _words(
    "film movie play show book novel story series song album concert opera ballet musical comedy drama"
    " thriller documentary sequel remake"
)
PARTS = _words(
    "plot cast script ending opening music camera dialogue pace setting hero villain humour costume stage"
    " chorus narrator scenery rhythm finale"
)
PEOPLE = _words("critics friends viewers readers neighbours students children parents reviewers colleagues")
ROLES = _words("doctor king sailor teacher soldier painter farmer lawyer singer thief")
PLACES = _words("village harbour desert castle city forest station valley garden tower")
STRONG = _words("very really truly quite so utterly deeply simply")
MILD = _words("somewhat rather slightly fairly")
DAYS = _words("monday tuesday wednesday thursday friday saturday sunday")

NEAR_DENIALS = ("was not", "is never", "was hardly", "was far from", "was anything but")
FAR_DENIALS = (
    "i would not say that",
    "nobody i know thought that",
    "few people would claim that",
    "i do not believe that",
    "it is hard to argue that",
    "none of my friends said that",
    "it would be wrong to think that",
)
DOUBLE_DENIALS = (
    "i can not deny that",
    "nobody would dispute that",
    "there is no doubt that",
    "no one can ignore that",
)
WISHES = ("could have been", "should have been", "was supposed to be", "promised to be", "was said to be")
BETTER = ("better than", "far more pleasing than", "a step up from")
WORSE = ("worse than", "far less pleasing than", "a step down from")
CONTRASTS = (
    "{loses} but {wins}",
    "although {loses} , {wins}",
    "{wins} , although {loses}",
    "{loses} ; still , {wins}",
)


@dataclass(frozen=True)
class _Writer:
    """Writes clauses of a wished polarity (True: praise). ``random`` draws every choice."""

    random: random.Random

    def pick(self, options: Sequence[T]) -> T:
        return self.random.choice(options)

    def adjective(self, praise: bool) -> str:
        return self.pick(GOOD if praise else BAD)

    def degree(self) -> str:
        return self.pick((*STRONG, *MILD, "", "", "", ""))

    def thing(self) -> str:
        return f"{self.pick(('the', 'this'))} {self.pick(THINGS)}"

    def part(self) -> str:
        return f"the {self.pick(PARTS)}"

    def subject(self) -> str:
        return self.thing() if self.coin() else self.part()

    def coin(self, chance: float = 0.5) -> bool:
        return self.random.random() < chance

    # One clause about ``subject``. Each is praise exactly when ``praise`` is true.

    def plain(self, subject: str, praise: bool) -> str:
        verb = self.pick(("was", "is", "seemed", "felt"))
        return f"{subject} {verb} {self.degree()} {self.adjective(praise)}"

    def near(self, subject: str, praise: bool) -> str:
        return f"{subject} {self.pick(NEAR_DENIALS)} {self.adjective(not praise)}"

    def far(self, subject: str, praise: bool) -> str:
        inner = self.near if self.coin(0.15) else self.plain
        return f"{self.pick(FAR_DENIALS)} {inner(subject, not praise)}"

    def twice(self, subject: str, praise: bool) -> str:
        inner = self.near if self.coin(0.15) else self.plain
        return f"{self.pick(DOUBLE_DENIALS)} {inner(subject, praise)}"

    def felt(self, subject: str, praise: bool) -> str:
        who = self.pick((f"the {self.pick(PEOPLE)}", "i", "we"))
        if self.coin(0.8):
            how = self.pick(("", "really", "truly", "deeply"))
            return f"{who} {how} {self.pick(LIKED if praise else DISLIKED)} {subject}"
        return f"{who} never {self.pick(DISLIKED if praise else LIKED)} {subject}"

    def compared(self, subject: str, praise: bool) -> str:
        other = f"that {self.adjective(self.coin())} {self.pick(THINGS)}"
        if self.coin(0.3):
            return f"{other} was {self.pick(WORSE if praise else BETTER)} {subject}"
        return f"{subject} was {self.pick(BETTER if praise else WORSE)} {other}"

    def hoped(self, subject: str, praise: bool) -> str:
        ending = f"turned out {self.degree()} {self.adjective(praise)}"
        return f"{subject} {self.pick(WISHES)} {self.adjective(not praise)} and {ending}"

    def unless(self, subject: str, praise: bool) -> str:
        condition = f"{self.part()} had been {self.degree()} {self.adjective(self.coin())}"
        return f"{subject} would have been {self.adjective(not praise)} if {condition}"

    def also(self, subject: str, praise: bool) -> str:
        second = f"{self.part()} was also {self.adjective(praise)}"
        return f"not only was {subject} {self.adjective(praise)} but {second}"

    def verdict(self, praise: bool) -> str:
        kinds = {
            self.plain: 20, self.near: 5, self.far: 4, self.felt: 8, self.twice: 1, self.compared: 2,
            self.hoped: 2, self.unless: 1, self.also: 2,
        }  # fmt: skip
        kind = self.random.choices(list(kinds), weights=list(kinds.values()))[0]
        return kind(self.subject(), praise)

    # Whole reviews.

    def contrast(self, praise: bool) -> str:
        """Two verdicts of opposite polarity, one of which gives way."""
        return self.pick(CONTRASTS).format(wins=self.verdict(praise), loses=self.verdict(not praise))

    def nested(self, praise: bool) -> str:
        """A concession inside a contrast: of four verdicts the last decides."""
        before = f"{self.verdict(praise)} and {self.verdict(not praise)}"
        return f"{before} , but although {self.verdict(not praise)} , {self.verdict(praise)}"

    def reported(self, praise: bool) -> str:
        """What others say, and whether they are right."""
        right = self.coin()
        claim = self.verdict(praise if right else not praise)
        ending = ("and they are right", "and i agree") if right else ("but they are wrong", "and i disagree")
        return f"the {self.pick(PEOPLE)} say that {claim} , {self.pick(ending)}"

    def distraction(self) -> str:
        """A clause with polar words that judges nothing."""
        word, other = self.adjective(self.coin()), self.adjective(self.coin())
        role, place = self.pick(ROLES), self.pick(PLACES)
        return self.pick(
            (
                f'it is called " the {word} {role} "',
                f"it follows {_a(word)} {role} in {_a(other)} {place}",
                f'the poster says " {word} "',
                f"we saw it on {self.pick(DAYS)} in the {place}",
                f"{_a(word)} {role} meets {_a(other)} {self.pick(ROLES)}",
                f'a song named " {word} {other} " is in it',
            )
        )

    def review(self, praise: bool) -> str:
        kinds = (self.verdict, self.contrast, self.reported, self.nested)
        text = self.random.choices(kinds, weights=(24, 12, 2, 1))[0](praise)
        if self.coin(0.25):
            text = f"{self.distraction()} ; {text}" if self.coin() else f"{text} ; {self.distraction()}"
        return " ".join(f"{text} .".split())


def _a(word: str) -> str:
    return f"an {word}" if word[0] in "aeiou" else f"a {word}"


def toy_reviews(count: int, *, seed: int = 0) -> list[tuple[str, int]]:
    """``count`` different reviews with their label (0 negative, 1 positive), half of each, in shuffled
    order.
    """
    generator = random.Random(seed)
    writer = _Writer(generator)
    seen: set[str] = set()
    reviews: list[tuple[str, int]] = []
    while len(reviews) < count:
        label = len(reviews) % 2
        text = writer.review(bool(label))
        if text not in seen:
            seen.add(text)
            reviews.append((text, label))
    generator.shuffle(reviews)
    return reviews


def write_toy_corpus(
    folder: Path, *, train_rows: int = 16_000, validation_rows: int = 2_000, seed: int = 0
) -> tuple[Path, Path]:
    """Write ``train.jsonl`` and ``validation.jsonl`` (``sentence``, ``label``). No review is in both.

    The same seed and counts give the same bytes. ConfigError for a count below 2.
    """
    if min(train_rows, validation_rows) < 2:
        raise ConfigError(
            f"toy corpus: expected at least 2 rows a split, found {train_rows} and {validation_rows}",
            hint="Ask for more rows.",
        )
    reviews = toy_reviews(train_rows + validation_rows, seed=seed)
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "train.jsonl", folder / "validation.jsonl"
    for path, part in zip(paths, (reviews[:train_rows], reviews[train_rows:]), strict=True):
        lines = (json.dumps({"sentence": text, "label": LABELS[label]}) + "\n" for text, label in part)
        temporary = path.with_name(path.name + ".partial")
        temporary.write_text("".join(lines), encoding="utf-8")
        temporary.rename(path)
    return paths


def _main() -> None:
    parser = argparse.ArgumentParser(description="Write the demonstration corpus.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train-rows", type=int, default=16_000)
    parser.add_argument("--validation-rows", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    wanted = parser.parse_args()
    written = write_toy_corpus(
        wanted.folder, train_rows=wanted.train_rows, validation_rows=wanted.validation_rows, seed=wanted.seed
    )
    print(*written, sep="\n")


if __name__ == "__main__":
    _main()
