"""The words and facts of the tiny world, and the rule that holds out content."""

from __future__ import annotations

import random
import zlib
from typing import NamedTuple


def held_out(kind: str, content: object) -> bool:
    """Whether this content is reserved for the evaluation: one in ten, by a hash."""
    return zlib.crc32(f"{kind}: {content}".lower().encode()) % 10 == 0


def listed(table: str) -> list[str]:
    """The entries of a table, separated by "|"."""
    return [entry.strip() for entry in table.replace("\n", "").split("|")]


# People -------------------------------------------------------------------------------------

GIRLS = listed("""Mia|Lily|Anna|Emma|Zoe|Ruby|Nora|Ella|Rosa|Ivy|Sara|Lucy|Alice|Clara|Grace|
Hanna|Julia|Kate|Lena|Maya""")
BOYS = listed("""Tom|Ben|Max|Sam|Leo|Finn|Jack|Noah|Oscar|Paul|Tim|Henry|Adam|Felix|Hugo|Jonas|
Luke|Oliver|Peter|Theo""")

#: First names of users. Those that the hash holds out are not in the training data.
FIRST_NAMES = (
    GIRLS
    + BOYS
    + listed("""
Aaron|Abdul|Aisha|Alan|Alex|Ali|Amir|Amy|Andre|Andrea|Andrew|Angela|Anton|Arthur|
Barbara|Beth|Bill|Bob|Boris|Brian|Bruno|Carl|Carlos|Carol|Carmen|Chen|Chloe|Chris|Claire|Daniel|
Dave|David|Deepa|Diana|Diego|Dora|Edgar|Elena|Eli|Elif|Eric|Eva|Fatima|Fiona|Frank|Fred|Gabriel|
George|Gina|Greta|Guido|Hans|Harry|Hassan|Helen|Hiro|Ian|Igor|Ines|Ingrid|Irene|Isaac|Ivan|
Jamal|James|Jane|Jasmin|Jean|Jenny|Jim|Joan|Joe|John|Jorge|Joseph|Judith|Kai|Karen|Karl|Kenji|
Kevin|Kim|Laura|Lara|Lars|Layla|Li|Linda|Lisa|Louis|Luca|Lucas|Luis|Magda|Marco|Maria|Mark|
Marta|Martin|Mary|Matt|Mei|Michael|Miguel|Mike|Mohamed|Monica|Nadia|Nick|Nicole|Nina|Olga|Omar|
Pablo|Patrick|Pedro|Petra|Phil|Pia|Priya|Rachel|Rahul|Ralph|Raj|Ravi|Rita|Robert|Robin|Roger|
Ron|Roy|Samira|Sandra|Sasha|Scott|Sean|Simon|Sofia|Sonia|Stefan|Steve|Susan|Sven|Tanja|Tara|
Thomas|Tina|Tony|Ursula|Uwe|Vera|Victor|Walter|Wei|Will|Yan|Yuki|Yusuf|Zara|Zeno""")
)
_SYLLABLES = listed("""ba|be|bo|da|de|di|do|fa|fi|ga|go|ha|hi|jo|ka|ke|ki|ko|la|le|li|lo|lu|ma|me|
mi|mo|na|ne|ni|no|pa|pe|pi|ra|re|ri|ro|sa|se|si|so|ta|te|ti|to|va|ve|vi|wa|wi|ya|yo|za|ze|zo""")
_LAST = ["", "", "n", "r", "s", "l", "m", "x", "th", "ck", "d"]


def any_name(rng: random.Random) -> str:
    """A first name, known or invented, so that the model must copy names instead of guessing."""
    while True:
        if rng.random() < 0.5:
            name = rng.choice(FIRST_NAMES)
        else:
            name = "".join(rng.choice(_SYLLABLES) for _ in range(rng.choice((1, 2, 2, 3))))
            name = (name + rng.choice(_LAST)).capitalize()
        if not held_out("name", name):
            return name


# Things -------------------------------------------------------------------------------------

