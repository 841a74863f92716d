"""Removes the bucket that is named and everything in it, for clients that have no word for that."""

import sys

import store

store.remove(sys.argv[1])
