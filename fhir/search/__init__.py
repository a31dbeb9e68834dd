"""Search of R4 (https://hl7.org/fhir/R4/search.html).

A viewset declares its `search_parameters`. `query` reads the parameters of a request into criteria, each parameter
turns a value into a condition on rows, and `views` answers a searchset with keyset pagination.
"""
