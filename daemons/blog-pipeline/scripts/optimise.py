# Makes a post of what models wrote, and keeps of it what holds.
#
# Standard input: {"research", "draft", "described"}. Standard output: the post, see the stage's schema.
# - Links stay only when their address stands in the research; of others the words stay.
# - Title, description, slug and keywords keep to the bounds of search engines, whatever was said.
# - A slug that another post has gets a number.
import datetime
import json
import os
import re
import sys

POSTS = "content/posts"
TITLE, DESCRIPTION = 60, 155
LINK = re.compile(r"(!?)\[([^\[\]]*)\]\(\s*<?([^()\s>]*(?:\([^()\s]*\)[^()\s>]*)*)>?(?:\s+\"[^\"]*\")?\s*\)")
ADDRESS = re.compile(r"https?://[^\s<>\"\])]+")


def one_line(text):
    return " ".join(str(text).split())


def cut(text, longest):
    """Whole words, and no half sentence's comma at the end."""
    text = one_line(text)
    if len(text) <= longest:
        return text
    return text[: longest - 1].rsplit(" ", 1)[0].rstrip(" ,;:.–-") + "…"


def slug(text):
    words = re.findall(r"[a-z0-9]+", text.lower())[:8]
    return "-".join(words)[:60].strip("-") or "post"


def free(wanted):
    """The slug, with a number when there is such a post."""
    name, number = wanted, 1
    while os.path.lexists("%s/%s.md" % (POSTS, name)):
        number += 1
        name = "%s-%d" % (wanted, number)
    return name


def linked(draft, known):
    """The draft with those links only that were researched: (text, used, removed)."""
    used, removed = [], []

    def decide(match):
        picture, words, address = match.groups()
        address = address.rstrip(".,;")
        if not picture and address in known:
            if address not in used:
                used.append(address)
            return "[%s](%s)" % (words, address)
        removed.append(address)
        return words

    text = LINK.sub(decide, draft)
    # Bare addresses are links too, for most who show Markdown.
    bare = lambda match: match.group(0) if match.group(0).rstrip(".,;") in known else ""
    text = re.sub(r"(?<!\]\()(?<!<)%s" % ADDRESS.pattern, bare, text)
    return text, used, removed


def main():
    given = json.load(sys.stdin)
    draft, said = str(given["draft"]).strip(), given["described"]
    known = {address.rstrip(".,;") for address in ADDRESS.findall(str(given["research"]))}
    # A model that gives the title all the same says it twice.
    draft = re.sub(r"\A# [^\n]*\n+", "", draft).replace("\r\n", "\n")
    text, used, removed = linked(draft, known)
    # HTML of others does not go into somebody's site.
    text = re.sub(r"<(?=[a-zA-Z/!])", "&lt;", text)
    count = len(re.findall(r"[^\W_]+", re.sub(r"\]\([^)]*\)", "]", text)))
    if count < 100:
        sys.exit("the draft has %d words; that is no post" % count)
    low = text.lower()
    keywords = [one_line(word)[:60] for word in said["keywords"]]
    date = os.environ.get("date") or datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    try:
        datetime.date.fromisoformat(date)
    except ValueError:
        sys.exit("`%s` is not a day such as 2026-11-22" % date)
    name = free(slug(one_line(said["slug"]) or said["title"]))
    json.dump(
        {
            "path": "%s/%s.md" % (POSTS, name),
            "slug": name,
            "title": cut(said["title"], TITLE),
            "description": cut(said["description"], DESCRIPTION),
            "keywords": [word for word in dict.fromkeys(keywords) if word.lower() in low][:6],
            "date": date,
            "text": text,
            "words": count,
            "minutes": max(1, round(count / 220)),
            "sources": used,
            "removed": removed,
            "picture": cut(said["picture"], 300),
            "alt": cut(said["alt"], 160),
        },
        sys.stdout,
    )


main()
