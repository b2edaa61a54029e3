# Finds the passages of the knowledge base that are about a message: BM25 over the sections of its files.
#
# Standard input: the message. Variable: `knowledge`, the directory. Standard output: [{path, title, text}], the best first.
import json
import math
import os
import re
import sys
from collections import Counter

BEST, LONGEST, LARGEST = 4, 1_200, 200_000
# Robertson and Zaragoza, "The Probabilistic Relevance Framework": the usual values.
K, B = 1.2, 0.75
SMALL = set("a an and are as at be but by can do for from have how i if in is it my not of on or that the this to we what when with you your".split())


def stems(text):
    for word in re.findall(r"[^\W_]+", text.lower()):
        if word not in SMALL:
            # Enough for a search: what differs at its end only is the same word.
            yield re.sub(r"(?:ing|ed|es|s|e)$", "", word) if len(word) > 4 else word


def sections(directory):
    for at, names, files in os.walk(directory):
        names[:] = sorted(name for name in names if not os.path.islink(os.path.join(at, name)))
        for name in sorted(files):
            path = os.path.join(at, name)
            if not name.endswith(".md") or os.path.islink(path) or os.path.getsize(path) > LARGEST:
                continue
            with open(path, encoding="utf-8", errors="replace") as file:
                text = file.read()
            page = re.search(r"^# +(.+)$", text, flags=re.MULTILINE)
            for part in re.split(r"^(?=#{1,3} )", text, flags=re.MULTILINE):
                heading = re.match(r"#{1,3} +(.+)\n", part)
                body = part[heading.end() :].strip() if heading else part.strip()
                if body:
                    title = heading.group(1).strip() if heading else (page.group(1).strip() if page else name)
                    yield {"path": os.path.relpath(path, "."), "title": title, "text": body[:LONGEST]}


def main():
    wanted = set(stems(sys.stdin.read()))
    directory = os.path.normpath(os.environ.get("knowledge") or "knowledge")
    if directory.startswith(("..", "/")):
        sys.exit("%s is not a directory of the repository" % directory)
    every = list(sections(directory))
    # The title counts three times.
    words = [Counter(list(stems(one["text"])) + 3 * list(stems(one["title"]))) for one in every]
    lengths = [sum(count.values()) for count in words]
    usual = sum(lengths) / len(lengths) if lengths else 1
    spread = Counter(word for count in words for word in count)
    scored = []
    for one, count, length in zip(every, words, lengths):
        score = 0.0
        for word in wanted & count.keys():
            rare = math.log(1 + (len(every) - spread[word] + 0.5) / (spread[word] + 0.5))
            score += rare * count[word] * (K + 1) / (count[word] + K * (1 - B + B * length / usual))
        if score > 0:
            scored.append((score, one))
    scored.sort(key=lambda pair: (-pair[0], pair[1]["path"], pair[1]["title"]))
    # What is far behind the best is about something else.
    json.dump([one for score, one in scored[:BEST] if score >= scored[0][0] / 3], sys.stdout)


main()
