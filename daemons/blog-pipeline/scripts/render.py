# Markdown to HTML, for a blog that takes no Markdown: standard input to standard output. Paragraphs, headings, lists, quotes, code, emphasis and links, which is what a post is
# made of. Everything else is text.
import html
import re
import sys


def inline(text):
    held = []

    def hold(markup):
        held.append(markup)
        return "\0%d\0" % (len(held) - 1)

    text = text.replace("\0", "")
    text = re.sub(r"`([^`\n]+)`", lambda m: hold("<code>%s</code>" % html.escape(m.group(1))), text)
    text = html.escape(html.unescape(text), quote=False)
    text = re.sub(
        r"\[([^\[\]]+)\]\((https?://[^\s()]*(?:\([^\s()]*\)[^\s()]*)*)\)",
        lambda m: hold('<a href="%s">' % html.escape(html.unescape(m.group(2)))) + m.group(1) + hold("</a>"),
        text,
    )
    text = re.sub(r"\*\*(\S(?:.*?\S)?)\*\*", r"<strong>\1</strong>", text)
    text = re.sub(r"(?<![\w*])\*(\S(?:.*?\S)?)\*(?![\w*])", r"<em>\1</em>", text)
    return re.sub("\0(\\d+)\0", lambda m: held[int(m.group(1))], text)


def block(lines):
    first = lines[0]
    heading = re.match(r"(#{2,6})\s+(.+?)\s*#*$", first)
    if heading and len(lines) == 1:
        level = len(heading.group(1))
        return "<h%d>%s</h%d>" % (level, inline(heading.group(2)), level)
    for mark, tag in ((r"[-*+]\s+", "ul"), (r"\d+[.)]\s+", "ol")):
        if re.match(mark, first):
            items = re.split(r"\n(?=%s)" % mark, "\n".join(lines))
            items = [inline(" ".join(re.sub(r"\A%s" % mark, "", item).split())) for item in items]
            return "<%s>%s</%s>" % (tag, "".join("<li>%s</li>" % item for item in items), tag)
    if all(line.startswith(">") for line in lines):
        return "<blockquote><p>%s</p></blockquote>" % inline(" ".join(line.lstrip("> ") for line in lines))
    return "<p>%s</p>" % inline(" ".join(line.strip() for line in lines))


def to_html(text):
    parts, lines = [], []
    # A piece in fences stays as it is, empty lines and all.
    pieces = re.split(r"^```[^\n]*\n(.*?)^```[ \t]*$", text, flags=re.MULTILINE | re.DOTALL)
    for at, piece in enumerate(pieces):
        if at % 2:
            parts.append("<pre><code>%s</code></pre>" % html.escape(html.unescape(piece), quote=False))
            continue
        for line in piece.split("\n") + [""]:
            # A heading needs no empty line around it.
            if lines and (not line.strip() or re.match(r"#{2,6}\s", line) or re.match(r"#{2,6}\s", lines[0])):
                parts.append(block(lines))
                lines = []
            if line.strip():
                lines.append(line)
    return "\n".join(parts)


sys.stdout.write(to_html(sys.stdin.read()))
