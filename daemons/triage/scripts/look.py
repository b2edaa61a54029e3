# Looks for telling words in an issue, so that a small model need not know everything.
#
# Standard input: {"title", "body"}. Standard output: {"title", "excerpt", "guess", "words", "missing"};
# `guess` is empty when the words do not agree on a kind.
import json
import re
import sys

# Word by word, in small letters; a pattern in the title counts three times.
KINDS = {
    "bug": r"bugs?|broken|breaks|crash\w*|panics?|exception|traceback|stack ?trace|segfault|errors?|fail(s|ed|ing|ure)?|"
    r"wrong(ly)?|incorrect(ly)?|does ?n[o']t work|not working|stopped working|regression|hangs?|freezes|leaks?|unexpected(ly)?",
    "feature": r"feature( request)?|please (add|support)|add (support|an? option)|support for|would (be|love|like)|"
    r"it would|could (you|we) (add|have|support)|wish|proposal|suggestion|enhancement|ability to|allow (us|me|users|to)",
    "question": r"how (do|can|to|does|should|would)|where (is|are|do|can)|what (is|are|does)|why (is|does|do)|"
    r"is (it|there|this) \w+|can (i|we|someone)|question|help|confused|wondering",
    "docs": r"docs?|documentation|readme|typos?|spelling|tutorial|manual|docstrings?|broken link|dead link|example in the",
}
SIGNS = {
    "security": r"security|vulnerab\w+|cve-\d+\S*|exploit\w*|xss|csrf|sql injection|remote code|leaks? (the |my |a )?(token|password|secret|key)s?",
    "loss": r"data loss|lost (my|all|the|our)|deletes? (my|all|the)|deleted (my|all|the)|corrupt\w*|overwr(ote|ites?|itten)",
    "crash": r"crash\w*|panics?|panicked|segfault|segmentation fault|core dump\w*|oom|out of memory",
    "regression": r"regression|used to work|worked (in|before|with|until)|since (the )?(version|update|upgrade|v?\d)|after (the )?(update|upgrading)",
    "slow": r"slow(er|ly)?|performance|takes (too long|forever|minutes|hours)|timed? ?out",
}
WANTED = {
    "how to make it happen again": r"steps|reproduc\w+|to repro|when i |if i |```|\$ \w+|\b1\. ",
    "the version": r"version|\bv?\d+\.\d+(\.\d+)?\b|commit [0-9a-f]{7}|latest|main branch",
    "the message or log": r"error:|log|message|traceback|panicked|exception|```|prints|says|output",
}
LONGEST = 20_000
EXCERPT = 220


def count(pattern, text):
    return len(re.findall(r"(?<![\w-])(?:%s)(?![\w-])" % pattern, text))


def without_code(text):
    """Code and quotes say what somebody else wrote."""
    text = re.sub(r"^(`{3,}|~{3,}).*?^\1[^\n]*$", " ", text, flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"<!--.*?-->", " ", text, flags=re.DOTALL)
    return re.sub(r"^\s*>.*$", " ", text, flags=re.MULTILINE)


def guess_kind(title, body):
    scores = {kind: 3 * min(count(p, title), 1) + min(count(p, body), 2) for kind, p in KINDS.items()}
    if title.rstrip().endswith("?"):
        scores["question"] += 3
    best, second = sorted(scores.values(), reverse=True)[:2]
    # A text that is wrong is about the text.
    if scores["docs"] >= 3 and scores["docs"] >= best - 1:
        return "docs"
    return max(scores, key=scores.get) if best >= 1 and best - second >= 1 else ""


def main():
    given = json.load(sys.stdin)
    title = " ".join(str(given.get("title") or "").split())[:300]
    body = str(given.get("body") or "")[:LONGEST]
    if not title and not body.strip():
        sys.exit("there is no issue to look at: give `title`, or start from an issue")
    prose = without_code(body)
    low_title, low = title.lower(), prose.lower().replace("’", "'")
    both = low_title + "\n" + low
    guess = guess_kind(low_title, low)
    missing = [what for what, pattern in WANTED.items() if not re.search(pattern, low_title + "\n" + body.lower())]
    excerpt = " ".join((title + ("" if title[-1:] in ".?!" else ".") + " " + prose).split()).lstrip(". ")
    excerpt = excerpt if len(excerpt) <= EXCERPT else excerpt[:EXCERPT].rsplit(" ", 1)[0]
    json.dump(
        {
            "title": title or " ".join(prose.split())[:80],
            "excerpt": excerpt,
            "guess": guess,
            "words": [sign for sign, pattern in SIGNS.items() if count(pattern, both)],
            "missing": missing,
        },
        sys.stdout,
    )


main()
