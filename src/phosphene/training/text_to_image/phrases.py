"""Words for scenes: articles, plurals, what styles, places and times of day are called."""

from __future__ import annotations

import random

from phosphene.models.tokens import COUNTED
from phosphene.training.tables import table

_WORDS = table("text_to_image/words.toml")
NUMBERS = dict(enumerate(COUNTED, 1))
_ODD: dict[str, str] = _WORDS["odd"]
MASS = frozenset(_WORDS["mass"])
"""Words for what is not counted."""
_WITHOUT = MASS.union(_WORDS["bare"], _ODD.values())
"""Words that have no article."""
_JOINING = ("of", "with", "in", "on", "wearing", "holding", "behind", "at")


def plural(noun: str) -> str:
    """Of a noun phrase: its last word, or the one before what says where it is or what it has."""
    words = noun.split()
    at = next((k for k, word in enumerate(words) if k and word in _JOINING), len(words)) - 1
    word = words[at]
    if word in _ODD:
        many = _ODD[word]
    elif word in _WORDS["bare"] or (word.endswith("s") and not word.endswith("ss")):
        many = word
    elif word.endswith(("ch", "sh", "x", "z", "ss")):
        many = word + "es"
    elif word.endswith("y") and word[-2:-1] not in "aeiou":
        many = word[:-1] + "ies"
    else:
        many = word + "s"
    return " ".join([*words[:at], many, *words[at + 1 :]])


NUMBERED = 0.75
"""How often several things are said to be so many, where the number is one that is said."""


def amount(number: int, many: str, chance: random.Random) -> str:
    """``number`` of what is called ``many``, or about so many. A pair of scissors is one thing, and so not said of two."""
    paired = number == 2 and many.split()[-1] in _WORDS["bare"]
    if number in NUMBERS and (paired or chance.random() < NUMBERED):
        return f"{NUMBERS[number]} {many}"
    ways = "two" if number == 2 else "some" if number in NUMBERS else "many"
    return chance.choice(AMOUNTS[ways]).format(many)


def with_article(text: str) -> str:
    """ "a cat", "an owl"; nothing before plurals, masses and what has an article or a number already."""
    first = text.split()[0]
    if first in ("a", "an", "the", "some", *NUMBERS.values()):
        return text
    head = text.split(",")[0].split(" of ")[0].split(" with ")[0].split()[-1]
    if head in _WITHOUT:
        return text
    if head.endswith("s") and not head.endswith(("ss", "us", "is")):
        return text
    vowel = first[0] in "aeiou" and not first.startswith(("uni", "eu", "ewe", "one", "use", "ufo", "ukulele"))
    return f"{'an' if vowel or first in ('hour', 'hourglass', 'x-ray') else 'a'} {text}"


def article(text: str, chance: random.Random, often: float = 0.75) -> str:
    """``text`` with its article, or now and then without."""
    return with_article(text) if chance.random() < often else text


STYLES: dict[str, tuple[str, ...]] = {style: words["called"] for style, words in _WORDS["styles"].items()}
SAID = {style: words["said"] for style, words in _WORDS["styles"].items() if "said" in words}
"""How often a style is named, where not in half of its pictures."""
SOLID, OUTLINE, FILLED = (_WORDS[k] for k in ("solid", "outline", "filled"))
"""What icons are called; the last where they have colours: by no style, which paintings alone are in."""
GATHERED: tuple[str, ...] = _WORDS["gathered"]
PREVIEWS: tuple[str, ...] = _WORDS["previews"]
MANNERED: dict[str, tuple[str, ...]] = _WORDS["manners"]
RELATED: dict[str, tuple[str, ...]] = _WORDS["relations"]
TOGETHER: dict[str, tuple[str, ...]] = _WORDS["together"]
PRAISE: tuple[str, ...] = _WORDS["praise"]
AMOUNTS: dict[str, tuple[str, ...]] = _WORDS["amounts"]
SIZES: dict[str, tuple[str, ...]] = _WORDS["sizes"]
FLOCKS: dict[str, str] = _WORDS["flocks"]
BELOW: dict[str, str] = _WORDS["below"]
SUNSETS: dict[str, str] = _WORDS["sunsets"]
SUNSET_PLACES: dict[str, str] = _WORDS["sunset_places"]

TIMES: dict[str, tuple[str, ...]] = {time: words["said"] for time, words in _WORDS["times"].items()}
ADJECTIVES = {time: words["adjectives"] for time, words in _WORDS["times"].items() if "adjectives" in words}
Place = tuple[tuple[str, ...], tuple[str, ...]]
_PLACES = _WORDS["places"]
PLACES: dict[str, Place] = {kind: (words["there"], words["called"]) for kind, words in _PLACES.items()}
"""For each place: where a thing is that stands in it; what it is called by itself."""
SNOWY: dict[str, Place] = {
    kind: (words["there_in_snow"], words["called_in_snow"]) for kind, words in _PLACES.items() if "called_in_snow" in words
}
SHARES = {kind: words.get("share", 1.0) for kind, words in _PLACES.items()}
"""How often a place is shown by itself, against 1 for most."""
ALWAYS = ("room", "table", "underwater", "space")
"""Where the time makes no difference."""
_USUAL_TIMES = ("day", "day", "day", "sunset", "night", "snow", "snow", "fog", "rain", "storm")
TIMES_OF = {kind: words.get("times", _USUAL_TIMES) for kind, words in _PLACES.items()} | dict.fromkeys(ALWAYS, ("day",))
"""What time it may be in a place, likely times more often."""
