"""Search: records found by name, also a misspelt one, by phone, e-mail and identifier, at the same cost however many.

For every record a trigger keeps *terms*: each folded word of its name, each pair of words, its identifier, phone and
e-mail. An owner's distinct words are their *vocabulary*, which grows far more slowly than the records: only there is
anything looked up by its beginning or by similarity. The words found are then looked up as terms, by equality.
"""
