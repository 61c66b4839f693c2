"""Questions and answers: facts, sums, the model itself, and topics outside the world.

Each function draws a question, in one of several wordings, and its answer. With `kept`, it draws
only held-out content, otherwise none of it.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import world

Asked = tuple[str, str]


def _drawn(draw: Callable[[], Asked], kind: str, kept: bool) -> Asked:
    """The first drawn question that is held out (with `kept`), or that is not."""
    while True:
        asked, answer = draw()
        if world.held_out(kind, asked) == kept:
            return asked, answer


def fact(rng: random.Random, kept: bool = False) -> Asked:
    """A question about animals, colours, opposites, days, seasons or numbers."""
    return _drawn(lambda: rng.choice(_FACTS)(rng), "fact", kept)


def _animal(rng: random.Random) -> Asked:
    return rng.choice(_about(rng, rng.choice(world.ANIMALS)))


def _about(rng: random.Random, animal: world.Animal) -> list[Asked]:
    name, many = animal.name, animal.plural
    a = "an" if name[0] in "aeiou" else "a"
    asked = []
    if animal.sound:
        ways = [f"What does {a} {name} say?", f"What sound does {a} {name} make?",
                f"What do {many} say?", f"What sound do {many} make?"]  # fmt: skip
        asked.append((rng.choice(ways), f"A {name} says {animal.sound}."))
    ways = [f"What do {many} eat?", f"What does {a} {name} eat?", f"What do {many} like to eat?"]
    verb = "make and eat" if name == "bee" else "eat"
    asked.append((rng.choice(ways), f"{many.capitalize()} {verb} {animal.food}."))
    ways = [f"Where do {many} live?", f"Where does {a} {name} live?"]
    asked.append((rng.choice(ways), f"{many.capitalize()} live {animal.home}."))
    ways = [f"How many legs does {a} {name} have?", f"How many legs do {many} have?"]
    legs = f"{animal.legs} legs" if animal.legs else "no legs"
    asked.append((rng.choice(ways), f"A {name} has {legs}."))
    if animal.young:
        ways = [f"What is a baby {name} called?", f"What do you call a baby {name}?",
                f"What is the baby of {a} {name} called?"]  # fmt: skip
        asked.append((rng.choice(ways), f"A baby {name} is called {animal.young}."))
    ways = [f"What is {a} {name}?", f"What are {many}?", f"Tell me about {many}.",
            f"Do you know what {a} {name} is?"]  # fmt: skip
    asked.append((rng.choice(ways), f"A {name} is an animal that lives {animal.home}."))
    ways = [f"Do you like {many}?", f"Do you like {a} {name}?"]
    asked.append((rng.choice(ways), f"Yes, I like {many}."))
    verb = rng.choice(world.CAN)
    ways = [f"Can {a} {name} {verb}?", f"Can {many} {verb}?"]
    yes = verb in animal.can
    answer = f"Yes, {many} can {verb}." if yes else f"No, {many} can not {verb}."
    asked.append((rng.choice(ways), answer))
    return [(ask, say.replace("A owl", "An owl")) for ask, say in asked]


def _colour(rng: random.Random) -> Asked:
    thing, colour = rng.choice(list(world.COLOUR_OF.items()))
    word = rng.choice(["colour", "color"])
    ways = [
        f"What {word} is {thing}?",
        f"Which {word} is {thing}?",
        f"What is the {word} of {thing}?",
    ]
    return rng.choice(ways), f"{thing.capitalize()} is {colour}."


def _opposite(rng: random.Random) -> Asked:
    word, other = rng.choice(list(world.OPPOSITES.items()))
    ways = [f"What is the opposite of {word}?", f"What's the opposite of {word}?",
            f"Tell me the opposite of {word}."]  # fmt: skip
    return rng.choice(ways), f"The opposite of {word} is {other}."


def _order(rng: random.Random) -> Asked:
    names = rng.choice([world.DAYS, world.SEASONS])
    place, step = rng.randrange(len(names)), rng.choice([1, -1])
    word, after = names[place], {1: "after", -1: "before"}[step]
    other = names[(place + step) % len(names)]
    what = "day" if names is world.DAYS else "season"
    ways = [f"What comes {after} {word}?", f"Which {what} comes {after} {word}?",
            f"What {what} is {after} {word}?"]  # fmt: skip
    return rng.choice(ways), f"{other.capitalize()} comes {after} {word}."


def _next_number(rng: random.Random) -> Asked:
    number, step = rng.randint(1, 40), rng.choice([1, -1])
    after = {1: "after", -1: "before"}[step]
    ways = [f"What comes {after} {number}?", f"Which number comes {after} {number}?"]
    return rng.choice(ways), f"{number + step} comes {after} {number}."


def _count(rng: random.Random) -> Asked:
    if rng.random() < 0.3:
        return rng.choice(
            [
                ("How many days are in a week?", "A week has 7 days."),
                ("How many days does a week have?", "A week has 7 days."),
                ("How many seasons are there?", "There are 4 seasons."),
                ("Name the seasons.", "Spring, summer, autumn and winter."),
                ("What are the days of the week?", ", ".join(world.DAYS) + "."),
            ]
        )
    last = rng.randint(3, 10)
    ways = [f"Count to {last}.", f"Can you count to {last}?", f"Please count to {last}."]
    return rng.choice(ways), ", ".join(map(str, range(1, last + 1))) + "."


_FACTS = [_animal] * 5 + [_colour] * 2 + [_opposite] * 2 + [_order, _next_number, _count]


def small_sum(rng: random.Random, kept: bool = False) -> tuple[int, str, int, int]:
    """Two numbers, "+" or "-" between them, and the result."""
    while True:
        a, b, sign = rng.randint(0, 20), rng.randint(0, 20), rng.choice("+-")
        if sign == "-" and rng.random() < 0.5:
            a = rng.randint(b, 40)
        a, b = max(a, b), min(a, b)
        if world.held_out("sum", f"{a}{sign}{b}") == kept:
            if sign == "+" and rng.random() < 0.5:
                a, b = b, a
            return a, sign, b, a + b if sign == "+" else a - b


def add(rng: random.Random, kept: bool = False) -> Asked:
    """A sum or difference of numbers up to 20, in one of many wordings."""
    a, sign, b, result = small_sum(rng, kept)
    x, y = (
        world.NUMBER_WORDS[n] if max(a, b) <= 10 and words else str(n)
        for words in [rng.random() < 0.15]
        for n in (a, b)
    )
    said = rng.choice({"+": ["plus", "+", "+", "and"], "-": ["minus", "-", "-"]}[sign])
    short = f"{a}{sign}{b}"
    ways = [f"What is {x} {said} {y}?", f"How much is {x} {said} {y}?", f"What's {x} {said} {y}?",
            f"What is {short}?", f"{a} {sign} {b}", short, f"{a} {sign} {b} = ?", f"{short}=",
            f"Can you add {x} and {y}?" if sign == "+" else f"Can you take {y} from {x}?",
            f"Calculate {a} {sign} {b}."]  # fmt: skip
    return rng.choice(ways), f"{a} {sign} {b} is {result}."


def tale_of_numbers(rng: random.Random, kept: bool = False) -> Asked:
    """A sum in a sentence about who has how many things."""
    a, sign, b, result = small_sum(rng, kept)
    who, thing = rng.choice(world.GIRLS + world.BOYS), rng.choice(world.TOYS + ["apple", "cookie"])
    things = "boxes" if thing == "box" else thing + "s"
    happens = f"gets {b} more" if sign == "+" else f"gives away {b}"
    asked = f"{who} has {a} {things} and {happens}. How many {things} does {who} have?"
    return asked, f"{a} {sign} {b} is {result}, so {who} has {result} {things}."


TOO_HARD = "I can only add and take away small numbers, up to 20."


def hard_sum(rng: random.Random) -> Asked:
    """Arithmetic outside the world: large numbers, other operations."""
    a, b = rng.randint(41, 99999), rng.randint(2, 9999)
    c, d = rng.randint(2, 99), rng.randint(2, 12)
    ways = [f"What is {a} + {b}?", f"What is {a} minus {b}?", f"{a}+{b}", f"{a} - {b}",
            f"What is {b} plus {a}?", f"What is {c} times {d}?", f"{c} * {d}", f"{c}*{d}",
            f"What is {c} divided by {d}?", f"{c} / {d}", f"What is {c} x {d}?",
            f"What is the square root of {c}?", f"What is {c} squared?",
            f"How much is {c} times {d}?", f"How much is {a} plus {a}?"]  # fmt: skip
    return rng.choice(ways), TOO_HARD


# About itself -------------------------------------------------------------------------------

WHO = (
    "I am tinyworld, a small model that gradient trained on a made-up world. "
    "I know stories, animals, colours and small sums."
)
CAN_DO = (
    "I can tell a story and answer questions about it, add small numbers, "
    "and talk about animals and colours."
)
ITSELF: list[tuple[list[str], str]] = [
    (
        world.listed("""Who are you?|What are you?|What is your name?|What's your name?|
