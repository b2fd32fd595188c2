"""Words for scenes: articles, plurals, what styles, places and times of day are called."""

from __future__ import annotations

import random

NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four", 5: "five"}
_ODD = {
    "man": "men",
    "woman": "women",
    "child": "children",
    "person": "people",
    "mouse": "mice",
    "goose": "geese",
    "foot": "feet",
    "tooth": "teeth",
    "ox": "oxen",
    "leaf": "leaves",
    "wolf": "wolves",
    "knife": "knives",
    "loaf": "loaves",
    "shelf": "shelves",
    "elf": "elves",
    "sheep": "sheep",
    "fish": "fish",
    "deer": "deer",
    "dice": "dice",
    "snowman": "snowmen",
    "policeman": "policemen",
    "cactus": "cactuses",
}
_BARE = frozenset(
    [
        "glasses",
        "sunglasses",
        "scissors",
        "jeans",
        "trousers",
        "pants",
        "shorts",
        "binoculars",
        "goggles",
        "stairs",
        "headphones",
        "tools",
    ]
)
_MASS = frozenset(
    [
        "rain",
        "snow",
        "fog",
        "hail",
        "lightning",
        "smoke",
        "water",
        "rice",
        "bread",
        "cheese",
        "meat",
        "honey",
        "milk",
        "coffee",
        "tea",
        "grass",
        "bacon",
        "butter",
        "spaghetti",
        "pasta",
        "sushi",
        "popcorn",
        "chocolate",
        "fire",
        "sand",
        "wheat",
        "corn",
        "ginger",
        "garlic",
        "lava",
        "lightning",
        "wind",
        "money",
        "santa",
    ]
)


def plural(noun: str) -> str:
    """Of a noun phrase: its last word, or the one before "of", "with", "in", "on", "and"."""
    words = noun.split()
    at = (
        next(
            (k for k, w in enumerate(words) if k and w in ("of", "with", "in", "on", "wearing", "holding", "behind", "at")),
            len(words),
        )
        - 1
    )
    word = words[at]
    if word in _ODD:
        many = _ODD[word]
    elif word in _BARE or (word.endswith("ss") is False and word.endswith("s")):
        many = word
    elif word.endswith(("ch", "sh", "x", "z", "ss")):
        many = word + "es"
    elif word.endswith("y") and word[-2:-1] not in "aeiou":
        many = word[:-1] + "ies"
    else:
        many = word + "s"
    return " ".join([*words[:at], many, *words[at + 1 :]])


def with_article(text: str) -> str:
    """ "a cat", "an owl"; nothing before plurals, masses and what has an article or a number already."""
    first = text.split()[0]
    if first in ("a", "an", "the", "some", *NUMBERS.values()):
        return text
    head = text.split(" of ")[0].split(" with ")[0].split()[-1]
    if head in _MASS or head in _BARE or head in _ODD.values():
        return text
    if head.endswith("s") and not head.endswith(("ss", "us", "is")):
        return text
    vowel = first[0] in "aeiou" and not first.startswith(("uni", "eu", "one", "use", "ufo", "ukulele"))
    return f"{'an' if vowel or first in ('hour', 'hourglass', 'x-ray') else 'a'} {text}"


def article(text: str, chance: random.Random, often: float = 0.75) -> str:
    """``text`` with its article, or now and then without."""
    return with_article(text) if chance.random() < often else text


STYLES: dict[str, tuple[str, ...]] = {
    "fluent 3d": ("3d", "3d rendered", "3d"),
    "fluent color": ("glossy", "shaded"),
    "fluent flat": ("flat", "flat vector"),
    "noto": ("cartoon", "clip art"),
    "firefox": ("sticker", "simple cartoon"),
    "twemoji": ("flat emoji", "emoji"),
    "noto v1": ("rounded cartoon", "cartoon"),
    "emojione": ("emoji", "bright cartoon"),
    "clip art": ("clip art", "drawn"),
    "line emoji": ("outlined cartoon", "cartoon"),
    "colour icon": ("flat illustration", "colour icon"),
}
SAID = {"fluent color": 0.2, "noto": 0.35, "line emoji": 0.95, "colour icon": 0.9, "firefox": 0.8, "clip art": 0.6}
"""How often a style is named, where not in half of its pictures: a bare noun is to mean few looks."""
SOLID = ("icon", "silhouette", "pictogram", "icon")
OUTLINE = ("outline icon", "line drawing", "line icon", "outline drawing")
FILLED = ("cartoon", "coloured drawing", "colored drawing", "simple drawing")

TIMES: dict[str, tuple[str, ...]] = {
    "day": ("", "", "", "", "on a sunny day", "by day", "under a blue sky"),
    "sunset": ("at sunset", "at sunset", "at dusk", "at dawn", "at sunrise", "in the evening"),
    "night": ("at night", "at night", "by night", "under the stars", "in the moonlight", "under a starry sky"),
    "storm": ("in a storm", "under dark clouds", "on a stormy day"),
    "fog": ("in the fog", "in the mist", "on a foggy day"),
    "snow": ("in the snow", "in winter", "in falling snow", "on a snowy day"),
    "rain": ("in the rain", "on a rainy day"),
}
ADJECTIVES = {
    "night": ("starry", "dark"),
    "storm": ("stormy",),
    "fog": ("foggy", "misty"),
    "snow": ("snowy", "winter"),
    "rain": ("rainy",),
}

