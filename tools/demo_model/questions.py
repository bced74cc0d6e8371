"""Questions that one can ask about a scene (world.py), and their answers; and small talk.

`ask(scene, rng)` returns one (skill, question, answer); `small_talk(rng)` one that needs no picture.
The questions are a grammar of many phrasings, so that a stranger's words are likely to be near some of them.
"""

import random

from world import COLOUR_NAMES, COUNT_MAX, SHAPES

LISTED_MAX = 3  # with more things than that a description says only how many

PICTURE_WORDS = ["picture", "picture", "image", "image", "photo", "drawing"]
THINGS = ["shape", "shape", "shape", "object", "thing", "figure"]


def article(noun):
    return ("an " if noun[0] in "aeiou" else "a ") + noun


def named(o):
    return f"{o['colour']} {o['shape']}"


def plural(noun):
    return noun + ("es" if noun.endswith("ss") else "s")


def join(parts):
    return parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + " and " + parts[-1]


def matching(scene, shape=None, colour=None):
    return [o for o in scene["objects"] if (not shape or o["shape"] == shape) and (not colour or o["colour"] == colour)]


OPENINGS = ["Please tell me: ", "Please answer: ", "Can you tell me: ", "Tell me, ", "Look at the image. ", "Please say ", "Hey, ",
            "Question: ", "Ok, ", "And ", "Now, ", "Look closely: ", "Hello! ", "So, ", "Quick question: ", "Could you say ", "Please, "]
CLOSINGS = [" please", " here", ", please", " in this one", " for me"]


def mistyped(question, rng):
    """One letter of a longer word lost, doubled, or swapped with the next."""
    words = question.split(" ")
    k = rng.choice([i for i, w in enumerate(words) if len(w) > 3] or [0])
    w = words[k]
    i = rng.randrange(max(1, len(w) - 1))
    words[k] = rng.choice([w[:i] + w[i + 1:], w[:i + 1] + w[i:], w[:i] + w[i + 1:i + 2] + w[i:i + 1] + w[i + 2:]])
    return " ".join(words)


def vary(question, rng):
    """The careless ways people type: spelling, capitals, punctuation, other words for picture, politeness."""
    question = question.replace("picture", rng.choice(PICTURE_WORDS))
    if rng.random() < 0.55:
        question = question.replace("colour", "color").replace("gray", "gray" if rng.random() < 0.8 else "grey")
    if rng.random() < 0.06:
        question = rng.choice(OPENINGS) + question[0].lower() + question[1:]
    if rng.random() < 0.05:
        end = question[len(question.rstrip("?.!")):]
        question = question.rstrip("?.!") + rng.choice(CLOSINGS) + end
    if rng.random() < 0.03:
        question = mistyped(question, rng)
    if rng.random() < 0.2:
        question = question[0].lower() + question[1:]
    elif rng.random() < 0.02:
        question = question.upper()
    if rng.random() < 0.15:
        question = question.rstrip("?.")
    elif rng.random() < 0.04:
        question += rng.choice([" ", "?", "!", " Please.", " Thanks."])
    return question


def unique_reference(scene, rng):
    """A phrase that names exactly one object of the scene, with the object; or None."""
    options = []
    for o in scene["objects"]:
        if len(matching(scene, o["shape"])) == 1:
            options.append((o["shape"], o))
        if len(matching(scene, o["shape"], o["colour"])) == 1:
            options.append((named(o), o))
    return rng.choice(options) if options else None


# -------------------------------------------------------------------------------- questions and answers
# Each returns (question, answer), or None where the scene does not allow a clear question.

