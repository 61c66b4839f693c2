"""Conversations about the tiny world, randomly combined from moves.

A move is a user's message and the model's answer. It may depend on the conversation so far: the
user's name and favourites, and the last story. Users write in different styles (with or without
capitals and punctuation). The model writes properly, and copies names as the user wrote them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import questions
import stories
import world

Turn = tuple[str, str]
Message = dict[str, str]


@dataclass
class Talk:
    """The state of a conversation."""

    rng: random.Random
    kept: bool = False  # whether to use only held-out content (else none of it)
    style: str = "proper"
    name: str = ""
    favourites: dict[str, str] = field(default_factory=dict)
    story: tuple[str, stories.Slots] | None = None
    turns: int = 0

    def one_of(self, *ways: str) -> str:
        return self.rng.choice(ways)

    def any_of(self, table: str) -> str:
        return self.rng.choice(world.listed(table))

    def written(self, text: str) -> str:
        """A text in this user's style."""
        return styled(self.rng, text, self.style)


STYLES = ["proper", "proper", "proper", "lower", "lower", "bare", "bare", "loose", "loud"]


def styled(rng: random.Random, text: str, style: str) -> str:
    """The text in a style of typing: capitals and final punctuation change, inside only commas and
    apostrophes."""
    if style == "lower":
        return text.lower()
    if style == "bare":
        return text.lower().rstrip(".?!").replace(",", "").replace("'", "")
    if style == "loose":
        return text.rstrip(".?!") + rng.choice(["", "", "!", " ?", "?", "..", " "]).strip()
    if style == "loud":
        return text.rstrip(".") + "!" if text[-1] == "." else text
    return text


# Moves ----------------------------------------------------------------------------------------

GREETINGS = """Hello|Hi|Hey|Hello!|Hi there!|Hey there!|Hello there.|Good morning!|Good evening.|
Good afternoon.|Good day!|Hello, tinyworld!|Hi tinyworld|Greetings!|Howdy|Hey!|Hi!|Hello friend|
Hello, how are you?|Hi, how are you?|Yo|Hiya|Hello model|Nice to meet you!|Hello hello|Hi hi"""
WELL = """How are you?|How do you do?|How are you doing?|How is it going?|How are you today?|
How's it going?|What's up?|Are you well?|How do you feel today?|How have you been?|
Is everything fine?|Are you okay?|How do you feel?|You okay?|Everything all right?"""
THANKS = """Thank you!|Thanks!|Thank you very much.|Thanks a lot!|Many thanks.|Thank you so much!|
Thanks, that was nice.|Great, thanks!|Thank you, tinyworld.|Thx|Cool, thanks|
Thanks for the story!|Thank you for your help.|Nice, thank you."""
PRAISE = """Great!|Nice!|Cool|Wow!|Well done!|Good job!|That was nice.|I like that.|
That is right.|Correct!|You are clever!|Good story!|I like the story.|What a nice story!|
Very good.|Awesome|Perfect!|You are funny.|I like you.|You are nice.|Okay|Ok|Good|I see.|
All right|Fine"""
BYES = """Goodbye!|Bye!|Bye bye!|See you!|See you later.|Good night!|I have to go.|I must go now.|
Bye|See you tomorrow!|See you soon!|See you next time!|See you again!|Have a nice day!|
Until next time!|That is all, bye.|Take care!|Farewell!|I am leaving.|Cya|Goodbye, tinyworld."""
BLAME = """That is wrong.|No, that is not right.|You are wrong.|Wrong!|You are stupid.|
I do not like you.|That makes no sense.|Bad answer.|You are boring.|That was bad."""

WONDER = """Why?|What?|Really?|Huh?|How?|And then?|What do you mean?|Are you sure?|Tell me more.|
What happened next?|How do you know?|Why not?|I do not understand.|More|What else?|So what?"""

