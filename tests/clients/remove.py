"""Removes the named bucket and its contents, for clients that cannot do that."""

import sys

import store

store.remove(sys.argv[1])