DESCRIBE = [
    "What is in this picture?", "What is in the picture?", "Describe the picture.", "What do you see?", "What is this?",
    "Describe this picture.", "What does the picture show?", "Describe this.", "What can you see in the picture?",
    "Tell me about this picture.", "What's in the picture?", "What's in this picture?", "Describe what you see.",
    "List everything in the picture.", "What is shown here?", "What do you see in this picture?", "What can you see?",
    "What can be seen here?", "What can be seen in the picture?", "Describe the picture in one sentence.",
    "Describe the picture in detail.", "Caption this picture.", "Give a caption for the picture.", "Write a caption.",
    "What objects are in the picture?", "What shapes are in the picture?", "What shapes are there?", "Which shapes do you see?",
    "Which shapes are in the picture?", "Name the shapes.", "List the shapes.", "List the shapes and their colours.",
    "List all the objects you see.", "Which objects are there?", "What is drawn here?", "What is depicted?",
    "What does this show?", "What shapes and colours do you see?", "What is on the picture?", "What's here?",
    "Which coloured shapes are there?", "Can you describe the picture?", "Could you describe this picture?", "What have we here?",
    "Please describe the picture.", "Tell me what you see.", "What am I looking at?", "Explain what is in the picture.",
    "What do we see?", "Show me what is there.", "Say what is in the picture.", "What objects can you see?",
    "What is visible in the picture?", "What things are there?", "Which things are shown?",
    "What things do you see in the picture?", "Give me a summary of the picture.",
    "Give a short description.", "Short description of the picture?", "I would like a description of this picture.",
    "Name everything you can see.", "List what you see.", "Enumerate the shapes.", "Make a list of the shapes in the picture.",
    "What figures are drawn?", "What is there to see?", "What was drawn?", "Describe the scene.", "Describe all shapes.",
    "Tell me about the shapes.", "Please tell me about this picture.", "Which shapes and colours are there?",
    "What does this picture contain?", "What elements are in the picture?", "Summarise the picture.", "Describe it.",
    "Explain this picture.", "Which figures can you see?", "Picture description?"]


def reading_order(objects):
    """From left to right, a column from top to bottom; None where it is hard to say what stands in one column."""
    columns = []
    for o in sorted(objects, key=lambda o: o["x"]):
        gap = o["x"] - columns[-1][-1]["x"] if columns else 1
        if 0.05 < gap < 0.1:
            return None
        columns = columns + [[o]] if gap >= 0.1 else columns[:-1] + [columns[-1] + [o]]
    if any(b["x"] - c[0]["x"] > 0.1 for c in columns for b in c):
        return None
    return [o for c in columns for o in sorted(c, key=lambda o: o["y"])]


def ask_describe(scene, rng):
    if len(scene["objects"]) > LISTED_MAX:
        return rng.choice(DESCRIBE), f"The picture shows {len(scene['objects'])} shapes."
    things = reading_order(scene["objects"])
    return things and (rng.choice(DESCRIBE), f"The picture shows {join([article(named(o)) for o in things])}.")


COUNT = [
    "How many {} are there?", "How many {} are in the picture?", "How many {} do you see?", "How many {} can you see?",
    "Count the {}.", "What is the number of {}?", "How many {}?", "How many {} does the picture show?", "Number of {}?",
    "How many {} are shown?", "How many {} does the picture have?", "How many {} does the picture contain?",
    "Can you count the {}?", "Tell me how many {} there are.", "How many {} are in this picture?", "Count all {}.",
    "What's the number of {} in the picture?", "How many {} can be seen?", "How many {} are visible?", "Count the number of {}.",
    "Please count the {}.", "How many {} are drawn here?", "How many {} have been drawn?", "Give me the number of {}.",
    "How many {} in all?", "How many {} altogether?", "What number of {} is there?",
    "Say how many {} you see.", "Do you know how many {} there are?", "Number of {} in the picture?",
    "How many {} exist in the picture?", "How many {} did you find?", "Amount of {}?",
    "Could you count how many {} there are?", "The picture has how many {}?", "There are how many {}?",
    "How many {} appear?", "How many {} are on the picture?", "How many {} are there to see?",
    "Please give me the count of {}.", "What is the count of {}?"]
COUNT_OF_COLOUR = [
    "How many {0} are {1}?", "How many of the {0} are {1}?", "How many {0} have the colour {1}?", "How many {0} in {1} are there?",
]


def ask_count(scene, rng):
    shape = colour = None
    kind = rng.random()
    if kind < 0.65:
        present = rng.random() < 0.75
        o = rng.choice(scene["objects"]) if present else {"shape": rng.choice(SHAPES), "colour": rng.choice(COLOUR_NAMES)}
        shape = o["shape"] if kind < 0.4 or kind >= 0.54 else None
        colour = o["colour"] if kind >= 0.4 else None
    noun = " ".join(filter(None, [colour, shape or rng.choice(THINGS)]))
    question = rng.choice(COUNT).format(plural(noun))
    if colour and rng.random() < 0.25:
        question = rng.choice(COUNT_OF_COLOUR).format(plural(shape or rng.choice(THINGS)), colour)
    said = " ".join(filter(None, [colour, shape or "shape"]))
    n = len(matching(scene, shape, colour))
    if n == 0:
        return question, f"There are no {plural(said)}."
    return question, f"There is 1 {said}." if n == 1 else f"There are {n} {plural(said)}."