TELL_NAME = """My name is {}.|My name is {}.|I am {}.|I'm {}.|Hello, I am {}.|Call me {}.|
Hi, my name is {}.|Hello, my name is {}!|Hi, I'm {}.|You can call me {}.|Hey, I am {}|
My name's {}.|Hello! I'm {}|People call me {}.|The name is {}.|Hello! My name is {}.|
Hi! My name is {}. What is your name?|I am called {}.|I am {}, who are you?|
Hi I am {}. What can you do?|This is {}.|{} is my name."""
ASK_NAME = """What is my name?|What's my name?|Do you know my name?|Who am I?|
Do you remember my name?|Can you tell me my name?|Tell me my name.|Do you still know my name?|
What am I called?|Say my name.|And what is my name?|Did I tell you my name?|
What was my name again?|Do you know who I am?"""
ASK_STORY_ABOUT = """Tell me a story about {}.|Can you tell me a story about {}?|
A story about {}, please.|Tell me about {} in a story.|Write a story about {}.|
I want a story about {}.|Story about {}|Please tell me a story about {}.|
Do you know a story about {}?|Make up a story about {}.|Tell a story about {}.|
Give me a story about {}."""
ASK_ABOUT_STORY = """Who is the story about?|What did the girl lose?|Who helped the boy?|
What happened in the story?|Where was it?|Who found it?"""
MOODS = """sad|tired|angry|lonely|sick|bored|happy|hungry|afraid"""
ACCEPT = """Yes|Yes, please.|Yes!|Sure.|Okay, tell me one.|Please do.|Yeah|Yes please|Of course!|
I would like that.|Ok|Go on."""
REFUSE = """No|No, thank you.|No thanks|Not now.|Maybe later.|Nope"""
ASK_JOKE = """Tell me a joke.|Do you know a joke?|Say something funny.|Make me laugh.|
A joke, please.|Can you tell a joke?|Joke"""


def held_out(way: str) -> bool:
    """Whether a wording is reserved for the evaluation, whatever its final punctuation."""
    return world.held_out("utterance", way.rstrip(".?!"))


def _pick(talk: Talk, table: str) -> str:
    """One of the held-out wordings (with `kept`), or one of the others."""
    return talk.rng.choice([way for way in world.listed(table) if held_out(way) == talk.kept])


def _by_name(talk: Talk, text: str) -> str:
    return f"{text}, {talk.name}!" if talk.name else f"{text}!"


def greet(talk: Talk) -> Turn:
    asked = _pick(talk, GREETINGS)
    if "how are you" in asked.lower():
        return asked, _by_name(talk, "Hello") + " I am fine, thank you. What can I do for you?"
    return asked, _by_name(talk, "Hello") + " " + talk.one_of(
        "What can I do for you?", "Shall I tell you a story?", "Nice to see you."
    )


def well(talk: Talk) -> Turn:
    return _pick(talk, WELL), "I am fine, thank you. What can I do for you?"


def thank(talk: Talk) -> Turn:
    return _pick(talk, THANKS), _by_name(talk, "You are welcome")


def praise(talk: Talk) -> Turn:
    return _pick(talk, PRAISE), talk.one_of(
        "I am glad! What shall we do next?", "I am glad! Shall I tell you a story?"
    )


def blame(talk: Talk) -> Turn:
    return _pick(talk, BLAME), "I am sorry. I am only a small model, and I make mistakes."


def wonder(talk: Talk) -> Turn:
    return _pick(talk, WONDER), "I do not know more about that. Ask me something else!"


def bye(talk: Talk) -> Turn:
    return _pick(talk, BYES), _by_name(talk, "Goodbye") + " It was nice to talk to you."


def _made_up(rng: random.Random) -> str:
    word = questions.any_word(rng)
    return word.capitalize() if word.isalpha() else world.any_name(rng)


def tell_name(talk: Talk) -> Turn:
    rng = talk.rng
    if talk.kept:
        heroes = world.GIRLS + world.BOYS  # these occur in stories
        name = rng.choice(
            [n for n in world.FIRST_NAMES if world.held_out("name", n) and n not in heroes]
        )
    else:
        name = world.any_name(rng) if rng.random() < 0.6 else _made_up(rng)
    way = talk.any_of(TELL_NAME)
    asked = talk.written(way.format(name))
    # As the user wrote it: the model copies it and need not know the spelling.
    talk.name = next((name for name in (name, name.lower()) if name in asked), name)
    answer = f"Nice to meet you, {talk.name}!"
    if "who are you" in way or "What is your name" in way:
        answer += " I am tinyworld, a small model."
    elif "What can you do" in way:
        answer += " " + questions.CAN_DO
    return asked, answer


def ask_name(talk: Talk) -> Turn:
    asked = talk.any_of(ASK_NAME)
    known = f"Your name is {talk.name}."
    return asked, known if talk.name else "I do not know your name yet. What is your name?"


