"""The slowest tests of a run, from its JUnit file: python3 tests/slowest.py FILE [HOW MANY]."""

import sys
import xml.etree.ElementTree as xml

cases = xml.parse(sys.argv[1]).getroot().iter("testcase")
took = sorted(((float(c.get("time", 0)), c.get("classname"), c.get("name")) for c in cases), reverse=True)
print(f"{len(took)} tests in {sum(t for t, _, _ in took):.0f} s in total; the slowest:")
for seconds, program, name in took[: int(sys.argv[2]) if len(sys.argv) > 2 else 25]:
    print(f"{seconds:7.1f} s  {program}  {name}")
