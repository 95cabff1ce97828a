# What is done with this repository, one target each.

.PHONY: postgres

# PostgreSQL server binaries for the embedded database and the tests: found, or installed.
postgres:
	@.ci/install-postgres
