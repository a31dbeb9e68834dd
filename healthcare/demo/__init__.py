"""`manage.py demo`: what it adds, and the parts that the apps add to it.

An app declares its part in a module `demo_data`, which this command alone imports: see `parts`. So a server neither
imports these modules nor Faker.
"""