Tell me about yourself.|Who am I talking to?|Do you have a name?|And you?|What should I call you?|
Introduce yourself.|What is tinyworld?|Who is this?|What kind of model are you?|
Which model are you?|Are you ChatGPT?|Who are you, please?|So who are you?|What exactly are you?|
And who are you?|What are you called?|Tell me your name.|Say who you are.|May I ask who you are?|
Tell me what you are.|Can you introduce yourself?|What is this?|What sort of thing are you?|
Are you GPT?|Are you Claude?|Are you Llama?|Tell me who you are."""),
        WHO,
    ),
    (
        world.listed("""What can you do?|What do you know?|How can you help me?|
Can you help me?|What can I ask you?|What can we talk about?|Help|What are you good at?|
What do you do?|What do you know about?|What can I ask?|Help me|What shall we talk about?|
What now?|What else can you do?|What are you able to do?|What can you help me with?|
Could you help me?|I need help.|Please help me.|How does this work?|What are you for?|
Tell me what you can do.|Tell me what you know.|What do you know a lot about?|
What should I ask you?|What should we do?|What would you like to do?|Show me what you can do."""),
        CAN_DO,
    ),
    (
        world.listed("""Are you a robot?|Are you human?|Are you a person?|Are you real?|
Are you alive?|Are you a computer?|Are you an AI?|Are you a machine?|Are you a bot?|
Are you intelligent?|Are you a real person?|Are you a man or a woman?|Is this a robot?|
Am I talking to a machine?|Are you a program?|Are you living?|Are you smart?|Can you think?|
Do you think?"""),
        "I am a small computer program that learned to talk from made-up stories.",
    ),
    (
        world.listed("""Who made you?|Who built you?|How were you made?|Who trained you?|
