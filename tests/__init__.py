"""The type checker that runs under every test: shapes and types of all signatures; an int is a float (PEP 484)."""

from beartype import BeartypeConf, beartype

checker = beartype(conf=BeartypeConf(is_pep484_tower=True))