FAVOURITES = {
    "colour": world.COLOURS,
    "animal": [animal.name for animal in world.ANIMALS],
    "food": [*world.FOODS, "pizza", "soup", "rice", "chocolate", "bread", "cheese"],
    "toy": world.TOYS,
    "season": world.SEASONS,
    "number": [str(number) for number in range(1, 31)],
}


def tell_favourite(talk: Talk) -> Turn:
    what = talk.rng.choice(list(FAVOURITES))
    kept = [v for v in FAVOURITES[what] if world.held_out("favourite", v) == talk.kept]
    value = talk.rng.choice(kept or FAVOURITES[what])
    if not talk.kept and talk.rng.random() < 0.5:
        value = questions.any_word(talk.rng).lower()
    word = "color" if what == "colour" and talk.rng.random() < 0.5 else what
    talk.favourites[what] = value
    asked = talk.one_of(
        f"My favourite {word} is {value}.",
        f"My favorite {word} is {value}.",
        f"{value} is my favourite {word}.".capitalize(),
        f"{value} is my favorite {word}.".capitalize(),
        f"The {word} I like best is {value}.",
        f"I like {value} best, it is my favourite {word}.",
    )
    return asked, f"Your favourite {what} is {value}. I will remember it."


def ask_favourite(talk: Talk) -> Turn:
    what = talk.rng.choice(list(talk.favourites or FAVOURITES))
    if talk.rng.random() < 0.2:
        what = talk.rng.choice(list(FAVOURITES))
    word = "color" if what == "colour" and talk.rng.random() < 0.5 else what
    asked = talk.one_of(
        f"What is my favourite {word}?", f"What is my favorite {word}?",
        f"Do you know my favourite {word}?", f"Which {word} do I like best?",
        f"What's my favorite {word}?", f"Do you remember my favourite {word}?",
    )  # fmt: skip
    if what in talk.favourites:
        return asked, f"Your favourite {what} is {talk.favourites[what]}."
    return asked, f"I do not know your favourite {what} yet. What is it?"


def model_favourite(talk: Talk) -> Turn:
    what, value = talk.rng.choice([("colour", "blue"), ("animal", "the owl"), ("food", "cake")])
    asked = talk.one_of(f"What is your favourite {what}?", f"What's your favorite {what}?")
    if what == "colour":
        asked = talk.one_of(asked, "What is your favorite color?", "Which color do you like best?")
    if talk.rng.random() < 0.4:
        food = talk.rng.choice([*world.FOODS, "cake"])
        return f"Do you like {food}?", f"I can not eat, but {food} sounds nice."
    return asked, f"My favourite {what} is {value}."


ASK_STORY = """Tell me a story.|Tell me a story!|Can you tell me a story?|Please tell me a story.|
A story, please.|I want to hear a story.|Do you know a story?|Tell a story|Another story, please.|
Tell me another story.|Could you tell me a story?|Story please|Once more, a story!|
One more story.|Can I hear a story?|I would like a story.|Tell me something.|Make up a story.|
Write a story.|Write me a short story.|Give me a story.|Tell us a story.|I am bored.|
Let me hear a story.|Story time!|Please write a story.|Say a story.|Another one|One more please"""


def ask_story(talk: Talk) -> Turn:
    rng, given = talk.rng, dict[str, str]()
    if rng.random() < (1.0 if talk.kept else 0.7):
        given, about = _wish(talk)
        asked = talk.any_of(ASK_STORY_ABOUT).format(about)
    else:
        asked = _pick(talk, ASK_STORY)
    return asked, _story(talk, **given)