COLOUR = [
    "What colour is the {}?", "What is the colour of the {}?", "Which colour is the {}?", "Tell me the colour of the {}.",
    "What colour does the {} have?", "What's the colour of the {}?", "Which colour does the {} have?", "Name the colour of the {}.",
    "The {} has which colour?", "What colour is the {} in the picture?", "What colour has the {}?", "Colour of the {}?",
    "What colour is that {}?", "What colour is this {}?", "In what colour is the {} drawn?", "The {} is what colour?",
    "Do you know what colour the {} is?", "Say which colour the {} has.", "What is the {}'s colour?",
    "Which is the colour of the {}?", "What colour would you call the {}?", "What colour do you see on the {}?",
    "Give me the colour of the {}.", "Please name the colour of the {}.", "What colour was the {} painted?",
    "How is the {} coloured?",
    "The colour of the {} is what?"]
COLOUR_OF_ONE = ["What colour is it?", "What colour is the {}?", "What colour is this {}?", "Which colour is it?",
                 "What is the colour of the {}?", "What is its colour?", "Which colour does the {} have?", "Name the colour."]


def ask_colour(scene, rng):
    if len(scene["objects"]) == 1 and rng.random() < 0.3:
        o = scene["objects"][0]
        return rng.choice(COLOUR_OF_ONE).format(rng.choice(THINGS)), f"The {o['shape']} is {o['colour']}."
    unique = [o for o in scene["objects"] if len(matching(scene, o["shape"])) == 1]
    if unique and rng.random() < 0.88:
        o = rng.choice(unique)
        return rng.choice(COLOUR).format(o["shape"]), f"The {o['shape']} is {o['colour']}."
    shape = rng.choice(SHAPES)
    if matching(scene, shape):
        return None
    return rng.choice(COLOUR).format(shape), f"There is no {shape}."


SHAPE_OF_ONE = ["What shape is it?", "What shape is this?", "Which shape is this?", "What is the shape?", "What shape do you see?",
                "Which shape is in the picture?", "What shape is in the picture?", "Name the shape.", "Name this shape.",
                "What kind of shape is this?", "Identify the shape.", "What shape does the picture show?", "Which shape do you see?",
                "What shape is shown?", "What is this shape called?",
    "What shape would you call this?", "Which shape is it?", "Say which shape this is.", "What form does it have?",
    "What figure is this?", "What figure is shown?", "What is the name of this shape?", "What is the name of the shape?",
    "Do you know this shape?", "Which shape was drawn?", "What shape was drawn here?", "Give me the shape."]
SHAPE_OF_COLOUR = ["What shape is the {0} one?", "What shape is {0}?", "Which shape is {0}?", "What is the {0} shape?",
                   "What shape is the {0} {1}?", "What is the {0} {1}?", "What is {0}?", "Name the {0} shape.",
                   "What kind of shape is the {0} one?", "Which {1} is {0}?", "What is the shape of the {0} {1}?",
                   "Which shape has the colour {0}?", "What's the {0} shape?", "What shape does the {0} {1} have?",
    "What shape has the {0} {1}?", "Do you know what shape the {0} one is?", "Say what the {0} {1} is.",
    "Tell me what the {0} {1} is.", "Which kind of shape is the {0} {1}?", "Which shape was drawn in {0}?",
    "What is drawn in {0}?", "What is the {0} one?", "Name the {0} one.", "What do you call the {0} {1}?",
    "Which shape has a {0} colour?", "What form has the {0} {1}?", "What is that {0} {1}?", "Give the shape of the {0} {1}.",
    "What thing is {0}?", "The {0} {1} is what shape?"]


def ask_shape(scene, rng):
    if len(scene["objects"]) == 1 and rng.random() < 0.4:
        return rng.choice(SHAPE_OF_ONE), f"It is {article(named(scene['objects'][0]))}."
    unique = [o for o in scene["objects"] if len(matching(scene, colour=o["colour"])) == 1]
    if rng.random() < 0.1:
        colour = rng.choice(COLOUR_NAMES)
        if not matching(scene, colour=colour):
            return rng.choice(SHAPE_OF_COLOUR).format(colour, rng.choice(THINGS)), f"There is no {colour} shape."
    if not unique:
        return None
    o = rng.choice(unique)
    question = rng.choice(SHAPE_OF_COLOUR).format(o["colour"], rng.choice(THINGS))
    return question, f"The {o['colour']} shape is {article(o['shape'])}."


