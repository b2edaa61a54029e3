# Whether an answer keeps to the knowledge base. Standard input: {"drafted", "passages", "name"}.
# Standard output: {"text": with greeting, "sound", "why": what is wrong with it, in a sentence}.
import json
import re
import sys

PROMISES = re.compile(r"(?i)\b(refund(?:ed)?|guarantee[sd]?|promise[sd]?|compensat\w+|free of charge|within \d+ (?:hour|day|week)s?)\b")


def main():
    given = json.load(sys.stdin)
    said, passages = given["drafted"], given["passages"]
    text = re.sub(r"\n{3,}", "\n\n", str(said["reply"]).strip())
    known = "\n".join(one["text"] for one in passages)
    paths = {one["path"] for one in passages}
    links = [link.rstrip(".,;)") for link in re.findall(r"https?://[^\s<>\"\]]+", text)]
    promises = [word for word in PROMISES.findall(text) if word.lower() not in known.lower()]
    if not said["sure"]:
        why = "The knowledge base does not answer this."
    elif not said["used"] or any(path not in paths for path in said["used"]):
        why = "The draft does not say which passages it rests on."
    elif any(link not in known for link in links):
        why = "The draft names an address that is not in the knowledge base."
    elif promises:
        why = "The draft promises something (%s)." % ", ".join(sorted(set(word.lower() for word in promises)))
    elif not 20 <= len(text) <= 2_500:
        why = "The draft is too short or too long."
    else:
        why = ""
    greeting = "Hello %s,\n\n" % given["name"] if given["name"] else "Hello,\n\n"
    json.dump({"text": greeting + text, "sound": not why, "why": why}, sys.stdout)


main()
