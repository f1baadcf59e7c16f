import ssl
from typing import Final, Literal

from netsync.net.records import Buffer, Moved

NAME: Final[Literal["compiled", "pure"]]

class CompiledRecords:
    def write(self, data: Buffer) -> Moved: ...
    def read(self, buffer: memoryview) -> Moved: ...

def take(sock: ssl.SSLSocket) -> CompiledRecords | None: ...
