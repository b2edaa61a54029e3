# Reads a ticket: checks it, takes away what was quoted and signed, and hides what no model has to know.
#
# Standard input: {"ticket": as Zendesk's webhook brings it, "answered": keys of messages}.
# Standard output: {"id", "key", "is_new", "subject", "text", "name", "tags", "hidden", "answered"}.
import json
import re
import sys

LONGEST, REMEMBERED = 6_000, 500
HIDDEN = [
    ("a card number", re.compile(r"\b(?:\d[ -]?){13,19}\b")),
    ("a bank account", re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b")),
    ("a key", re.compile(r"\b(?:sk|pk|ghp|gho|xox[abp]|AKIA)[-_]?[A-Za-z0-9_-]{16,}\b")),
    ("a password", re.compile(r"(?i)\b(?:password|passwort|pwd)\b(?:\s+is)?\s*[:=]?\s*(?=\S*[\d\W])\S{6,}")),
    ("an address", re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b")),
]
# An address is hidden and is nothing that people have to look after.
HARMLESS = {"an address"}


def luhn(text):
    digits = [int(digit) for digit in re.sub(r"\D", "", text)][::-1]
    return sum(d if at % 2 == 0 else (d * 2 - 9 if d > 4 else d * 2) for at, d in enumerate(digits)) % 10 == 0


def without_quotes(text):
    text = re.split(r"^(?:-- ?|_{5,}|-{2,} ?Original Message.*|On .{5,80} wrote:|Am .{5,80} schrieb .{0,60}:)$", text, flags=re.MULTILINE)[0]
    return "\n".join(line for line in text.split("\n") if not line.startswith(">")).strip()


def hide(text, found):
    for name, pattern in HIDDEN:
        def cover(match, name=name):
            if name == "a card number" and not luhn(match.group(0)):
                return match.group(0)
            if name not in HARMLESS and name not in found:
                found.append(name)
            return "[%s]" % name
        text = pattern.sub(cover, text)
    return text


def main():
    given = json.load(sys.stdin)
    ticket = given["ticket"] if isinstance(given["ticket"], dict) else {}
    number = re.fullmatch(r"[1-9]\d{0,17}", str(ticket.get("id", "")))
    message = str(ticket.get("message") or "")
    if not number or not message.strip():
        sys.exit("this is no ticket: it needs an `id` and a `message`")
    found = []
    subject = hide(" ".join(str(ticket.get("subject") or "").split())[:200], found)
    text = hide(without_quotes(message.replace("\r\n", "\n"))[:LONGEST], found)
    key = "%s/%s" % (number.group(0), str(ticket.get("message_id") or "first")[:40])
    answered = [str(one) for one in given["answered"]]
    by_us = str(ticket.get("author_role", "end-user")) != "end-user"
    tags = ticket.get("tags") or []
    json.dump(
        {
            "id": int(number.group(0)),
            "key": key,
            # What we wrote ourselves is answered by nobody.
            "is_new": key not in answered and not by_us,
            "subject": subject,
            "text": text or subject,
            "name": re.sub(r"[^\w' -]", "", str(ticket.get("name") or "").split(" ")[0])[:40],
            "tags": [str(tag)[:80] for tag in (tags.split() if isinstance(tags, str) else tags)][:50],
            "hidden": found,
            "answered": (answered + [key])[-REMEMBERED:],
        },
        sys.stdout,
    )


main()
