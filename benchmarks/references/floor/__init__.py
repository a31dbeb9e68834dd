"""The least that can be done with our guarantees: a bare WSGI function, under our server, on our database."""