EXISTS = ["Is there {}?", "Do you see {}?", "Can you see {}?", "Is there {} in the picture?", "Does the picture show {}?",
          "Do you see {} in the picture?", "Does the picture have {}?", "Does the picture contain {}?", "Is {} in the picture?",
          "Is there {} here?", "Can you find {}?", "Is there {} anywhere?", "Does it show {}?", "Is {} visible?",
          "Is there {} in this picture?", "Do you spot {}?", "Does this picture include {}?",
    "Have we got {}?", "Would you say there is {}?", "Could you check if there is {}?", "Tell me if there is {}.",
    "Is there perhaps {}?", "Is {} there?", "Is {} shown in the picture?", "Is {} present?", "Does it have {}?",
    "Does it contain {}?", "Do we see {}?", "I am looking for {}. Is it there?",
    "Has the picture got {}?", "Is {} among the shapes?", "Is {} to be seen?"]
EXISTS_ANY = ["Are there any {}?", "Are there {}?", "Do you see any {}?", "Are there any {} in the picture?", "Any {}?",
              "Does the picture have any {}?", "Can you see any {}?", "Are there {} in the picture?", "Does the picture show any {}?",
    "Have you seen any {}?", "Does it have any {}?", "Does it contain {}?", "Are any {} shown?", "Are there some {}?",
    "Do you see {}?", "Can you find any {}?"]


def ask_exists(scene, rng):
    shape, colour = rng.choice(SHAPES), rng.choice(COLOUR_NAMES)
    if rng.random() < 0.7:
        o = rng.choice(scene["objects"])
        shape = o["shape"] if rng.random() < 0.75 else shape
        colour = o["colour"] if rng.random() < 0.75 else colour
    kind = rng.random()
    if kind < 0.4:
        colour = None
    elif kind < 0.52:
        shape = None
    noun = " ".join(filter(None, [colour, shape or rng.choice(THINGS)]))
    said = " ".join(filter(None, [colour, shape or "shape"]))
    question = rng.choice(EXISTS).format(article(noun)) if rng.random() < 0.72 else rng.choice(EXISTS_ANY).format(plural(noun))
    n = len(matching(scene, shape, colour))
    return question, f"Yes, there is {article(said)}." if n else f"No, there is no {said}."


WHERE = ["Where is the {}?", "Where do you see the {}?", "In which part of the picture is the {}?", "Where's the {}?",
         "Where is the {} in the picture?", "Where in the picture is the {}?", "Tell me where the {} is.",
         "What is the position of the {}?", "Where can I find the {}?", "Where in the picture do you see the {}?",
         "What part of the picture is the {} in?", "Where is the {} located?",
    "Do you know where the {} is?", "Say where the {} is.", "On which side is the {}?", "Whereabouts is the {}?",
    "At what place is the {}?", "Please locate the {}.", "Locate the {}.", "Find the {}.",
    "Which part of the picture has the {}?", "Show me where the {} is.", "In which corner or side is the {}?",
    "What is the place of the {}?"]
PLACES = [["in the top left", "at the top", "in the top right"], ["on the left", "in the middle", "on the right"],
          ["in the bottom left", "at the bottom", "in the bottom right"]]


def place_of(o):
    return PLACES[min(2, int(o["y"] * 3))][min(2, int(o["x"] * 3))]


def ask_where(scene, rng):
    if rng.random() < 0.1:
        shape = rng.choice(SHAPES)
        if not matching(scene, shape):
            return rng.choice(WHERE).format(shape), f"There is no {shape}."
    found = unique_reference(scene, rng)
    if not found:
        return None
    phrase, o = found
    if any(abs(v - edge) < 0.05 for v in (o["x"], o["y"]) for edge in (1 / 3, 2 / 3)):
        return None
    return rng.choice(WHERE).format(phrase), f"The {phrase} is {place_of(o)}."


