"""Python code as a syntax tree, for the tests of how the code is written."""

import ast
import gc


def parse_python(source: str) -> ast.Module:
    """As `ast.parse`, without garbage collection meanwhile.

    Before Python 3.11.8 and 3.12.2 two calls may not overlap (python/cpython#106905): one ends with "SystemError: AST
    constructor recursion depth mismatch". A collection runs finalizers, and Python formats what they raise by
    `ast.parse`.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return ast.parse(source)
    finally:
        if was_enabled:
            gc.enable()