COLOURS = ["red", "blue", "green", "yellow", "white", "black", "brown", "pink", "purple", "grey"]
FURS = ["white", "black", "brown", "grey", "yellow"]
TOYS = listed("""ball|kite|boat|drum|hat|doll|book|train|bell|cup|scarf|basket""")
FOODS = ["cake", "apple", "pie", "cookie", "pear", "bun", "banana", "sandwich"]
PLACES = ["park", "forest", "garden", "beach", "market", "school", "river", "farm", "lake", "hill"]
HIDDEN = [
    "under a tree", "behind a rock", "in the tall grass", "under a bench", "behind the house",
    "in a hole", "next to the well", "under a bush", "behind the door", "in a box",
]  # fmt: skip
HOMES = [
    "in a small house near the forest", "in a town by the sea", "on a farm",
    "in a house on a hill", "in a village by the river", "at the edge of the woods",
]  # fmt: skip
HOBBIES = ["draw", "sing", "run", "read", "dance", "swim", "paint", "jump", "cook", "climb"]
TRAITS = ["little", "kind", "happy", "brave", "clever", "funny", "quiet", "young"]
FEARS = ["the dark", "the water", "the big dog", "the wind", "the thunder", "high places"]
SKILLS = listed("""swim|ride a bike|fly a kite|climb a tree|bake a cake|skate|whistle|dance""")
HEROES = ["rabbit", "bear", "mouse", "fox", "duck", "cat", "dog", "frog"]
SMALL = ["kitten", "puppy", "bird", "duckling", "lamb", "mouse"]


# Facts --------------------------------------------------------------------------------------


class Animal(NamedTuple):
    """The facts about an animal; an empty text or None if there is none."""

    name: str
    plural: str
    sound: str
    food: str
    home: str
    legs: int
    young: str
    can: tuple[str, ...]


ANIMALS = [
    Animal("cow", "cows", "moo", "grass", "on a farm", 4, "a calf", ()),
    Animal("dog", "dogs", "woof", "meat", "in a house", 4, "a puppy", ("run", "swim")),
    Animal("cat", "cats", "meow", "fish", "in a house", 4, "a kitten", ("run", "climb")),
    Animal("sheep", "sheep", "baa", "grass", "on a farm", 4, "a lamb", ()),
    Animal("pig", "pigs", "oink", "corn", "on a farm", 4, "a piglet", ()),
    Animal("horse", "horses", "neigh", "hay", "on a farm", 4, "a foal", ("run",)),
    Animal("duck", "ducks", "quack", "plants", "at a pond", 2, "a duckling", ("swim", "fly")),
    Animal("hen", "hens", "cluck", "corn", "on a farm", 2, "a chick", ()),
    Animal("bird", "birds", "tweet", "seeds", "in a nest", 2, "a chick", ("fly", "sing")),
    Animal("frog", "frogs", "croak", "flies", "at a pond", 4, "a tadpole", ("swim", "jump")),
    Animal("bee", "bees", "buzz", "honey", "in a hive", 6, "", ("fly",)),
    Animal("lion", "lions", "roar", "meat", "in the grassland", 4, "a cub", ("run",)),
    Animal("bear", "bears", "growl", "honey", "in the forest", 4, "a cub", ("swim", "climb")),
    Animal("mouse", "mice", "squeak", "cheese", "in a hole", 4, "", ("run", "climb")),
    Animal("rabbit", "rabbits", "", "carrots", "in a hole", 4, "a bunny", ("run", "jump")),
    Animal("fish", "fish", "", "worms", "in the water", 0, "", ("swim",)),
    Animal("owl", "owls", "hoot", "mice", "in a tree", 2, "an owlet", ("fly",)),
    Animal("snake", "snakes", "hiss", "eggs", "in the grass", 0, "", ("swim", "climb")),
    Animal("spider", "spiders", "", "flies", "in a web", 8, "", ("climb",)),
    Animal("wolf", "wolves", "howl", "meat", "in the forest", 4, "a pup", ("run", "swim")),
]
CAN = ["fly", "swim", "run", "climb", "jump", "sing"]

COLOUR_OF = {
    "the sky": "blue", "the sea": "blue", "grass": "green", "a leaf": "green", "a frog": "green",
    "snow": "white", "milk": "white", "a cloud": "white", "the sun": "yellow",
    "a banana": "yellow", "a lemon": "yellow", "a tomato": "red", "a cherry": "red",
    "a strawberry": "red", "blood": "red", "the night": "black", "coal": "black",
    "a carrot": "orange", "a pumpkin": "orange", "chocolate": "brown", "a bear": "brown",
    "wood": "brown", "a pig": "pink", "a plum": "purple",
}  # fmt: skip

_PAIRS = """big small,hot cold,up down,day night,happy sad,fast slow,good bad,long short,wet dry,
loud quiet,hard soft,full empty,light dark,in out,yes no,left right,first last,high low,open closed,
young old,clean dirty,rich poor,strong weak,early late,near far""".replace("\n", "").split(",")
OPPOSITES = {a: b for pair in _PAIRS for a, b in (pair.split(), pair.split()[::-1])}

DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
SEASONS = ["spring", "summer", "autumn", "winter"]
NUMBER_WORDS = listed("""zero|one|two|three|four|five|six|seven|eight|nine|ten""")