BACKGROUND = ["What colour is the background?", "What is the background colour?", "Which colour is the background?",
              "What is the colour of the background?", "What's the background colour?", "Name the background colour.",
              "Tell me the colour of the background.", "Which colour does the background have?", "The background has which colour?",
              "What colour is the background of the picture?", "What colour is behind the shapes?", "Background colour?",
              "On what colour are the shapes drawn?", "What colour does the background have?", "What is the colour behind the shapes?",
    "Do you know the background colour?", "What colour is the backdrop?", "What colour is the ground?",
    "What is the colour of the backdrop?", "Give me the background colour.", "Say which colour the background has.",
    "Which colour is behind the shapes?", "What colour is the canvas?",
    "Describe the background.", "Which background colour do you see?",
    "How is the background coloured?", "What colour surrounds the shapes?", "What background colour is used?"]


def ask_background(scene, rng):
    if not scene["background"]:
        return None
    return rng.choice(BACKGROUND), f"The background is {scene['background']}."


SKILLS = {
    "describe": (ask_describe, 2.2), "count": (ask_count, 2.6), "colour": (ask_colour, 1.2), "shape": (ask_shape, 1.3),
    "exists": (ask_exists, 1.3), "where": (ask_where, 1.2), "background": (ask_background, 0.6),
}


def ask(scene, rng, skill=None):
    """One (skill, question, answer); a given skill may return None."""
    if skill:
        made = SKILLS[skill][0](scene, rng)
        return (skill, vary(made[0], rng), made[1]) if made else None
    names, weights = list(SKILLS), [w for _, w in SKILLS.values()]
    while True:
        skill = rng.choices(names, weights)[0]
        made = SKILLS[skill][0](scene, rng)
        if made:
            return skill, vary(made[0], rng), made[1]


# ---------------------------------------------------------------------------------------------- small talk

KNOWN = "circles, squares, triangles, stars, hearts and crosses"
WHO = "I am the small demonstration model built into vlmd, not a general model. I know a few plain shapes and their colours."
CAN = f"I can name a few plain shapes ({KNOWN}) in a picture and their colours, and count them."
LOAD = "To use a real model, give vlmd the folder of a LLaVA model: `vlmd run FOLDER`."
NO_PICTURE = "I see no picture. Please show me one of a few plain shapes, for example with `-i picture.png`."
SHOW = "Please show me a picture of a few plain shapes, for example with `-i picture.png`."
UNKNOWN = "I do not know that. I am a small demonstration model: I can only name plain shapes and their colours, and count them."

TALK = [
    (WHO, ["What are you?", "Who are you?", "What is your name?", "Tell me about yourself.", "Are you a model?", "Are you an AI?",
           "What model are you?", "Which model is this?", "Introduce yourself.", "Who made you?", "Are you LLaVA?", "What's your name?",
           "Are you ChatGPT?", "Are you a robot?", "What is vlmd?", "Are you human?", "Who is this?", "Who am I talking to?",
           "Are you a general model?", "What kind of model are you?", "Which model are you?", "Who built you?", "Are you a chatbot?", "Are you a bot?", "Are you a language model?", "Are you a big model?",
           "Are you a person?", "Are you GPT-4?", "Are you clever?", "Are you a demo?", "Are you only a demonstration?", "Are you a vision model?",
           "Say who you are.", "Say something about yourself.", "Please introduce yourself.", "Describe yourself.", "What are you exactly?",
           "What sort of model are you?", "What is this model?", "What is this program?", "What is your purpose?", "Tell me what you are.",
           "Do you have a name?", "May I know your name?", "How are you called?", "Which AI are you?", "Are you an image model?"]),
    (CAN, ["What can you do?", "What do you know?", "Help", "Help me.", "How can you help me?", "What can I ask you?", "help",
           "What questions can I ask?", "What are you able to do?", "What are you good at?", "How do I use you?", "What are your skills?",
           "Which shapes do you know?", "Which colours do you know?", "What shapes can you see?", "What do you understand?",
           "What can you recognise?", "What can I do here?", "What are your limits?", "What can you tell me?", "What can you answer?", "Tell me what you can do.", "Say what you can do.",
           "What do you know about?", "Which questions can you answer?", "What kind of questions can I ask?", "What should I show you?",
           "What things do you know?", "What are you for?", "How does this work?", "What is it that you can do?", "Show me what you can do.",
           "What pictures do you understand?", "Which pictures can you describe?", "What are your abilities?",
           "What do you recognise?", "Can you help me?", "I need help.", "How should I use you?"]),
    (LOAD, ["How do I load a real model?", "How do I use another model?", "How can I run LLaVA?", "Load a bigger model.",
            "How do I get a better model?", "Where can I get a real model?", "How do I use a bigger model?", "How do I load LLaVA?",
            "How do I download a model?", "Can I use another model?", "How do I serve a model?", "How do I change the model?"]),
    ("Hello! " + SHOW, ["Hello", "Hello!", "Hi", "Hi!", "Hey", "Good morning", "Hi there!", "Hello there", "Good evening!", "hey there",
                        "Good afternoon", "Hello, how are you?", "Greetings", "Hello you!", "Hi demo!", "Hello model!", "Hey!", "Hello again", "Hi again", "Howdy", "Good to see you",
                        "Good morning!", "Hi, model", "hey you", "Nice to meet you", "Hello, nice to meet you.", "Are you there?", "Hallo", "Yo", "Hi, how are you?", "How are you?", "How are you doing?"]),
    ("You are welcome.", ["Thanks", "Thank you", "Thank you!", "Thanks a lot!", "Great, thanks.", "Thank you very much.", "Nice, thanks!", "Ok, thank you", "Good, thanks", "Cool, thanks", "thanks!", "Many thanks!", "Thanks, that is right.", "Thx",
                          "Good job!", "Well done.", "Very good, thank you.", "Okay, thank you", "Perfect, thanks!", "Thank you, demo."]),
    ("Goodbye!", ["Bye", "Goodbye", "Bye!", "See you later.", "Good night", "See you!", "Bye bye", "See you tomorrow!", "Bye for now", "Good bye", "Farewell!", "I have to go, bye.", "Until next time!", "Ciao"]),
]

