# Writes the page of the release and moves "Unreleased" below the version. Standard input:
# {"release", "summary"}. Standard output: {"title", "path", "text"}.
import json
import os
import re
import sys

SMALL = set("a an and are as at be by for from has in is it its of on or that the this these to when with".split())
LONGEST = 300


def words(text):
    return {word[:4] for word in re.findall(r"[^\W_]+", text.lower()) if word not in SMALL}


def counted(number, one, many):
    return "%d %s" % (number, one if number == 1 else many)


def plain_summary(release):
    """What can be said without understanding anything: how much of which kind."""
    groups = re.findall(r"^### (.+?)\s*#*$", release["section"], re.MULTILINE)
    kinds = " (%s)" % ", ".join(group.lower() for group in groups) if groups else ""
    return "Version %s brings %s%s." % (release["version"], counted(len(release["items"]), "change", "changes"), kinds)


def summary(said, release):
    """The model's sentence, when it keeps to the changelog: nearly all its words stand there."""
    said = " ".join(said.split("\n\n")[0].split()).removeprefix("Summary:").strip()
    sentence = re.match(r".+?[.!](?=\s|$)", said)
    text = sentence.group(0) if sentence else ""
    mine = words(text) - {"rele", "vers", "adds", "brin", "incl", "fix", "fixe", "new"}
    known = words(" ".join(release["items"]))
    sound = len(mine) >= 2 and len(mine & known) >= 0.85 * len(mine) and len(text) <= LONGEST
    return text if sound and not re.search(r"[<>\[\]@|]|https?:", text) else plain_summary(release)


def move(release):
    with open(release["path"], encoding="utf-8", errors="surrogateescape", newline="") as file:
        text = file.read()
    end = "\r\n" if "\r\n" in text else "\n"
    # The first such heading is the one that was read: headings in fenced code before it have no place
    # in the part of a changelog above its first section.
    heading = re.compile(r"^##[ \t]+(\[?)unreleased\]?[ \t]*#*[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
    found = heading.search(text)
    line = found.group(0).rstrip("\r")
    named = "[%s]" % release["version"] if found.group(1) else release["version"]
    head = "%s%s%s## %s - %s" % (line, end, end, named, release["date"])
    moved = text[: found.start()] + head + text[found.start() + len(line) :]
    with open(release["path"], "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
        file.write(moved)


def main():
    given = json.load(sys.stdin)
    release = given["release"]
    text = summary(str(given["summary"] or ""), release)
    section = re.sub(r"^##(#+) ", r"#\1 ", release["section"], flags=re.MULTILINE)
    page = "# %s\n\nReleased on %s.\n\n%s\n\n%s\n" % (release["version"], release["date"], text, section)
    path = "docs/releases/%s.md" % release["version"]
    if os.path.lexists(path):
        sys.exit("%s is there already" % path)
    os.makedirs("docs/releases", exist_ok=True)
    with open(path, "x", encoding="utf-8", errors="surrogateescape") as file:
        file.write(page)
    move(release)
    json.dump({"title": "release: %s" % release["version"], "path": path, "text": page}, sys.stdout)


main()
