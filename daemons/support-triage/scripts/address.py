# Writes what Zendesk is told: the answer to the customer, or a note to people with the draft in it.
#
# Standard input: {"message", "about", "mood", "answer", "decision"}. Standard output: a ticket's changes.
import json
import sys


def main():
    given = json.load(sys.stdin)
    message, about, mood = given["message"], given["about"], given["mood"]
    answer, decision = given["answer"], given["decision"]
    by_daemon = decision["by"] == "daemon"
    if by_daemon:
        body = answer["text"]
    else:
        body = "%s\n\n%s\nCategory: %s. The customer is %s%s." % (
            decision["why"],
            " ".join(about["summary"].split()),
            about["category"],
            mood["sentiment"],
            ", and it hurries" if mood["urgent"] else "",
        )
        body += "\n\nA draft, which nobody has sent:\n\n%s" % answer["text"]
    tags = message["tags"] + ["triaged", "topic-" + about["category"], "queue-" + decision["queue"]]
    if not by_daemon:
        tags.append("escalated")
    update = {
        "comment": {"public": by_daemon, "body": body},
        "priority": decision["priority"],
        "tags": list(dict.fromkeys(tags)),
    }
    if by_daemon:
        update["status"] = "pending"
    json.dump(update, sys.stdout)


main()