# For each place: where a thing is that stands in it; what it is called by itself.
PLACES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "field": (
        ("in a field", "on the grass", "in a meadow", "on a green field"),
        ("a field", "a green meadow", "a meadow", "a grassy field"),
    ),
    "hills": (
        ("in the hills", "on a hill", "in front of green hills"),
        ("green hills", "rolling hills", "a landscape with hills", "a landscape"),
    ),
    "beach": (
        ("on a beach", "at the beach", "on the sand by the sea"),
        ("a beach", "a sandy beach", "the seaside", "a beach by the sea"),
    ),
    "sea": (
        ("in the sea", "on the sea", "on the ocean", "in the water"),
        ("the sea", "the ocean", "waves on the sea", "a seascape"),
    ),
    "lake": (
        ("by a lake", "at a lake in the mountains", "by the lake"),
        ("a lake", "a mountain lake", "a lake in front of mountains"),
    ),
    "mountains": (
        ("in the mountains", "in front of mountains"),
        ("mountains", "a mountain", "a mountain landscape", "high mountains", "a mountain range"),
    ),
    "city": (
        ("in a city", "in the city", "in front of a city skyline"),
        ("a city", "a city skyline", "a skyline", "skyscrapers", "a big city"),
    ),
    "street": (("on a street", "in the street", "on a city street"), ("a street", "a city street", "an empty street")),
    "desert": (("in a desert", "in the desert", "on the sand dunes"), ("a desert", "sand dunes", "a desert landscape")),
    "forest": (("in a forest", "in the woods", "in the forest"), ("a forest", "a pine forest", "the woods", "a dark forest")),
    "village": (("in a village", "in front of a village"), ("a village", "a small village", "houses in a village")),
    "road": (("on a road", "on the road"), ("a road", "a road through the hills", "a country road", "a long road")),
    "river": (("by a river", "at a river"), ("a river", "a river through the hills", "a river in a valley", "a winding river")),
    "room": (("in a room", "in a living room", "indoors"), ("a room", "an empty room", "a room with a window")),
    "table": (("on a table", "on a wooden table"), ("a wooden table", "an empty table")),
    "underwater": (
        ("under water", "underwater", "at the bottom of the sea"),
        ("the bottom of the sea", "an underwater scene", "the sea floor"),
    ),
    "space": (("in space", "in outer space", "among the stars"), ("outer space", "space", "stars in space", "a galaxy of stars")),
    "sky": (("in the sky", "in the air", "among the clouds"), ("the sky", "clouds in the sky", "a sky with clouds", "clouds")),
    "waterfall": (
        ("in front of a waterfall", "by a waterfall"),
        ("a waterfall", "waterfalls", "a waterfall in the mountains", "a tall waterfall"),
    ),
    "park": (("in a park", "in a garden"), ("a park", "a garden", "a park with trees")),
}
SNOWY = {
    "field": (
        ("in the snow", "on a snowy field"),
        ("a snowy field", "a field in winter", "a winter landscape", "a snowy landscape"),
    ),
    "hills": (("on a snowy hill", "in the snow"), ("snowy hills", "a snowy landscape", "a winter landscape")),
    "mountains": (
        ("in the snowy mountains", "in front of snowy mountains"),
        ("snowy mountains", "a snowy mountain", "mountains in winter", "snow-covered mountains"),
    ),
    "forest": (("in a snowy forest", "in a forest in winter"), ("a snowy forest", "a forest in winter", "a winter forest")),
    "village": (
        ("in a snowy village",),
        (
            "a snowy village",
            "a village in winter",
            "a village in the snow",
            "a snowy mountain village",
            "a mountain village in the snow",
        ),
    ),
    "road": (("on a snowy road",), ("a snowy road", "a road in winter")),
    "city": (("in a snowy city",), ("a city in the snow", "a snowy city")),
    "lake": (("by a frozen lake",), ("a frozen lake", "a lake in winter")),
    "park": (("in a snowy park",), ("a park in winter", "a snowy park")),
}
ALWAYS = ("room", "table", "underwater", "space")
"""Where the time makes no difference."""
_USUAL_TIMES = "day day day sunset night snow snow fog rain storm"
_OTHER_TIMES = {
    "desert": "day day sunset night",
    "sky": "day day sunset night storm",
    "sea": "day day sunset sunset night storm fog",
    "beach": "day day sunset sunset night storm fog",
    "waterfall": "day day day sunset night fog",
    "street": "day day sunset night rain fog snow",
}
TIMES_OF = {place: tuple(_OTHER_TIMES.get(place, _USUAL_TIMES).split()) for place in PLACES} | dict.fromkeys(ALWAYS, ("day",))
"""What time it may be in a place, likely times more often."""
