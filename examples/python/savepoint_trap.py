"""A trap of psycopg 3: after a SELECT, conn.transaction() is a savepoint, and nothing is committed.

    DATABASE_URL=postgres://… python savepoint_trap.py WORKSPACE_ID

Shows the trap and two ways out. Each stores a document of one word, and prints whether another session sees it.
"""

import os
import sys
from uuid import UUID, uuid4

import psycopg

from consume import Document, store_once

ACTIVE = "SELECT active FROM billing.workspace_billing WHERE workspace_id = %s"
INSERT = "INSERT INTO documents (workspace_id, id, words) VALUES (%s, %s, 1)"
CONSUME = "SELECT billing.consume(%s, 'words', 1, %s)"


def wrong(url: str, workspace_id: UUID, id: UUID) -> None:
    conn = psycopg.connect(url)
    conn.execute(ACTIVE, (workspace_id,))  # begins a transaction
    with conn.transaction():  # so this is a savepoint, and its end commits nothing
        conn.execute(INSERT, (workspace_id, id))
        conn.execute(CONSUME, (workspace_id, str(id)))
    conn.close()  # rolls back, without an error


def right(url: str, workspace_id: UUID, id: UUID) -> None:
    conn = psycopg.connect(url, autocommit=True)
    conn.execute(ACTIVE, (workspace_id,))  # a transaction of its own
    with conn.transaction():  # BEGIN, and its end is COMMIT
        conn.execute(INSERT, (workspace_id, id))
        conn.execute(CONSUME, (workspace_id, str(id)))
    conn.close()


def noticed(url: str, workspace_id: UUID, id: UUID) -> None:
    """consume.py checks the state of the connection first, so the mistake of wrong() is an error."""
    with psycopg.connect(url) as conn:
        conn.execute(ACTIVE, (workspace_id,))
        try:
            store_once(conn, Document(workspace_id, id, 1))
        except RuntimeError as error:
            print(f"store_once: {error}")


def is_stored(url: str, workspace_id: UUID, id: UUID) -> bool:
    stored = "SELECT EXISTS (SELECT FROM documents WHERE workspace_id = %s AND id = %s)"
    with psycopg.connect(url) as other:
        return other.execute(stored, (workspace_id, id)).fetchone()[0]


def main() -> None:
    url, workspace_id = os.environ["DATABASE_URL"], UUID(sys.argv[1])
    for way in (wrong, right, noticed):
        id = uuid4()
        way(url, workspace_id, id)
        print(f"{way.__name__}: {'stored' if is_stored(url, workspace_id, id) else 'not stored'}")


if __name__ == "__main__":
    main()