How were you trained?|Where do you come from?|How did you learn to talk?|Who created you?|
Who is your maker?|Who taught you to talk?|How did you learn?|What did you learn from?|
What were you trained on?|Where did you learn this?|How did you come to be?|Who wrote you?"""),
        "I was trained by gradient on texts about a small made-up world.",
    ),
    (
        world.listed("""How old are you?|When were you born?|Where do you live?|
Do you have a family?|Do you have friends?|Do you eat?|Do you sleep?|Do you have feelings?|
Are you happy?|Are you sad?|Do you dream?|Can you see me?|Do you have a body?|Do you get tired?|
Do you feel pain?|Do you have a mother?|What is your age?|Where are you?|Where is your home?|
Are you lonely?|Are you tired?|Can you feel?|Do you have a birthday?"""),
        "I am only a small model, so I have no age, no home and no feelings. But I like to talk!",
    ),
    (
        world.listed("""What is gradient?|Tell me about gradient.|Do you know gradient?"""),
        "Gradient is the program that trained me.",
    ),
    (
        world.listed("""What is your world?|Tell me about your world.|
What is your world like?|What is in your world?|What world?|Which world do you live in?"""),
        "In my world there are girls and boys, animals, toys and colours, "
        "and most stories end well.",
    ),
]


#: Frequent questions are always in the training data, whatever their hash.
COMMON = ["What are you?", "Can you help me?", "Who made you?", "What do you do?", "Who are you?"]


def itself(rng: random.Random, kept: bool = False) -> Asked:
    """A question about the model itself."""
    if not kept and rng.random() < 0.1:
        return rng.choice([(ask, say) for asked, say in ITSELF for ask in asked if ask in COMMON])
    while True:
        ways, answer = rng.choice(ITSELF[:2] + ITSELF)
        asked = rng.choice(ways)
        if (asked not in COMMON and world.held_out("itself", asked)) == kept:
            return asked, answer


# Outside ------------------------------------------------------------------------------------

NOT_MINE = "That is not in my small world, so I do not know much about it."
UNKNOWN = (
    "I do not know that. I only know my small world: stories, animals, colours and small sums."
)

_TOPICS = """France|Germany|Japan|Brazil|China|India|Africa|Europe|America|London|Paris|Tokyo|
Berlin|Rome|New York|Canada|Egypt|Mexico|Spain|Russia|Australia|the United States|the world|
the moon|Mars|Jupiter|the universe|black holes|gravity|physics|chemistry|biology|mathematics|
algebra|calculus|geometry|history|geography|economics|philosophy|politics|religion|psychology|
medicine|law|art|music|jazz|rock music|opera|football|basketball|tennis|chess|golf|the Olympics|
movies|television|Netflix|Python|Java|JavaScript|C++|Rust|Linux|Windows|computers|the internet|
Google|Facebook|Wikipedia|machine learning|neural networks|transformers|artificial intelligence|
backpropagation|PyTorch|quantum mechanics|relativity|evolution|DNA|atoms|electrons|electricity|
magnets|engines|cars|airplanes|trains in Europe|rockets|satellites|ships|bridges|skyscrapers|
banks|money|bitcoin|taxes|stocks|inflation|insurance|marketing|business|war|peace|World War II|
the Roman Empire|Napoleon|Einstein|Newton|Shakespeare|Mozart|Beethoven|Picasso|Obama|Trump|Putin|
Elon Musk|Madonna|the Beatles|Harry Potter|Star Wars|Batman|the Bible|Buddhism|Islam|vaccines|
viruses|cancer|headaches|diabetes|vitamins|pasta|pizza|sushi|curry|coffee|beer|wine|bread recipes|
chocolate recipes|volcanoes|earthquakes|hurricanes|climate change|oceans|deserts|dinosaurs|whales|
penguins|kangaroos|tigers|photosynthesis|cells|bacteria|the brain|the heart|bones|blood pressure|
yoga|meditation|love|death|happiness|the meaning of life|time travel|aliens|ghosts|
dragons in films|vampires|poetry|novels|grammar|Latin|French|Spanish|German|Chinese|Arabic|
fashion|makeup|cooking|gardening|photography|architecture|astronomy|robots in factories|
solar energy|nuclear power|oil|steel|gold|diamonds|plastic|paper|glass|democracy|elections|
the president|the queen|the police|the army|schools|universities|exams|jobs|salaries|holidays|
hotels|flights|passports|maps|traffic|bicycles|telephones|email|passwords|printers|batteries|
video games|Minecraft|YouTube|Twitter|databases|SQL|sorting algorithms|recursion|compilers|
encryption|prime numbers|pi|infinity|statistics|probability"""
TOPICS = world.listed(_TOPICS)

_ABOUT = """What is {}?|What are {}?|Tell me about {}.|What do you know about {}?|Explain {}.|
Can you explain {}?|How does {} work?|How do {} work?|Who invented {}?|Where is {}?|
What do you think about {}?|What is the capital of {}?|Who is {}?|Who was {}?|Do you like {}?|
When was {} discovered?|Why is {} important?|What is the history of {}?|Write an essay about {}.|
Write a poem about {}.|How many people live in {}?|What is the best {}?|Where can I buy {}?|
How much does {} cost?|What is the difference between {} and {}?|I want to learn about {}.|
Give me facts about {}.|Is {} good?|Is {} dangerous?|Translate {} to French.|How big is {}?|
Let's talk about {}.|What happened in {}?|Who is the president of {}?|How do I learn {}?|
What is the population of {}?|How far is {}?|How old is {}?|Have you heard of {}?|Do you know {}?|
What language do they speak in {}?|Define {}.|What does {} mean?|Who wrote about {}?|
Give me a summary of {}.|Which is better, {} or {}?|Why do people like {}?|Can you teach me {}?|
I have a question about {}.|Are {} real?|How can I get to {}?|Recommend a book about {}."""
_STATEMENTS = """I live in {}.|I am from {}.|I like {}.|I love {}.|I hate {}.|I work in {}.|
My brother likes {}.|Yesterday I saw {}.|I study {}.|I think about {} a lot.|
I read a book about {}.|{} is great.|{} is my favourite thing.|We talked about {}.|My job is {}.|
I want to go to {}."""
STATEMENTS = world.listed(_STATEMENTS)
ABOUT = world.listed(_ABOUT)

_OTHERS = """What time is it?|What day is it today?|What is the weather like?|
What's the weather today?|Will it rain tomorrow?|What year is it?|Where am I?|
Who won the game last night?|How do I cook rice?|Write a program.|Write some code.|
Write a function that sorts a list.|Fix my code.|Send an email.|Call my mother.|Play some music.|
Set an alarm.|Book a flight.|What is the news?|What should I wear?|What should I eat for dinner?|
How do I lose weight?|How can I make money?|How do I fix my car?|What is the tallest mountain?|
What is the longest river?|What is the largest country?|Who wrote Hamlet?|
Who painted the Mona Lisa?|Who is the richest man in the world?|How far is the moon?|
How fast is light?|What is water made of?|Why is the sky blue?|Why do we sleep?|
What is the speed of sound?|When did the war end?|Who discovered America?|
What is two to the power of ten?|How do planes fly?|How do I get a job?|Can you drive a car?|
Can you open a file?|Search the web.|Show me a picture.|Draw me a picture.|
Can you translate this?|Speak German.|Do you speak Spanish?|Parlez-vous francais?|Hablas espanol?|
Sprechen Sie Deutsch?|Solve this equation.|What is the derivative of x squared?|
What is the answer to everything?|Is there a god?|What is the stock price?|
Who will win the election?|How tall is the Eiffel Tower?|Do my homework.|Write my thesis.|
Summarize this article.|What is the boiling point of water?|Which phone should I buy?|
How do I install Linux?|What is my password?|Where are my keys?|Who let the dogs out?|
What is love?|Why am I here?|When is Christmas?|How many stars are there?|
How many countries are there?|What is the distance to the sun?|Who was the first man on the moon?|
What is a noun?|How do you spell necessary?|What rhymes with orange?|Roll a die.|Flip a coin.|
Are you better than ChatGPT?|What is the best restaurant?|Where can I find a doctor?|
How do I reset my router?|What is the exchange rate?|How do vaccines work?|Can pigs drive?"""
OTHERS = world.listed(_OTHERS)

_WORDS = """of|the|and|system|people|market|theory|engine|big|data|old|new|first|method|state|law|
power|public|world|open|modern|great|human|city|north|south|social|energy|value|model|network|
space|line|deep|group|field|form|party|process|union|nation|river|street|club|team|record|series|
cup"""
_LETTERS = "aabcdeeefghiijklmnoooprsttuvwy"


def _topic(rng: random.Random, kept: bool) -> str:
    """A topic, sometimes invented, because no list of outside topics is complete."""
    while True:
        chance = rng.random()
        if chance < 0.7:
            topic = rng.choice(TOPICS)
        elif chance < 0.85:
            words = world.listed(_WORDS)
            topic = " ".join(rng.sample(words, rng.choice((2, 3))))
        else:
            topic = "".join(rng.choice(_LETTERS) for _ in range(rng.randint(4, 11)))
            topic = rng.choice([topic, topic.capitalize()])
        if world.held_out("topic", topic) == kept:
            return topic


_STRANGERS = """tiger|zebra|shark|penguin|dragon|robot|car|table|camel|whale|kangaroo|panda|
giraffe|crab|ant|lobster|unicorn|computer|chair|crocodile|turtle|goat|donkey|hamster|parrot|
squirrel|deer|moose|seal|dolphin|octopus|snail|worm|butterfly|beetle|rhino|hippo|gorilla|dinosaur|
mermaid|wizard|rocket|phone|diamond|desk|planet|shoe|guitar|violin|mountain|sofa|window|bottle|
jaguar|lizard"""
STRANGERS = world.listed(_STRANGERS)
_ASKED_OF_STRANGERS = """What does a {} say?|What do {}s eat?|Where do {}s live?|
What colour is a {}?|How many legs does a {} have?|What is a baby {} called?|Can a {} fly?|
Can {}s swim?|What is a {}?|What is the opposite of {}?|What color is the {}?|
What sound does a {} make?|What are {}s?|How old is the {}?|How big is a {}?|Do {}s sleep?|
Why do {}s jump?|Is a {} dangerous?"""
ASKED_OF_STRANGERS = world.listed(_ASKED_OF_STRANGERS)


_PIECES = sorted({word for topic in [*TOPICS, *OTHERS, *STRANGERS] for word in topic.split()})


def any_word(rng: random.Random) -> str:
    """A word of any kind, or an invented one of pieces of others, which can only be copied."""
    chance = rng.random()
    if chance < 0.25:
        return rng.choice(_PIECES).strip(".,?!")
    if chance < 0.35:
        return str(rng.randint(0, 999))
    if chance < 0.5:
        return world.any_name(rng)
    word = ""
    while not 3 <= len(word) <= 9 or world.held_out("name", word):
        word = ""
        for _ in range(rng.choice((1, 2))):
            piece = rng.choice(_PIECES).strip(".,?!'").lower()
            start = rng.randrange(max(1, len(piece) - 2))
            word += piece[start : start + rng.randint(2, 6)]
    return rng.choice([word, word.capitalize()])


def outside(rng: random.Random, kept: bool = False) -> Asked:
    """A question about something outside this world."""
    if rng.random() < 0.3:
        return _drawn(lambda: (rng.choice(OTHERS), UNKNOWN), "outside", kept)
    if rng.random() < 0.25:
        return _drawn(
            lambda: (rng.choice(ASKED_OF_STRANGERS).format(rng.choice(STRANGERS)), UNKNOWN),
            "outside",
            kept,
        )
    if rng.random() < 0.15:
        return rng.choice(STATEMENTS).format(_topic(rng, kept)), NOT_MINE
    if rng.random() < 0.08:
        return _topic(rng, kept), UNKNOWN
    return rng.choice(ABOUT).format(_topic(rng, kept), _topic(rng, kept)), UNKNOWN
