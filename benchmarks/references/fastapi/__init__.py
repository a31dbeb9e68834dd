"""FastAPI with SQLAlchemy: async endpoints, a pool of asyncpg connections, schemas of pydantic, no count."""
