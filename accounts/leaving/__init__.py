"""How a user leaves: the end of the account, and the file of everything that is stored about it."""
