# Puts the post and its picture where a site's generator looks for them, and says so for a pull request.
#
# Standard input: {"post", "picture"}; standard output: {"title", "body", "path", "image"}.
import json
import os
import sys

POSTS, IMAGES = "content/posts", "static/images"


def directory(path):
    """Makes it; a link in its place could lead anywhere."""
    at = ""
    for part in path.split("/"):
        at = os.path.join(at, part)
        if os.path.islink(at):
            sys.exit("%s is a symbolic link" % at)
        os.makedirs(at, exist_ok=True)


def main():
    given = json.load(sys.stdin)
    post, picture = given["post"], str(given["picture"] or "")
    image = ""
    if picture:
        directory(IMAGES)
        image = "%s/%s%s" % (IMAGES, post["slug"], os.path.splitext(picture)[1])
        os.replace(picture, image)
        if not os.listdir("images"):
            os.rmdir("images")
    front = [
        ("title", post["title"]),
        ("date", post["date"]),
        ("description", post["description"]),
        ("keywords", post["keywords"]),
        ("draft", False),
    ]
    if image:
        front += [("image", image.removeprefix("static")), ("image_alt", post["alt"])]
    # JSON is YAML, and nothing that a model said can end a value early.
    head = "".join("%s: %s\n" % (name, json.dumps(value, ensure_ascii=False)) for name, value in front)
    directory(POSTS)
    with open(post["path"], "x", encoding="utf-8") as file:
        file.write("---\n%s---\n\n%s\n" % (head, post["text"].strip()))
    facts = "%d words, %d min, %d sources" % (post["words"], post["minutes"], len(post["sources"]))
    body = ["> %s" % post["description"], "", facts + ".", ""]
    body += ["- %s" % source for source in post["sources"]] or ["**No source is linked: check every claim.**"]
    if post["removed"]:
        body += ["", "Links that were not among the sources, and were taken out: %d." % len(post["removed"])]
    body += ["", "Models wrote this from what they found. Read it before you merge it."]
    json.dump({"title": "blog: %s" % post["title"], "body": "\n".join(body), "path": post["path"], "image": image}, sys.stdout)


main()