UNKNOWN_QUESTIONS = [
    "What is the capital of {place}?", "Write a poem about {topic}.", "Who won the {topic} cup?", "Tell me a joke.",
    "Translate this to {language}.", "What time is it?", "What is the weather in {place}?", "Explain {topic}.", "Explain {topic} to me.",
    "How old is the {person}?", "Who is the {person}?", "Write a {language} program.", "How do I cook {topic}?", "Who is {name}?",
    "Why is the sky so high?", "Why is the sky blue?", "Can you sing about {topic}?", "What is the price of {topic}?", "Where is {place}?",
    "Who wrote {topic}?", "What is the meaning of life?", "Is {topic} good for me?", "How far is {place} from here?", "Who invented {topic}?",
    "Do you like {topic}?", "Give me a recipe for {topic}.", "Solve this equation.", "What is {number} plus {number}?",
    "Is this {person} happy?", "What breed is the {animal}?", "Is there a {animal}?", "Is there a {animal} in the picture?",
    "How many {animal}s are there?", "How many {animal}s are in the picture?", "What colour is the {animal}?", "Where is the {animal}?",
    "What is the {person} doing?", "Do you see a {animal}?", "Is it day or night?", "Who painted this picture?", "Who drew this?",
    "What is the mood of the picture?", "Where was the photo taken?", "Tell me a story about {topic}.", "Do you love me?",
    "What do you think about {topic}?", "Which {animal} is the fastest?", "How much is {number} times {number}?", "{number} + {number}?",
    "Summarise the news from {place}.", "What does the {animal} eat?", "Is the {person} old?", "What is {topic}?", "Define {topic}.",
    "What does the text say?", "Read the text.", "What is written here?", "Is there any text?", "What word is this?", "What number is this?",
    "Is there a {other}?", "How many {other}s are there?", "What colour is the {other}?", "Do you see a {other}?", "Where is the {other}?",
    "Which shape is the biggest?", "What is the smallest {shape}?", "Which is bigger, the {shape} or the {shape}?", "What is the largest shape?",
    "Are there more {shape}s than {shape}s?", "Are there fewer {shape}s than {shape}s?", "Is the {shape} bigger than the {shape}?",
    "Are there more {colour} shapes than {colour} shapes?", "Which shape is the smallest?", "What is the biggest object in the picture?",
    "Do you see more {shape}s than {shape}s?", "Is the {shape} above the {shape}?", "What is between the {shape} and the {shape}?",
    "Is the {shape} to the right of the {shape}?", "What is below the {colour} shape?", "How far apart are the {shape} and the {shape}?",
    "Is the {shape} round?", "How many corners does the {shape} have?", "How many sides has a {shape}?", "Is the {shape} filled?",
    "What is left of the {shape}?", "What is above the {shape}?", "Is the {shape} left of the {shape}?", "What is next to the {shape}?",
    "What is the area of the {shape}?", "How big is the {shape} in pixels?", "Why is the {shape} {colour}?", "Draw a {shape}.",
    "Make the {shape} {colour}.", "Who likes {colour}?", "What is the history of the {shape}?", "What does {colour} mean?",
    "Write code that draws a {shape}.", "How do you spell {topic}?", "When was {name} born?", "What year is it?", "What day is today?",
    "Is this real?", "Is this picture beautiful?", "How was this picture made?", "What camera took this photo?", "Can you drive a {animal}?",
    "Recommend a book about {topic}.", "How do I learn {language}?", "What should I eat today?", "Fix my code.", "Sort these numbers.",
]
FILLERS = {
    "place": "France Paris London China Japan Berlin Africa Brazil Rome India Canada Spain Italy Texas Kenya Peru Norway Cairo Moscow".split(),
    "topic": "love football music history physics soup bread money war peace science art rain Python rice gravity cars computers tea "
             "flowers coffee school work law biology chess pasta winter sleep fear time space energy taxes democracy poetry cheese".split(),
    "language": "French German English Spanish Python C Rust Chinese Latin Java Italian Greek".split(),
    "person": "man woman king president boy girl teacher doctor child queen person author lady baby".split(),
    "animal": "cat dog horse bird fish cow sheep lion car tree house elephant bear flower sun cloud boat bus bike chair table apple ball".split(),
    "other": "hexagon pentagon rectangle oval diamond ring arrow line cube sphere octagon spiral moon letter number logo dot cylinder "
             "trapezoid ellipse word face".split(),
    "name": "Einstein Napoleon Shakespeare Mozart Newton Lincoln Cleopatra Picasso Darwin Gandhi".split(),
    "number": [str(n) for n in range(2, 60)],
    "shape": SHAPES,
    "shapes": [plural(shape) for shape in SHAPES],
    "colour": COLOUR_NAMES,
}
STEMS = ["What is the {} of the {}?", "How do I {} a {}?", "Why does the {} {}?", "Tell me about {} and {}.", "Is {} better than {}?",
         "Can you {} the {}?", "Who was the first {} of {}?", "Where can I buy {} {}?", "{} the {}.", "Should I {} my {}?",
         "When did {} become {}?", "What happens if {} {}?", "Which {} is the best for {}?", "I need {} for my {}."]


