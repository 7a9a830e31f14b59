"""Write support tickets in four classes to learn from and to test on: train.jsonl and test.jsonl.

python examples/text_classifier/tickets.py build/tickets

The tickets are put together from templates, so that the example needs no download. Figures on them say nothing about real text.
"""

import argparse
import json
import random
from pathlib import Path

TEMPLATES = {
    "account": [
        "I cannot log in to my account {when}",
        "please reset my password, the link does not work {when}",
        "my user name is gone and the {place} says unknown user",
        "how do I change the e-mail address of my profile in the {place}?",
        "the {place} asks for a code that never arrives",
    ],
    "billing": [
        "I was charged twice for the {thing} {when}",
        "the invoice for my {thing} shows a wrong amount",
        "please refund the payment for the {thing}, I canceled it {when}",
        "my card was declined in the {place} although it is valid",
        "where do I find the receipt for the {thing}?",
    ],
    "delivery": [
        "the parcel with my {thing} has not arrived {when}",
        "tracking says delivered, but the {thing} is not here",
        "the courier left my {thing} at the wrong address {when}",
        "can the shipment of the {thing} be sent to another street?",
        "how long does shipping of a {thing} take?",
    ],
    "defect": [
        "the {thing} is broken and does not start {when}",
        "my {thing} makes a loud noise and then stops",
        "the screen of the {thing} has a crack",
        "the battery of the {thing} is empty after an hour {when}",
        "a part of the {thing} is missing, it does not hold together",
    ],
}
FILLERS = {
    "thing": ["kettle", "headphones", "lamp", "keyboard", "camera", "clock", "printer", "drill", "speaker", "router"],
    "place": ["app", "web shop", "portal", "settings page"],
    "when": ["since yesterday", "since Monday", "this morning", "for a week now", "again", "after the update", ""],
}
OPENINGS = ["", "Hello, ", "Hi there, ", "Good morning, ", "Urgent: ", "Dear team, "]
CLOSINGS = ["", " Thank you!", " Please help.", " Best regards", " What can I do?"]


def make_tickets(count: int, seed: int) -> list[dict[str, str]]:
    """Return `count` different tickets, each a dict of text and label, in random order."""
    choose = random.Random(seed)
    tickets: dict[str, str] = {}
    while len(tickets) < count:
        label = choose.choice(list(TEMPLATES))
        fillers = {name: choose.choice(words) for name, words in FILLERS.items()}
        sentence = choose.choice(TEMPLATES[label]).format(**fillers).strip()
        tickets.setdefault(choose.choice(OPENINGS) + sentence + choose.choice(CLOSINGS), label)
    return [{"text": text, "label": label} for text, label in tickets.items()]


def main() -> None:
    """Write both files; no ticket is in both."""
    parser = argparse.ArgumentParser(description="Write tickets to learn from and to test on.")
    parser.add_argument("out", type=Path, help="directory for train.jsonl and test.jsonl")
    parser.add_argument("--count", type=int, default=500, help="tickets in all; a fifth is for the test")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    tickets = make_tickets(given.count, seed=0)
    test = given.count // 5
    for name, part in (("test.jsonl", tickets[:test]), ("train.jsonl", tickets[test:])):
        lines = "".join(json.dumps(ticket) + "\n" for ticket in part)
        (given.out / name).write_text(lines, encoding="utf-8")
        print(f"{given.out / name}: {len(part)} tickets")


if __name__ == "__main__":
    main()
