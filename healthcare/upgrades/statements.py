"""SQL as single statements."""

import re

SQL_TOKEN = re.compile(
    r"(?P<end>;)|(?P<space>(?:\s|--[^\n]*|/\*.*?\*/)+)"
    r"|(?P<quoted>'(?:[^']|'')*'|\"[^\"]*\"|(?P<tag>\$(?:[A-Za-z_]\w*)?\$).*?(?P=tag))",
    re.DOTALL,
)
BODY = re.compile(r"\bDO\s+(?:LANGUAGE\s+\w+\s+)?\$(\w*)\$(.*)\$\1\$", re.IGNORECASE | re.DOTALL)


def split_statements(sql: str) -> list[str]:
    """The statements, with one space for white space and comments; quoted text and bodies of functions stay whole."""
    statements, text, position = [], "", 0
    for token in SQL_TOKEN.finditer(sql):
        text += sql[position : token.start()] + (token["quoted"] or (" " if token["space"] else ""))
        position = token.end()
        if token["end"]:
            statements.append(text.strip())
            text = ""
    statements.append((text + sql[position:]).strip())
    return [statement for statement in statements if statement]


def executed_body(statement: str) -> str:
    """What a DO block executes, without comments. The body of a function is not executed by the migration."""
    found = BODY.match(statement)
    return ";\n".join(split_statements(found[2])) if found else ""