def random_word(rng):
    """Something that looks like a word, so that no list of words has to be complete."""
    return "".join(rng.choice("bcdfghklmnprstvw") + rng.choice(["a", "e", "i", "o", "u", "ea", "ou"]) +
                   rng.choice(["", "", "n", "r", "s", "t", "ck"]) for _ in range(rng.randint(1, 3)))


def strange_word(rng):
    if rng.random() < 0.5:
        return random_word(rng)
    return rng.choice(FILLERS[rng.choice(["topic", "animal", "person", "place"])])


def fill(question, rng):
    question = question.replace("{shape}s", "{shapes}")
    for name, values in FILLERS.items():
        while "{" + name + "}" in question:
            question = question.replace("{" + name + "}", rng.choice(values), 1)
    return question


def small_talk(rng):
    """One (skill, question, answer) that needs no picture."""
    kind = rng.random()
    if kind < 0.4:
        answer, questions = rng.choice(TALK)
        return "talk", vary(rng.choice(questions), rng), answer
    if kind < 0.8:
        return "unknown", vary(fill(rng.choice(UNKNOWN_QUESTIONS), rng), rng), UNKNOWN
    stem = rng.choice(STEMS)
    question = stem.format(strange_word(rng), strange_word(rng))
    return "unknown", vary(question[0].upper() + question[1:], rng), UNKNOWN


def without_picture(scene, rng):
    """(skill, question, answer): a question about a picture that was never given."""
    _, question, _ = ask(scene, rng)
    return "no picture", question, NO_PICTURE


def corpus(count, seed):
    """Lines to train the tokenizer on."""
    rng = random.Random(seed)
    for _ in range(count):
        scene = {"objects": [{"shape": rng.choice(SHAPES), "colour": rng.choice(COLOUR_NAMES), "x": rng.random(),
                              "y": rng.random(), "r": rng.uniform(0.07, 0.4)} for _ in range(rng.randint(1, COUNT_MAX))],
                 "background": rng.choice(COLOUR_NAMES)}
        _, question, answer = ask(scene, rng) if rng.random() < 0.8 else small_talk(rng)
        yield question
        yield answer
