"""How far ours must be ahead of each reference, and how near to the floor."""

FLOOR = "floor"
# By operation and reference: how many times more a request must cost there; of the floor, how many times more here.
WANTED: dict[str, dict[str, float]] = {
    "get one": {"stock": 3, "fastapi": 2, FLOOR: 2},
    "list 20": {"stock": 8, "stock+index": 3, "fastapi": 2.5, FLOOR: 2},
    "list at depth": {"stock": 8, "fastapi": 6, FLOOR: 2},
    "create": {"stock": 1.5, "fastapi": 1.5, FLOOR: 3},
    "patch": {"stock": 1.5, "fastapi": 1.5, FLOOR: 3},
    "public doctors": {"stock": 8, "fastapi": 4, FLOOR: 2},
}
