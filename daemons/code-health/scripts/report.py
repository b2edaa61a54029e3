# Writes the report in Markdown. Standard input: {"health", "verdict"}.
#
# A sentence of the model is shown only when it keeps to the facts: what it names must stand in what it
# was told. Else a plain one takes its place.
import json
import re
import sys

LONGEST = 200


def sound(sentence, facts):
    # Sizes, numbers, names in code marks, file names, and words that begin with a capital inside a sentence.
    claims = re.findall(r"\b(?:small|large|huge|tiny)\b|\d+|`[^`]*`|[\w/-]+\.\w+|(?<=[\w,] )[A-Z]\w*", sentence)
    foreign = re.search(r"[<>\[\]@|]|https?:", sentence)
    return 0 < len(sentence) <= LONGEST and not foreign and all(claim in facts for claim in claims)


def verdict(said, health):
    """Two sentences: how the code is, and what to mend first."""
    facts, first = health["facts"], health["first"]
    said = " ".join(said.split("\n\n")[0].split()).removeprefix("Verdict:").strip()
    # A full stop ends a sentence only before a space: `Main.java` has one inside.
    sentences = [sentence.strip() for sentence in re.findall(r".+?[.!?](?=\s|$)", said)] + ["", ""]
    opening = sentences[0] if sound(sentences[0], facts) else health["opening"]
    # What is to be mended first must be what was measured, and nothing when nothing was found.
    names = re.findall(r"`[^`]*`|[\w/-]+\.\w+", first)
    about = any(name in sentences[1] for name in names) if names else "fix" in sentences[1]
    advice = "Fix first: %s." % cell(first) if first else "Nothing needs fixing now."
    return opening + " " + (sentences[1] if about and sound(sentences[1], facts) else advice)


def cell(text):
    """Text of others in a cell: a table has no line breaks, and nobody is called."""
    text = re.sub(r"\s+", " ", str(text)).replace("|", "\\|").replace("<", "&lt;").replace("@", "@\u200b")
    return text if len(text) <= 120 else text[:119] + "…"


def code(text):
    return "`%s`" % cell(text).replace("`", "'")


def table(head, rows):
    ruler = "| " + " | ".join("---:" if name.endswith("#") else "---" for name in head) + " |"
    lines = ["| " + " | ".join(name.rstrip("#") for name in head) + " |", ruler]
    return "\n".join(lines + ["| " + " | ".join(str(value) for value in row) + " |" for row in rows])


def section(title, head, rows, total):
    if not rows:
        return []
    more = "" if total <= len(rows) else " (%d of %d)" % (len(rows), total)
    return ["<details><summary>%s%s</summary>\n\n%s\n\n</details>" % (title, more, table(head, rows))]


def main():
    given = json.load(sys.stdin)
    health = given["health"]
    totals = health["totals"]
    parts = ["## Code health", verdict(str(given["verdict"] or ""), health)]
    summary = [
        ("Files", totals["files"]),
        ("Lines", totals["lines"]),
        ("Functions", totals["functions"]),
        ("Long functions", totals["long_functions"]),
        ("Long files", totals["long_files"]),
        ("Repeated blocks", totals["repeated"]),
        ("Notes left for later", totals["notes"]),
        ("Large binary files", totals["large_binaries"]),
    ]
    parts.append(table(["What", "How many#"], summary))
    if totals["truncated"]:
        parts.append("There is more than this report reads; the numbers are those of a part.")
    languages = [(cell(l["name"]), l["files"], l["lines"]) for l in health["languages"]]
    parts.append(table(["Language", "Files#", "Lines#"], languages) if languages else "There are no files.")
    functions = [(code(f["name"]), code("%s:%d" % (f["path"], f["line"])), f["lines"]) for f in health["longest_functions"]]
    parts += section("Longest functions", ["Function", "Where", "Lines#"], functions, totals["functions"])
    files = [(code(f["path"]), f["lines"]) for f in health["longest_files"]]
    parts += section("Longest files", ["File", "Lines#"], files, len(files))
    repeated = [
        (code("%s:%d" % (b["path"], b["start_line"])), code(b["again"]), b["end_line"] - b["start_line"] + 1)
        for b in health["repeated"]
    ]
    parts += section("Repeated blocks", ["Where", "Again at", "Lines#"], repeated, totals["repeated"])
    notes = [(code(n["kind"]), code("%s:%d" % (n["path"], n["line"])), cell(n["text"])) for n in health["notes"]]
    parts += section("Notes left for later", ["Note", "Where", "Text"], notes, totals["notes"])
    binaries = [(code(b["path"]), "%d KiB" % (b["bytes"] >> 10)) for b in health["binaries"]]
    parts += section("Large binary files", ["File", "Size#"], binaries, totals["large_binaries"])
    print("\n\n".join(parts))


main()
