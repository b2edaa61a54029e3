# Writes the comment. What a model said is kept only when it is about this issue: most of its words
# must stand in the issue, else the title is the summary.
import json
import re
import sys

SMALL = set("a an and are as at be by for from how in is it its of on or that the this to when with".split())


def content_words(text):
    return {word[:5] for word in re.findall(r"[^\W_]+", text.lower()) if word not in SMALL}


def summary(said, signs):
    said = re.split(r"(?<=[.!?])\s", " ".join(said.split()))[0].strip(" .,;:\"'")
    words = content_words(said)
    known = content_words(signs["title"] + " " + signs["excerpt"])
    if not 2 <= len(words) or len(words & known) < 0.7 * len(words):
        said = signs["title"]
    return (said[:1].upper() + said[1:])[:160]


def inert(text):
    """Text of others: no HTML, no links, nobody is called."""
    return re.sub(r"([\\`*_\[\]<>#|!])", r"\\\1", text).replace("@", "@\u200b")


def main():
    given = json.load(sys.stdin)
    decision, kind = given["decision"], given["kind"]
    short = summary(given["summary"], given["signs"])
    labels = list(dict.fromkeys(decision["labels"]))
    lines = [
        "**%s**, priority **%s**: %s" % (kind.capitalize(), decision["priority"], inert(short)),
        "",
        decision["answer"],
        "",
        "Labels that fit: " + ", ".join("`%s`" % label for label in labels),
    ]
    result = {"kind": kind, "priority": decision["priority"], "labels": labels, "summary": short}
    json.dump({**result, "answer": decision["answer"], "comment": "\n".join(lines)}, sys.stdout)


main()