def _wish(talk: Talk) -> tuple[dict[str, str], str]:
    """A topic for a story: the slots that it fixes, and its wording."""
    rng = talk.rng
    kinds = ["hero", "kind", "toy", "food", "small", "kind and toy"]
    which = "hero and toy" if talk.kept or rng.random() < 0.5 else rng.choice(kinds)
    he = rng.choice(["she", "he"])
    name = rng.choice(world.GIRLS if he == "she" else world.BOYS)
    child = "girl" if he == "she" else "boy"
    toy, colour = rng.choice(world.TOYS), rng.choice(world.COLOURS)
    while talk.kept != world.held_out("wish", f"{name} {toy}"):
        name = rng.choice(world.GIRLS if he == "she" else world.BOYS)
        toy = rng.choice(world.TOYS)
    if which == "hero":
        return {"hero": name, "kind": child}, talk.one_of(
            f"a {child} named {name}", name, f"a {child} called {name}"
        )
    if which == "kind":
        kind = rng.choice(["girl", "boy", *world.HEROES])
        return {"kind": kind}, f"a {kind}"
    if which == "toy":
        return {"toy": toy}, f"a {toy}"
    if which == "food":
        food = rng.choice(world.FOODS)
        return {"food": food}, f"{'an' if food[0] == 'a' else 'a'} {food}"
    if which == "small":
        small = rng.choice(world.SMALL)
        if small in world.HEROES:
            small = "kitten"
        return {"small": small}, f"a {small}"
    if which == "hero and toy":
        a = "an" if colour[0] == "o" else "a"
        return {"hero": name, "kind": child, "toy": toy, "colour": colour}, talk.one_of(
            f"{name} and {a} {colour} {toy}", f"{name} and the {colour} {toy}"
        )
    kind = rng.choice(["girl", "boy", *world.HEROES])
    return {"kind": kind, "toy": toy}, f"a {kind} and a {toy}"


def _story(talk: Talk, **given: str) -> str:
    arc, slots, text = stories.random_story(talk.rng, strange=0.05, **given)
    talk.story = arc, slots
    return text


def ask_about_story(talk: Talk) -> Turn:
    if talk.story is None:
        asked = talk.any_of(ASK_ABOUT_STORY)
        return asked, "I have not told you a story yet. Shall I tell you one?"
    return stories.question(talk.rng, *talk.story)


def feel(talk: Talk) -> Turn:
    mood = talk.any_of(MOODS)
    way = talk.one_of("I am {}.", "I'm {}.", "I feel {}.", "I am so {}.", "Today I am {}.")
    asked = way.format(mood)
    if mood == "happy":
        return asked, "That is good to hear! I am glad that you are happy."
    return asked, f"I am sorry that you are {mood}. Shall I tell you a story?"


def accept(talk: Talk) -> Turn:
    asked = talk.any_of(ACCEPT)
    return asked, _story(talk)


def refuse(talk: Talk) -> Turn:
    asked = talk.any_of(REFUSE)
    return asked, "All right. What shall we do?"


def about_me(talk: Talk) -> Turn:
    """A statement of a user about themself, within this world."""
    rng = talk.rng
    animal, hobby, age = rng.choice(world.ANIMALS), rng.choice(world.HOBBIES), rng.randint(4, 99)
    pet, name = rng.choice(["dog", "cat", "rabbit", "horse", "bird"]), world.any_name(rng)
    return rng.choice(
        [
            (f"I like {animal.plural}.", f"I like {animal.plural}, too!"),
            (f"I love {animal.plural}.", f"I like {animal.plural}, too!"),
            (f"I like to {hobby}.", f"To {hobby} is fun!"),
            (f"I am {age} years old.", f"{age} is a good age!"),
            (f"I have a {pet} named {name}.", f"{name} is a nice name for a {pet}!"),
        ]
    )


def echo(talk: Talk) -> Turn:
    """Words for the model to repeat: names and others."""
    words = [questions.any_word(talk.rng) for _ in range(talk.rng.randint(1, 4))]
    said = " ".join(words)
    asked = talk.written(talk.one_of("Say {}.", "Repeat: {}", "Say {}!").format(said))
    return asked, f"{said if said in asked else said.lower()}!"


def ask_joke(talk: Talk) -> Turn:
    asked = talk.any_of(ASK_JOKE)
    return asked, talk.one_of(
        "Why did the hen cross the farm? To get to the other side!",
        "What does a cow read? The moos paper!",
        "What do you call a fish with no eyes? A fsh!",
    )


def _asking(ask: Callable[..., Turn]) -> Callable[[Talk], Turn]:
    return lambda talk: ask(talk.rng, talk.kept)


_sum, _tale = _asking(questions.add), _asking(questions.tale_of_numbers)
_fact, _itself = _asking(questions.fact), _asking(questions.itself)
_outside = _asking(questions.outside)


def _hard(talk: Talk) -> Turn:
    return questions.hard_sum(talk.rng)


