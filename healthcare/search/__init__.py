"""Search by name (misspelt names too), phone, e-mail and identifier, at a cost that does not grow with the records.

Triggers store the *terms* of each record: every normalized word of its name, every pair of those words, and its
normalized identifier, phone and e-mail. An owner's distinct words are their *vocabulary*, which grows far more slowly
than the records; prefixes and similar words are looked up there alone. Records are then found by equal terms.
"""
