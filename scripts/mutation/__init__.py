"""Protections taken away one by one, to see that a test notices each."""

from mutation import guarantees, mirrors, table

MUTATIONS = (*table.MUTATIONS, *guarantees.MUTATIONS, *mirrors.MUTATIONS)
