"""One program that writes 4 KiB and flushes, again and again: writer.py DIR SECONDS NUMBER.

It goes round in a file whose size does not change, and prints its rate.
"""

import itertools
import os
import sys
import time

BLOCK = b"x" * 4096
BLOCKS = 200


def main(place: str, seconds: float, number: str) -> None:
    fd = os.open(f"{place}/writer-{number}", os.O_RDWR | os.O_CREAT, 0o600)
    os.pwrite(fd, BLOCK * BLOCKS, 0)
    os.fsync(fd)
    begin = time.monotonic()
    for count in itertools.count(1):
        os.pwrite(fd, BLOCK, count % BLOCKS * len(BLOCK))
        os.fsync(fd)
        passed = time.monotonic() - begin
        if passed >= seconds:
            sys.stdout.write(str(count / passed))
            return


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]), sys.argv[3])
