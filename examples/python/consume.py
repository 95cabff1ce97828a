"""Stores a document and consumes its words in one transaction: both, or neither. Python 3.10, psycopg 3.

    DATABASE_URL=postgres://… python consume.py WORKSPACE_ID WORDS [DOCUMENT_ID]

Copy what is above main(), and replace the INSERT by what your product writes. The errors are explained in
examples/README.md.
"""

import os
import random
import sys
import time
from dataclasses import dataclass
from itertools import count
from uuid import UUID, uuid4

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

ATTEMPTS = 5

# After these errors the same transaction may succeed: serialization failure, deadlock, server shutdown or start.
REPEATABLE = {"40001", "40P01", "57P01", "57P02", "57P03"}


@dataclass(frozen=True)
class Document:
    workspace_id: UUID
    # Made once, before the first attempt. If the client of your product makes it, the client can repeat its request.
    id: UUID
    words: int


class Refused(Exception):
    """billing.consume refused the document: nothing is stored, and nothing is consumed."""

    def __init__(self, error: psycopg.Error):
        super().__init__(error.diag.message_primary)
        self.code = error.sqlstate  # LM001, LM002 …
        self.detail = error.diag.message_detail


def store(pool: ConnectionPool, document: Document) -> int | None:
    """Stores the document and consumes its words. Repeats that if it met another transaction or lost its connection.

    Returns how many words the workspace has left, None if they are unlimited. Raises Refused, which is never repeated,
    or psycopg.Error.
    """
    for attempt in count(1):
        try:
            # the pool replaces a broken connection
            with pool.connection() as conn:
                return store_once(conn, document)
        except psycopg.Error as error:
            if (error.sqlstate or "").startswith("LM"):
                raise Refused(error) from error
            if attempt == ATTEMPTS or not is_repeatable(error):
                raise
        # up to 0.1, 0.2, 0.4 and 0.8 s: random, so that two transactions that met do not meet again
        time.sleep(random.uniform(0, 0.05 * 2**attempt))


def store_once(conn: psycopg.Connection, document: Document) -> int | None:
    """One attempt, as one transaction."""
    if conn.info.transaction_status != TransactionStatus.IDLE:
        # see savepoint_trap.py
        raise RuntimeError("a transaction is open, so the block below would be a savepoint and would not commit")
    with conn.transaction():
        # the connection may be lost after the server has committed, so a second attempt may find the row of the first
        conn.execute(
            "INSERT INTO documents (workspace_id, id, words) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
            (document.workspace_id, document.id, document.words),
        )
        # last, because it locks the balance until the commit. The idempotency key is the same in every attempt
        row = conn.execute(
            "SELECT billing.consume(%s, 'words', %s, %s)",
            (document.workspace_id, document.words, str(document.id)),
        ).fetchone()
    return row[0]


def is_repeatable(error: psycopg.Error) -> bool:
    if error.sqlstate is None:
        # no error of the server: the connection was lost, or none could be made
        return isinstance(error, psycopg.OperationalError) and not isinstance(error, PoolTimeout)
    return error.sqlstate in REPEATABLE or error.sqlstate.startswith("08")


def reason(refused: Refused) -> str:
    """What a product may say to its user."""
    match refused.code:
        case "LM001":
            return f"only {refused.detail} words are left"
        case "LM002":
            return f"the subscription is not active: {refused.detail}"
        case "LM003":
            return "there is no subscription"
        case "LM004":
            return "the plan includes no words"
        case "LM008":
            return "the plan is not known yet, try again in a minute"
        case _:
            # all others are errors of the product or of the plan: log them
            return str(refused)


def main() -> None:
    workspace_id, words, *rest = sys.argv[1:]
    document = Document(UUID(workspace_id), UUID(rest[0]) if rest else uuid4(), int(words))
    pool = ConnectionPool(
        os.environ["DATABASE_URL"],
        kwargs={"autocommit": True},  # a SELECT outside of conn.transaction() leaves no transaction open
        check=ConnectionPool.check_connection,  # a connection may have been lost while it was idle
        min_size=1,
        open=True,
    )
    with pool:
        try:
            remaining = store(pool, document)
        except Refused as refused:
            sys.exit(f"not stored: {refused.code}, {reason(refused)}")
    print(f"stored {document.id}, words left: {'unlimited' if remaining is None else remaining}")


if __name__ == "__main__":
    main()