MOVES: list[tuple[float, Callable[[Talk], Turn]]] = [
    (12, _sum),
    (3, _tale),
    (2, _hard),
    (9, _fact),
    (8, _itself),
    (17, _outside),
    (5, ask_story),
    (3, tell_name),
    (4, ask_name),
    (4, tell_favourite),
    (4, ask_favourite),
    (1, model_favourite),
    (2, greet),
    (2, well),
    (2, thank),
    (2, praise),
    (1, blame),
    (1, wonder),
    (2, feel),
    (2, about_me),
    (1, echo),
    (1, ask_joke),
    (1, ask_about_story),
]


def conversation(rng: random.Random) -> list[Message]:
    """A conversation of this world, without held-out content."""
    talk = Talk(rng, style=rng.choice(STYLES))
    return _messages(talk, _turns(talk))


def _messages(talk: Talk, turns: Iterator[Turn]) -> list[Message]:
    return [
        {"role": role, "content": content}
        for asked, answer in turns
        for role, content in (("user", talk.written(asked)), ("assistant", answer))
    ]


def _turns(talk: Talk) -> Iterator[Turn]:
    chance = talk.rng.random()
    if chance < 0.15:
        for _ in range(talk.rng.randint(3, 10)):
            yield questions.add(talk.rng)
    elif chance < 0.3:
        yield ask_story(talk)
        for _ in range(talk.rng.randint(2, 5)):
            yield ask_about_story(talk)
    else:
        yield from _mixed_turns(talk)


def _mixed_turns(talk: Talk) -> Iterator[Turn]:
    rng = talk.rng
    length = rng.choice((1, 1, 2, 3, 4, 5, 6, 8, 10))
    if rng.random() < 0.25:
        yield greet(talk)
    if rng.random() < 0.3:
        yield tell_name(talk)
    weights, moves = zip(*MOVES, strict=True)
    told = 0
    while talk.turns < length:
        talk.turns += 1
        (move,) = rng.choices(moves, weights)
        if talk.story and rng.random() < 0.6 and told < 4:
            move, told = ask_about_story, told + 1
        turn = move(talk)
        yield turn
        if move is ask_story:
            told = 0
        if turn[1].endswith(("a story?", "tell you one?")) and rng.random() < 0.7:
            yield accept(talk) if rng.random() < 0.75 else refuse(talk)
        if turn[1].endswith("What is your name?") and rng.random() < 0.7:
            yield answer_name(talk)
    if rng.random() < 0.15:
        yield thank(talk)
    if rng.random() < 0.15:
        yield bye(talk)


def drill(rng: random.Random) -> list[Message]:
    """A short conversation to train what is learned slowest: looking up what the user has said."""
    talk = Talk(rng, style=rng.choice(STYLES))
    return _messages(talk, _drill_turns(talk))


def _drill_turns(talk: Talk) -> Iterator[Turn]:
    rng, chance = talk.rng, talk.rng.random()
    if chance < 0.12:
        yield ask_story(talk)
        for _ in range(rng.randint(2, 5)):
            yield ask_about_story(talk)
    elif chance < 0.27:
        for _ in range(rng.randint(2, 6)):
            yield rng.choice([_fact, _fact, _fact, _sum, _tale, _hard])(talk)
    elif chance < 0.47:
        moves = [
            _itself,
            _itself,
            _itself,
            _itself,
            _itself,
            greet,
            well,
            thank,
            praise,
            praise,
            bye,
            _outside,
        ]
        for _ in range(rng.randint(1, 5)):
            yield rng.choice(moves)(talk)
    elif chance < 0.62:
        for _ in range(rng.randint(1, 4)):
            yield echo(talk)
    else:
        for _ in range(rng.choice((1, 1, 2, 3))):
            yield rng.choice([tell_name, tell_favourite])(talk)
        for _ in range(rng.choice((0, 0, 1, 1, 2))):
            yield rng.choice([_fact, _sum, _outside, _itself, echo, thank, about_me])(talk)
        for _ in range(rng.choice((1, 2, 2, 3))):
            ask = ask_name if talk.name and (rng.random() < 0.6 or not talk.favourites) else None
            yield (ask or ask_favourite)(talk)


def answer_name(talk: Talk) -> Turn:
    """A name alone, which is an answer where the model has asked for one."""
    name = world.any_name(talk.rng)
    asked = talk.written(talk.one_of("{}", "{}.", "It is {}.", "My name is {}.").format(name))
    talk.name = next((n for n in (name, name.lower()) if n in asked), name)
    return asked, f"Nice to meet you, {talk.name}!"
