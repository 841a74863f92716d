"""One set of keys and its listings by prefix and delimiter, the same for both versions of the operation.

A table and the store's contents for it. It sends no requests and asserts nothing.
"""

KEYS = [
    "a",
    "a--b--c",
    "b",
    "b/1",
    "b/2",
    "b/deep/1",
    "b/deep/2",
    "b/deeper/1",
    "c/",
    "c/only",
    "d//e",
    "d//f",
    "percent%20",
    "plus+",
    "space d",
    "z-äöü",
    "z-漢字/1",
]

# name: (arguments, keys, common prefixes)
CASES = {
    "all": ({}, KEYS, []),
    "empty prefix": ({"Prefix": ""}, KEYS, []),
    "empty delimiter": ({"Delimiter": ""}, KEYS, []),
    "prefix": ({"Prefix": "b/"}, [k for k in KEYS if k.startswith("b/")], []),
    "prefix that is a key": ({"Prefix": "b"}, [k for k in KEYS if k.startswith("b")], []),
    "prefix within a name": ({"Prefix": "b/deep"}, ["b/deep/1", "b/deep/2", "b/deeper/1"], []),
    "prefix that is not there": ({"Prefix": "nobody"}, [], []),
    "prefix longer than any key": ({"Prefix": "b/1" + "x" * 900}, [], []),
    "prefix of unicode": ({"Prefix": "z-ä"}, ["z-äöü"], []),
    "prefix with a percent sign": ({"Prefix": "percent%20"}, ["percent%20"], []),
    "prefix with a plus": ({"Prefix": "plus+"}, ["plus+"], []),
    "prefix with a space": ({"Prefix": "space d"}, ["space d"], []),
    "delimiter": (
        {"Delimiter": "/"},
        ["a", "a--b--c", "b", "percent%20", "plus+", "space d", "z-äöü"],
        ["b/", "c/", "d/", "z-漢字/"],
    ),
    "delimiter of two characters": ({"Delimiter": "--"}, [k for k in KEYS if k != "a--b--c"], ["a--"]),
    "delimiter of two slashes": ({"Delimiter": "//"}, [k for k in KEYS if "//" not in k], ["d//"]),
    "delimiter that is a letter": (
        {"Delimiter": "e", "Prefix": "b/"},
        ["b/1", "b/2"],
        ["b/de"],
    ),
    "delimiter that is not there": ({"Delimiter": "|"}, KEYS, []),
    "delimiter with a percent sign": (
        {"Delimiter": "%"},
        [k for k in KEYS if k != "percent%20"],
        ["percent%"],
    ),
    "delimiter that is a space": ({"Delimiter": " "}, [k for k in KEYS if k != "space d"], ["space "]),
    "delimiter of unicode": ({"Delimiter": "漢"}, [k for k in KEYS if "漢" not in k], ["z-漢"]),
    "prefix and delimiter": ({"Prefix": "b/", "Delimiter": "/"}, ["b/1", "b/2"], ["b/deep/", "b/deeper/"]),
    "prefix without its slash, and delimiter": ({"Prefix": "b", "Delimiter": "/"}, ["b"], ["b/"]),
    "prefix within a folder, and delimiter": ({"Prefix": "b/deep", "Delimiter": "/"}, [], ["b/deep/", "b/deeper/"]),
    "a folder that is an object": ({"Prefix": "c/", "Delimiter": "/"}, ["c/", "c/only"], []),
    "an empty name between slashes": ({"Prefix": "d/", "Delimiter": "/"}, [], ["d//"]),
    "delimiter within the prefix": ({"Prefix": "a--", "Delimiter": "--"}, [], ["a--b--"]),
    "prefix that is not there, and delimiter": ({"Prefix": "nobody/", "Delimiter": "/"}, [], []),
    "the smallest prefix and delimiter at once": ({"Prefix": "/", "Delimiter": "/"}, [], []),
}
NAMES = list(CASES)


def in_order(keys, prefixes):
    """Returns keys and prefixes in the order in which pages return them."""
    return sorted([*keys, *prefixes], key=str.encode)
